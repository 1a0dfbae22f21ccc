"""Typed readings in the project's units, made from a profile's point values; pure.

Power and energy are positive in the direction that the field names, so a battery's signed power becomes
`charge_w` or `discharge_w`. Every reading has a quality and an age; without a value it is never 0.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from enum import StrEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from .codec import labels
from .profile.model import (
    COUNTER_ROLES,
    ROLE_UNITS,
    DerivedPoint,
    Direction,
    Profile,
    RegisterPoint,
    Role,
    SunSpecPoint,
    Value,
)
from .profile.units import Unit, convert

type AnyPoint = RegisterPoint | SunSpecPoint | DerivedPoint


class Quality(StrEnum):
    """How far a reading may be trusted."""

    GOOD = "good"  # read when it was last due
    STALE = "stale"  # the last known value; the device has not confirmed it since
    UNAVAILABLE = "unavailable"  # the device does not say now
    NOT_IMPLEMENTED = "not_implemented"  # the device (or its profile) has no such value


class Field(StrEnum):
    """What a device may tell. The suffix is the unit: W, Wh, per mille, mV, mA, mbar, °C, Hz, l/min."""

    PV_W = "pv_w"
    CHARGE_W = "charge_w"
    DISCHARGE_W = "discharge_w"
    IMPORT_W = "import_w"
    EXPORT_W = "export_w"
    LOAD_W = "load_w"
    GENERATE_W = "generate_w"  # out of an inverter's AC terminals …
    CONSUME_W = "consume_w"  # … and into them
    FUEL_CELL_W = "fuel_cell_w"
    GENERATOR_W = "generator_w"
    STATE_OF_CHARGE = "state_of_charge_permille"
    STATE_OF_HEALTH = "state_of_health_permille"
    ENERGY_AVAILABLE_WH = "energy_available_wh"
    CAPACITY_WH = "capacity_wh"
    RATED_W = "rated_w"
    MAX_CHARGE_W = "max_charge_w"
    MAX_DISCHARGE_W = "max_discharge_w"
    PV_WH = "pv_wh"
    CHARGE_WH = "charge_wh"
    DISCHARGE_WH = "discharge_wh"
    IMPORT_WH = "import_wh"
    EXPORT_WH = "export_wh"
    GENERATE_WH = "generate_wh"
    FUEL_CELL_WH = "fuel_cell_wh"
    BATTERY_MV = "battery_mv"
    CHARGE_MA = "charge_ma"
    DISCHARGE_MA = "discharge_ma"
    BATTERY_CELSIUS = "battery_celsius"
    DC_MV = "dc_mv"
    DC_MA = "dc_ma"
    FREQUENCY_HZ = "frequency_hz"
    CELSIUS = "celsius"
    HYDROGEN_MBAR = "hydrogen_mbar"
    HYDROGEN_INLET_MBAR = "hydrogen_inlet_mbar"
    HYDROGEN_LPM = "hydrogen_litre_per_minute"
    FUEL_LEVEL = "fuel_level_permille"
    FUEL_LOW = "fuel_low"
    MANUFACTURER = "manufacturer"
    MODEL = "model"
    SERIAL = "serial"
    FIRMWARE = "firmware"
    STATUS = "status"
    WARNING = "warning"
    FAULT = "fault"


# Roles with a raw sign: (field for one direction, field for the opposite one).
_SIGNED: Final[dict[Role, dict[Direction, Field]]] = {
    Role.BATTERY_POWER: {Direction.CHARGE: Field.CHARGE_W, Direction.DISCHARGE: Field.DISCHARGE_W},
    Role.GRID_POWER: {Direction.IMPORT: Field.IMPORT_W, Direction.EXPORT: Field.EXPORT_W},
    Role.AC_POWER: {Direction.GENERATE: Field.GENERATE_W, Direction.CONSUME: Field.CONSUME_W},
    Role.BATTERY_CURRENT: {Direction.CHARGE: Field.CHARGE_MA, Direction.DISCHARGE: Field.DISCHARGE_MA},
}
_NATURAL: Final[dict[Role, Direction]] = {
    Role.BATTERY_POWER: Direction.DISCHARGE,
    Role.GRID_POWER: Direction.IMPORT,
    Role.AC_POWER: Direction.GENERATE,
    Role.BATTERY_CURRENT: Direction.DISCHARGE,
}
# Roles that can't be negative: a small negative number is standby consumption or an offset.
_POSITIVE: Final[dict[Role, Field]] = {
    Role.PV_POWER: Field.PV_W,
    Role.LOAD_POWER: Field.LOAD_W,
    Role.FUEL_CELL_POWER: Field.FUEL_CELL_W,
    Role.GENERATOR_POWER: Field.GENERATOR_W,
    Role.STATE_OF_CHARGE: Field.STATE_OF_CHARGE,
    Role.STATE_OF_HEALTH: Field.STATE_OF_HEALTH,
    Role.ENERGY_AVAILABLE: Field.ENERGY_AVAILABLE_WH,
    Role.CAPACITY: Field.CAPACITY_WH,
    Role.RATED_POWER: Field.RATED_W,
    Role.MAX_CHARGE_POWER: Field.MAX_CHARGE_W,
    Role.MAX_DISCHARGE_POWER: Field.MAX_DISCHARGE_W,
    Role.FUEL_LEVEL: Field.FUEL_LEVEL,
}
_COUNTERS: Final[dict[Role, Field]] = {
    Role.PV_ENERGY: Field.PV_WH,
    Role.CHARGE_ENERGY: Field.CHARGE_WH,
    Role.DISCHARGE_ENERGY: Field.DISCHARGE_WH,
    Role.IMPORT_ENERGY: Field.IMPORT_WH,
    Role.EXPORT_ENERGY: Field.EXPORT_WH,
    Role.AC_ENERGY: Field.GENERATE_WH,
    Role.FUEL_CELL_ENERGY: Field.FUEL_CELL_WH,
}
_PLAIN: Final[dict[Role, Field]] = {
    Role.BATTERY_VOLTAGE: Field.BATTERY_MV,
    Role.BATTERY_TEMPERATURE: Field.BATTERY_CELSIUS,
    Role.DC_VOLTAGE: Field.DC_MV,
    Role.DC_CURRENT: Field.DC_MA,
    Role.FREQUENCY: Field.FREQUENCY_HZ,
    Role.TEMPERATURE: Field.CELSIUS,
    Role.HYDROGEN_PRESSURE: Field.HYDROGEN_MBAR,
    Role.HYDROGEN_INLET_PRESSURE: Field.HYDROGEN_INLET_MBAR,
    Role.HYDROGEN_FLOW: Field.HYDROGEN_LPM,
    Role.FUEL_LOW: Field.FUEL_LOW,
}
_TEXTS: Final[dict[Role, Field]] = {
    Role.MANUFACTURER: Field.MANUFACTURER,
    Role.MODEL: Field.MODEL,
    Role.SERIAL: Field.SERIAL,
    Role.FIRMWARE: Field.FIRMWARE,
    Role.STATUS: Field.STATUS,
    Role.WARNING: Field.WARNING,
    Role.FAULT: Field.FAULT,
}
_WHOLE_UNITS: Final = frozenset({Unit.W, Unit.WH, Unit.PER_MILLE, Unit.MV, Unit.MA, Unit.MBAR, Unit.NONE})
COUNTER_FIELDS: Final = frozenset(_COUNTERS.values())
QUALITY_ORDER: Final = (Quality.GOOD, Quality.STALE, Quality.UNAVAILABLE, Quality.NOT_IMPLEMENTED)


@dataclasses.dataclass(frozen=True, slots=True)
class PointState:
    """What is known of one point: its last value (with the device's sign), when it was read, its quality.

    `no_value`: the device answered, and said that there is no value; nothing was lost on the way.
    """

    value: Value | None
    quality: Quality
    at: float | None = None
    no_value: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """One field's value. `age_s`: seconds since it was read; `point`: the profile's point behind it."""

    value: int | float | str | None
    quality: Quality
    age_s: float | None = None
    point: str | None = None

    @property
    def usable(self) -> bool:
        """Whether the value may be acted upon."""
        return self.quality is Quality.GOOD and self.value is not None


NOT_IMPLEMENTED: Final = Reading(None, Quality.NOT_IMPLEMENTED)


class Readings(Mapping[Field, Reading]):
    """All fields of one device at one moment; a field that the device lacks is `NOT_IMPLEMENTED`."""

    def __init__(self, fields: Mapping[Field, Reading]) -> None:
        """Take over the fields that the device has."""
        self._fields = MappingProxyType(dict(fields))

    def __getitem__(self, field: Field) -> Reading:
        """The reading of any field."""
        return self._fields.get(field, NOT_IMPLEMENTED)

    def __iter__(self) -> Iterator[Field]:
        """The fields that the device has."""
        return iter(self._fields)

    def __len__(self) -> int:
        """How many fields the device has."""
        return len(self._fields)

    def number(self, field: Field) -> int | None:
        """The whole number of a field that is good now, else None."""
        reading = self[field]
        if not reading.usable or isinstance(reading.value, str) or reading.value is None:
            return None
        return round(reading.value)

    def text(self, field: Field) -> str | None:
        """The last known text of a field, else None."""
        value = self[field].value
        return value if isinstance(value, str) else None


def roles_of(profile: Profile) -> dict[Role, tuple[AnyPoint, ...]]:
    """The points that feed each role, in the order of preference; roles that nothing feeds are left out."""
    fed = {role: profile.by_role(role) for role in Role}
    return {role: points for role, points in fed.items() if points}


def derive_readings(
    roles: Mapping[Role, tuple[AnyPoint, ...]], states: Mapping[str, PointState], now: float
) -> Readings:
    """Readings of every role that the profile feeds (`roles_of`). `now` is on the clock of the states' `at`.

    Counters are the device's own registers here; `counters.LifetimeCounter` makes them survive resets.
    """
    fields: dict[Field, Reading] = {}
    for role, candidates in roles.items():
        if role in (Role.WARNING, Role.FAULT):
            fields[_TEXTS[role]] = _joined(candidates, states, now)
            continue
        point, state = _best(candidates, states)
        fields.update(_fields_of(role, point, state, now))
    _add_energy_available(fields)
    _add_load(fields)
    return Readings(fields)


def _best(candidates: tuple[AnyPoint, ...], states: Mapping[str, PointState]) -> tuple[AnyPoint, PointState]:
    """The first candidate of the best quality; a value that is "not implemented" is the last choice."""
    missing = PointState(None, Quality.UNAVAILABLE)
    if len(candidates) == 1:
        return candidates[0], states.get(candidates[0].name, missing)
    known = [(point, states.get(point.name, missing)) for point in candidates]
    return min(known, key=lambda pair: QUALITY_ORDER.index(pair[1].quality))


def _fields_of(role: Role, point: AnyPoint, state: PointState, now: float) -> dict[Field, Reading]:
    """The field, or the two opposite fields, that a role feeds."""
    age = None if state.at is None else max(now - state.at, 0.0)

    def reading(value: int | float | str | None) -> Reading:
        return Reading(value, state.quality, age if value is not None else None, point.name)

    if role in _TEXTS:
        return {_TEXTS[role]: reading(_text(point, state.value))}
    number = _canonical(role, point, state.value)
    if role in _SIGNED:
        fields = _SIGNED[role]
        natural = _NATURAL[role]
        positive = point.positive or natural
        opposite = next(direction for direction in fields if direction is not positive)
        if number is None:
            return {field: reading(None) for field in fields.values()}
        amount = _whole(number)
        return {fields[positive]: reading(max(amount, 0)), fields[opposite]: reading(max(-amount, 0))}
    if role in COUNTER_ROLES:
        return {_COUNTERS[role]: reading(None if number is None else math.floor(number))}
    if role in _POSITIVE:
        if number is not None and point.positive is Direction.CONSUME and role is not Role.LOAD_POWER:
            number = -number
        return {_POSITIVE[role]: reading(None if number is None else max(_whole(number), 0))}
    if number is None:
        return {_PLAIN[role]: reading(None)}
    whole = ROLE_UNITS[role] in _WHOLE_UNITS
    return {_PLAIN[role]: reading(_whole(number) if whole else float(number))}


def _canonical(role: Role, point: AnyPoint, value: Value | None) -> Fraction | None:
    """The number in the role's own unit."""
    if value is None or isinstance(value, str):
        return None
    return convert(value, point.unit, ROLE_UNITS[role])


def _whole(number: Fraction) -> int:
    """The nearest whole number, halves away from zero."""
    magnitude = math.floor(abs(number) + Fraction(1, 2))
    return magnitude if number >= 0 else -magnitude


def _text(point: AnyPoint, value: Value | None) -> str | None:
    """A text as it is, a code or bit field by its names."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(point, RegisterPoint) and (names := labels(point, value)):
        return ", ".join(names)
    if isinstance(point, RegisterPoint) and point.labels:
        return ""
    return str(int(value)) if value.denominator == 1 else f"{float(value):g}"


def _joined(candidates: tuple[AnyPoint, ...], states: Mapping[str, PointState], now: float) -> Reading:
    """All warnings (or faults) of a device in one text; empty when there are none."""
    texts: list[str] = []
    qualities: list[Quality] = []
    ages: list[float] = []
    for point in candidates:
        state = states.get(point.name, PointState(None, Quality.UNAVAILABLE))
        text = _text(point, state.value)
        if text is None and state.quality is Quality.NOT_IMPLEMENTED:
            continue
        qualities.append(state.quality)
        if state.at is not None:
            ages.append(max(now - state.at, 0.0))
        if text and text != "0":
            texts.append(text)
    if not qualities:
        return Reading(None, Quality.NOT_IMPLEMENTED, None, candidates[0].name)
    worst = max(qualities, key=QUALITY_ORDER.index)
    if worst is Quality.UNAVAILABLE:
        return Reading(None, worst, None, candidates[0].name)
    return Reading(", ".join(texts), worst, max(ages, default=None), candidates[0].name)


def _combined(parts: tuple[Reading, ...], value: int) -> Reading:
    """A reading computed from others: as bad and as old as the worst of them."""
    worst = max((part.quality for part in parts), key=QUALITY_ORDER.index)
    return Reading(value, worst, max((part.age_s for part in parts if part.age_s is not None), default=None))


def _numbers(fields: Mapping[Field, Reading], names: tuple[Field, ...]) -> list[int] | None:
    """The whole numbers of several fields; None when one has no value."""
    numbers: list[int] = []
    for name in names:
        value = fields.get(name, NOT_IMPLEMENTED).value
        if not isinstance(value, int):
            return None
        numbers.append(value)
    return numbers


def _add_energy_available(fields: dict[Field, Reading]) -> None:
    """Energy in the battery from capacity and state of charge, where the device does not say it itself."""
    if fields.get(Field.ENERGY_AVAILABLE_WH, NOT_IMPLEMENTED).quality is not Quality.NOT_IMPLEMENTED:
        return
    names = (Field.CAPACITY_WH, Field.STATE_OF_CHARGE)
    numbers = _numbers(fields, names)
    if numbers is None:
        return
    parts = tuple(fields[name] for name in names)
    fields[Field.ENERGY_AVAILABLE_WH] = _combined(parts, numbers[0] * numbers[1] // 1000)


def _add_load(fields: dict[Field, Reading]) -> None:
    """What the home consumes, where the device measures both its own AC side and the grid."""
    if Field.LOAD_W in fields:
        return
    names = (Field.GENERATE_W, Field.CONSUME_W, Field.IMPORT_W, Field.EXPORT_W)
    numbers = _numbers(fields, names)
    if numbers is None:
        return
    generated, consumed, imported, exported = numbers
    parts = tuple(fields[name] for name in names)
    fields[Field.LOAD_W] = _combined(parts, max(generated - consumed + imported - exported, 0))
