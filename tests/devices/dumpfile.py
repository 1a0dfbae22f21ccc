"""Register dumps of real devices, and the values that each must decode to through its profile.

A dump is a JSON object: `device` (a text that names the maker), `function`, `base` and `registers` (null
where nothing was captured) or several `blocks` of these, and `expected`. A key of `expected` names a place
and says what is there, in the words of its source:

    "0x0504 current_A(+discharge)"   an address, a name with a unit, the direction of the raw sign
    "35191 e_total_kWh"              the same, decimal
    "0x0511 charge_energy u32 little /1000"   with type, word order and divisor
    "PhVphA", "203.W"                a SunSpec point, with or without its model
    "ppv", "L1 voltage float32 big"  a name that the profile knows
    "word_order"                     the word order of every longer number that the other keys name
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from custom_components.energy_ledger.devices.codec import decode
from custom_components.energy_ledger.devices.derive import derive_points
from custom_components.energy_ledger.devices.errors import ExceptionReply
from custom_components.energy_ledger.devices.profile.model import (
    DerivedPoint,
    Function,
    Profile,
    RegisterPoint,
    SunSpecPoint,
    SunSpecReference,
    Unit,
    Value,
    ValueType,
)
from custom_components.energy_ledger.devices.profile.units import convert, convertible
from custom_components.energy_ledger.devices.readings import PointState, Quality
from custom_components.energy_ledger.devices.sunspec.bind import bind, bind_check
from custom_components.energy_ledger.devices.sunspec.definition import model_definition
from custom_components.energy_ledger.devices.sunspec.layout import MARKER, Layout, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_ADDRESS: Final = re.compile(r"^(0x[0-9A-Fa-f]+|[0-9]+)(?:[ _:]+|$)")
_MODEL_POINT: Final = re.compile(r"^(?:([0-9]{1,3})[. ])?([A-Za-z]\w*)")
_TYPE: Final = re.compile(r"\b(?:(u|s|f)(16|32|64)|(uint|int|float)(16|32|64))\b")
_UNITS: Final = {
    "W": Unit.W, "kW": Unit.KW, "Wh": Unit.WH, "kWh": Unit.KWH, "A": Unit.A, "V": Unit.V,
    "%": Unit.PERCENT, "C": Unit.CELSIUS, "Hz": Unit.HZ, "bar": Unit.BAR, "var": Unit.VAR, "VA": Unit.VA,
}  # fmt: skip
_SUNSPEC_NAMES: Final = {
    "manufacturer": "Mn", "model": "Md", "options": "Opt", "version": "Vr", "serial": "SN", "did": "ID",
}  # fmt: skip
_COMMON_NAMES: Final = frozenset({"Mn", "Md", "Opt", "Vr", "SN", "DA"})


@dataclass(frozen=True, slots=True)
class Block:
    """Registers (or bits) read by one function, by address."""

    function: int
    registers: Mapping[int, int]


class Dump:
    """One dump file."""

    def __init__(self, path: Path) -> None:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self.name = path.name
        self.device = str(raw["device"])
        self.expected: dict[str, Any] = raw["expected"]
        self.blocks = [
            Block(int(part.get("function", raw.get("function", 3))), _registers(part))
            for part in raw.get("blocks", [raw])
        ]

    def read(self, function: int, address: int, count: int) -> list[int]:
        """Return registers, or refuse as a device would when one is not in the dump."""
        for block in self.blocks:
            if block.function == function and all(
                n in block.registers for n in range(address, address + count)
            ):
                return [block.registers[n] for n in range(address, address + count)]
        raise ExceptionReply(self.name, function, address, count, 2)

    def value(self, point: RegisterPoint) -> Value | None:
        """Decode one point. Raises ExceptionReply when its registers are not in the dump."""
        registers: dict[int, int] = {}
        for first, count in point.addresses():
            words = self.read(point.function, first, count)
            registers |= dict(zip(range(first, first + count), words, strict=True))
        return decode(point, registers)


def _registers(part: Mapping[str, Any]) -> dict[int, int]:
    listed = part["registers"]
    if isinstance(listed, dict):
        return {int(address, 0): value for address, value in listed.items() if value is not None}
    base = int(part.get("base", 0))
    return {base + n: value for n, value in enumerate(listed) if value is not None}


class _Reader:
    """A dump as something that SunSpec discovery can read."""

    def __init__(self, dump: Dump) -> None:
        self._dump = dump

    async def read(self, function: int, address: int, count: int) -> list[int]:
        return self._dump.read(function, address, count)


def sunspec_layout(dump: Dump) -> Layout | None:
    """Find a SunSpec map in the dump: after its marker, or where a model's header of the right length is."""
    for block in dump.blocks:
        base = min(block.registers)
        marked = tuple(block.registers.get(base + n, -1) for n in range(2)) == MARKER
        starts = [base + len(MARKER)] if marked else sorted(block.registers)
        for start in starts:
            if not marked and not _begins_a_model(block, start):
                continue
            models = asyncio.run(walk(_Reader(dump), block.function, start))
            return Layout(base=start - len(MARKER), function=Function(block.function), models=models)
    return None


def _begins_a_model(block: Block, start: int) -> bool:
    """Whether a model's header is at `start`, with a length that this model has."""
    model, length = (block.registers.get(start + n, 0) for n in range(2))
    definition = model_definition(model)
    if definition is None or (model < 100 and start != min(block.registers)):
        return False
    rest = length + 2 - definition.fixed_length
    if definition.repeating is not None:
        return rest >= 0 and rest % definition.repeating.length == 0
    return rest in (0, -1)  # -1: without the padding at the end


class Decoder:
    """A profile, applied to a dump: finds and decodes what a key of `expected` names."""

    def __init__(self, dump: Dump, profile: Profile) -> None:
        self.dump = dump
        self.layout = sunspec_layout(dump) if profile.sunspec else None
        self.profile = profile
        for variant in profile.variants.values():
            if variant.when and all(self._holds(check) for check in variant.when):
                self.profile = variant.profile
                break
        bound = bind(self.profile, {None: self.layout} if self.layout else {}).profile
        self.points = [*bound.points.values(), *bound.settings.values()]
        self.derived = bound.derived

    def _holds(self, check: Any) -> bool:
        bound = bind_check(check, self.layout)
        if bound is None or not isinstance(bound.point, RegisterPoint):
            return False
        try:
            return bound.test.accepts(self.dump.value(bound.point))
        except ExceptionReply:
            return False

    def candidates(self, key: str) -> list[RegisterPoint | DerivedPoint]:
        """Return the points that a key may mean: by address, by name, by SunSpec point."""
        in_map = self._by_sunspec_name(key)
        if in_map is not None:
            return [in_map]
        address = _ADDRESS.match(key)
        registers = [point for point in self.points if isinstance(point, RegisterPoint)]
        if address is not None:
            at = int(address[1], 0)
            functions = {block.function for block in self.dump.blocks}
            here = [p for p in registers if p.address == at and p.function in functions]
            return [*here] or [point for point in self._model_points() if point.address == at]
        everything: list[RegisterPoint | DerivedPoint] = [*registers, *self.derived.values()]
        return [point for point in everything if any(_names(key, name) for name in (point.name, *point.also))]

    def _by_sunspec_name(self, key: str) -> RegisterPoint | None:
        """Return the point that a key such as "W", "203.W" or "W (+export)" names, as the profile has it."""
        match = _MODEL_POINT.match(key)
        if self.layout is None or match is None:
            return None
        ids = {model.id for model in self.layout.models}
        if match[1] and int(match[1]) not in ids:
            return None
        name = _SUNSPEC_NAMES.get(match[2], match[2])
        if match[1]:
            ids = {int(match[1])}
        elif name in _COMMON_NAMES:
            ids &= {1}
        elif len(ids) > 1:
            ids -= {1}
        found = self._place(SunSpecReference(models=tuple(ids), point=name))
        if found is None:
            return None
        registers = (point for point in self.points if isinstance(point, RegisterPoint))
        return next((point for point in registers if point.address == found.address), found)

    def _place(self, reference: SunSpecReference) -> RegisterPoint | None:
        point = SunSpecPoint(name=reference.point, reference=reference)
        table = Profile(
            id="any", title="", manufacturer="", kinds=(), link=self.profile.link, points={point.name: point}
        )
        assert self.layout is not None
        found = bind(table, {None: self.layout}).profile.points.get(point.name)
        return found if isinstance(found, RegisterPoint) else None

    def _model_points(self) -> Iterator[RegisterPoint]:
        """Every fixed point of every model in the map, whether the profile names it or not."""
        for model in self.layout.models if self.layout else ():
            definition = model_definition(model.id)
            for name in definition.fixed.points if definition else ():
                point = self._place(SunSpecReference(models=(model.id,), point=name, instance=model.instance))
                if point is not None:
                    yield point

    def value(self, point: RegisterPoint | DerivedPoint) -> Value | None:
        """Decode a point, or compute a derived one."""
        if isinstance(point, RegisterPoint):
            return self.dump.value(point)
        states: dict[str, PointState] = {}
        for part in self.points:
            if isinstance(part, RegisterPoint):
                try:
                    value = self.dump.value(part)
                except ExceptionReply:
                    continue
                states[part.name] = PointState(value, Quality.GOOD, 0.0, no_value=value is None)
        return derive_points(self.derived, states)[point.name].value

    def coverage(self) -> int:
        """How many keys name something in this profile."""
        return sum(bool(self.candidates(key)) for key in self.dump.expected)


def _names(key: str, name: str) -> bool:
    """Whether a key without an address begins with this name."""
    plain, word = key.casefold(), name.casefold()
    return plain == word or plain.startswith((f"{word} ", f"{word}_", f"{word}("))


def choose_profile(dump: Dump, profiles: Mapping[str, Profile]) -> Decoder:
    """Pick the maker's profile that knows most of the dump's keys."""
    text = re.sub(r"[^a-z0-9]", "", dump.device.casefold())
    made = [p for p in profiles.values() if re.sub(r"[^a-z0-9]", "", p.manufacturer.casefold()) in text]
    if not made and sunspec_layout(dump) is not None:
        made = [profile for profile in profiles.values() if profile.manufacturer == "SunSpec"]
    assert made, f"{dump.name}: no profile's manufacturer is in {dump.device!r}"
    return max((Decoder(dump, profile) for profile in made), key=Decoder.coverage)


def same(point: RegisterPoint | DerivedPoint, key: str, value: Value | None, expected: Any) -> bool:
    """Whether a decoded value is exactly the expected one, in the key's unit if it names one."""
    if expected is None or value is None:
        return value is None and expected is None
    if isinstance(expected, str) or isinstance(value, str):
        # Spaces at the end pad a text like NUL does.
        return isinstance(value, str) and value.rstrip() == str(expected).rstrip()
    unit = unit_in(key)
    if unit is not None and unit is not point.unit and convertible(point.unit, unit):
        value = convert(value, point.unit, unit)
    if value == Fraction(str(round(expected, 9))):  # 3.9610000000000003 is a source's own rounding
        return True
    # A source prints a binary32 with fewer digits than it has: what it prints must be its rounding.
    single = isinstance(point, RegisterPoint) and point.type is ValueType.F32
    digits = len(str(expected).partition(".")[2])
    return single and digits > 0 and round(value, digits) == Fraction(str(expected))


def unit_in(key: str) -> Unit | None:
    """Return the unit that a key names at the end of its name (`rated_power_W`, `SoH_%`)."""
    for word in re.split(r"[\s(]", _ADDRESS.sub("", key)):
        name, _, last = word.rpartition("_")
        if name and last in _UNITS:
            return _UNITS[last]
    return None


def type_in(key: str) -> ValueType | None:
    """Return the type that a key names (`u32`, `int32`, `float32`)."""
    match = _TYPE.search(key)
    if match is None:
        return None
    letter = match[1] or {"uint": "u", "int": "s", "float": "f"}[match[3]]
    return ValueType(f"{letter}{match[2] or match[4]}")
