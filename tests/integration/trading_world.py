"""Two homes at one node, with devices made of entities, whose clock is the chain's."""

import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import pytest
from homeassistant.config_entries import ConfigSubentry, ConfigSubentryData
from homeassistant.core import HomeAssistant, ServiceCall
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped]
    MockConfigEntry,
)

from custom_components.energy_ledger.data import EnergyLedgerEntry
from custom_components.energy_ledger.events import HomeEvent, async_listen
from custom_components.energy_ledger.ledger import LedgerCoordinator
from custom_components.energy_ledger.trading.engine import TradingEngine
from ledger_core.client.views import StatusView
from tests.core.world import World
from tests.node.api_world import ApiWorld

from .conftest import EntryMaker, wait_until

_NUMBERS = itertools.count(1)
SLOT = 900


@pytest.fixture
def world() -> World:
    """Founded at the next slot boundary, so that windows do not depend on the time of day."""
    return World(created=-(-int(time.time()) // SLOT) * SLOT)


def set_meter(hass: HomeAssistant, home: str, *, import_wh: int, export_wh: int, surplus_w: int = 0) -> None:
    """Have a home's meter tell its registers, and what flows (positive: to the grid)."""
    energy = {"unit_of_measurement": "Wh", "device_class": "energy", "state_class": "total_increasing"}
    power = {"unit_of_measurement": "W", "device_class": "power"}
    hass.states.async_set(f"sensor.{home}_import", str(import_wh), energy)
    hass.states.async_set(f"sensor.{home}_export", str(export_wh), energy)
    hass.states.async_set(f"sensor.{home}_grid", str(surplus_w), power, force_update=True)


def set_battery(hass: HomeAssistant, home: str, *, soc: float, discharge_w: int = 0) -> None:
    """Have a home's battery tell its level and what it gives."""
    hass.states.async_set(f"sensor.{home}_soc", str(soc), {"unit_of_measurement": "%"})
    hass.states.async_set(
        f"sensor.{home}_battery", str(discharge_w), {"unit_of_measurement": "W"}, force_update=True
    )


def _device(home: str, kind: str, **more: Any) -> ConfigSubentryData:
    number = next(_NUMBERS)
    data: dict[str, Any] = {
        "source": "entities",
        "kind": kind,
        "carrier": "electricity",
        "rating_w": 10_000,
        "asset_id": f"{number:032x}",
        "device_uid": f"{home}_{kind}",
        **more,
    }
    return ConfigSubentryData(
        data=MappingProxyType(data), subentry_type="device", title=f"{home} {kind}", unique_id=str(number)
    )


def meter_device(home: str) -> ConfigSubentryData:
    """A home's meter."""
    entities = {
        "power": f"sensor.{home}_grid",
        "energy_out": f"sensor.{home}_export",
        "energy_in": f"sensor.{home}_import",
    }
    return _device(home, "meter", entities=entities, positive="export")


def battery_device(home: str, capacity_wh: int = 10_000) -> ConfigSubentryData:
    """A home's battery, commanded through a number."""
    return _device(
        home,
        "battery",
        rating_w=5_000,
        capacity_wh=capacity_wh,
        entities={"power": f"sensor.{home}_battery", "state_of_charge": f"sensor.{home}_soc"},
        positive="discharge",
        command={"entity": f"input_number.{home}_discharge", "commands": ["discharge"]},
    )


def sun_device(home: str) -> ConfigSubentryData:
    """A home's PV system, which feeds in by itself."""
    return _device(home, "pv", entities={"power": f"sensor.{home}_pv"})


def fuel_cell_device(home: str) -> ConfigSubentryData:
    """A home's fuel cell with its tank."""
    return _device(
        home,
        "fuel_cell",
        rating_w=2_000,
        capacity_wh=20_000,
        entities={"power": f"sensor.{home}_cell", "energy_available": f"sensor.{home}_tank"},
    )


def set_power(hass: HomeAssistant, entity: str, watts: int) -> None:
    """Have a power sensor tell a figure."""
    hass.states.async_set(entity, str(watts), {"unit_of_measurement": "W"}, force_update=True)


@dataclass
class Street:
    """The homes, their entries, and what their number entities were told."""

    hass: HomeAssistant
    node: ApiWorld
    make_entry: EntryMaker
    entries: dict[str, EnergyLedgerEntry] = field(default_factory=dict)
    commands: list[tuple[str, float]] = field(default_factory=list)
    heard: dict[str, list[HomeEvent]] = field(default_factory=dict)
    """What each home was told."""
    unlisten: list[Callable[[], None]] = field(default_factory=list)

    @property
    def now(self) -> int:
        return self.node.world.now

    async def add(self, home: str, *subentries: ConfigSubentryData) -> MockConfigEntry:
        """Set a home up."""
        entry = await self.make_entry(self.node, home, subentries=list(subentries))
        self.follow_clock(entry)
        self.entries[home] = entry
        heard = self.heard[home] = []
        self.unlisten.append(async_listen(self.hass, entry.entry_id, heard.append))
        return entry

    def follow_clock(self, entry: EnergyLedgerEntry) -> None:
        """Have a home sign with the chain's time; once more after it was reloaded."""
        entry.runtime_data.home._clock = lambda: float(self.now)

    def subentry(self, home: str, title: str) -> str:
        """Return a subentry's id."""
        entry = self.entries[home]
        return next(name for name, each in entry.subentries.items() if each.title == title)

    async def add_rule(self, home: str, kind: str, data: dict[str, Any], title: str = "") -> str:
        """Add a rule; the home is loaded anew. Returns the rule's id."""
        title = title or f"{home} {kind} rule"
        subentry = ConfigSubentry(
            data=MappingProxyType(data), subentry_type=kind, title=title, unique_id=str(next(_NUMBERS))
        )
        self.hass.config_entries.async_add_subentry(self.entries[home], subentry)
        await self.hass.async_block_till_done()
        self.follow_clock(self.entries[home])
        return subentry.subentry_id

    def trading(self, home: str) -> TradingEngine:
        """A home's trading engine."""
        trading = self.entries[home].runtime_data.trading
        assert isinstance(trading, TradingEngine)
        return trading

    async def mine(self, blocks: int = 1) -> None:
        """Mine, and have every home see it."""
        for _ in range(blocks):
            await self.node.mine()
        await self.seen()

    async def seen(self) -> None:
        """Wait until every home's view is that of the node's tip, and all of it was told."""
        status = await next(iter(self.entries.values())).runtime_data.client.status()
        for entry in self.entries.values():
            ledger = entry.runtime_data.ledger
            await wait_until(partial(_has_seen, ledger, status))
        await self.hass.async_block_till_done()

    async def until_time(self, time: int) -> None:
        """Let the chain's time pass, block by block."""
        while self.now < time:
            self.node.world.now = max(self.now, time - 60)
            await self.node.mine()
        await self.seen()

    async def register(self) -> None:
        """Mine until every device is an asset on the ledger: the meters first."""
        for _ in range(6):
            await self.mine()
            runtimes = [
                runtime for entry in self.entries.values() for runtime in entry.runtime_data.devices.values()
            ]
            if all(runtime.asset_id is not None for runtime in runtimes):
                return
        raise AssertionError("some devices are not registered")

    async def turn_on(self, *homes: str) -> None:
        """Let homes trade by themselves."""
        for home in homes:
            settings = self.entries[home].runtime_data.settings
            assert settings is not None
            await settings.async_change(automatic_selling=True, automatic_buying=True)

    async def look(self) -> None:
        """Have every home look at everything once."""
        for home in self.entries:
            await self.trading(home).async_look()
            await self.trading(home).gate.async_look()
        await self.hass.async_block_till_done()

    async def send_readings(self) -> None:
        """Have every home hand in its boundaries, and put them into a block."""
        for home in self.entries:
            await self.trading(home).metering.async_send()
        await self.mine()


@asynccontextmanager
async def street(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> AsyncIterator[Street]:
    """A street whose homes go by the chain's clock."""
    homes = Street(hass, node, make_entry)

    async def set_value(call: ServiceCall) -> None:
        entity = call.data["entity_id"]
        name = entity[0] if isinstance(entity, list) else entity
        homes.commands.append((name, float(call.data["value"])))
        hass.states.async_set(name, str(call.data["value"]), {"unit_of_measurement": "W"})

    hass.services.async_register("input_number", "set_value", set_value)
    with (
        patch("custom_components.energy_ledger.trading.clock.now", lambda: float(node.world.now)),
        patch("custom_components.energy_ledger.trading.engine.LOOK_S", 3600.0),
    ):
        yield homes
        for stop in homes.unlisten:
            stop()


def _has_seen(ledger: LedgerCoordinator, status: StatusView) -> bool:
    """Whether a home's view has come to what a node's status told."""
    return (
        ledger.last_update_success
        and ledger.data.status.tip.height >= status.tip.height
        and ledger.cursor is not None
        and int(ledger.cursor.partition("-")[0]) >= int(status.cursor.partition("-")[0])
    )
