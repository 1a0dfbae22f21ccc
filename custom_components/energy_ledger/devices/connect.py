"""Put a device together: its link from the pool, its units, its profile's way of being talked to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from .counters import CounterState
from .device import Device, DeviceOptions
from .errors import SettingsError
from .profile.model import Profile
from .readings import Field
from .transport.base import LinkSettings, ModbusUnit
from .transport.pool import Hold, LinkPool


def settings_for(profile: Profile, settings: LinkSettings) -> LinkSettings:
    """The link settings with the spacing, connect delay and timeout that the profile asks for."""
    link = profile.link
    return dataclasses.replace(
        settings,
        spacing_s=link.spacing,
        connect_delay_s=link.connect_delay,
        timeout_s=link.timeout,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class OpenDevice:
    """A device and the units that it holds in a pool."""

    device: Device
    pool: LinkPool
    holds: tuple[Hold, ...]

    async def close(self) -> None:
        """Give the units back; the link closes with its last holder."""
        for hold in self.holds:
            await self.pool.release(hold)


async def open_device(
    pool: LinkPool,
    profile: Profile,
    settings: LinkSettings,
    unit_id: int,
    *,
    owner: str,
    companions: Mapping[str, int] | None = None,
    options: DeviceOptions | None = None,
    counters: Mapping[Field, CounterState] | None = None,
) -> OpenDevice:
    """A device on a link of the pool; nothing is sent yet.

    `companions` are the other unit ids of the device by the names in its profile (default: the profile's).
    Raises SettingsError when a unit is in use by another owner or a companion has no such name.
    """
    chosen = profile.link.companions if companions is None else companions
    for name in chosen:
        if name not in profile.link.companions:
            known = ", ".join(profile.link.companions) or "none"
            raise SettingsError(f"{profile.title} has no companion {name!r}; known: {known}")
    wanted = settings_for(profile, settings)
    holds: list[Hold] = []
    units: dict[str, ModbusUnit] = {}
    try:
        for name, unit in {"": unit_id, **chosen}.items():
            hold = pool.hold(wanted, unit, owner)
            holds.append(hold)
            units[name] = hold.unit
    except SettingsError:
        for hold in holds:
            await pool.release(hold)
        raise
    return OpenDevice(
        Device(profile, units, name=owner, options=options, counters=counters), pool, tuple(holds)
    )
