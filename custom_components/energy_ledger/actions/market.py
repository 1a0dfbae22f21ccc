"""sell, buy, accept, counter, reject, withdraw."""

from typing import Any, Final, TypedDict

import probatio as vol
from homeassistant.core import HomeAssistant, ServiceCall
from homeassistant.helpers import config_validation as cv

from ledger_core.client.bodies import OfferTerms
from ledger_core.client.changes import NewTerms
from ledger_core.errors import LedgerError
from ledger_core.records.offers import Auction
from ledger_core.records.types import Basis, Carrier, Side

from ..data import EnergyLedgerData, EnergyLedgerEntry
from ..describe import price_of_all, unit_of
from ..quantities import kilo, local_text, money, now_s
from ..refusals import invalid, refusal_of
from .fields import (
    ATTR_DURATION,
    ATTR_END,
    ATTR_OFFER,
    ATTR_PRICE,
    ATTR_QUANTITY,
    ATTR_START,
    ATTR_UNIT,
    ATTR_VALID_UNTIL,
    ENTRY,
    IDENTIFIER,
    OWN_ASSET,
    PRICE,
    QUANTITY,
    UNIT,
    UNITS,
    WINDOW,
    boundary,
    entry_of,
    micro,
    number,
    offer_of,
    optional_micro,
    optional_seconds,
    own_asset,
    quantity_of,
    quantity_of_offer,
    seconds_of,
    supplies,
    supplying_asset,
    window_of,
)

ATTR_ACCEPTANCE: Final = "acceptance"
ATTR_AUCTION_CLOSES: Final = "auction_closes"
ATTR_AUCTION_CEILING: Final = "auction_ceiling"
ATTR_AUCTION_RESERVE: Final = "auction_reserve"
ATTR_AUDIENCE: Final = "audience"
ATTR_CARRIER: Final = "carrier"
ATTR_MAX_POWER: Final = "max_power"
ATTR_MIN_QUANTITY: Final = "min_quantity"
ATTR_SHORTFALL_PRICE: Final = "shortfall_price"
ATTR_TARGET: Final = "target"

_AUCTION: Final = (ATTR_AUCTION_CLOSES, ATTR_AUCTION_CEILING, ATTR_AUCTION_RESERVE)

_TERMS: Final[dict[vol.Marker, Any]] = {
    **ENTRY,
    **OWN_ASSET,
    **WINDOW,
    vol.Required(ATTR_QUANTITY): QUANTITY,
    vol.Optional(ATTR_UNIT, default="kWh"): UNIT,
    vol.Required(ATTR_PRICE): PRICE,
    vol.Optional(ATTR_MIN_QUANTITY): QUANTITY,
    vol.Optional(ATTR_MAX_POWER): QUANTITY,
    vol.Optional(ATTR_SHORTFALL_PRICE, default=0): PRICE,
    vol.Optional(ATTR_AUDIENCE): vol.All(cv.ensure_list, [vol.All(cv.string, str.strip)], vol.Length(1, 64)),
    vol.Optional(ATTR_VALID_UNTIL): cv.datetime,
    vol.Optional(ATTR_CARRIER): vol.In([carrier.value for carrier in Carrier]),
    vol.Optional(ATTR_AUCTION_CLOSES): cv.datetime,
    vol.Optional(ATTR_AUCTION_CEILING): PRICE,
    vol.Optional(ATTR_AUCTION_RESERVE): PRICE,
}
OFFER_SCHEMA: Final = vol.Schema(_TERMS)
ACCEPT_SCHEMA: Final = vol.Schema(
    {
        **ENTRY,
        **OWN_ASSET,
        vol.Exclusive(ATTR_OFFER, "what"): IDENTIFIER,
        vol.Exclusive(ATTR_ACCEPTANCE, "what"): IDENTIFIER,
        vol.Optional(ATTR_QUANTITY): QUANTITY,
        vol.Optional(ATTR_UNIT): UNIT,
        vol.Optional(ATTR_PRICE): PRICE,
    }
)
COUNTER_SCHEMA: Final = vol.Schema(
    {
        **ENTRY,
        **OWN_ASSET,
        **WINDOW,
        vol.Required(ATTR_OFFER): IDENTIFIER,
        vol.Optional(ATTR_QUANTITY): QUANTITY,
        vol.Optional(ATTR_UNIT): UNIT,
        vol.Optional(ATTR_PRICE): PRICE,
        vol.Optional(ATTR_VALID_UNTIL): cv.datetime,
    }
)
REJECT_SCHEMA: Final = vol.Schema({**ENTRY, vol.Required(ATTR_ACCEPTANCE): IDENTIFIER})
WITHDRAW_SCHEMA: Final = vol.Schema({**ENTRY, vol.Required(ATTR_TARGET): IDENTIFIER})


class Signed(TypedDict, total=False):
    """What was signed, in people's units; an offer's, acceptance's or trade's id is its record's."""

    record: str
    side: str
    quantity: float
    unit: str
    price: float
    total: float
    start: str
    end: str
    valid_until: str


async def sell(hass: HomeAssistant, call: ServiceCall) -> dict[str, Any]:
    """Offer energy or capacity of an own asset."""
    entry = entry_of(hass, call)
    if not any(supplies(each) for each in entry.runtime_data.ledger.data.assets):
        # Just registered: the home's view is a moment behind the ledger.
        await entry.runtime_data.ledger.async_refresh()
    asset = supplying_asset(hass, entry, call.data)
    carrier = Carrier(call.data.get(ATTR_CARRIER, asset.carrier))
    terms = _terms(entry, call.data, bytes.fromhex(asset.asset), carrier)
    return await _sign_offer(entry.runtime_data, Side.SELL, terms)


async def buy(hass: HomeAssistant, call: ServiceCall) -> dict[str, Any]:
    """Ask for energy or capacity."""
    entry = entry_of(hass, call)
    carrier = Carrier(call.data.get(ATTR_CARRIER, Carrier.ELECTRICITY))
    terms = _terms(entry, call.data, own_asset(hass, entry, call.data), carrier)
    return await _sign_offer(entry.runtime_data, Side.BUY, terms)


async def accept(hass: HomeAssistant, call: ServiceCall) -> dict[str, Any]:
    """Accept an offer, bid in its auction, or confirm the changed terms of an own one."""
    entry = entry_of(hass, call)
    data = entry.runtime_data
    if ATTR_ACCEPTANCE in call.data:
        return await _confirm(data, call.data[ATTR_ACCEPTANCE])
    if ATTR_OFFER not in call.data:
        raise invalid("offer_or_acceptance_needed")
    offer = offer_of(data, call.data[ATTR_OFFER])
    quantity = quantity_of_offer(call.data, offer)
    asset = own_asset(hass, entry, call.data)
    price = optional_micro(call.data, ATTR_PRICE)
    if price is not None and offer.auction is None and price != offer.price:
        raise invalid("price_not_offered", offered=money(offer.price), price=money(price))
    try:
        if offer.auction is not None and price is not None:
            record = await data.home.bid(offer, price, quantity, asset=asset)
        else:
            record = await data.home.accept(offer, quantity, asset=asset)
    except LedgerError as error:
        raise refusal_of(error, unit_of(offer.basis)) from error
    taken = offer.open if quantity is None else quantity
    agreed = offer.price if price is None else price
    return {**_signed(record, offer.side, offer.basis, taken, agreed, offer.start, offer.end)}


async def _confirm(data: EnergyLedgerData, acceptance: str) -> dict[str, Any]:
    waiting = next((each for each in data.ledger.data.waiting if each.acceptance == acceptance), None)
    try:
        record = await data.home.confirm(acceptance)
    except LedgerError as error:
        raise refusal_of(error) from error
    return {"record": record} if waiting is None else {"record": record, "price": money(waiting.price)}


async def counter(hass: HomeAssistant, call: ServiceCall) -> dict[str, Any]:
    """Accept an offer with a changed price, window or both: binds once the other side confirms."""
    entry = entry_of(hass, call)
    data = entry.runtime_data
    offer = offer_of(data, call.data[ATTR_OFFER])
    slot_s = data.ledger.data.status.slot_s
    price = optional_micro(call.data, ATTR_PRICE)
    quantity = quantity_of_offer(call.data, offer)
    start = boundary(call.data[ATTR_START], slot_s, ATTR_START) if ATTR_START in call.data else offer.start
    end = boundary(call.data[ATTR_END], slot_s, ATTR_END) if ATTR_END in call.data else offer.end
    if ATTR_DURATION in call.data:
        end = start + int(call.data[ATTR_DURATION].total_seconds())
    terms = NewTerms(
        price=offer.price if price is None else price,
        quantity=offer.open if quantity is None else quantity,
        start=start,
        end=end,
        asset=own_asset(hass, entry, call.data),
    )
    valid_until = optional_seconds(call.data, ATTR_VALID_UNTIL)
    if valid_until is not None:
        terms["valid_until"] = valid_until
    try:
        record = await data.home.counter(offer, **terms)
    except LedgerError as error:
        raise refusal_of(error, unit_of(offer.basis)) from error
    return {**_signed(record, offer.side, offer.basis, terms["quantity"], terms["price"], start, end)}


async def reject(hass: HomeAssistant, call: ServiceCall) -> dict[str, Any]:
    """Refuse changed terms of an own offer."""
    data = entry_of(hass, call).runtime_data
    try:
        return {"record": await data.home.reject(call.data[ATTR_ACCEPTANCE])}
    except LedgerError as error:
        raise refusal_of(error) from error


async def withdraw(hass: HomeAssistant, call: ServiceCall) -> dict[str, Any]:
    """Take back the open part of an own offer, or an own acceptance that waits."""
    data = entry_of(hass, call).runtime_data
    try:
        return {"record": await data.home.withdraw(call.data[ATTR_TARGET])}
    except LedgerError as error:
        raise refusal_of(error) from error


def _terms(
    entry: EnergyLedgerEntry, data: dict[str, Any], asset: bytes | None, carrier: Carrier
) -> OfferTerms:
    unit = data[ATTR_UNIT]
    basis = UNITS[unit][0]
    start, end = window_of(data, entry.runtime_data.ledger.data.status.slot_s, now_s())
    minimum = data.get(ATTR_MIN_QUANTITY)
    if basis is Basis.CAPACITY and ATTR_MAX_POWER in data:
        raise invalid("max_power_of_capacity")
    return OfferTerms(
        quantity=quantity_of(data[ATTR_QUANTITY], unit),
        start=start,
        end=end,
        price=micro(data[ATTR_PRICE]),
        asset=asset,
        carrier=carrier,
        basis=basis,
        min_quantity=None if minimum is None else quantity_of(minimum, unit, ATTR_MIN_QUANTITY),
        max_w=number(data.get(ATTR_MAX_POWER, 0), 1000, ATTR_MAX_POWER),
        shortfall_price=micro(data[ATTR_SHORTFALL_PRICE], ATTR_SHORTFALL_PRICE),
        audience=data.get(ATTR_AUDIENCE),
        valid_until=optional_seconds(data, ATTR_VALID_UNTIL),
        auction=_auction(data),
    )


def _auction(data: dict[str, Any]) -> Auction | None:
    given = [name for name in _AUCTION if name in data]
    if not given:
        return None
    if len(given) < len(_AUCTION):
        missing = ", ".join(name for name in _AUCTION if name not in data)
        raise invalid("auction_incomplete", missing=missing)
    return Auction(
        seconds_of(data[ATTR_AUCTION_CLOSES]),
        micro(data[ATTR_AUCTION_CEILING], ATTR_AUCTION_CEILING),
        micro(data[ATTR_AUCTION_RESERVE], ATTR_AUCTION_RESERVE),
    )


async def _sign_offer(data: EnergyLedgerData, side: Side, terms: OfferTerms) -> dict[str, Any]:
    try:
        record = await (data.home.offer(terms) if side is Side.SELL else data.home.request(terms))
    except LedgerError as error:
        raise refusal_of(error, unit_of(terms.basis)) from error
    signed = _signed(record, side, terms.basis, terms.quantity, terms.price, terms.start, terms.end)
    valid_until = terms.start if terms.valid_until is None else terms.valid_until
    return {**signed, "valid_until": local_text(valid_until)}


def _signed(record: str, side: str, basis: str, quantity: int, price: int, start: int, end: int) -> Signed:
    return Signed(
        record=record,
        side=str(side),
        quantity=kilo(quantity),
        unit=unit_of(basis),
        price=money(price),
        total=money(price_of_all(basis, quantity, end - start, price)),
        start=local_text(start),
        end=local_text(end),
    )
