"""terminate, rate, transfer, and the lists of offers and trades."""

from typing import Any, Final

import probatio as vol
from homeassistant.core import HomeAssistant, ServiceCall
from homeassistant.helpers import config_validation as cv

from ledger_core.errors import LedgerError
from ledger_core.records.money import TransferKind
from ledger_core.records.types import Carrier, Side

from .. import prices
from ..describe import counter_data, offer_data, trade_data
from ..quantities import local_text, money, now_s
from ..refusals import refusal_of
from .fields import (
    AMOUNT,
    ATTR_END,
    ENTRY,
    IDENTIFIER,
    PRICE,
    boundary,
    entry_of,
    micro,
    optional_micro,
)
from .statements import settled_data, trading_of

ATTR_AMOUNT: Final = "amount"
ATTR_CARRIER: Final = "carrier"
ATTR_COMPENSATION: Final = "compensation"
ATTR_KIND: Final = "kind"
ATTR_MAX_PRICE: Final = "max_price"
ATTR_OWN: Final = "own"
ATTR_REFERENCE: Final = "reference"
ATTR_ROLE: Final = "role"
ATTR_RUNNING: Final = "running"
ATTR_SCORE: Final = "score"
ATTR_SELLER: Final = "seller"
ATTR_SETTLEMENTS: Final = "settlements"
ATTR_SIDE: Final = "side"
ATTR_TO: Final = "to"
ATTR_TRADE: Final = "trade"

ROLES: Final = ("seller", "buyer")
KINDS: Final = tuple(kind.value for kind in TransferKind)

TERMINATE_SCHEMA: Final = vol.Schema(
    {
        **ENTRY,
        vol.Required(ATTR_TRADE): IDENTIFIER,
        vol.Optional(ATTR_END): cv.datetime,
        vol.Optional(ATTR_COMPENSATION, default=0): AMOUNT,
    }
)
RATE_SCHEMA: Final = vol.Schema(
    {
        **ENTRY,
        vol.Required(ATTR_TRADE): IDENTIFIER,
        vol.Required(ATTR_SCORE): vol.All(vol.Coerce(int), vol.Range(min=0, max=10)),
    }
)
TRANSFER_SCHEMA: Final = vol.Schema(
    {
        **ENTRY,
        vol.Required(ATTR_TO): vol.All(cv.string, str.strip),
        vol.Required(ATTR_AMOUNT): vol.All(AMOUNT, vol.Range(min=0, min_included=False)),
        vol.Optional(ATTR_KIND, default=TransferKind.PAY.value): vol.In(
            [kind.value for kind in TransferKind]
        ),
        vol.Optional(ATTR_REFERENCE): IDENTIFIER,
    }
)
LIST_OFFERS_SCHEMA: Final = vol.Schema(
    {
        **ENTRY,
        vol.Optional(ATTR_SIDE): vol.In([side.value for side in Side]),
        vol.Optional(ATTR_CARRIER): vol.In([carrier.value for carrier in Carrier]),
        vol.Optional(ATTR_OWN): cv.boolean,
        vol.Optional(ATTR_SELLER): vol.All(cv.string, str.strip),
        vol.Optional(ATTR_MAX_PRICE): PRICE,
    }
)
LIST_TRADES_SCHEMA: Final = vol.Schema(
    {
        **ENTRY,
        vol.Optional(ATTR_ROLE): vol.In(ROLES),
        vol.Optional(ATTR_RUNNING): cv.boolean,
        vol.Optional(ATTR_SETTLEMENTS): cv.boolean,
    }
)


async def terminate(hass: HomeAssistant, call: ServiceCall) -> dict[str, Any]:
    """End an own trade early."""
    data = entry_of(hass, call).runtime_data
    slot_s = data.ledger.data.status.slot_s
    end = boundary(call.data[ATTR_END], slot_s, ATTR_END) if ATTR_END in call.data else None
    compensation = micro(call.data[ATTR_COMPENSATION], ATTR_COMPENSATION)
    try:
        record = await data.home.terminate(call.data[ATTR_TRADE], end, compensation)
    except LedgerError as error:
        raise refusal_of(error) from error
    told: dict[str, Any] = {"record": record, "compensation": money(compensation)}
    return told if end is None else {**told, "end": local_text(end)}


async def rate(hass: HomeAssistant, call: ServiceCall) -> dict[str, Any]:
    """Score the other side of a settled trade."""
    data = entry_of(hass, call).runtime_data
    try:
        return {"record": await data.home.rate(call.data[ATTR_TRADE], call.data[ATTR_SCORE])}
    except LedgerError as error:
        raise refusal_of(error) from error


async def transfer(hass: HomeAssistant, call: ServiceCall) -> dict[str, Any]:
    """Pay a member."""
    data = entry_of(hass, call).runtime_data
    amount = micro(call.data[ATTR_AMOUNT], ATTR_AMOUNT)
    try:
        record = await data.home.transfer(
            call.data[ATTR_TO],
            amount,
            kind=TransferKind(call.data[ATTR_KIND]),
            reference=call.data.get(ATTR_REFERENCE),
        )
    except LedgerError as error:
        raise refusal_of(error) from error
    return {"record": record, "amount": money(amount)}


async def list_offers(hass: HomeAssistant, call: ServiceCall) -> dict[str, Any]:
    """List the open offers and requests of others that this home may accept, its own, and what waits."""
    data = entry_of(hass, call).runtime_data
    wanted = call.data
    home = data.key.signer.public_key.hex()
    ceiling = optional_micro(wanted, ATTR_MAX_PRICE)
    view = data.ledger.data
    offers = [
        offer
        for offer in view.offers
        if (offer.author.key == home or prices.open_to(offer, home))
        and wanted.get(ATTR_SIDE) in (None, offer.side)
        and wanted.get(ATTR_CARRIER) in (None, offer.carrier)
        and wanted.get(ATTR_OWN) in (None, offer.author.key == home)
        and wanted.get(ATTR_SELLER) in (None, offer.author.address)
        and (ceiling is None or offer.price <= ceiling)
    ]
    offers.sort(key=lambda offer: (offer.price, offer.start, offer.offer))
    bases = {offer.offer: offer.basis for offer in view.offers}
    return {
        "offers": [offer_data(offer, home) for offer in offers],
        "waiting": [counter_data(each, home, bases.get(each.offer)) for each in view.waiting],
    }


async def list_trades(hass: HomeAssistant, call: ServiceCall) -> dict[str, Any]:
    """List the home's trades that still have slots to settle, and what slots settled to."""
    entry = entry_of(hass, call)
    data = entry.runtime_data
    home = data.key.signer.public_key.hex()
    trades = list(data.ledger.data.trades)
    if ATTR_RUNNING in call.data:
        running = {trade.trade for trade in prices.running(trades, now_s())}
        trades = [trade for trade in trades if (trade.trade in running) == call.data[ATTR_RUNNING]]
    described = [
        trade_data(trade, home) for trade in sorted(trades, key=lambda trade: (trade.start, trade.trade))
    ]
    role = call.data.get(ATTR_ROLE)
    answer: dict[str, Any] = {"trades": [trade for trade in described if role in (None, trade["role"])]}
    if call.data.get(ATTR_SETTLEMENTS):
        lines = settled_data(trading_of(entry).statements.lines())
        answer["settlements"] = [line for line in lines if role in (None, line["role"])]
    return answer
