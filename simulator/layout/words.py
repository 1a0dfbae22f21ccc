"""Numbers and texts as 16-bit words, apart from the integration's codec: neither hides a mistake."""

import math
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

_FORMATS = {
    "u16": "H", "s16": "h", "u32": "I", "s32": "i", "u64": "Q", "s64": "q", "f32": "f", "f64": "d",
}  # fmt: skip
_BITS = {"bit": 1, "u16": 16, "s16": 16, "u32": 32, "s32": 32, "u64": 64, "s64": 64}


def word_count(kind: str) -> int:
    """Return how many words a number of a type occupies."""
    return 1 if kind == "bit" else struct.calcsize(f">{_FORMATS[kind]}") // 2


def limits(kind: str) -> tuple[int, int]:
    """Return the lowest and highest whole number of a type."""
    bits = _BITS[kind]
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if kind.startswith("s") else (0, (1 << bits) - 1)


def encode_number(kind: str, raw: int | float, *, little: bool = False) -> tuple[int, ...]:
    """Return the words of a raw number; whole numbers beyond the type's range stop at its end."""
    if kind == "bit":
        return (1 if raw else 0,)
    if not kind.startswith("f"):
        low, high = limits(kind)
        raw = max(low, min(high, int(raw)))
    words = struct.unpack(f">{word_count(kind)}H", struct.pack(f">{_FORMATS[kind]}", raw))
    return words[::-1] if little else words


def decode_number(kind: str, words: tuple[int, ...], *, little: bool = False) -> int | float:
    """Return the raw number that words hold."""
    ordered = words[::-1] if little else words
    packed = struct.pack(f">{len(ordered)}H", *ordered)
    value: int | float = struct.unpack(f">{_FORMATS[kind]}", packed)[0]
    return value


def encode_pattern(pattern: int, count: int, *, little: bool = False) -> tuple[int, ...]:
    """Return a bit pattern over so many words."""
    words = tuple(pattern >> (16 * place) & 0xFFFF for place in reversed(range(count)))
    return words[::-1] if little else words


def encode_text(text: str, count: int) -> tuple[int, ...]:
    """Return a text over so many words, two bytes each, padded with NUL."""
    data = text.encode()[: 2 * count].ljust(2 * count, b"\0")
    return struct.unpack(f">{count}H", data)


def nearest(value: Fraction) -> int:
    """Return the nearest whole number, halves up."""
    return math.floor(value + type(value)(1, 2))
