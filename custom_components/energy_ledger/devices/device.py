"""One device: polled through its profile, with readings whose quality and age are known.

`poll` never raises for what a device does: a value is right, or it is marked stale or unavailable.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from .blockreader import BlockReader, Outcome
from .codec import decode
from .counters import CounterState, LifetimeCounter
from .derive import derive_points
from .errors import DeviceError, ExceptionReply, IdentityMismatch, LinkError
from .mapping import BoundProfile, Mapper
from .planner import Limits, ReadBook
from .profile.model import (
    COUNTER_ROLES,
    DerivedPoint,
    PollGroup,
    Profile,
    RegisterPoint,
    Role,
    Value,
    ValueType,
)
from .profile.units import Unit, convert
from .readings import (
    COUNTER_FIELDS,
    Field,
    PointState,
    Quality,
    Reading,
    Readings,
    derive_readings,
    roles_of,
)
from .transport.base import ModbusUnit

# With less than this the sun is considered down when a device falls silent (W).
_DUSK_W: Final = 50
_INTEGERS: Final = {
    ValueType.U16: 16,
    ValueType.U32: 32,
    ValueType.U64: 64,
    ValueType.S16: 15,
    ValueType.S32: 31,
    ValueType.S64: 63,
}


class Availability(StrEnum):
    """How the device is doing as a whole."""

    UNKNOWN = "unknown"  # never polled
    ONLINE = "online"
    PARTIAL = "partial"  # it answers, but not for everything it has
    OFFLINE = "offline"
    ASLEEP = "asleep"  # silent in the dark, as its kind is
    WRONG_DEVICE = "wrong_device"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOptions:
    """How a device is polled. Times in seconds.

    `slow_s`: how often points of the slow group are read. `stale_s`: how long a momentary value that
    could not be read again stays visible, marked stale. `serial`: the serial number that the device must
    have, if it tells one. `is_dark`: tells whether the sun is down; without it the last PV power decides.
    """

    slow_s: float = 60.0
    stale_s: float = 30.0
    serial: str | None = None
    is_dark: Callable[[], bool] | None = None


class Device:
    """A device on its units. `units` maps "" to its own unit and each companion's name to its unit."""

    def __init__(
        self,
        profile: Profile,
        units: Mapping[str, ModbusUnit],
        *,
        name: str | None = None,
        options: DeviceOptions | None = None,
        counters: Mapping[Field, CounterState] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`counters` are the states kept from an earlier run (see `counter_states`)."""
        self.profile = profile
        self.units = MappingProxyType(dict(units))
        self.name = name or profile.title
        self.options = options or DeviceOptions()
        self.availability = Availability.UNKNOWN
        self.error: DeviceError | None = None
        self.serial = self.options.serial
        self.requests_last_poll = 0
        self._clock = clock
        self._wall_clock = wall_clock
        self._mapper = Mapper(profile, units)
        self._bound: BoundProfile | None = None
        self._reader = self._new_reader()
        self._states: dict[str, PointState] = {}
        self._names: dict[str, str] = {}  # identity point -> the text it held first
        self._derived: dict[str, PointState] = {}
        self._fresh = True  # everything is due: after the start and after any failed poll
        self._slow_at = 0.0
        self._counters = {field: LifetimeCounter(state=state) for field, state in (counters or {}).items()}
        self._lock = asyncio.Lock()
        self._listeners: list[Callable[[Readings], None]] = []
        self.readings = Readings({})

    def listen(self, listener: Callable[[Readings], None]) -> Callable[[], None]:
        """Call `listener` with the readings after every poll; the returned function ends that."""
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    def _new_reader(self) -> BlockReader:
        link = self.profile.link
        limits = Limits(link.max_registers, link.max_gap, self.profile.holes)
        return BlockReader(self.units, ReadBook(limits))

    @property
    def unit(self) -> ModbusUnit:
        """The device's own unit."""
        return self.units[""]

    @property
    def bound(self) -> BoundProfile | None:
        """The profile as it fits this device; None until it has answered once."""
        return self._bound

    @property
    def counter_states(self) -> Mapping[Field, CounterState]:
        """What must be kept over a restart so that lifetime counters go on without a jump."""
        return {
            field: counter.state for field, counter in self._counters.items() if counter.state is not None
        }

    @property
    def states(self) -> Mapping[str, PointState]:
        """The state of every point by name, derived ones included, with the device's own sign."""
        return {**self._states, **self._derived}

    # --- polling ----------------------------------------------------------------------------------------

    async def poll(self) -> Readings:
        """Read what is due and return all readings. A failing device shows in them and in `error`."""
        async with self._lock:
            return await self._poll()

    async def _poll(self) -> Readings:
        self.requests_last_poll = 0
        try:
            bound = await self._ready()
        except (LinkError, ExceptionReply) as error:
            return self._lost(error, Availability.OFFLINE)
        except IdentityMismatch as error:
            return self._wrong(error)
        due = self._due(bound.points)
        outcome = await self._read(bound, due)
        if self._mapper.uses_sunspec and self._mismatch(bound, outcome) is not None:
            # The map has moved (another firmware, another setting): look for it again, once.
            self._forget()
            try:
                bound = await self._ready()
            except (LinkError, ExceptionReply) as error:
                return self._lost(error, Availability.OFFLINE)
            except IdentityMismatch as error:
                return self._wrong(error)
            due = self._due(bound.points)
            outcome = await self._read(bound, due)
        return self._take(bound, outcome, due)

    async def _ready(self) -> BoundProfile:
        """The bound profile, discovered first where need be."""
        if self._bound is None or self._mapper.companion_due():
            bound = await self._mapper.bind()
            if self._bound is None or bound.layouts != self._bound.layouts:
                self._bound = bound
                self._reader = self._new_reader()
                self._states = {name: s for name, s in self._states.items() if name in bound.profile.points}
                self._fresh = True
        return self._bound

    def _forget(self) -> None:
        """Forget where everything lies."""
        if self._mapper.uses_sunspec:
            self._bound = None
        self._fresh = True

    async def _read(self, bound: BoundProfile, due: Collection[RegisterPoint]) -> Outcome:
        outcome = await self._reader.read([*due, *(identity.point for identity in bound.identity)])
        self.requests_last_poll += outcome.requests
        return outcome

    def _slow_due(self) -> bool:
        return self._fresh or self._clock() - self._slow_at >= self.options.slow_s

    def _due(self, points: Collection[RegisterPoint]) -> list[RegisterPoint]:
        """The points to read in this poll."""
        slow = self._slow_due()
        due: list[RegisterPoint] = []
        for point in points:
            if point.poll is PollGroup.NEVER:
                continue
            # The serial number comes round like a slow value: it shows when the device was exchanged.
            seldom = point.poll is PollGroup.SLOW or point.role is Role.SERIAL
            if point.poll is PollGroup.FAST or self._fresh or (slow and seldom):
                due.append(point)
                continue
            state = self._states.get(point.name)
            if state is None or (
                state.quality in (Quality.STALE, Quality.UNAVAILABLE) and not state.no_value
            ):
                due.append(point)
        return due

    def _mismatch(self, bound: BoundProfile, outcome: Outcome) -> IdentityMismatch | None:
        """What shows that these registers are not those of the device that was set up."""
        for identity in bound.identity:
            try:
                value = decode(identity.point, outcome.of(identity.point))
            except KeyError:
                continue
            failure = identity.failure(value)
            known = self._names.get(identity.point.name)
            if failure is None and isinstance(value, str) and known is not None and value != known:
                failure = f"register {identity.point.address} holds {value!r}, {known!r} before"
            if failure is not None:
                unit = self.units[identity.point.companion or ""]
                return IdentityMismatch(f"{unit.name} is not the {self.profile.title} any more: {failure}")
        return None

    def _take(self, bound: BoundProfile, outcome: Outcome, due: Collection[RegisterPoint]) -> Readings:
        """Turn what was read into states and readings."""
        mismatch = self._mismatch(bound, outcome) or self._other_serial(bound, outcome)
        if mismatch is not None:
            return self._wrong(mismatch)
        if "" not in outcome.answered or self._unproven(bound, outcome, ""):
            return self._lost(outcome.error or self._silence(), Availability.OFFLINE)
        self._learn_names(bound, outcome)
        now = self._clock()
        failed = False
        unproven = {
            companion for companion in self.units if companion and self._unproven(bound, outcome, companion)
        }
        for point in due:
            lost = (point.companion or "") in unproven
            state = self._state(point, {} if lost else outcome.of(point), now)
            self._states[point.name] = state
            never_there = point.optional and state.at is None
            failed = failed or not (state.quality is Quality.GOOD or state.no_value or never_there)
        if self._slow_due():
            self._slow_at = now
        self._fresh = False
        self.error = outcome.error if failed else None
        self.availability = Availability.PARTIAL if failed else Availability.ONLINE
        return self._publish(bound)

    def _learn_names(self, bound: BoundProfile, outcome: Outcome) -> None:
        """Remember the texts by which the device is known: a shifted text may pass a lenient check."""
        for identity in bound.identity:
            with contextlib.suppress(KeyError):
                value = decode(identity.point, outcome.of(identity.point))
                if isinstance(value, str):
                    self._names.setdefault(identity.point.name, value)

    def _unproven(self, bound: BoundProfile, outcome: Outcome, companion: str) -> bool:
        """Whether a unit's identity was not checked in this poll, so that nothing of it may be believed."""
        for identity in bound.identity:
            if (identity.point.companion or "") == companion:
                registers = outcome.of(identity.point)
                runs = identity.point.addresses()
                if any(address not in registers for address, _ in runs):
                    return True
        return False

    def _other_serial(self, bound: BoundProfile, outcome: Outcome) -> IdentityMismatch | None:
        """Whether another device of the same kind answers; remembers the first serial number seen."""
        for point in bound.points:
            if point.role is not Role.SERIAL or point.companion is not None:
                continue
            try:
                found = decode(point, outcome.of(point))
            except KeyError:
                continue
            if found is None:
                continue
            text = found if isinstance(found, str) else str(found)
            if self.serial is None:
                self.serial = text
            elif text != self.serial:
                return IdentityMismatch(
                    f"{self.unit.name} answers with serial number {text}, but {self.serial} was set up: "
                    "another device has this address now"
                )
            break
        return None

    def _state(self, point: RegisterPoint, registers: Mapping[int, int], now: float) -> PointState:
        """The new state of a point that was due."""
        try:
            value = decode(point, registers)
        except KeyError:
            if self._reader.book.absent(point):
                return PointState(None, Quality.NOT_IMPLEMENTED, no_value=True)
            return self._aged(point, now)
        if value is None:
            old = self._states.get(point.name)
            seen = old is not None and old.at is not None
            quality = Quality.UNAVAILABLE if seen else Quality.NOT_IMPLEMENTED
            return PointState(None, quality, old.at if old else None, no_value=True)
        return PointState(value, Quality.GOOD, now)

    def _aged(self, point: RegisterPoint, now: float) -> PointState:
        """The state of a point that could not be read: its last value for a while, then none.

        Counters, ratings and names don't change while nobody looks, so they stay.
        """
        old = self._states.get(point.name)
        if old is None or old.value is None or old.at is None:
            return PointState(None, Quality.UNAVAILABLE, old.at if old else None)
        lasting = point.role in COUNTER_ROLES or point.poll in (PollGroup.SLOW, PollGroup.ONCE)
        if lasting or now - old.at <= self.options.stale_s:
            return PointState(old.value, Quality.STALE, old.at)
        return PointState(None, Quality.UNAVAILABLE, old.at)

    def _silence(self) -> DeviceError:
        return LinkError(f"{self.unit.name} did not say who it is")

    def _lost(self, error: DeviceError, availability: Availability) -> Readings:
        """Nothing was read: every value ages."""
        now = self._clock()
        asleep = self.profile.link.sleeps_at_night and self._dark()
        points = self._bound.points if self._bound is not None else ()
        for point in points:
            self._states[point.name] = self._aged(point, now)
        self.error = error
        self.availability = Availability.ASLEEP if asleep else availability
        self._fresh = True
        return self._publish(self._bound)

    def _wrong(self, error: IdentityMismatch) -> Readings:
        """Another device, or another layout: nothing that was known holds any more."""
        self._states = {name: PointState(None, Quality.UNAVAILABLE) for name in self._states}
        self.error = error
        self.availability = Availability.WRONG_DEVICE
        bound = self._bound
        self._forget()
        return self._publish(bound)

    def _dark(self) -> bool:
        if self.options.is_dark is not None:
            return self.options.is_dark()
        power = self.readings[Field.PV_W].value
        return self.availability is Availability.ASLEEP or not isinstance(power, int) or power < _DUSK_W

    # --- readings ---------------------------------------------------------------------------------------

    def _publish(self, bound: BoundProfile | None) -> Readings:
        """Make the readings from the states."""
        profile = bound.profile if bound is not None else self.profile
        self._derived = derive_points(profile.derived, self._states)
        roles = bound.roles if bound is not None else roles_of(profile)
        raw = derive_readings(roles, self.states, self._clock())
        fields = dict(raw.items())
        for field in COUNTER_FIELDS & fields.keys():
            fields[field] = self._counted(profile, field, fields[field], raw.number(Field.RATED_W))
        self.readings = Readings(fields)
        for listener in tuple(self._listeners):
            listener(self.readings)
        return self.readings

    def _counted(self, profile: Profile, field: Field, reading: Reading, rated_w: int | None) -> Reading:
        """A lifetime counter's reading as its total."""
        counter = self._counters.get(field)
        if counter is None:
            counter = self._counters[field] = LifetimeCounter()
        if reading.usable and isinstance(reading.value, int):
            if counter.modulus_wh is None and reading.point is not None:
                counter.modulus_wh = _modulus_wh(profile.point(reading.point))
            total = counter.update(reading.value, self._wall_clock(), rated_w)
            return dataclasses.replace(reading, value=total)
        if counter.state is None:
            return reading
        quality = Quality.STALE if reading.quality is not Quality.NOT_IMPLEMENTED else reading.quality
        return dataclasses.replace(reading, value=counter.state.total_wh, quality=quality)

    # --- on demand --------------------------------------------------------------------------------------

    async def read_point(self, point: RegisterPoint) -> Value | None:
        """Read one point or setting now; None when the device says that it has no value.

        Raises LinkError or ExceptionReply when it can't be read.
        """
        unit = self.units[point.companion or ""]
        registers: dict[int, int] = {}
        for address, count in point.addresses():
            words = await unit.read(int(point.function), address, count)
            registers.update(zip(range(address, address + count), words, strict=True))
        return decode(point, registers)

    async def number(self, name: str) -> Fraction | None:
        """The value of a point, setting or derived point by name: from the last poll, or read now."""
        state = self.states.get(name)
        if state is not None and state.quality is Quality.GOOD:
            return None if isinstance(state.value, str) else state.value
        profile = self._bound.profile if self._bound is not None else self.profile
        point = profile.point(name)
        if isinstance(point, RegisterPoint):
            value = await self.read_point(point)
            return None if isinstance(value, str) else value
        if isinstance(point, DerivedPoint):
            return await self._derive_now(point)
        return None

    async def _derive_now(self, point: DerivedPoint) -> Fraction | None:
        """Compute a derived point from values that are read now."""
        names = [operand.point for operand in point.operands]
        if point.negative_when is not None:
            names.append(point.negative_when.point)
        states: dict[str, PointState] = {}
        for name in names:
            value = await self.number(name)
            quality = Quality.GOOD if value is not None else Quality.NOT_IMPLEMENTED
            states[name] = PointState(value, quality, self._clock(), no_value=value is None)
        derived = derive_points({point.name: point}, states)[point.name].value
        return None if isinstance(derived, str) else derived


def _modulus_wh(point: object) -> int | None:
    """Where a counter register starts again at 0, in Wh."""
    if not isinstance(point, RegisterPoint) or point.unit is Unit.NONE or point.scale_register is not None:
        return None
    bits = _INTEGERS.get(point.type)
    if bits is None or point.mask is not None:
        return None
    return int(convert((1 << bits) * point.scale, point.unit, Unit.WH))
