"""What the user lets trading do by itself: the switches and numbers of the home, kept over restarts.

A home starts in dry run: both switches are off, rules decide and explain, and nothing is signed or switched.
The switch and number entities change the settings, the trading engine reads them and is told of every change.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.storage import Store
from msgspec import Struct

from ledger_core.units import MAX_PRICE

from .const import DOMAIN
from .currencies import magnitude

STORAGE_VERSION = 1


class Limits(Struct, frozen=True, kw_only=True):
    """The settings; prices in micro-currency per kWh."""

    automatic_selling: bool = False
    """Off: sell rules only say what they would do."""
    automatic_buying: bool = False
    reserve_permille: int = 200
    """Of a store's capacity: never sold."""
    price_floor: int = 0
    """No rule sells below it."""
    price_ceiling: int = 1_000_000
    """No rule buys above it."""
    hand_back_price: int = 100_000
    """Paid at most, beyond the shortfall price, to end a sale early that can't be delivered."""
    confirmations: int = 2
    """Blocks, its own included, that a trade must be deep in the chain to be delivered."""
    only_final: bool = False
    """Deliver only what can't be undone any more, however deep."""


def first_limits(currency: str) -> Limits:
    """Return the settings that a home begins with: its prices fit what the currency is worth."""
    limits, factor = Limits(), magnitude(currency)
    return msgspec.structs.replace(
        limits,
        price_ceiling=min(limits.price_ceiling * factor, MAX_PRICE),
        hand_back_price=min(limits.hand_back_price * factor, MAX_PRICE),
    )


class TradingSettings:
    """The settings of one config entry; get it by `async_load_settings`."""

    def __init__(self, store: Store[dict[str, Any]], limits: Limits) -> None:
        self._store = store
        self._listeners: list[Callable[[Limits], None]] = []
        self.limits = limits

    async def async_change(self, **changes: Any) -> None:
        """Change fields of Limits; on disk when this returns, then everybody who listens is told."""
        changed = msgspec.structs.replace(self.limits, **changes)
        if changed == self.limits:
            return
        self.limits = changed
        await self._store.async_save(msgspec.to_builtins(changed))
        for listener in list(self._listeners):
            listener(changed)

    @callback
    def async_listen(self, listener: Callable[[Limits], None]) -> CALLBACK_TYPE:
        """Call a listener with the new limits after every change."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)


def _store(hass: HomeAssistant, entry_id: str) -> Store[dict[str, Any]]:
    return Store(hass, STORAGE_VERSION, f"{DOMAIN}.trading.{entry_id}", atomic_writes=True)


async def async_load_settings(hass: HomeAssistant, entry_id: str, currency: str) -> TradingSettings:
    """Return the settings of a config entry: one object for all who ask."""
    loaded: dict[str, TradingSettings] = hass.data.setdefault(f"{DOMAIN}_trading_settings", {})
    if entry_id not in loaded:
        store = _store(hass, entry_id)
        kept = await store.async_load()
        limits = first_limits(currency) if kept is None else msgspec.convert(kept, Limits)
        loaded.setdefault(entry_id, TradingSettings(store, limits))
    return loaded[entry_id]


async def async_remove_settings(hass: HomeAssistant, entry_id: str) -> None:
    """Forget the settings of a removed config entry."""
    hass.data.get(f"{DOMAIN}_trading_settings", {}).pop(entry_id, None)
    await _store(hass, entry_id).async_remove()
