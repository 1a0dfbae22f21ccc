"""Turns the node's events into what happens to this home, and tells it once each, in order.

The coordinator delivers an event after it has read what the event changed, so an offer that is not among the
open ones any more is gone already, and nobody is bothered with it. After a fork the same trade may be agreed
in another block: it is told once. The trades and offers that are still to end are kept on disk, so that their
end is told though it came while Home Assistant was away.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import msgspec
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.storage import Store
from msgspec import Struct

from ledger_core.client.views import EventView, OfferView, TradeView
from ledger_core.keys import address

from .const import DOMAIN
from .data import EnergyLedgerEntry
from .describe import (
    SlotData,
    TradeData,
    counter_data,
    offer_data,
    price_of_all,
    role_of,
    slot_figures,
    trade_data,
    unit_of,
)
from .events import Happening, HomeEvent, ShortfallStage, async_tell
from .ledger import RESYNC
from .quantities import kilo, local_text, money
from .trading.statement_core import settled_of

_LOGGER = logging.getLogger(__name__)

ENDED_BY_PARTNER = "partner"
ENDED_BY_HAND = "by_hand"
REMEMBERED = 5_000
"""How many told events are remembered, so that none is told twice after a fork."""


class _Open(Struct, kw_only=True):
    """What is still to end."""

    trades: dict[str, TradeView] = {}
    offers: dict[str, bool] | None = None
    """Those that concern this home, and whether they are its own; None: not known yet."""


def _store(hass: HomeAssistant, entry_id: str) -> Store[dict[str, Any]]:
    return Store(hass, 1, f"{DOMAIN}.announced.{entry_id}", atomic_writes=True)


class Announcer:
    """Tells what happens to one home."""

    def __init__(self, hass: HomeAssistant, entry: EnergyLedgerEntry) -> None:
        """Prepare for a loaded entry."""
        self._hass = hass
        self._entry = entry
        self._entry_id = entry.entry_id
        self._data = entry.runtime_data
        self._ledger = entry.runtime_data.ledger
        self._home = entry.runtime_data.key.signer.public_key.hex()
        self._told: OrderedDict[Hashable, None] = OrderedDict()
        self._open = _Open()
        self._store = _store(hass, entry.entry_id)
        self._dirty = False
        self._handlers: dict[str, Callable[[EventView], None]] = {
            "offer_opened": self._offer_opened,
            "offer_closed": self._offer_closed,
            "acceptance_waits": self._acceptance_waits,
            "acceptance_ended": self._acceptance_ended,
            "trade_agreed": self._trade_agreed,
            "trade_terminated": self._trade_terminated,
            "trade_closed": self._trade_closed,
            "slot_settled": self._slot_settled,
            RESYNC: self._resync,
        }

    async def async_start(self) -> None:
        """Tell while the entry is loaded."""
        try:
            self._open = msgspec.convert(await self._store.async_load() or {}, _Open)
        except msgspec.ValidationError as error:
            _LOGGER.warning("%s: what was open is not known any more: %s", self._entry.title, error)
        self._entry.async_on_unload(self._ledger.listen(self._take))
        self._entry.async_on_unload(self._ledger.keep_first(self._async_keep))

    async def _async_keep(self) -> None:
        if self._dirty:
            self._dirty = False
            await self._store.async_save(msgspec.to_builtins(self._open))

    @callback
    def _take(self, event: EventView) -> None:
        handler = self._handlers.get(event.event)
        if handler is not None:
            handler(event)
        # What ended is not in the view any more, but stays until its end was told; or may never be.
        view, known = self._ledger.data, _Open() if event.event == RESYNC else self._open
        trades = known.trades | {trade.trade: trade for trade in view.trades}
        offers = (known.offers or {}) | {
            offer.offer: offer.author.key == self._home
            for offer in view.offers
            if offer.author.key == self._home or self._concerns(offer)
        }
        match event.event:
            case "trade_closed":
                trades.pop(event.data["trade"], None)
            case "offer_closed":
                offers.pop(event.data["offer"], None)
        self._dirty |= trades != known.trades or offers != known.offers
        self._open = _Open(trades=_newest(trades), offers=_newest(offers))

    def _trade(self, trade: str) -> TradeView | None:
        """A trade as it is now, or as it was when it was heard of last."""
        now = (each for each in self._ledger.data.trades if each.trade == trade)
        return next(now, self._open.trades.get(trade))

    def _tell(self, kind: Happening, event: EventView, data: Mapping[str, Any], *what: Hashable) -> None:
        key = (kind, *what)
        if key in self._told:
            return
        self._told[key] = None
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        async_tell(self._hass, self._entry_id, HomeEvent(kind=kind, time=event.time, data=data))

    def _concerns(self, offer: OfferView) -> bool:
        if offer.author.key == self._home:
            return False
        return offer.audience is None or any(each.key == self._home for each in offer.audience)

    def _offer_opened(self, event: EventView) -> None:
        offer = self._open_offer(event.data["offer"])
        if offer is not None and self._concerns(offer):
            self._tell(Happening.OFFER_RECEIVED, event, {**offer_data(offer, self._home)}, offer.offer)

    def _open_offer(self, offer_id: str) -> OfferView | None:
        return next((each for each in self._ledger.data.offers if each.offer == offer_id), None)

    def _offer_closed(self, event: EventView) -> None:
        own = event.data["author"] == self._home
        if not own and event.data["offer"] not in (self._open.offers or {}):
            return
        data = {
            "offer": event.data["offer"],
            "author": _address(event.data["author"]),
            "own": own,
            "reason": event.data["reason"],
            "raw": event.data,
        }
        self._tell(Happening.OFFER_CLOSED, event, data, event.data["offer"])

    def _acceptance_waits(self, event: EventView) -> None:
        waiting = next(
            (each for each in self._ledger.data.waiting if each.acceptance == event.data["acceptance"]), None
        )
        if waiting is None or event.data["offerer"] != self._home:
            return
        offer = self._open_offer(waiting.offer)
        data = counter_data(waiting, self._home, None if offer is None else offer.basis)
        self._tell(Happening.COUNTER_RECEIVED, event, {**data}, waiting.acceptance)

    def _acceptance_ended(self, event: EventView) -> None:
        own = event.data["author"] == self._home
        if not own and not (self._open.offers or {}).get(event.data["offer"]):
            return
        data = {
            "acceptance": event.data["acceptance"],
            "offer": event.data["offer"],
            "author": _address(event.data["author"]),
            "own": own,
            "reason": event.data["reason"],
            "raw": event.data,
        }
        self._tell(Happening.COUNTER_ENDED, event, data, event.data["acceptance"])

    def _trade_agreed(self, event: EventView) -> None:
        raw = event.data
        if role_of(self._home, raw["seller"], raw["buyer"]) is None:
            return
        trade = self._trade(raw["trade"])
        data = agreed_data(raw, self._home) if trade is None else trade_data(trade, self._home)
        self._tell(Happening.TRADE_AGREED, event, {**data}, raw["trade"])

    def _trade_terminated(self, event: EventView) -> None:
        trade = self._trade(event.data["trade"])
        if trade is None:
            return
        data = {
            **trade_data(trade, self._home),
            "by": _address(event.data["by"]),
            "own": event.data["by"] == self._home,
            "end": local_text(event.data["end"]),
            "compensation": money(event.data["compensation"]),
            "reason": self._end_reason(trade.trade, own=event.data["by"] == self._home),
        }
        self._tell(Happening.TRADE_TERMINATED, event, data, trade.trade, event.data["end"])

    def _end_reason(self, trade: str, *, own: bool) -> str:
        """Return why a trade ended early, as far as this home knows."""
        if not own:
            return ENDED_BY_PARTNER
        trading = self._data.trading
        return (None if trading is None else trading.end_reason(trade)) or ENDED_BY_HAND

    def _trade_closed(self, event: EventView) -> None:
        trade = self._trade(event.data["trade"])
        role = role_of(self._home, event.data["seller"], event.data["buyer"])
        if role is None:
            return
        known: Mapping[str, Any] = {} if trade is None else trade_data(trade, self._home)
        data = {
            "trade": event.data["trade"],
            **known,
            **_sides(role, event.data),
            "delivered_kwh": kilo(event.data["delivered_wh"]),
            "paid": money(event.data["paid"]),
        }
        self._tell(Happening.TRADE_CLOSED, event, data, event.data["trade"])

    def _slot_settled(self, event: EventView) -> None:
        raw = event.data
        role = role_of(self._home, raw["seller"], raw["buyer"])
        if role is None:
            return
        trade = self._trade(raw["trade"])
        data = slot_data(raw, self._home, None if trade is None else trade.price)
        what = (raw["trade"], raw["slot_end"])
        self._tell(Happening.SLOT_SETTLED, event, {**data}, *what)
        if raw["delivered_wh"] < raw["agreed_wh"]:
            stage = {"stage": ShortfallStage.SETTLED.value}
            self._tell(Happening.SHORTFALL, event, {**data, **stage}, *what, ShortfallStage.SETTLED)

    def _resync(self, event: EventView) -> None:
        """Tell what came while events were missing, as far as it is still there."""
        known = self._open
        if known.offers is None:
            return
        for offer in self._ledger.data.offers:
            if offer.offer not in known.offers and self._concerns(offer):
                self._tell(Happening.OFFER_RECEIVED, event, {**offer_data(offer, self._home)}, offer.offer)
        for trade in self._ledger.data.trades:
            if trade.trade not in known.trades:
                self._tell(Happening.TRADE_AGREED, event, {**trade_data(trade, self._home)}, trade.trade)


def _newest[T](known: dict[str, T]) -> dict[str, T]:
    """Return no more than are remembered."""
    return dict(list(known.items())[-REMEMBERED:])


async def async_remove_announced(hass: HomeAssistant, entry_id: str) -> None:
    """Forget what was open for a removed entry."""
    await _store(hass, entry_id).async_remove()


def agreed_data(raw: Mapping[str, Any], home: str) -> TradeData:
    """Describe a trade from the node's event alone: it is settled already when it is told.

    What the event does not hold (the carrier) is left empty.
    """
    sides = _sides(role_of(home, raw["seller"], raw["buyer"]), raw)
    return TradeData(
        trade=raw["trade"],
        offer=raw["offer"],
        origin=raw["origin"],
        role=sides["role"],
        seller=sides["seller"],
        buyer=sides["buyer"],
        partner=sides["partner"],
        asset=raw["asset"],
        carrier=None,
        basis=raw["basis"],
        unit=unit_of(raw["basis"]),
        quantity=kilo(raw["quantity"]),
        power=kilo(raw["watts"]),
        start=local_text(raw["start"]),
        end=local_text(raw["end"]),
        agreed_end=local_text(raw["end"]),
        price=money(raw["price"]),
        shortfall_price=None,
        total=money(price_of_all(raw["basis"], raw["quantity"], raw["end"] - raw["start"], raw["price"])),
        delivered_kwh=0.0,
        paid=0.0,
        raw=dict(raw),
    )


def slot_data(raw: Mapping[str, Any], home: str, price: int | None) -> SlotData:
    """Describe a settlement line from the node's event, and the price that was agreed."""
    sides = _sides(role_of(home, raw["seller"], raw["buyer"]), raw)
    return SlotData(
        trade=raw["trade"],
        role=sides["role"],
        seller=sides["seller"],
        buyer=sides["buyer"],
        partner=sides["partner"],
        slot_end=local_text(raw["slot_end"]),
        raw=dict(raw),
        **slot_figures(settled_of(raw, home, price)),
    )


def _sides(role: str | None, raw: Mapping[str, Any]) -> dict[str, Any]:
    seller, buyer = _address(raw["seller"]), _address(raw["buyer"])
    return {"role": role, "seller": seller, "buyer": buyer, "partner": seller if role == "buyer" else buyer}


def _address(key: str) -> str:
    return address(bytes.fromhex(key))
