"""Simulated homes and our devices on them, for the fault and command tests."""

import contextlib
import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from custom_components.energy_ledger.devices.device import Device, DeviceOptions
from custom_components.energy_ledger.devices.profile.load import load_profiles
from custom_components.energy_ledger.devices.profile.model import Profile
from custom_components.energy_ledger.devices.readings import Field, Quality, Readings
from custom_components.energy_ledger.devices.transport.base import LinkKind, LinkSettings
from custom_components.energy_ledger.devices.transport.link import Link
from simulator.config import build_config
from simulator.home import SimulatedHome
from simulator.modbus.server import Link as ServerLink

TIMEOUT_S = 0.2

# What each family tells that can be checked against the physics: field -> (group, key, tolerance).
TRUTHS = {
    Field.PV_W: ("power_w", "pv_w"),
    Field.CHARGE_W: ("power_w", "charge_w"),
    Field.DISCHARGE_W: ("power_w", "discharge_w"),
    Field.IMPORT_W: ("power_w", "import_w"),
    Field.EXPORT_W: ("power_w", "export_w"),
    Field.LOAD_W: ("power_w", "load_w"),
    Field.PV_WH: ("energy_wh", "pv"),
    Field.CHARGE_WH: ("energy_wh", "charge"),
    Field.DISCHARGE_WH: ("energy_wh", "discharge"),
    Field.IMPORT_WH: ("energy_wh", "import"),
    Field.EXPORT_WH: ("energy_wh", "export"),
    Field.STATE_OF_CHARGE: ("battery", "soc_permille"),
}


@functools.cache
def known_profiles() -> Mapping[str, Profile]:
    """Our profiles, read once."""
    return load_profiles()


@dataclass
class Site:
    """A simulated home, its one link, and our link and devices to it."""

    home: SimulatedHome
    server: ServerLink
    link: Link
    devices: list[Device]

    @property
    def device(self) -> Device:
        return self.devices[0]

    def check(self, readings: Readings, tolerance: int = 12) -> int:
        """Every good reading is right; returns how many good ones there are that can be checked."""
        truth: dict[str, Any] = self.home.truth()
        good = 0
        for field, (group, key) in TRUTHS.items():
            reading = readings[field]
            if reading.quality is Quality.UNAVAILABLE:
                assert reading.value is None, f"{field} has a value but is unavailable"
            if reading.quality is not Quality.GOOD:
                continue
            good += 1
            expected = truth[group][key]
            allowed = 1100 if field.value.endswith("_wh") else tolerance
            assert isinstance(reading.value, int)
            assert abs(reading.value - expected) <= allowed, f"{field} {reading.value}, truth {expected}"
        return good


def link_settings(server: ServerLink, *, timeout_s: float = TIMEOUT_S) -> LinkSettings:
    """Our way to a server of a simulated home, with short times."""
    return LinkSettings(
        kind=LinkKind(server.settings.transport.value),
        host="127.0.0.1",
        port=server.port,
        timeout_s=timeout_s,
        retry_first_s=0.02,
        retry_last_s=0.1,
    )


@contextlib.asynccontextmanager
async def site(
    *profile_ids: str,
    kind: LinkKind = LinkKind.TCP,
    units: Sequence[int] | None = None,
    options: DeviceOptions | None = None,
    config: dict[str, Any] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> AsyncIterator[Site]:
    """A home at noon whose time stands still, all of its devices on one link, and our devices on it."""
    profiles = known_profiles()
    described: list[dict[str, Any]] = []
    for number, profile_id in enumerate(profile_ids):
        entry: dict[str, Any] = {"profile": profile_id}
        if units is not None:
            entry["unit"] = units[number]
        described.append(entry)
    whole = {
        "seed": 11,
        "start": "2026-06-21T10:00:00Z",
        "factor": 0,
        "step_s": 60,
        "pv": True,
        "battery": True,
        "fuel_cell": True,
        "links": [{"name": "link", "transport": kind.value, "devices": described}],
        **(config or {}),
    }
    home = SimulatedHome(build_config(whole, now_s=0))
    async with home:
        home.advance(120)
        server = home.links["link"]
        link = Link(link_settings(server, timeout_s=timeout_s))
        devices = []
        for number, profile_id in enumerate(profile_ids):
            profile = profiles[profile_id]
            for variant in list(profile.variants)[:1]:
                profile = profile.choose(variant)
            own = units[number] if units is not None else profile.link.units[0]
            transports = {"": link.unit(own)}
            transports |= {name: link.unit(unit) for name, unit in profile.link.companions.items()}
            devices.append(Device(profile, transports, options=options))
        try:
            yield Site(home, server, link, devices)
        finally:
            await link.close()
