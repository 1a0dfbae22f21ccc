"""A profile's registers, filled from the truth about a home: the reverse of what a reader does."""

import math
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING

from custom_components.energy_ledger.devices.profile.model import (
    COUNTER_ROLES,
    Function,
    Meaning,
    PollGroup,
    RegisterPoint,
    Role,
    ValueType,
)
from custom_components.energy_ledger.devices.profile.units import Unit
from simulator.layout.solve import Solver
from simulator.layout.values import passing_value, plain_value, role_value
from simulator.layout.words import encode_number, encode_pattern, encode_text, limits, nearest
from simulator.modbus.registers import Registers, Space

if TYPE_CHECKING:
    from collections.abc import Mapping

    from custom_components.energy_ledger.devices.profile.model import Check, Point, Profile, Value
    from simulator.layout.view import Identity, View

# Powers of ten for values with a scale register, by unit.
_SCALE_POWERS = {Unit.V: -1, Unit.A: -2, Unit.HZ: -2, Unit.PERCENT: -1}


class ProfileLayout:
    """The registers of one unit id of a device, by its profile. `companion` picks another unit's points."""

    def __init__(
        self,
        profile: Profile,
        identity: Identity,
        *,
        companion: str | None = None,
        battery_mv: int = 52_000,
        constants: Mapping[str, Value] = MappingProxyType({}),
        variant_checks: tuple[Check, ...] = (),
    ) -> None:
        """Map every register of the profile; raises ValueError if no value is known that meets its checks.

        `constants` are points that never change, by name; `variant_checks` what tells the device's variant.
        """
        self.profile = profile
        self.identity = identity
        self.spaces: dict[Space, Registers] = {}
        self._battery_mv = battery_mv
        self._solver = Solver(profile, battery_mv)
        self._counter_offsets: dict[str, int] = {}
        self._raw_counters: dict[str, int] = {}
        self._shown: dict[str, Value | None] = {}
        self._is_fuel_cell = not {"fuel_cell", "generator"}.isdisjoint(profile.kinds)
        self._points = {
            name: point
            for name, point in profile.points.items()
            if isinstance(point, RegisterPoint) and point.companion == companion
        }
        self._fixed: dict[str, Value] = dict(constants)
        if companion is None:
            self._settle_checks((*variant_checks, *profile.detect, *profile.identity))
            for setting in profile.settings.values():
                if isinstance(setting, RegisterPoint):
                    self._map(setting, (0,) * setting.length)
        for point in self._points.values():
            self._map(point, (0,) * point.length)
        for space in self.spaces.values():
            space.fill_gaps(profile.link.max_gap)
        for hole in profile.holes:
            self._space(hole.function).unmap(hole.first, hole.last)

    def show(self, view: View, *, hide_numbers: bool = False) -> None:
        """Fill the registers from a view; `hide_numbers` shows measured numbers as "not implemented"."""
        for name, value in self.values(view).items():
            point = self._points.get(name)
            if point is None:
                continue
            hidden = hide_numbers and point.poll in (PollGroup.FAST, PollGroup.SLOW) and bool(point.nan)
            shown = None if hidden and not isinstance(value, str) else value
            if name not in self._shown or self._shown[name] != shown:
                self.put(name, shown)

    def values(self, view: View) -> dict[str, Value | None]:
        """Return what every point of the profile should show, by name, in its own unit."""
        values: dict[str, Value | None] = dict(self._fixed)
        for name, point in self.profile.points.items():
            if name not in values and point.role is not None and isinstance(point, RegisterPoint):
                values[name] = self._role_value(point, view)
        targets = {}
        for name, derived in self.profile.derived.items():
            if derived.role is not None:
                target = self._role_value(derived, view)
                if isinstance(target, Fraction):
                    targets[name] = target
        self._solver.solve(values, targets)
        for name, point in self._points.items():
            if name not in values and point.meaning is not Meaning.TEXT:
                values[name] = plain_value(point, view, fuel_cell=self._is_fuel_cell)
        return values

    def put(self, name: str, value: Value | None) -> None:
        """Show a value in a point's own unit; None is "not a number" where the point knows one, else 0."""
        self._shown[name] = value
        point = self._points[name]
        space = self._space(point.function)
        if point.scale_register is not None:
            space.map(point.scale_register, encode_number("s16", _SCALE_POWERS.get(point.unit, 0)))
        words = self._words(name, point, value)
        if point.high_word is not None:
            low, high = (words[0], words[1]) if point.word_order.value == "little" else (words[1], words[0])
            space.map(point.address, (low,))
            space.map(point.high_word, (high,))
        elif point.mask is not None:
            (held,) = space.read(point.address, 1)
            shift = (point.mask & -point.mask).bit_length() - 1
            space.map(point.address, ((held & ~point.mask) | (words[0] << shift & point.mask),))
        else:
            space.map(point.address, words)

    def reset_counters(self) -> None:
        """Let the energy counters start again at 0."""
        for name, raw in self._raw_counters.items():
            self._counter_offsets[name] = -raw
        self._shown.clear()

    def roll_counters(self, margin_wh: int) -> None:
        """Let the whole-number energy counters stand `margin_wh` before their highest value."""
        for name, raw in self._raw_counters.items():
            point = self._points[name]
            if point.type in (ValueType.F32, ValueType.F64):
                continue
            per_wh = Fraction(1) if point.unit is Unit.WH else Fraction(1, 1000)
            margin = math.ceil(margin_wh * per_wh / self._factor(point))
            self._counter_offsets[name] = limits(point.type)[1] - margin - raw
        self._shown.clear()

    def _role_value(self, point: Point, view: View) -> Value | None:
        return role_value(
            point, view, self.identity, fuel_cell=self._is_fuel_cell, battery_mv=self._battery_mv
        )

    def _words(self, name: str, point: RegisterPoint, value: Value | None) -> tuple[int, ...]:
        count = 2 if point.high_word is not None else point.length
        little = point.word_order.value == "little" and point.type is not ValueType.STR
        if isinstance(value, str):
            return encode_text(value, count)
        if value is None:
            if point.nan:
                return encode_pattern(min(point.nan), count, little=little)
            return (0,) * count
        if point.type is ValueType.STR:
            return encode_text(str(value), count)
        exact = (value - point.offset) / self._factor(point)
        if point.type in (ValueType.F32, ValueType.F64):
            return encode_number(point.type, float(exact), little=little)
        raw = nearest(exact)
        if point.role in COUNTER_ROLES:
            raw = self._counted(name, point, math.floor(exact))
        return encode_number(point.type, raw, little=little)

    def _counted(self, name: str, point: RegisterPoint, raw: int) -> int:
        """Return a counter's raw value after resets, rolling over as its width makes it."""
        self._raw_counters[name] = raw
        return (raw + self._counter_offsets.get(name, 0)) % (limits(point.type)[1] + 1)

    @staticmethod
    def _factor(point: RegisterPoint) -> Fraction:
        if point.scale_register is None:
            return point.scale
        return point.scale * Fraction(10) ** _SCALE_POWERS.get(point.unit, 0)

    def _settle_checks(self, checks: tuple[Check, ...]) -> None:
        """Map what detection and identity checks read, with values that pass."""
        texts = (
            self.identity.model,
            self.identity.serial,
            self.identity.manufacturer,
            *self.profile.models,
        )
        named = {
            (point.function, point.address): name
            for name, point in self._points.items()
            if point.role not in (Role.SERIAL, Role.MODEL)
        }
        for check in checks:
            point = check.point
            if not isinstance(point, RegisterPoint):
                continue
            name = named.get((point.function, point.address), f"check {point.function}:{point.address}")
            held = self._fixed.get(name)
            value = (
                held if check.test.accepts(held) and held is not None else passing_value(check.test, texts)
            )
            # A point with a role shows the truth, which passes such checks anyway.
            if self._points.setdefault(name, point).role is None:
                self._fixed[name] = value
            self._map(point, (0,) * point.length)
            self.put(name, value)

    def _map(self, point: RegisterPoint, words: tuple[int, ...]) -> None:
        space = self._space(point.function)
        for address, count in point.addresses():
            if not space.is_mapped(address, count):
                space.map(address, words[:count])

    def _space(self, function: Function) -> Registers:
        return self.space(Space(int(function)))

    def space(self, space: Space) -> Registers:
        """Return an address space, an empty one where nothing has been mapped yet."""
        if space not in self.spaces:
            self.spaces[space] = Registers()
        return self.spaces[space]

    def point_at(self, function: int, address: int) -> str:
        """Return the name of the point at an address; raises LookupError."""
        for name, point in self._points.items():
            if int(point.function) == function and point.address == address:
                return name
        raise LookupError(f"{self.profile.id} has no point at function {function}, address {address}")
