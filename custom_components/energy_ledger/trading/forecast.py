"""What the slots ahead will bring: generation and consumption, from measuring, memory and forecasts.

Consumption and generation are remembered as means by hour of the week and of the day, which follow slowly.
Home Assistant's own solar forecast counts where the energy dashboard has one. For the nearest slots what is
measured now counts as well, fading out over two hours.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from homeassistant.components.energy.data import async_get_manager
from homeassistant.components.energy.websocket_api import async_get_energy_platforms
from homeassistant.core import HomeAssistant
from homeassistant.helpers.storage import Store
from homeassistant.util import dt as dt_util

from ledger_core.market.surplus import SlotForecast
from ledger_core.records.types import AssetKind
from ledger_core.units import energy

from ..const import DOMAIN
from ..data import DeviceRuntime, EnergyLedgerEntry
from ..devices.readings import Field
from ..quantities import moment
from .agreed import agreed_in, slot_of
from .house import STORES, grid_now, meter_of, output_w

_LOGGER = logging.getLogger(__name__)

SUNNY = (AssetKind.PV, AssetKind.WIND)
FADE_S = 7200
"""After so long the present says nothing any more."""
WEIGHT_PERMILLE = 250
"""How much one hour's measurement moves the memory of that hour."""
FORECAST_S = 900
"""Home Assistant's solar forecast is asked for so often."""


@dataclass(frozen=True, slots=True)
class Flows:
    """What flows in the home now, W; None: not known."""

    generation_w: int | None
    load_w: int | None


def flows_now(devices: Mapping[str, DeviceRuntime]) -> Flows:
    """Return what is generated and used now."""
    generated = [output_w(runtime) for runtime in devices.values() if runtime.kind in SUNNY]
    generation = None if any(value is None for value in generated) else sum(filter(None, generated))
    meter = meter_of(dict(devices))
    grid = grid_now(None if meter is None else meter[1])
    for runtime in devices.values():
        told = runtime.coordinator.data.number(Field.LOAD_W)
        if told is not None and runtime.coordinator.last_update_success and grid.surplus_w is None:
            return Flows(generation, told)
    if grid.surplus_w is None or generation is None:
        return Flows(generation, None)
    others = [
        value
        for runtime in devices.values()
        if runtime.kind in (*STORES, AssetKind.FUEL_CELL, AssetKind.GENERATOR)
        and (value := output_w(runtime)) is not None
    ]
    return Flows(generation, max(generation + sum(others) - grid.surplus_w, 0))


class Memory:
    """Mean W by hour: of the week for consumption, of the day for generation."""

    def __init__(self) -> None:
        self.load: dict[int, int] = {}
        self.generation: dict[int, int] = {}
        self._hour = -1
        self._seconds = 0.0
        self._load_ws = 0.0
        self._generation_ws = 0.0
        self._last = 0.0

    def take(self, flows: Flows, local: datetime, now: float) -> bool:
        """Take what flows now; True when an hour is over and was learnt."""
        hour = local.weekday() * 24 + local.hour
        learnt = False
        if hour != self._hour:
            if self._hour >= 0 and self._seconds >= 600:
                self._learn(self.load, self._hour, self._load_ws)
                self._learn(self.generation, self._hour % 24, self._generation_ws)
                learnt = True
            self._hour, self._seconds, self._load_ws, self._generation_ws = hour, 0.0, 0.0, 0.0
            self._last = now
            return learnt
        seconds = min(max(now - self._last, 0.0), 300.0)
        self._last = now
        if flows.load_w is not None and flows.generation_w is not None:
            self._seconds += seconds
            self._load_ws += flows.load_w * seconds
            self._generation_ws += flows.generation_w * seconds
        return False

    def _learn(self, table: dict[int, int], hour: int, watt_seconds: float) -> None:
        mean = int(watt_seconds / self._seconds)
        known = table.get(hour)
        table[hour] = mean if known is None else known + (mean - known) * WEIGHT_PERMILLE // 1000

    def load_at(self, local: datetime) -> int | None:
        """Return what is used at a time, W; another day's same hour where this one is not known."""
        known = self.load.get(local.weekday() * 24 + local.hour)
        if known is not None:
            return known
        same = [watts for hour, watts in self.load.items() if hour % 24 == local.hour]
        return sum(same) // len(same) if same else None

    def kept(self) -> dict[str, Any]:
        """Return what must survive a restart."""
        return {
            "load": {str(hour): watts for hour, watts in self.load.items()},
            "generation": {str(hour): watts for hour, watts in self.generation.items()},
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Go on from what `kept` gave."""
        self.load = {int(hour): int(watts) for hour, watts in kept.get("load", {}).items()}
        self.generation = {int(hour): int(watts) for hour, watts in kept.get("generation", {}).items()}


class Forecaster:
    """The forecast of one home."""

    def __init__(self, hass: HomeAssistant, entry: EnergyLedgerEntry) -> None:
        self._hass = hass
        self._entry = entry
        self._home = entry.runtime_data.key.signer.public_key.hex()
        self._store: Store[dict[str, Any]] = Store(hass, 1, f"{DOMAIN}.load.{entry.entry_id}")
        self._solar: dict[int, int] = {}
        self._solar_at = 0.0
        self.memory = Memory()
        self.flows = Flows(None, None)

    async def async_start(self) -> None:
        """Load what was learnt."""
        self.memory.restore(await self._store.async_load() or {})

    async def async_stop(self) -> None:
        """Keep what was learnt."""
        await self._store.async_save(self.memory.kept())

    async def async_look(self, now: float) -> None:
        """Take what flows now, and from time to time Home Assistant's solar forecast."""
        self.flows = flows_now(self._entry.runtime_data.devices)
        if self.memory.take(self.flows, dt_util.as_local(moment(int(now))), now):
            self._store.async_delay_save(self.memory.kept, 60)
        if now - self._solar_at >= FORECAST_S:
            self._solar_at = now
            self._solar = await self._solar_forecast()

    @property
    def has_solar_forecast(self) -> bool:
        """Whether Home Assistant forecasts the sun for this home."""
        return bool(self._solar)

    async def _solar_forecast(self) -> dict[int, int]:
        """Return the Wh of each hour (by its start) that Home Assistant forecasts; empty without any."""
        if "energy" not in self._hass.config.components:
            return {}
        manager = await async_get_manager(self._hass)
        sources: list[Any] = [] if manager.data is None else list(manager.data["energy_sources"])
        wanted = {
            str(entry_id)
            for source in sources
            if source["type"] == "solar"
            for entry_id in source.get("config_entry_solar_forecast") or ()
        }
        platforms = await async_get_energy_platforms(self._hass)
        hours: dict[int, int] = {}
        for entry_id in sorted(wanted):
            entry = self._hass.config_entries.async_get_entry(entry_id)
            if entry is None or entry.domain not in platforms:
                continue
            forecast = await platforms[entry.domain](self._hass, entry_id)
            told: dict[str, Any] = {**forecast} if forecast else {}
            by_hour: dict[str, Any] = told.get("wh_hours") or {}
            for when, watt_hours in by_hour.items():
                parsed = dt_util.parse_datetime(when)
                if parsed is not None:
                    hour = int(parsed.timestamp()) // 3600 * 3600
                    hours[hour] = hours.get(hour, 0) + int(float(watt_hours))
        return hours

    def slots(self, now: float, count: int) -> list[SlotForecast] | None:
        """Return the slots ahead, the running one first; None while consumption is not known."""
        view = self._entry.runtime_data.ledger.data
        slot_s = view.status.slot_s
        first = slot_of(now, slot_s)
        result = []
        for start in range(first, first + count * slot_s, slot_s):
            load = self._load_w(start, now)
            if load is None:
                return None
            mine = [trade for trade in view.trades if trade.start <= start < trade.end]
            result.append(
                SlotForecast(
                    start=start,
                    generation_wh=energy(self._generation_w(start, now), slot_s),
                    load_wh=energy(load, slot_s),
                    sold_wh=sum(agreed_in(t, start, slot_s) for t in mine if t.seller.key == self._home),
                    bought_wh=sum(agreed_in(t, start, slot_s) for t in mine if t.buyer.key == self._home),
                )
            )
        return result

    def _load_w(self, start: int, now: float) -> int | None:
        learnt = self.memory.load_at(dt_util.as_local(moment(start)))
        return _faded(self.flows.load_w, learnt, start - now)

    def _generation_w(self, start: int, now: float) -> int:
        hour = start // 3600 * 3600
        learnt: int | None = self._solar.get(hour)
        if self._solar:
            learnt = learnt or 0  # Wh of an hour are its mean W
        else:
            learnt = self.memory.generation.get(dt_util.as_local(moment(start)).hour)
        return _faded(self.flows.generation_w, learnt, start - now) or 0


def _faded(present: int | None, learnt: int | None, ahead: float) -> int | None:
    """Return what is expected: the present at first, what was learnt later."""
    if present is None or learnt is None:
        return present if learnt is None else learnt
    weight = int(max(0.0, min(1.0, 1 - ahead / FADE_S)) * 1000)
    return (present * weight + learnt * (1000 - weight)) // 1000
