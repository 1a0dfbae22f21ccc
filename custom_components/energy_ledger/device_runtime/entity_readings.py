"""A device made of entities that other integrations have: their states as readings."""

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from homeassistant.const import (
    ATTR_UNIT_OF_MEASUREMENT,
    PERCENTAGE,
    STATE_UNAVAILABLE,
    STATE_UNKNOWN,
    UnitOfEnergy,
    UnitOfPower,
)
from homeassistant.core import Event, EventStateChangedData, HomeAssistant, State, callback
from homeassistant.helpers.event import async_track_state_change_event
from homeassistant.util import dt as dt_util
from homeassistant.util.unit_conversion import EnergyConverter, PowerConverter

from ledger_core.records.types import AssetKind

from ..devices.counters import LifetimeCounter
from ..devices.device import Availability
from ..devices.errors import DeviceError
from ..devices.readings import Field, Quality, Reading, Readings
from .settings import DeviceSettings, EntitySource
from .storage import DeviceStore

_LOGGER = logging.getLogger(__name__)


class Slot(StrEnum):
    """What an entity is chosen for. "Out" is what the part gives: generation, discharge, export."""

    POWER = "power"
    POWER_OPPOSITE = "power_opposite"
    ENERGY_OUT = "energy_out"
    ENERGY_IN = "energy_in"
    STATE_OF_CHARGE = "state_of_charge"
    ENERGY_AVAILABLE = "energy_available"
    FUEL_LEVEL = "fuel_level"


_COUNTERS: Final = frozenset({Slot.ENERGY_OUT, Slot.ENERGY_IN})
_FLOAT_NOISE: Final = 1e-6


class Problem(StrEnum):
    """Why an entity does not tell what it was chosen for."""

    MISSING = "missing"
    AWAY = "away"  # unavailable or unknown
    NOT_A_NUMBER = "not_a_number"
    WRONG_UNIT = "wrong_unit"
    OUT_OF_RANGE = "out_of_range"


class EntityProblem(DeviceError):
    """An entity does not tell what it was chosen for; the message says which and why."""

    def __init__(self, message: str, problem: Problem, found: str = "") -> None:
        """`found` is what was there instead of what would be right."""
        super().__init__(message)
        self.problem = problem
        self.found = found


@dataclasses.dataclass(frozen=True, slots=True)
class Directions:
    """The fields of one kind: what it gives and what it takes, and the words for both."""

    out_w: Field
    out_wh: Field
    in_w: Field | None = None
    in_wh: Field | None = None
    out_word: str = "generation"
    in_word: str = "consumption"

    @property
    def two_way(self) -> bool:
        """Whether power flows in both directions."""
        return self.in_w is not None


_STORE: Final = Directions(
    Field.DISCHARGE_W, Field.DISCHARGE_WH, Field.CHARGE_W, Field.CHARGE_WH, "discharge", "charge"
)
_GRID: Final = Directions(
    Field.EXPORT_W, Field.EXPORT_WH, Field.IMPORT_W, Field.IMPORT_WH, "export", "import"
)
_USED: Final = Directions(Field.LOAD_W, Field.IMPORT_WH, out_word="consumption")
DIRECTIONS: Final[Mapping[AssetKind, Directions]] = MappingProxyType(
    {
        AssetKind.PV: Directions(Field.PV_W, Field.PV_WH),
        AssetKind.WIND: Directions(Field.GENERATE_W, Field.GENERATE_WH),
        AssetKind.BATTERY: _STORE,
        AssetKind.EV: _STORE,
        AssetKind.PORTABLE: _STORE,
        AssetKind.FUEL_CELL: Directions(Field.FUEL_CELL_W, Field.FUEL_CELL_WH),
        AssetKind.GENERATOR: Directions(Field.GENERATOR_W, Field.GENERATE_WH),
        AssetKind.LOAD: _USED,
        AssetKind.CHARGE_POINT: _USED,
        AssetKind.METER: _GRID,
        AssetKind.LINE: _GRID,
    }
)


def slots_of(kind: AssetKind) -> tuple[Slot, ...]:
    """The slots that a device of this kind has, in the order of the form."""
    directions = DIRECTIONS[kind]
    slots = [Slot.POWER]
    if directions.two_way:
        slots.append(Slot.POWER_OPPOSITE)
    slots.append(Slot.ENERGY_OUT)
    if directions.in_wh is not None:
        slots.append(Slot.ENERGY_IN)
    if kind in (AssetKind.BATTERY, AssetKind.EV, AssetKind.PORTABLE):
        slots += [Slot.STATE_OF_CHARGE, Slot.ENERGY_AVAILABLE]
    if kind in (AssetKind.FUEL_CELL, AssetKind.GENERATOR):
        slots += [Slot.FUEL_LEVEL, Slot.ENERGY_AVAILABLE]
    return tuple(slots)


def value_of(hass: HomeAssistant, entity_id: str, slot: Slot) -> tuple[float, State]:
    """An entity's value in W, Wh or per mille, and its state. Raises EntityProblem."""
    state = hass.states.get(entity_id)
    if state is None:
        raise EntityProblem(f"{entity_id} does not exist", Problem.MISSING)
    if state.state in (STATE_UNAVAILABLE, STATE_UNKNOWN):
        raise EntityProblem(f"{entity_id} is {state.state}", Problem.AWAY, state.state)
    try:
        value = float(state.state)
    except ValueError:
        message = f"{entity_id} is {state.state!r}, not a number"
        raise EntityProblem(message, Problem.NOT_A_NUMBER, state.state) from None
    if not math.isfinite(value):
        message = f"{entity_id} is {state.state!r}, not a finite number"
        raise EntityProblem(message, Problem.NOT_A_NUMBER, state.state)
    unit = state.attributes.get(ATTR_UNIT_OF_MEASUREMENT)
    if slot in (Slot.POWER, Slot.POWER_OPPOSITE):
        return _converted(entity_id, value, unit, PowerConverter.VALID_UNITS, "power (W, kW)"), state
    if slot in (Slot.ENERGY_OUT, Slot.ENERGY_IN, Slot.ENERGY_AVAILABLE):
        return _converted(entity_id, value, unit, EnergyConverter.VALID_UNITS, "energy (Wh, kWh)"), state
    if unit != PERCENTAGE:
        message = f"{entity_id} is in {_named(unit)}; right would be {PERCENTAGE}"
        raise EntityProblem(message, Problem.WRONG_UNIT, _named(unit))
    if not 0 <= value <= 100:
        message = f"{entity_id} is {value:g} %; right would be 0 to 100"
        raise EntityProblem(message, Problem.OUT_OF_RANGE, f"{value:g} %")
    return value * 10, state


def _converted(entity_id: str, value: float, unit: str | None, known: set[str | None], right: str) -> float:
    if unit is None or unit not in known:
        message = f"{entity_id} is in {_named(unit)}; right would be a unit of {right}"
        raise EntityProblem(message, Problem.WRONG_UNIT, _named(unit))
    if unit in PowerConverter.VALID_UNITS:
        return PowerConverter.convert(value, unit, UnitOfPower.WATT)
    return EnergyConverter.convert(value, unit, UnitOfEnergy.WATT_HOUR)


def _named(unit: str | None) -> str:
    return "no unit" if unit is None else str(unit)


class EntityReadings:
    """Readings from states; a `sources.ReadingSource`. Close it to stop following the states."""

    def __init__(
        self, hass: HomeAssistant, settings: DeviceSettings, source: EntitySource, store: DeviceStore
    ) -> None:
        """Follow the chosen entities."""
        self.readings = Readings({})
        self.availability = Availability.UNKNOWN
        self.error: DeviceError | None = None
        self._hass = hass
        self._settings = settings
        self._source = source
        self._store = store
        self._slots = {Slot(slot): entity for slot, entity in source.entities.items()}
        self._counters = {
            field: LifetimeCounter(state=state) for field, state in store.counters(settings.uid).items()
        }
        self._listeners: list[Callable[[Readings], None]] = []
        self._problems: dict[Field, str] = {}
        self._unsubscribe = async_track_state_change_event(hass, set(self._slots.values()), self._on_change)

    @property
    def problems(self) -> Mapping[Field, str]:
        """Why a field has no value, for each that has none."""
        return MappingProxyType(self._problems)

    async def poll(self) -> Readings:
        """See `ReadingSource.poll`."""
        self._read()
        return self.readings

    def listen(self, listener: Callable[[Readings], None]) -> Callable[[], None]:
        """See `ReadingSource.listen`."""
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    def close(self) -> None:
        """Follow the states no more."""
        self._unsubscribe()

    @callback
    def _on_change(self, _event: Event[EventStateChangedData]) -> None:
        self._read()

    def _read(self) -> None:
        """Make readings of all entities' states."""
        self._problems = {}
        fields: dict[Field, Reading] = {}
        self._read_power(fields)
        directions = DIRECTIONS[self._settings.kind]
        for slot, field in (
            (Slot.ENERGY_OUT, directions.out_wh),
            (Slot.ENERGY_IN, directions.in_wh),
            (Slot.STATE_OF_CHARGE, Field.STATE_OF_CHARGE),
            (Slot.FUEL_LEVEL, Field.FUEL_LEVEL),
            (Slot.ENERGY_AVAILABLE, Field.ENERGY_AVAILABLE_WH),
        ):
            if slot in self._slots and field is not None:
                fields[field] = self._one(slot, field)
        self._keep_counters()
        self.readings = Readings(fields)
        lost = {field for field, reading in fields.items() if reading.value is None}
        self.error = DeviceError("; ".join(dict.fromkeys(self._problems.values()))) if lost else None
        self.availability = (
            Availability.ONLINE
            if not lost
            else Availability.OFFLINE
            if lost == fields.keys()
            else Availability.PARTIAL
        )
        for listener in tuple(self._listeners):
            listener(self.readings)

    def _read_power(self, fields: dict[Field, Reading]) -> None:
        """One entity for one direction, one with a sign for both, or one for each."""
        if Slot.POWER not in self._slots:
            return
        directions = DIRECTIONS[self._settings.kind]
        first, second = directions.out_w, directions.in_w
        if second is not None and self._source.positive == directions.in_word:
            first, second = second, first
        one = self._signed(Slot.POWER, first)
        fields[first] = _positive(one, 1)
        if second is None:
            return
        if Slot.POWER_OPPOSITE in self._slots:
            fields[second] = _positive(self._signed(Slot.POWER_OPPOSITE, second), 1)
            return
        fields[second] = _positive(one, -1)
        if one.value is None:
            self._problems[second] = self._problems[first]

    def _signed(self, slot: Slot, field: Field) -> Reading:
        entity = self._slots[slot]
        try:
            value, state = value_of(self._hass, entity, slot)
        except EntityProblem as problem:
            self._problems[field] = str(problem)
            return Reading(None, Quality.UNAVAILABLE, None, entity)
        age = max((dt_util.utcnow() - state.last_reported).total_seconds(), 0.0)
        # A counter never tells more than was counted; what floats add in converting is no energy.
        whole = math.floor(value + _FLOAT_NOISE) if slot in _COUNTERS else round(value)
        return Reading(whole, Quality.GOOD, age, entity)

    def _one(self, slot: Slot, field: Field) -> Reading:
        """The reading of a slot whose value can't be negative."""
        reading = self._signed(slot, field)
        value = reading.value
        if not isinstance(value, int) or slot not in _COUNTERS:
            return _positive(reading, 1)
        if value < 0:
            self._problems[field] = f"{reading.point} is {value} Wh; a lifetime counter is never negative"
            return Reading(None, Quality.UNAVAILABLE, None, reading.point)
        counter = self._counters.setdefault(field, LifetimeCounter())
        total = counter.update(value, dt_util.utcnow().timestamp(), self._settings.rating_w or None)
        return dataclasses.replace(reading, value=total)

    def _keep_counters(self) -> None:
        states = {field: counter.state for field, counter in self._counters.items()}
        self._store.keep_counters(
            self._settings.uid, {field: state for field, state in states.items() if state is not None}
        )


def _positive(reading: Reading, sign: int) -> Reading:
    """What of a signed reading counts in one direction."""
    if not isinstance(reading.value, int):
        return reading
    return dataclasses.replace(reading, value=max(sign * reading.value, 0))
