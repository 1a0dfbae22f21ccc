"""SunSpec maps built from the published model files: where each point lies, and its bytes.

Source: the model definitions of the SunSpec Alliance (repository sunspec/models, Apache-2.0) that the
integration carries; this reading of them is the simulator's own.
"""

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.layout.words import encode_number, encode_pattern, encode_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.modbus.registers import Registers

_MODELS = Path(__file__).parents[2] / "custom_components" / "energy_ledger" / "devices" / "sunspec" / "models"
_MARKER = (0x5375, 0x6E53)  # "SunS"
_END = (0xFFFF, 0)
_HEADER = 2
_NUMBERS = {
    "int16": "s16", "int32": "s32", "int64": "s64", "uint16": "u16", "uint32": "u32", "uint64": "u64",
    "acc16": "u16", "acc32": "u32", "acc64": "u64", "enum16": "u16", "enum32": "u32", "count": "u16",
    "bitfield16": "u16", "bitfield32": "u32", "bitfield64": "u64", "sunssf": "s16", "raw16": "u16",
    "float32": "f32", "float64": "f64", "pad": "u16",
}  # fmt: skip
# "Not implemented" by type, as bit patterns (SunSpec Information Model Specification, data types).
_MISSING = {
    "int16": 0x8000, "int32": 0x8000_0000, "int64": 1 << 63, "uint16": 0xFFFF, "uint32": 0xFFFF_FFFF,
    "uint64": (1 << 64) - 1, "enum16": 0xFFFF, "enum32": 0xFFFF_FFFF, "bitfield16": 0xFFFF,
    "bitfield32": 0xFFFF_FFFF, "bitfield64": (1 << 64) - 1, "sunssf": 0x8000, "pad": 0x8000,
    "float32": 0x7FC0_0000, "float64": 0x7FF8 << 48,
}  # fmt: skip

type SunSpecValue = int | float | str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a point of a model lies; `path` is "W" or "module.0.DCW", `offset` counts the header."""

    path: str
    offset: int
    size: int
    type: str
    scale: str | int | None


@dataclass(frozen=True, slots=True)
class Model:
    """One model as it stands in a map: where its header begins, and its points by path."""

    number: int
    address: int
    length: int
    places: Mapping[str, Place]
    scales: Mapping[str, int]

    def address_of(self, path: str) -> int:
        """Return the address of a point; raises KeyError."""
        return self.address + self.places[path].offset


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """A model to put into a map: scale factors by name, repeats of its group, a length if not standard."""

    number: int
    scales: Mapping[str, int]
    repeats: int = 0
    length: int | None = None


@cache
def definition(number: int) -> dict[str, Any]:
    """Return a model's definition; raises ValueError naming the models there are."""
    path = _MODELS / f"model_{number}.json"
    if not path.is_file():
        known = sorted(int(item.stem.removeprefix("model_")) for item in _MODELS.glob("model_*.json"))
        raise ValueError(f"there is no SunSpec model {number}; known: {', '.join(map(str, known))}")
    group: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["group"]
    return group


def places(group: Mapping[str, Any], repeats: int) -> dict[str, Place]:
    """Return where every point of a model lies, its repeating group `repeats` times over."""
    found: dict[str, Place] = {}
    _walk(group, "", 0, repeats, found)
    return found


def _walk(group: Mapping[str, Any], prefix: str, offset: int, repeats: int, found: dict[str, Place]) -> int:
    for point in group.get("points", ()):
        path = prefix + point["name"]
        found[path] = Place(path, offset, point["size"], point["type"], point.get("sf"))
        offset += point["size"]
    for inner in group.get("groups", ()):
        count = inner.get("count", 1)
        if count == 1:
            offset = _walk(inner, f"{prefix}{inner['name']}.", offset, repeats, found)
            continue
        for index in range(repeats):
            offset = _walk(inner, f"{prefix}{inner['name']}.{index}.", offset, repeats, found)
    return offset


class SunSpecMap:
    """Models one after another from a base address, written into a unit's holding registers."""

    def __init__(self, registers: Registers, plans: tuple[ModelPlan, ...], base: int = 40_000) -> None:
        """Lay the models out, every point "not implemented" but for headers and scale factors."""
        self._registers = registers
        self.base = base
        self.models: list[Model] = []
        self._shown: dict[int, SunSpecValue] = {}
        registers.map(base, _MARKER)
        address = base + len(_MARKER)
        for plan in plans:
            address = self._add(plan, address)
        registers.map(address, _END)
        self.end = address + len(_END) - 1

    def model(self, number: int, instance: int = 1) -> Model:
        """Return the n-th model of a number; raises LookupError."""
        found = [model for model in self.models if model.number == number]
        if len(found) < instance:
            raise LookupError(f"the map has {len(found)} models {number}, not {instance}")
        return found[instance - 1]

    def has(self, number: int) -> bool:
        """Whether a model is in the map."""
        return any(model.number == number for model in self.models)

    def put(self, model: Model, values: Mapping[str, SunSpecValue]) -> None:
        """Write points of a model by path, in their units; scale factors are applied."""
        for path, value in values.items():
            place = model.places.get(path)
            if place is None or place.offset >= model.length + _HEADER:
                continue
            address = model.address + place.offset
            if address not in self._shown or self._shown[address] != value:
                self._shown[address] = value
                self._registers.map(address, self._words(model, place, value))

    def _add(self, plan: ModelPlan, address: int) -> int:
        found = places(definition(plan.number), plan.repeats)
        whole = max(place.offset + place.size for place in found.values()) - _HEADER
        length = whole if plan.length is None else plan.length
        model = Model(plan.number, address, length, found, dict(plan.scales))
        self.models.append(model)
        blank = {path: None for path in found if path not in ("ID", "L")}
        self.put(model, blank | dict(plan.scales))
        self._registers.map(address, (plan.number, length))
        return address + _HEADER + length

    def _words(self, model: Model, place: Place, value: SunSpecValue) -> tuple[int, ...]:
        if place.type == "string":
            return encode_text("" if value is None else str(value), place.size)
        kind = _NUMBERS.get(place.type)
        if value is None or kind is None:
            return encode_pattern(_MISSING.get(place.type, 0), place.size)
        if place.type.startswith("float"):
            return encode_number(kind, float(value))
        exact = float(value)
        power = place.scale if isinstance(place.scale, int) else model.scales.get(place.scale or "", 0)
        # Accumulators roll over; everything else stops at the end of its range.
        raw = math.floor(exact * 10.0**-power + 0.5) if power else math.floor(exact + 0.5)
        if place.type.startswith("acc"):
            raw %= 1 << (16 * place.size)
        return encode_number(kind, raw)
