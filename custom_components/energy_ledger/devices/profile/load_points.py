"""Points, settings, tests and checks of a profile, from YAML nodes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from .model import (
    REGISTERS,
    ROLE_UNITS,
    SIGNED_ROLES,
    Check,
    Condition,
    DerivedPoint,
    Direction,
    Function,
    Meaning,
    Missing,
    Operand,
    Operation,
    PollGroup,
    Range,
    RegisterPoint,
    Role,
    SunSpecPoint,
    Test,
    Unit,
    ValueType,
    WordOrder,
    WriteAccess,
)
from .reader import Keys, did_you_mean
from .references import parse_reference
from .units import convertible, dimension

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .model import Value
    from .tree import Node

_COMMON: Final = ("role", "unit", "positive", "valid", "poll", "companion", "optional", "also", "note")
_REGISTER: Final = (
    *("fc", "addr", "type", "word_order", "scale", "offset", "scale_addr", "nan", "high_word", "mask"),
    *("values", "bits"),
)
_WRITE: Final = ("write", "write_addr", "write_scale", "persistent")
_TEST: Final = ("equals", "matches", "range", "bits_set", "bits_clear")
_OPERATIONS: Final = tuple(operation.value for operation in Operation)
_TEXT_TYPE: Final = re.compile(r"str([1-9][0-9]?)")
_READS: Final = frozenset({1, 2, 3, 4})
_ALL_ONES: Final = 0xFFFF
_USUAL_NAN: Final[Mapping[ValueType, frozenset[int]]] = MappingProxyType(
    {
        ValueType.U16: frozenset({0xFFFF}),
        ValueType.S16: frozenset({0x8000}),
        ValueType.U32: frozenset({0xFFFF_FFFF}),
        ValueType.S32: frozenset({0x8000_0000}),
        ValueType.U64: frozenset({0xFFFF_FFFF_FFFF_FFFF}),
        ValueType.S64: frozenset({0x8000_0000_0000_0000}),
    }
)
"""Bit patterns that `nan: usual` stands for (SunSpec Information Model Specification; SMA uses the same)."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a point inherits from the profile's `link` and `types` sections."""

    function: Function
    write_function: Function
    word_order: WordOrder
    usual_nan: bool = False
    types: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    companions: frozenset[str] = frozenset()


@dataclass(slots=True)
class PointTables:
    """The three kinds of points as they are read."""

    points: dict[str, RegisterPoint | SunSpecPoint] = field(default_factory=dict)
    derived: dict[str, DerivedPoint] = field(default_factory=dict)
    settings: dict[str, RegisterPoint | SunSpecPoint] = field(default_factory=dict)


def load_points(node: Node | None, settings: Node | None, defaults: Defaults) -> PointTables:
    """Read the `points` and `settings` sections."""
    tables = PointTables()
    for name, child in (node.mapping() if node else {}).items():
        _check_name(name, child)
        point = load_point(name, child, defaults)
        if isinstance(point, DerivedPoint):
            tables.derived[name] = point
        else:
            tables.points[name] = point
    for name, child in (settings.mapping() if settings else {}).items():
        _check_name(name, child)
        tables.settings[name] = _load_setting(name, child, defaults)
    return tables


def _check_name(name: str, node: Node) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise node.error(f'"{name}" is no good name; right would be lower-case letters, digits and _')


def load_point(name: str, node: Node, defaults: Defaults) -> RegisterPoint | SunSpecPoint | DerivedPoint:
    """Read one entry of `points`, whichever kind it is."""
    given = node.mapping()
    if any(operation in given for operation in _OPERATIONS):
        return _load_derived(name, node, defaults)
    if "sunspec" in given:
        keys = Keys(node, (*_COMMON, "sunspec"))
        common = _common(name, keys, defaults)
        return SunSpecPoint(**common, reference=parse_reference(keys.need("sunspec")))
    keys = Keys(node, (*_COMMON, *_REGISTER))
    return RegisterPoint(**_common(name, keys, defaults), **_register(keys, defaults))


def _load_setting(name: str, node: Node, defaults: Defaults) -> RegisterPoint | SunSpecPoint:
    if "sunspec" in node.mapping():
        keys = Keys(node, (*_COMMON, "sunspec"))
        common = _common(name, keys, defaults, poll=PollGroup.NEVER)
        return SunSpecPoint(**common, reference=parse_reference(keys.need("sunspec")), writable=True)
    keys = Keys(node, (*_COMMON, *_REGISTER, *_WRITE))
    common = _common(name, keys, defaults, poll=PollGroup.NEVER)
    register = _register(keys, defaults)
    return RegisterPoint(**common, **register, write=_write(keys, register, defaults))


def _write(keys: Keys, register: dict[str, Any], defaults: Defaults) -> WriteAccess:
    function = keys.integer("write", 5, 16, defaults.write_function)
    if function not in (Function.WRITE_SINGLE_COIL, Function.WRITE_SINGLE, Function.WRITE_MULTIPLE):
        raise keys.error("write", f"is {function}; right would be 6 (one register) or 16 (several)")
    if function != Function.WRITE_MULTIPLE and register["length"] != 1:
        raise keys.error("write", f"function {function} writes one register, this has {register['length']}")
    return WriteAccess(
        function=Function(function),
        address=keys.integer("write_addr", 0, 65535, register["address"]),
        scale=_scale(keys, "write_scale", register["scale"]),
        persistent=keys.boolean("persistent"),
    )


def _common(name: str, keys: Keys, defaults: Defaults, *, poll: PollGroup = PollGroup.FAST) -> dict[str, Any]:
    role = keys.maybe_choice("role", Role)
    unit = keys.choice("unit", Unit, Unit.NONE)
    positive = keys.maybe_choice("positive", Direction)
    companion = keys.text("companion") or None
    if companion is not None and companion not in defaults.companions:
        raise keys.error("companion", f'"{companion}" is not among link.companions')
    if role is not None:
        _check_role(keys, role, unit, positive)
    return {
        "name": name,
        "role": role,
        "unit": unit,
        "positive": positive,
        "valid": load_range(keys.get("valid")),
        "poll": keys.choice("poll", PollGroup, poll),
        "companion": companion,
        "optional": keys.boolean("optional"),
        "also": keys.texts("also"),
        "note": keys.text("note"),
    }


def _check_role(keys: Keys, role: Role, unit: Unit, positive: Direction | None) -> None:
    """See that the unit measures what the role means, and that a signed role says which way is positive."""
    directions = SIGNED_ROLES.get(role)
    if directions is not None and positive not in directions:
        words = " or ".join(sorted(directions))
        raise keys.error("positive", f"role {role} needs the raw sign: right would be positive: {words}")
    if "sunspec" in keys and "unit" not in keys:
        return  # the model gives the unit
    target = ROLE_UNITS[role]
    if not convertible(unit, target):
        raise keys.error("unit", f'role {role} is {dimension(target)}, "{unit}" is {dimension(unit)}')


def _register(keys: Keys, defaults: Defaults) -> dict[str, Any]:
    kind, length, meaning = _type(keys, defaults)
    function = keys.integer("fc", 1, 4, defaults.function)
    if (kind is ValueType.BIT) != (function in (Function.READ_COILS, Function.READ_DISCRETE_INPUTS)):
        raise keys.error("type", "functions 1 and 2 read type bit, functions 3 and 4 everything else")
    address = keys.need("addr").integer(0, 65536 - length)
    high_word = keys.maybe_integer("high_word", 0, 65535)
    if high_word is not None:
        if kind not in (ValueType.U32, ValueType.S32):
            raise keys.error(
                "high_word", f"makes a number of 32 bits; right would be type u32 or s32, not {kind}"
            )
        length = 1
    mask = keys.maybe_integer("mask", 1, (1 << 64) - 1)
    if mask is not None and (kind not in (ValueType.U16, ValueType.U32) or mask >> 16 * REGISTERS[kind]):
        raise keys.error("mask", f"does not fit type {kind}; right would be an unsigned type wide enough")
    labels, labelled = _labels(keys)
    return {
        "function": Function(function),
        "address": address,
        "type": kind,
        "length": length,
        "meaning": labelled or meaning,
        "word_order": keys.choice("word_order", WordOrder, defaults.word_order),
        "scale": _scale(keys, "scale", Fraction(1)),
        "offset": keys.number("offset", Fraction(0)),
        "scale_register": keys.maybe_integer("scale_addr", 0, 65535),
        "nan": _nan(keys, kind, defaults),
        "high_word": high_word,
        "mask": mask,
        "labels": labels,
    }


def _type(keys: Keys, defaults: Defaults) -> tuple[ValueType, int, Meaning]:
    node = keys.need("type")
    word = defaults.types.get(node.text(), node.text())
    text = _TEXT_TYPE.fullmatch(word)
    if text:
        return ValueType.STR, int(text[1]), Meaning.TEXT
    try:
        kind = ValueType(word)
    except ValueError:
        kind = ValueType.STR
    if kind is ValueType.STR:
        known = [*(t.value for t in REGISTERS), "str8", *defaults.types]
        raise node.error(f'unknown type "{word}"; {did_you_mean(word, known)}') from None
    return kind, REGISTERS[kind], Meaning.NUMBER


def _scale(keys: Keys, name: str, default: Fraction) -> Fraction:
    scale = keys.number(name, default)
    if scale == 0:
        raise keys.error(name, "is 0, which would make every value 0")
    return scale


def _nan(keys: Keys, kind: ValueType, defaults: Defaults) -> frozenset[int]:
    node = keys.get("nan")
    usual = _USUAL_NAN.get(kind, frozenset())
    if node is None:
        return usual if defaults.usual_nan else frozenset()
    if node.value == "usual":
        return usual
    if node.value == "none":
        return frozenset()
    highest = (1 << 16 * REGISTERS.get(kind, 1)) - 1
    return frozenset(keys.integers("nan", 0, highest))


def _labels(keys: Keys) -> tuple[Mapping[int, str], Meaning | None]:
    values, bits = keys.get("values"), keys.get("bits")
    if values is not None and bits is not None:
        raise bits.error("a point has either values (codes) or bits, not both")
    node = values or bits
    if node is None:
        return MappingProxyType({}), None
    labels: dict[int, str] = {}
    for label, number in node.mapping().items():
        code = number.integer(0, 63) if bits else number.integer(0, (1 << 32) - 1)
        if code in labels:
            raise number.error(f'{code} is already "{labels[code]}"')
        labels[code] = label
    return MappingProxyType(labels), Meaning.BITS if bits else Meaning.ENUM


def load_range(node: Node | None) -> Range | None:
    """Read `[lowest, highest]`; `~` leaves a side open."""
    if node is None:
        return None
    ends = node.sequence()
    if len(ends) != 2:
        raise node.error("right would be [lowest, highest], with ~ for an open end")
    low, high = (None if end.value == "" else end.number() for end in ends)
    if low is not None and high is not None and low > high:
        raise node.error(f"the lowest value {ends[0].value} is above the highest {ends[1].value}")
    return Range(minimum=low, maximum=high)


def _load_derived(name: str, node: Node, defaults: Defaults) -> DerivedPoint:
    keys = Keys(node, (*_COMMON, *_OPERATIONS, "missing", "negative_when"))
    operations = [operation for operation in Operation if operation.value in keys]
    if len(operations) != 1:
        raise node.error(f"right would be one of {', '.join(_OPERATIONS)}")
    operation = operations[0]
    operands = _operands(keys.need(operation))
    condition = keys.get("negative_when")
    if (operation is Operation.SIGN) != (condition is not None):
        raise keys.error("negative_when", "belongs to sign, and sign needs it")
    if operation is Operation.SIGN and len(operands) != 1:
        raise keys.error(operation, "takes the one point whose magnitude it keeps")
    return DerivedPoint(
        **_common(name, keys, defaults),
        operation=operation,
        operands=operands,
        missing=keys.choice("missing", Missing, Missing.FAIL),
        negative_when=load_condition(condition) if condition else None,
    )


def _operands(node: Node) -> tuple[Operand, ...]:
    items = node.sequence() if isinstance(node.value, list) else [node]
    operands: list[Operand] = []
    for item in items:
        if isinstance(item.value, dict):
            keys = Keys(item, ("point", "factor"))
            operands.append(
                Operand(point=keys.need("point").text(), factor=_scale(keys, "factor", Fraction(1)))
            )
        else:
            word = item.text()
            sign = -1 if word.startswith("-") else 1
            operands.append(Operand(point=word.removeprefix("-"), factor=Fraction(sign)))
    if not operands:
        raise node.error("is empty; right would be names of points")
    return tuple(operands)


def load_test(keys: Keys) -> Test:
    """Read the test keys of a check or condition; at least one must be given."""
    if not any(name in keys for name in _TEST):
        raise keys.node.error(f"tests nothing; right would be one of {', '.join(_TEST)}")
    pattern = keys.text("matches") or None
    if pattern is not None:
        try:
            re.compile(pattern)
        except re.error as error:
            raise keys.error("matches", f"is no regular expression: {error}") from None
    equals = keys.get("equals")
    return Test(
        equals=() if equals is None else _constants(equals),
        pattern=pattern,
        within=load_range(keys.get("range")),
        bits_set=keys.integer("bits_set", 0, (1 << 64) - 1, 0),
        bits_clear=keys.integer("bits_clear", 0, (1 << 64) - 1, 0),
    )


def _constants(node: Node) -> tuple[Value, ...]:
    items = node.sequence() if isinstance(node.value, list) else [node]
    return tuple(item.number() if item.is_number() else item.text() for item in items)


def load_condition(node: Node) -> Condition:
    """Read a test of a named point."""
    keys = Keys(node, ("point", "message", *_TEST))
    return Condition(point=keys.need("point").text(), test=load_test(keys), message=keys.text("message"))


def load_checks(node: Node | None, defaults: Defaults, tables: PointTables) -> tuple[Check, ...]:
    """Read `detect`, `identity` or `when`: each step reads a register, a SunSpec point or a named point."""
    checks: list[Check] = []
    for item in node.sequence() if node else ():
        given = item.mapping()
        if "point" in given:
            keys = Keys(item, ("point", *_TEST))
            point = _named(keys, tables)
        elif "sunspec" in given:
            keys = Keys(item, ("sunspec", "companion", *_TEST))
            common = _common("check", keys, defaults)
            point = SunSpecPoint(**common, reference=parse_reference(keys.need("sunspec")))
        else:
            keys = Keys(item, (*_REGISTER, "unit", "companion", *_TEST))
            point = RegisterPoint(**_common("check", keys, defaults), **_register(keys, defaults))
        checks.append(Check(point=point, test=load_test(keys)))
    return tuple(checks)


def _named(keys: Keys, tables: PointTables) -> RegisterPoint | SunSpecPoint:
    name = keys.need("point").text()
    known = {**tables.points, **tables.settings}
    if name not in known:
        raise keys.error("point", f'no point "{name}" with registers; {did_you_mean(name, known)}')
    return known[name]
