"""Registers to values and back, as a profile's point describes them; pure.

Numbers are exact (`Fraction`). "No value" is `None`, never 0: a bit pattern that the profile names, a
binary NaN or infinity, a scale factor that is not implemented, an empty text, a number outside the
point's valid range.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from fractions import Fraction
from typing import Final

from .errors import ValueOutOfRange
from .profile.model import Meaning, RegisterPoint, Rounding, Value, ValueType, WordOrder

_BITS: Final = {
    ValueType.BIT: 1,
    ValueType.U16: 16,
    ValueType.S16: 16,
    ValueType.U32: 32,
    ValueType.S32: 32,
    ValueType.U64: 64,
    ValueType.S64: 64,
    ValueType.F32: 32,
    ValueType.F64: 64,
}
_SIGNED: Final = frozenset({ValueType.S16, ValueType.S32, ValueType.S64})
_FLOATS: Final = {ValueType.F32: ">f", ValueType.F64: ">d"}
# SunSpec Information Model Specification: scale factors are -10..10, 0x8000 is "not implemented".
_MAX_EXPONENT: Final = 10
_STRING_FILL: Final = (0x00, 0xFF)


def decode(point: RegisterPoint, registers: Mapping[int, int]) -> Value | None:
    """The value of `point`, in its unit and with the device's own sign; None when there is none.

    `registers` maps addresses to contents and must hold every address of `point.addresses()`; a missing
    one raises KeyError, because a register that was not read has no value at all.
    """
    if point.type is ValueType.STR:
        return _decode_text([registers[point.address + index] for index in range(point.length)])
    pattern = _pattern(point, registers)
    exponent = _exponent(point, registers)
    if pattern in point.nan or exponent is None:
        return None
    raw = _number(point.type, pattern)
    if raw is None:
        return None
    if point.mask is not None:
        raw = Fraction((pattern & point.mask) >> _lowest_bit(point.mask))
    value = raw if point.scale == 1 else raw * point.scale
    if exponent:
        value *= Fraction(10) ** exponent
    if point.offset:
        value += point.offset
    if point.valid is not None and not point.valid.contains(value):
        return None
    return value


def _pattern(point: RegisterPoint, registers: Mapping[int, int]) -> int:
    """The point's bits as one unsigned number over the whole width."""
    if point.high_word is not None:
        return registers[point.high_word] << 16 | registers[point.address]
    if point.length == 1:
        return registers[point.address]
    words = [registers[point.address + index] for index in range(point.length)]
    return join_words(words, point.word_order)


def _exponent(point: RegisterPoint, registers: Mapping[int, int]) -> int | None:
    """The power of ten from the scale register: 0 without one, None when it is not implemented."""
    if point.scale_register is None:
        return 0
    exponent = _signed(registers[point.scale_register], 16)
    return exponent if abs(exponent) <= _MAX_EXPONENT else None


def join_words(words: list[int], order: WordOrder) -> int:
    """One unsigned number from 16-bit words in `order`."""
    number = 0
    for word in words if order is WordOrder.BIG else reversed(words):
        number = number << 16 | word
    return number


def split_words(pattern: int, count: int, order: WordOrder) -> list[int]:
    """`count` 16-bit words of an unsigned number, in `order`."""
    words = [pattern >> 16 * index & 0xFFFF for index in range(count)]
    return words if order is WordOrder.LITTLE else words[::-1]


def _number(kind: ValueType, pattern: int) -> Fraction | None:
    """The number that a bit pattern stands for; None for NaN and infinities."""
    if kind in _FLOATS:
        return _float(kind, pattern)
    return Fraction(_signed(pattern, _BITS[kind]) if kind in _SIGNED else pattern)


def _signed(pattern: int, bits: int) -> int:
    """Two's complement."""
    return pattern - (1 << bits) if pattern >> (bits - 1) else pattern


def _lowest_bit(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _float(kind: ValueType, pattern: int) -> Fraction | None:
    """An IEEE 754 number as the shortest decimal that names the same pattern."""
    layout = _FLOATS[kind]
    size = struct.calcsize(layout)
    number: float = struct.unpack(layout, pattern.to_bytes(size, "big"))[0]
    if not math.isfinite(number):
        return None
    if number.is_integer():
        return Fraction(int(number))
    if kind is ValueType.F64:
        return Fraction(repr(number))
    for digits in range(1, 9):
        text = f"{number:.{digits}g}"
        if struct.pack(layout, float(text)) == pattern.to_bytes(size, "big"):
            return Fraction(text)
    return Fraction(f"{number:.9g}")


def _decode_text(words: list[int]) -> str | None:
    """Text of two bytes per register, padded with NUL, space or 0xFF; None when nothing is left."""
    content = b"".join(word.to_bytes(2, "big") for word in words)
    if all(byte in _STRING_FILL for byte in content):
        return None
    text = content.split(b"\0", 1)[0].rstrip(b"\xff").decode("utf-8", errors="replace").strip()
    return text or None


def encode(
    point: RegisterPoint,
    value: Value | None,
    *,
    exponent: int = 0,
    rounding: Rounding = Rounding.NEAREST,
) -> dict[int, int]:
    """The registers that hold `value`, by address, as reading the point expects them.

    None becomes the point's "no value" pattern. `exponent` is what the scale register holds; that register
    is part of the result. Raises `ValueOutOfRange` when the registers can't hold the value, TypeError
    for a text where a number belongs (or the reverse), ValueError when the point can't say "no value".
    """
    if point.type is ValueType.STR:
        words = _encode_text(point, value)
        return {point.address + index: word for index, word in enumerate(words)}
    if isinstance(value, str):
        raise TypeError(f"{point.name} takes a number, not the text {value!r}")
    result: dict[int, int] = {}
    if value is None:
        pattern = _missing_pattern(point)
    else:
        raw = (value - point.offset) / (point.scale * Fraction(10) ** exponent)
        if point.mask is not None:
            raw *= 1 << _lowest_bit(point.mask)
        pattern = _to_pattern(point.type, raw, rounding, point)
    if point.high_word is not None:
        result[point.address] = pattern & 0xFFFF
        result[point.high_word] = pattern >> 16
    else:
        for index, word in enumerate(split_words(pattern, point.length, point.word_order)):
            result[point.address + index] = word
    if point.scale_register is not None:
        result[point.scale_register] = exponent & 0xFFFF
    return result


def encode_number(
    kind: ValueType,
    value: Fraction,
    *,
    scale: Fraction = Fraction(1),
    offset: Fraction = Fraction(0),
    order: WordOrder = WordOrder.BIG,
    rounding: Rounding = Rounding.NEAREST,
    what: str = "value",
    unit: str = "",
) -> list[int]:
    """Words of a number to write: raw = (value - offset) / scale.

    Raises `ValueOutOfRange` naming `what` when the type can't hold it.
    """
    raw = _rounded((value - offset) / scale, kind, rounding)
    low, high = _limits(kind)
    if not low <= raw <= high:
        bounds = sorted((low * scale + offset, high * scale + offset))
        raise ValueOutOfRange(what, float(value), float(bounds[0]), float(bounds[1]), unit)
    return split_words(_raw_to_pattern(kind, raw), _BITS[kind] // 16 or 1, order)


def _to_pattern(kind: ValueType, raw: Fraction, rounding: Rounding, point: RegisterPoint) -> int:
    """The bit pattern of a raw number, checked against the type."""
    raw = _rounded(raw, kind, rounding)
    low, high = _limits(kind)
    if not low <= raw <= high:
        raise ValueOutOfRange(f"{point.name} (raw)", float(raw), float(low), float(high), "")
    return _raw_to_pattern(kind, raw)


def _rounded(raw: Fraction, kind: ValueType, rounding: Rounding) -> Fraction:
    """`raw` at the resolution of the type: whole numbers unless it is a float."""
    if kind in _FLOATS or raw.denominator == 1:
        return raw
    if rounding is Rounding.NEAREST:
        return Fraction(round(raw))
    towards_zero = Fraction(math.trunc(raw))
    if rounding is Rounding.DOWN:
        return towards_zero
    return towards_zero + (1 if raw > 0 else -1)


def _limits(kind: ValueType) -> tuple[Fraction, Fraction]:
    """Lowest and highest raw number of a type."""
    if kind in _FLOATS:
        largest = 3.4028234663852886e38 if kind is ValueType.F32 else 1.7976931348623157e308
        return Fraction(-largest), Fraction(largest)
    bits = _BITS[kind]
    if kind in _SIGNED:
        return Fraction(-(1 << bits - 1)), Fraction((1 << bits - 1) - 1)
    return Fraction(0), Fraction((1 << bits) - 1)


def _raw_to_pattern(kind: ValueType, raw: Fraction) -> int:
    if kind in _FLOATS:
        return int.from_bytes(struct.pack(_FLOATS[kind], float(raw)), "big")
    return int(raw) & (1 << _BITS[kind]) - 1


def _missing_pattern(point: RegisterPoint) -> int:
    """The bit pattern that says "no value" for this point."""
    if point.nan:
        return min(point.nan)
    if point.type is ValueType.F32:
        return 0x7FC00000
    if point.type is ValueType.F64:
        return 0x7FF8000000000000
    raise ValueError(f"{point.name} has no pattern for a missing value")


def _encode_text(point: RegisterPoint, value: Value | None) -> list[int]:
    """Words of a text, padded with NUL."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{point.name} takes a text, not the number {value}")
    content = (value or "").encode()
    size = 2 * point.length
    if len(content) > size:
        raise ValueOutOfRange(f"length of {point.name}", len(content), 0, size, "bytes")
    content = content.ljust(size, b"\0")
    return [int.from_bytes(content[index : index + 2], "big") for index in range(0, size, 2)]


def labels(point: RegisterPoint, value: Value | None) -> tuple[str, ...]:
    """Names of a code, or of the bits that are set; a code without a name is shown as its number."""
    if value is None or isinstance(value, str):
        return ()
    number = int(value)
    if point.meaning is Meaning.ENUM:
        return (point.labels.get(number, str(number)),)
    if point.meaning is Meaning.BITS:
        return tuple(name for bit, name in sorted(point.labels.items()) if number >> bit & 1)
    return ()
