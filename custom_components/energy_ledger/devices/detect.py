"""Find out what answers on a link: profile, unit id, serial number. For `script/probe` and set-up forms."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

from .codec import decode
from .errors import (
    DeviceError,
    ExceptionReply,
    HostSilent,
    LinkClosed,
    LinkError,
    NotDetected,
    SettingsError,
    UnknownDevice,
)
from .mapping import Mapper
from .profile.model import Check, Profile, RegisterPoint, Role, SunSpecMap, Transport, Value
from .readings import Field
from .sunspec.bind import bind_check
from .sunspec.layout import Layout, discover
from .transport.base import LinkKind, LinkSettings, ModbusUnit, check_unit_id
from .transport.link import Link

# So many unanswered questions, with none answered, make a unit id absent.
_SILENCES: Final = 2
_CONNECT_TIMEOUTS: Final = 2
# Devices that are asked too fast drop requests; while nothing is known yet, all are treated with care.
_CAREFUL_SPACING_S: Final = 0.02
_KINDS: Final = {
    Transport.TCP: LinkKind.TCP,
    Transport.RTU_OVER_TCP: LinkKind.RTU_OVER_TCP,
    Transport.UDP: LinkKind.UDP,
    Transport.RTU_OVER_UDP: LinkKind.RTU_OVER_UDP,
    Transport.SERIAL: LinkKind.SERIAL,
}
_NAMEPLATE: Final = {
    Role.MANUFACTURER: Field.MANUFACTURER,
    Role.MODEL: Field.MODEL,
    Role.SERIAL: Field.SERIAL,
    Role.FIRMWARE: Field.FIRMWARE,
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """A device that was found. `profile` is its variant already; `companions` are units that answer too."""

    profile: Profile
    unit_id: int
    nameplate: Mapping[Field, str]
    companions: Mapping[str, int]

    @property
    def serial(self) -> str | None:
        """The serial number, if the device tells one."""
        return self.nameplate.get(Field.SERIAL)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What answers on one link."""

    settings: LinkSettings
    devices: tuple[Detection, ...]


class UnitSource(Protocol):
    """What units can be asked over: a `Link`, or another connection that is open already."""

    @property
    def settings(self) -> LinkSettings:
        """How it is connected."""

    def unit(self, unit_id: int, *, timeout_s: float | None = None) -> ModbusUnit:
        """One unit of it."""


class _Absent(Exception):
    """Nothing answers at a unit id."""


class _Asker:
    """Reads of one unit, each asked once; a `ModbusUnit` for reading."""

    def __init__(self, unit: ModbusUnit, patience: int = _SILENCES) -> None:
        self.unit = unit
        self.answered = False
        self._patience = patience
        self._silences = 0
        self._known: dict[tuple[int, int, int], list[int] | DeviceError] = {}
        self._layouts: dict[SunSpecMap, Layout | None] = {}

    @property
    def unit_id(self) -> int:
        return self.unit.unit_id

    @property
    def name(self) -> str:
        return self.unit.name

    async def read(self, function: int, address: int, count: int) -> list[int]:
        key = (function, address, count)
        if key not in self._known:
            if not self.answered and self._silences >= self._patience:
                raise _Absent
            try:
                self._known[key] = await self.unit.read(function, address, count)
                self.answered = True
            except LinkClosed:
                raise
            except ExceptionReply as error:
                self.answered = self.answered or error.refused
                self._known[key] = error
            except LinkError as error:
                self._silences += 1
                self._known[key] = error
        known = self._known[key]
        if isinstance(known, DeviceError):
            raise known
        return known

    async def write(self, function: int, address: int, values: Sequence[int]) -> None:
        raise SettingsError(f"detection never writes (function {function} at {address}: {list(values)})")

    async def layout(self, where: SunSpecMap) -> Layout | None:
        """The SunSpec map, if there is one."""
        if where not in self._layouts:
            try:
                self._layouts[where] = await discover(self, where)
            except LinkClosed:
                raise
            except DeviceError:
                self._layouts[where] = None
        return self._layouts[where]

    async def value(self, point: RegisterPoint) -> Value | None:
        """The value of a point; None when it has none or can't be read."""
        registers: dict[int, int] = {}
        try:
            for address, count in point.addresses():
                words = await self.read(int(point.function), address, count)
                registers.update(zip(range(address, address + count), words, strict=True))
        except LinkClosed:
            raise
        except DeviceError:
            return None
        return decode(point, registers)


async def detect(
    link: UnitSource,
    profiles: Mapping[str, Profile],
    *,
    units: Sequence[int] | None = None,
    timeout_s: float | None = None,
) -> tuple[Detection, ...]:
    """What the units of a link are; at most one detection per unit id, the profile of highest priority.

    `units`: only these ids, whatever the profiles say. Raises LinkError when the link can't be opened,
    NotDetected when nothing answers or nothing that answers is known.
    """
    wanted = [check_unit_id(unit) for unit in units or ()]
    ranked = sorted(profiles.values(), key=lambda profile: (-profile.priority, profile.id))
    found: list[Detection] = []
    strangers: list[int] = []
    for unit_id in wanted or _usual_units(ranked):
        if any(unit_id in device.companions.values() for device in found):
            continue  # a part of a device that was found already
        # Once a device is known, the other ids are a matter of course: one silence is enough.
        asker = _Asker(link.unit(unit_id, timeout_s=timeout_s), 1 if found else _SILENCES)
        fitting = [profile for profile in ranked if wanted or unit_id in profile.link.units]
        try:
            detection = await _identify(asker, fitting, link, timeout_s)
        except _Absent:
            continue
        except LinkClosed:
            if not found:
                raise
            break  # some devices hang up on whoever asks for a unit that they do not have
        if detection is not None:
            found.append(detection)
        elif asker.answered:
            strangers.append(unit_id)
    if found:
        return tuple(found)
    if strangers:
        units_text = ", ".join(str(unit) for unit in strangers)
        raise UnknownDevice(
            f"{link.settings.endpoint}: unit {units_text} answers, but is none of the {len(profiles)} known "
            "devices; a profile of your own can describe it",
            "unknown_device",
            endpoint=link.settings.endpoint,
            units=units_text,
        )
    tried = ", ".join(str(unit) for unit in wanted or _usual_units(ranked))
    raise NotDetected(
        f"{link.settings.endpoint} can be connected to, but no unit answers (tried {tried}); "
        "check the unit id, and that nothing else is connected to the device",
        "no_device",
        endpoint=link.settings.endpoint,
        units=tried,
    )


def _usual_units(profiles: Iterable[Profile]) -> list[int]:
    """Unit ids that devices usually have, the most usual first."""
    counts: dict[int, int] = {}
    for profile in profiles:
        for rank, unit in enumerate(profile.link.units):
            counts[unit] = counts.get(unit, 0) + (2 if rank == 0 else 1)
    return sorted(counts, key=lambda unit: (-counts[unit], unit))


async def _identify(
    asker: _Asker, profiles: Sequence[Profile], link: UnitSource, timeout_s: float | None
) -> Detection | None:
    """The first profile that fits the unit."""
    for profile in profiles:
        if not await _fits(asker, profile):
            continue
        chosen = profile
        for variant in profile.variants.values():
            if variant.when and await _all_hold(asker, variant.when, profile.sunspec):
                chosen = variant.profile
                break
        companions = await _companions(chosen, asker.unit_id, link, timeout_s)
        return Detection(
            profile=chosen,
            unit_id=asker.unit_id,
            nameplate=MappingProxyType(await _nameplate(asker, chosen)),
            companions=MappingProxyType(companions),
        )
    return None


async def _fits(asker: _Asker, profile: Profile) -> bool:
    if profile.sunspec is not None:
        layout = await asker.layout(profile.sunspec)
        if layout is None or layout.missing(profile.sunspec.required):
            return False
    elif not profile.detect:
        return False  # nothing tells it from any other device: it can only be chosen by hand
    return await _all_hold(asker, profile.detect, profile.sunspec)


async def _all_hold(asker: _Asker, checks: Iterable[Check], where: SunSpecMap | None) -> bool:
    for check in checks:
        layout = await asker.layout(where) if where is not None else None
        bound = bind_check(check, layout)
        if bound is None or not isinstance(bound.point, RegisterPoint):
            return False
        if not bound.test.accepts(await asker.value(bound.point)):
            return False
    return True


async def _companions(
    profile: Profile, own: int, link: UnitSource, timeout_s: float | None
) -> dict[str, int]:
    """Which of the other units that the profile may use are there."""
    present: dict[str, int] = {}
    for name, unit_id in profile.link.companions.items():
        point = next((p for p in profile.points.values() if p.companion == name), None)
        if unit_id == own or point is None:
            continue
        asker = _Asker(link.unit(unit_id, timeout_s=timeout_s))
        try:
            if isinstance(point, RegisterPoint):
                await asker.value(point)
            elif profile.sunspec is not None:
                await asker.layout(profile.sunspec)
        except _Absent:
            continue
        if asker.answered:
            present[name] = unit_id
    return present


async def _nameplate(asker: _Asker, profile: Profile) -> dict[Field, str]:
    """Manufacturer, model, serial number and firmware, as far as the device tells them."""
    bound = (await Mapper(profile, {"": asker}).bind()).profile
    plate: dict[Field, str] = {}
    for role, field in _NAMEPLATE.items():
        for point in bound.by_role(role):
            if isinstance(point, RegisterPoint) and point.companion is None and field not in plate:
                value = await asker.value(point)
                if value is not None:
                    plate[field] = str(value)
    plate.setdefault(Field.MANUFACTURER, profile.manufacturer)
    return plate


async def find_devices(
    settings: LinkSettings,
    profiles: Mapping[str, Profile],
    *,
    any_port: bool = False,
    units: Sequence[int] | None = None,
) -> Found:
    """Detect what answers at an address, trying the ports and kinds of link that the profiles know.

    `any_port`: the port in `settings` was not chosen by the user, so others may be tried. Raises LinkError
    when nothing can be connected to, NotDetected when nothing known answers.
    """
    first: DeviceError | None = None
    unknown: NotDetected | None = None
    timeouts = 0
    for candidate in candidates(settings, profiles, any_port=any_port):
        link = Link(candidate)
        try:
            devices = await detect(link, profiles, units=units)
        except NotDetected as error:
            unknown = unknown or error
        except HostSilent as error:
            first = first or error
            timeouts += 1
            if timeouts == _CONNECT_TIMEOUTS:
                break  # nothing is there: other ports would not answer either
        except LinkClosed as error:
            first = first or error
        else:
            return Found(settings=candidate, devices=devices)
        finally:
            await link.close()
    raise unknown or first or NotDetected(f"{settings.endpoint}: there is nothing to try")


def candidates(
    settings: LinkSettings, profiles: Mapping[str, Profile], *, any_port: bool
) -> list[LinkSettings]:
    """The links to try for an address: as given, or also the other ports that profiles name."""
    settings = _careful(settings, profiles)
    if not any_port or settings.kind is LinkKind.SERIAL:
        return [settings]
    ports: dict[tuple[LinkKind, int], int] = {(settings.kind, settings.port): 1000}
    for profile in profiles.values():
        for way in profile.link.transports:
            kind = _KINDS[way.transport]
            same_wire = kind in (LinkKind.TCP, LinkKind.RTU_OVER_TCP)
            if kind is not settings.kind and not (settings.kind is LinkKind.TCP and same_wire):
                continue
            for port in way.ports:
                ports[kind, port] = ports.get((kind, port), 0) + 1
    ranked = sorted(ports, key=lambda pair: (-ports[pair], pair))
    return [dataclasses.replace(settings, kind=kind, port=port) for kind, port in ranked]


def _careful(settings: LinkSettings, profiles: Mapping[str, Profile]) -> LinkSettings:
    """The settings with the pauses that the most delicate device at that port needs."""
    delays = [
        profile.link.connect_delay
        for profile in profiles.values()
        if any(
            _KINDS[way.transport] is settings.kind and settings.port in way.ports
            for way in profile.link.transports
        )
    ]
    return dataclasses.replace(
        settings,
        connect_delay_s=max([settings.connect_delay_s, *delays]),
        spacing_s=max(settings.spacing_s, _CAREFUL_SPACING_S),
    )
