"""Points of a profile: where a value lies, how it is decoded, what it means; and tests of such values."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING

from .units import Unit
from .vocabulary import Direction, Function, Meaning, PollGroup, Role, ValueType, WordOrder

if TYPE_CHECKING:
    from collections.abc import Mapping

type Value = Fraction | str
"""A decoded value: an exact number (codes and bit fields are whole numbers) or a text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Lowest and highest value, both included, in the point's unit; None leaves that side open."""

    minimum: Fraction | None = None
    maximum: Fraction | None = None

    def contains(self, value: Fraction) -> bool:
        """Whether `value` lies within the range."""
        return (self.minimum is None or value >= self.minimum) and (
            self.maximum is None or value <= self.maximum
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What every kind of point has.

    `role` is the typed reading that it feeds (None: a diagnostic value or a part of a derived point).
    `positive` is the direction of the device's raw sign. A decoded number outside `valid` is discarded as
    not a number. `companion` names another unit id of the same link that holds the point.
    `optional` marks a point that some devices of the family lack: its absence is no fault. `also` are other
    names for it, as the vendor's documents and register dumps use them.
    """

    name: str
    role: Role | None = None
    unit: Unit = Unit.NONE
    positive: Direction | None = None
    valid: Range | None = None
    poll: PollGroup = PollGroup.FAST
    companion: str | None = None
    optional: bool = False
    also: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteAccess:
    """How a register is written: function 6 or 16; address and scale where they differ from reading.

    `persistent` marks a setting kept in flash memory, which must not be rewritten in every renewal.
    """

    function: Function
    address: int
    scale: Fraction = Fraction(1)
    persistent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterPoint(Point):
    """A value at a fixed address.

    value = (raw, masked) * scale * 10**(content of `scale_register`) + offset

    `nan` holds the raw bit patterns, as unsigned numbers over the whole width, that mean "no value" (binary
    NaN and infinities never are values and need no entry). `high_word` is the address of the upper 16 bits
    when they are not next to the lower ones (the type is then u32 or s32 and `address` holds the low word).
    `mask` keeps some bits of an unsigned number and shifts them down to bit 0. `labels` maps codes (ENUM) or
    bit numbers (BITS) to names. `write` is None for read-only points.
    """

    function: Function
    address: int
    type: ValueType
    length: int  # registers occupied (without `high_word`)
    meaning: Meaning = Meaning.NUMBER
    word_order: WordOrder = WordOrder.BIG
    scale: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)
    scale_register: int | None = None  # s16 power of ten; 0x8000 or beyond ±10 means "no value"
    nan: frozenset[int] = frozenset()
    high_word: int | None = None
    mask: int | None = None
    labels: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    write: WriteAccess | None = None

    def addresses(self) -> tuple[tuple[int, int], ...]:
        """(first address, count) of every run of registers that decoding this point needs."""
        if self.high_word is not None:
            runs = [(self.address, 1), (self.high_word, 1)]
        else:
            runs = [(self.address, self.length)]
        if self.scale_register is not None:
            runs.append((self.scale_register, 1))
        return tuple(runs)

    def code(self, label: str) -> int:
        """The code (ENUM) or bit number (BITS) named `label`. Raises LookupError naming the known labels."""
        for number, known in self.labels.items():
            if known == label:
                return number
        raise LookupError(f'"{label}" is no value of {self.name}; known: {", ".join(self.labels.values())}')


@dataclass(frozen=True, slots=True, kw_only=True)
class SunSpecReference:
    """A place in a SunSpec map: the n-th `instance` among the models with one of these ids, and a point.

    `module` selects modules of the repeating group: a glob on the module's `IDStr` ("StDisCha", "MPPT*") or
    "#n" for the n-th one. Several matches are added up.
    """

    models: tuple[int, ...]
    point: str
    instance: int = 1
    module: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SunSpecPoint(Point):
    """A value named by SunSpec model and point; type, unit, scale and labels come from the model."""

    reference: SunSpecReference
    writable: bool = False


class Operation(StrEnum):
    """How a derived point is computed from its operands."""

    SUM = "sum"  # of operand * factor
    PRODUCT = "product"  # of the operands, each times its factor
    SIGN = "sign"  # the magnitude of the first operand, negative when `negative_when` holds


class Missing(StrEnum):
    """What a derived point does when an operand has no value."""

    FAIL = "fail"  # it has no value either
    SKIP = "skip"  # that operand is left out; no value only when all are missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """A point by name, times an exact factor (-1 to subtract). The factor also bridges units."""

    point: str
    factor: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedPoint(Point):
    """A value computed from other points of the same poll."""

    operation: Operation
    operands: tuple[Operand, ...]
    missing: Missing = Missing.FAIL
    negative_when: Condition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """A test of one decoded value; every part that is given must hold.

    `equals`: one of these. `pattern`: regular expression found in the text. `within`: in this range.
    `bits_set` / `bits_clear`: these bits of the whole number are all 1 / all 0.
    """

    __test__ = False  # not a test case, whatever a test collector may think

    equals: tuple[Value, ...] = ()
    pattern: str | None = None
    within: Range | None = None
    bits_set: int = 0
    bits_clear: int = 0

    def accepts(self, value: Value | None) -> bool:
        """Whether `value` passes. A missing value never does."""
        if value is None or (self.equals and value not in self.equals):
            return False
        if self.pattern is not None and (not isinstance(value, str) or not re.search(self.pattern, value)):
            return False
        if self.within is None and not self.bits_set and not self.bits_clear:
            return True
        if isinstance(value, str):
            return False
        if self.within is not None and not self.within.contains(value):
            return False
        number = int(value)
        return number & self.bits_set == self.bits_set and not number & self.bits_clear

    def __str__(self) -> str:
        """What the value should be, in plain words."""
        parts: list[str] = []
        if self.equals:
            parts.append(" or ".join(repr(v) if isinstance(v, str) else str(v) for v in self.equals))
        if self.pattern is not None:
            parts.append(f"a text matching {self.pattern!r}")
        if self.within is not None:
            low = "" if self.within.minimum is None else f"at least {float(self.within.minimum):g}"
            high = "" if self.within.maximum is None else f"at most {float(self.within.maximum):g}"
            parts.append(" and ".join(part for part in (low, high) if part))
        if self.bits_set:
            parts.append(f"bits {self.bits_set:#x} set")
        if self.bits_clear:
            parts.append(f"bits {self.bits_clear:#x} clear")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A test of a point (or setting) of the profile, by name."""

    point: str
    test: Test
    message: str = ""  # for the user when a command's precondition fails: what to do about it


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A detection step: read this and test it. Its point is anonymous and never polled as a reading."""

    point: RegisterPoint | SunSpecPoint
    test: Test
