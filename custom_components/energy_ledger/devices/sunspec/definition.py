"""SunSpec model definitions, read from the published JSON files in `models/`.

Source: SunSpec Device Information Model Specification; the files are described in `models/ORIGIN.md`.
Offsets count registers from the model's header (the model id is at 0, the length at 1).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from ..profile.model import Meaning, Unit, ValueType

if TYPE_CHECKING:
    from collections.abc import Mapping

_FOLDER: Final = Path(__file__).parent / "models"

HEADER_REGISTERS: Final = 2
"""Model id and length."""


@dataclass(frozen=True, slots=True)
class _TypeRule:
    """What a SunSpec type is in our terms, and the bit pattern that means "not implemented"."""

    type: ValueType
    nan: int | None
    meaning: Meaning = Meaning.NUMBER


# SunSpec Device Information Model Specification, "Point Type" and "Unimplemented Points".
_TYPES: Final[Mapping[str, _TypeRule]] = MappingProxyType(
    {
        "int16": _TypeRule(ValueType.S16, 0x8000),
        "uint16": _TypeRule(ValueType.U16, 0xFFFF),
        "count": _TypeRule(ValueType.U16, 0xFFFF),
        "acc16": _TypeRule(ValueType.U16, 0),
        "enum16": _TypeRule(ValueType.U16, 0xFFFF, Meaning.ENUM),
        "bitfield16": _TypeRule(ValueType.U16, 0xFFFF, Meaning.BITS),
        "pad": _TypeRule(ValueType.U16, None),
        "sunssf": _TypeRule(ValueType.S16, 0x8000),
        "int32": _TypeRule(ValueType.S32, 0x8000_0000),
        "uint32": _TypeRule(ValueType.U32, 0xFFFF_FFFF),
        "acc32": _TypeRule(ValueType.U32, 0),
        "enum32": _TypeRule(ValueType.U32, 0xFFFF_FFFF, Meaning.ENUM),
        "bitfield32": _TypeRule(ValueType.U32, 0xFFFF_FFFF, Meaning.BITS),
        "int64": _TypeRule(ValueType.S64, 0x8000_0000_0000_0000),
        "uint64": _TypeRule(ValueType.U64, 0xFFFF_FFFF_FFFF_FFFF),
        "acc64": _TypeRule(ValueType.U64, 0),
        "float32": _TypeRule(ValueType.F32, None),
        "float64": _TypeRule(ValueType.F64, None),
        "string": _TypeRule(ValueType.STR, None, Meaning.TEXT),
    }
)

# As the published files write them; what is not here is a plain number to us.
_UNITS: Final[Mapping[str, Unit]] = MappingProxyType(
    {
        "W": Unit.W,
        "VA": Unit.VA,
        "var": Unit.VAR,
        "Var": Unit.VAR,
        "Wh": Unit.WH,
        "WH": Unit.WH,
        "V": Unit.V,
        "A": Unit.A,
        "AH": Unit.AH,
        "Ah": Unit.AH,
        "Hz": Unit.HZ,
        "C": Unit.CELSIUS,
        "Pct": Unit.PERCENT,
        "Secs": Unit.SECOND,
        "S": Unit.SECOND,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PointDefinition:
    """One point of a group. `offset` counts from the start of its group's own points."""

    name: str
    type: ValueType
    meaning: Meaning
    length: int
    offset: int
    nan: int | None
    unit: Unit
    scale_point: str | None  # name of the point that holds the power of ten
    labels: Mapping[int, str]
    writable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDefinition:
    """Points in a row, of `length` registers altogether."""

    name: str
    points: Mapping[str, PointDefinition]
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDefinition:
    """A model: its fixed points, then groups that occur once, or one group that repeats to the end.

    No model that is vendored here has groups inside groups, or anything after a repeating group.
    """

    id: int
    title: str
    fixed: GroupDefinition
    once: tuple[GroupDefinition, ...]
    repeating: GroupDefinition | None

    @property
    def fixed_length(self) -> int:
        """Registers of everything that does not repeat, header included."""
        return self.fixed.length + sum(group.length for group in self.once)


@cache
def model_definition(model_id: int) -> ModelDefinition | None:
    """Return the definition of a model, or None when it is not among the vendored ones.

    Reads a small file at the first call for each model; see `load_definitions`.
    """
    path = _FOLDER / f"model_{model_id}.json"
    if not path.is_file():
        return None
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    top = raw["group"]
    groups = top.get("groups", [])
    repeating = [group for group in groups if "count" in group]
    return ModelDefinition(
        id=int(raw["id"]),
        title=str(top.get("label", top["name"])),
        fixed=_group(top),
        once=tuple(_group(group) for group in groups if "count" not in group),
        repeating=_group(repeating[0]) if repeating else None,
    )


def load_definitions() -> tuple[int, ...]:
    """Read every vendored definition now, so that no file is read later; return the model ids.

    Call it outside an event loop before the first use inside one.
    """
    ids = sorted(int(path.stem.removeprefix("model_")) for path in _FOLDER.glob("model_*.json"))
    for model_id in ids:
        model_definition(model_id)
    return tuple(ids)


def _group(raw: dict[str, Any]) -> GroupDefinition:
    points: dict[str, PointDefinition] = {}
    offset = 0
    for item in raw["points"]:
        point = _point(item, offset)
        points[point.name] = point
        offset += point.length
    return GroupDefinition(name=str(raw["name"]), points=MappingProxyType(points), length=offset)


def _point(raw: dict[str, Any], offset: int) -> PointDefinition:
    rule = _TYPES[raw["type"]]
    symbols = {int(symbol["value"]): str(symbol["name"]) for symbol in raw.get("symbols", [])}
    return PointDefinition(
        name=str(raw["name"]),
        type=rule.type,
        meaning=rule.meaning,
        length=int(raw["size"]),
        offset=offset,
        nan=rule.nan,
        unit=_unit(str(raw.get("units", ""))),
        scale_point=str(raw["sf"]) if "sf" in raw else None,
        labels=MappingProxyType(symbols),
        writable=raw.get("access") == "RW",
    )


def _unit(text: str) -> Unit:
    text = text.strip()
    return Unit.PERCENT if text.startswith("%") and "/" not in text else _UNITS.get(text, Unit.NONE)
