"""Ask what answers at an address, for the set-up flow: detection, and one reading of what was found."""

import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from homeassistant.core import HomeAssistant

from ..devices.connect import settings_for
from ..devices.detect import Detection, UnitSource, detect, find_devices
from ..devices.device import Device
from ..devices.errors import SettingsError
from ..devices.profile.model import Profile
from ..devices.readings import Field, Readings
from ..devices.transport.base import LinkSettings, ModbusUnit
from ..devices.transport.link import Link
from ..ha_modbus import SharedUnit, temporary_shared_unit
from .modbus_device import link_pool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the user wants to be asked.

    `any_port`: the port was left open, so other ports and kinds of link may be tried. `unit`: None: the
    usual ones. `shared`: over Home Assistant's shared connection. `profile`: None: find out.
    """

    settings: LinkSettings
    any_port: bool = False
    unit: int | None = None
    shared: bool = False
    profile: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """A device that answered, and what it read."""

    settings: LinkSettings
    detection: Detection
    readings: Readings
    shared: bool = False

    @property
    def uid(self) -> str:
        """Names the physical device: by its serial number, or by where it is if it tells none."""
        profile = self.detection.profile.id
        if self.detection.serial:
            return f"{profile}_{self.detection.serial}"
        return f"{profile}_{self.settings.endpoint}_{self.detection.unit_id}"

    @property
    def label(self) -> str:
        """Maker, model and place, for a list to choose from."""
        plate = self.detection.nameplate
        names = (plate.get(Field.MANUFACTURER), plate.get(Field.MODEL) or self.detection.profile.title)
        name = " ".join(text for text in names if text)
        serial = f", {self.detection.serial}" if self.detection.serial else ""
        return f"{name}{serial} ({self.settings.endpoint}, {self.detection.unit_id})"


class _SharedUnits:
    """Units of Home Assistant's shared connection that are held already; a `detect.UnitSource`."""

    def __init__(self, settings: LinkSettings, units: Mapping[int, SharedUnit]) -> None:
        self.settings = settings
        self._units = units

    def unit(self, unit_id: int, *, timeout_s: float | None = None) -> ModbusUnit:
        """See `UnitSource.unit`; the shared connection has its own timeout."""
        _ = timeout_s
        return self._units[unit_id]


async def async_probe(hass: HomeAssistant, wish: Wish, profiles: Mapping[str, Profile]) -> tuple[Probed, ...]:
    """What answers. Raises SettingsError, LinkError or NotDetected in plain words."""
    if wish.profile is not None:
        profiles = {wish.profile: profiles[wish.profile]}
    units = None if wish.unit is None else [wish.unit]
    settings = wish.settings
    open_link = link_pool(hass).open_link(settings.endpoint)
    if wish.shared or open_link is not None:
        async with _source(hass, wish, profiles, units) as source:
            found = await detect(source, profiles, units=units, timeout_s=settings.timeout_s)
            return await _read_all(source, found, wish.shared)
    there = await find_devices(settings, profiles, any_port=wish.any_port, units=units)
    async with _own_link(there.settings) as link:
        return await _read_all(link, there.devices, shared=False)


@asynccontextmanager
async def _own_link(settings: LinkSettings) -> AsyncIterator[Link]:
    link = Link(settings)
    try:
        yield link
    finally:
        await link.close()


@asynccontextmanager
async def _source(
    hass: HomeAssistant, wish: Wish, profiles: Mapping[str, Profile], units: Sequence[int] | None
) -> AsyncIterator[UnitSource]:
    """A connection that is open already: many devices take only one."""
    if not wish.shared:
        link = link_pool(hass).open_link(wish.settings.endpoint)
        if link is None:
            endpoint = wish.settings.endpoint
            raise SettingsError(
                f"the link to {endpoint} was closed meanwhile; try again", "link_closed", endpoint=endpoint
            )
        yield link
        return
    wanted = set(units or ())
    for profile in profiles.values():
        wanted |= set(profile.link.companions.values()) | (set() if units else set(profile.link.units))
    async with AsyncExitStack() as stack:
        held = {
            unit: await stack.enter_async_context(temporary_shared_unit(hass, wish.settings, unit))
            for unit in sorted(wanted)
        }
        yield _SharedUnits(wish.settings, held)


async def _read_all(source: UnitSource, found: Sequence[Detection], shared: bool) -> tuple[Probed, ...]:
    """Read every device once: the forms suggest what it tells of itself."""
    probed: list[Probed] = []
    for detection in found:
        settings = settings_for(detection.profile, source.settings)
        units = {"": detection.unit_id, **detection.companions}
        device = Device(
            detection.profile,
            {name: source.unit(unit, timeout_s=settings.timeout_s) for name, unit in units.items()},
        )
        readings = await device.poll()
        plate = {
            field: text
            for field in (Field.MANUFACTURER, Field.MODEL, Field.SERIAL, Field.FIRMWARE)
            if (text := detection.nameplate.get(field) or readings.text(field))
        }
        probed.append(
            Probed(
                settings=source.settings,
                detection=dataclasses.replace(detection, nameplate=plate),
                readings=readings,
                shared=shared,
            )
        )
    return tuple(probed)
