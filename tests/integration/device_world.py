"""Simulated homes behind real Modbus links, and subentries of devices on them."""

import contextlib
import itertools
from collections.abc import AsyncIterator
from types import MappingProxyType
from typing import Any

from homeassistant.config_entries import ConfigSubentryData
from pytest_homeassistant_custom_component.common import MockConfigEntry  # type: ignore[import-untyped]

from custom_components.energy_ledger.const import SUBENTRY_DEVICE
from custom_components.energy_ledger.device_runtime.manager import DeviceManager
from custom_components.energy_ledger.device_runtime.runtime import DeviceRuntime
from simulator.config import build_config
from simulator.home import SimulatedHome
from tests.devices.homes import known_profiles

_NUMBERS = itertools.count(1)
RATINGS = {"pv": 10_000, "battery": 10_000, "meter": 30_000, "fuel_cell": 5_000}


@contextlib.asynccontextmanager
async def simulated(*profiles: str, **config: Any) -> AsyncIterator[SimulatedHome]:
    """A home at noon whose time stands still; each device on a TCP link of its own, named by its profile."""
    whole = {
        "seed": 11,
        "start": "2026-06-21T10:00:00Z",
        "factor": 0,
        "step_s": 60,
        "pv": True,
        "battery": True,
        "fuel_cell": True,
        "links": [
            {"name": profile, "transport": "tcp", "devices": [{"profile": profile}]} for profile in profiles
        ],
        **config,
    }
    async with SimulatedHome(build_config(whole, now_s=0)) as home:
        home.advance(120)
        yield home


def device(
    home: SimulatedHome, profile_id: str, kind: str, name: str | None = None, **more: Any
) -> ConfigSubentryData:
    """The subentry of one part of a simulated device."""
    profile = known_profiles()[profile_id]
    number = next(_NUMBERS)
    data: dict[str, Any] = {
        "source": "modbus",
        "kind": kind,
        "carrier": "electricity",
        "rating_w": RATINGS.get(kind, 1000),
        "capacity_wh": 10_000 if kind in ("battery", "fuel_cell") else None,
        "asset_id": f"{number:032x}",
        "device_uid": profile_id,
        "profile": profile_id,
        "link": {"kind": "tcp", "host": "127.0.0.1", "port": home.links[profile_id].port},
        "unit": profile.link.units[0],
        **more,
    }
    return ConfigSubentryData(
        data=MappingProxyType(data),
        subentry_type=SUBENTRY_DEVICE,
        title=name or kind,
        unique_id=f"{profile_id}_{kind}_{number}",
    )


def manager_of(entry: MockConfigEntry) -> DeviceManager:
    """The devices of an entry that is set up."""
    manager = entry.runtime_data.device_manager
    assert isinstance(manager, DeviceManager)
    return manager


def runtime_of(entry: MockConfigEntry, name: str) -> DeviceRuntime:
    """A device by its name."""
    return next(each for each in manager_of(entry).runtimes.values() if each.name == name)
