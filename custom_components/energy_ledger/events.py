"""What happens to a home, as triggers, event entities and the logbook hear it: once each, in order.

The announcer turns the node's events into these; the trading engine adds what only it knows: a delivery that
began or ended, and an expected shortfall. Both send with `async_tell`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.dispatcher import async_dispatcher_connect, async_dispatcher_send
from homeassistant.util.signal_type import SignalType

from ledger_core.client.views import TradeView

from .describe import trade_data
from .quantities import kilo, local_text

BUS_EVENT = "energy_ledger_event"
"""The same on Home Assistant's bus, for the logbook."""


class Happening(StrEnum):
    """The kinds; also the names of the triggers, where there is one."""

    OFFER_RECEIVED = "offer_received"
    OFFER_CLOSED = "offer_closed"
    COUNTER_RECEIVED = "counter_received"
    COUNTER_ENDED = "counter_ended"
    TRADE_AGREED = "trade_agreed"
    TRADE_TERMINATED = "trade_terminated"
    TRADE_CLOSED = "trade_closed"
    SLOT_SETTLED = "slot_settled"
    DELIVERY_STARTED = "delivery_started"
    DELIVERY_ENDED = "delivery_ended"
    SHORTFALL = "shortfall"


class EndReason(StrEnum):
    """Why a delivery ended."""

    WINDOW_ENDED = "window_ended"
    ENERGY_DELIVERED = "energy_delivered"
    RESERVE_REACHED = "reserve_reached"
    TERMINATED = "terminated"
    DEVICE_LOST = "device_lost"
    METER_AWAY = "meter_away"
    """Nobody counts what leaves the home."""
    UNLOADED = "unloaded"
    STOPPED = "stopped"
    """By the user, or because trading was switched off."""


class ShortfallStage(StrEnum):
    """When a shortfall is told."""

    EXPECTED = "expected"
    """While it is delivered: the agreed energy will not be reached."""
    SETTLED = "settled"
    """By the ledger, from the readings of both sides."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HomeEvent:
    """Something that happened to a home."""

    kind: Happening
    time: int
    """UTC seconds."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Fields in people's units (see `describe`), JSON-friendly; `raw` holds the ledger's own."""


def _signal(entry_id: str) -> SignalType[HomeEvent]:
    return SignalType(f"energy_ledger_home_event_{entry_id}")


_ALL: SignalType[str, HomeEvent] = SignalType("energy_ledger_home_events")


@callback
def async_tell(hass: HomeAssistant, entry_id: str, event: HomeEvent) -> None:
    """Tell everybody who listens to a config entry; call it in the event loop."""
    async_dispatcher_send(hass, _signal(entry_id), event)
    async_dispatcher_send(hass, _ALL, entry_id, event)
    told = {name: value for name, value in event.data.items() if name != "raw"}
    hass.bus.async_fire(BUS_EVENT, {"entry_id": entry_id, "type": event.kind.value, **told})


@callback
def async_listen(hass: HomeAssistant, entry_id: str, listener: Callable[[HomeEvent], None]) -> CALLBACK_TYPE:
    """Call a listener (decorated with `callback`) with every HomeEvent of a config entry."""
    return async_dispatcher_connect(hass, _signal(entry_id), listener)


@callback
def async_listen_all(hass: HomeAssistant, listener: Callable[[str, HomeEvent], None]) -> CALLBACK_TYPE:
    """Call a listener with the entry's id and every HomeEvent of all homes, loaded now or later."""
    return async_dispatcher_connect(hass, _ALL, listener)


def delivery_started(trade: TradeView, home: str, now: int, device: str | None = None) -> HomeEvent:
    """A trade's physical delivery began; `home` is this home's key, `device` the subentry's id."""
    data = {**trade_data(trade, home), "device": device}
    return HomeEvent(kind=Happening.DELIVERY_STARTED, time=now, data=data)


def delivery_ended(
    trade: TradeView, home: str, now: int, reason: EndReason, sent_wh: int, device: str | None = None
) -> HomeEvent:
    """A trade's physical delivery ended; `sent_wh` is what this home measured."""
    data = {**trade_data(trade, home), "device": device, "reason": reason.value, "sent_kwh": kilo(sent_wh)}
    return HomeEvent(kind=Happening.DELIVERY_ENDED, time=now, data=data)


def shortfall_expected(
    trade: TradeView,
    home: str,
    now: int,
    slot_end: int,
    agreed_wh: int,
    expected_wh: int,
    reason: str | None = None,
) -> HomeEvent:
    """This home sees that a slot's agreed energy will not be reached; `reason`: why, if known."""
    data = {
        **trade_data(trade, home),
        "stage": ShortfallStage.EXPECTED.value,
        "slot_end": local_text(slot_end),
        "agreed_kwh": kilo(agreed_wh),
        "missing_kwh": kilo(max(agreed_wh - expected_wh, 0)),
        "reason": reason,
    }
    return HomeEvent(kind=Happening.SHORTFALL, time=now, data=data)
