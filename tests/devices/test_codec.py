"""Registers to values and back: word order, sign, scale, split words, and what is no value."""

import struct
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custom_components.energy_ledger.devices.codec import decode, encode, encode_number, labels
from custom_components.energy_ledger.devices.errors import ValueOutOfRange
from custom_components.energy_ledger.devices.profile.model import (
    Function,
    Meaning,
    Range,
    RegisterPoint,
    Rounding,
    ValueType,
    WordOrder,
)

LENGTHS = {
    ValueType.BIT: 1,
    ValueType.U16: 1,
    ValueType.S16: 1,
    ValueType.U32: 2,
    ValueType.S32: 2,
    ValueType.F32: 2,
    ValueType.U64: 4,
    ValueType.S64: 4,
    ValueType.F64: 4,
    ValueType.STR: 4,
}
LITTLE = WordOrder.LITTLE


def point(kind: ValueType, **more: object) -> RegisterPoint:
    base: dict[str, object] = {
        "name": "p",
        "function": Function.READ_HOLDING,
        "address": 10,
        "type": kind,
        "length": LENGTHS[kind],
    }
    return RegisterPoint(**{**base, **more})  # type: ignore[arg-type]


def at(*words: int, first: int = 10) -> dict[int, int]:
    return dict(enumerate(words, first))


@pytest.mark.parametrize(
    ("described", "registers", "value"),
    [
        (point(ValueType.U16), at(65534), 65534),
        (point(ValueType.S16), at(65534), -2),
        (point(ValueType.U32), at(1, 2), 65538),
        (point(ValueType.U32, word_order=LITTLE), at(1, 2), 131073),
        (point(ValueType.S32), at(0xFFFF, 0xF630), -2512),
        (point(ValueType.S32, word_order=LITTLE), at(0xF630, 0xFFFF), -2512),
        (point(ValueType.U64), at(0, 1, 2, 3), (1 << 32) + (2 << 16) + 3),
        (point(ValueType.U64, word_order=LITTLE), at(3, 2, 1, 0), (1 << 32) + (2 << 16) + 3),
        (point(ValueType.S64), at(0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF), -1),
        (point(ValueType.U32, scale=Fraction(1, 10)), at(0, 60853), Fraction("6085.3")),
        (point(ValueType.S16, scale=Fraction(1, 10), offset=Fraction(-40)), at(655), Fraction("25.5")),
        (point(ValueType.F32), at(*struct.unpack(">HH", struct.pack(">f", 66.66667))), Fraction("66.66667")),
        (point(ValueType.F32, word_order=LITTLE), at(0x5000, 0x459C), 5002),
        (point(ValueType.F32), at(0, 0), 0),
        (point(ValueType.F32), at(0xC2C8, 0), -100),
        (point(ValueType.F64), at(*struct.unpack(">HHHH", struct.pack(">d", 0.1))), Fraction("0.1")),
        (point(ValueType.BIT, function=Function.READ_COILS), at(1), 1),
        (point(ValueType.U16, scale_register=14), {10: 831, 14: 0xFFFF}, Fraction("83.1")),
        (point(ValueType.U16, scale_register=14), {10: 83, 14: 2}, 8300),
        (point(ValueType.S32, high_word=90), {10: 0xF630, 90: 0xFFFF}, -2512),
        (point(ValueType.U32, high_word=90), {10: 2, 90: 1}, 65538),
        (point(ValueType.U16, mask=0x0F00), at(0x1234), 2),
        (point(ValueType.STR), at(0x4142, 0x4300, 0, 0), "ABC"),
        (point(ValueType.STR), at(0x2041, 0x4220, 0x2020, 0x2020), "AB"),
        (point(ValueType.STR), at(0x41FF, 0xFFFF, 0xFFFF, 0xFFFF), "A"),
        (point(ValueType.STR, length=1), at(0xC3BC), "ü"),
    ],
)
def test_values(described: RegisterPoint, registers: dict[int, int], value: object) -> None:
    assert decode(described, registers) == value


@pytest.mark.parametrize(
    ("described", "registers"),
    [
        (point(ValueType.S16, nan=frozenset({0x8000})), at(0x8000)),
        (point(ValueType.U32, nan=frozenset({0xFFFFFFFF})), at(0xFFFF, 0xFFFF)),
        (point(ValueType.S32, nan=frozenset({0x7FFFFFFF}), word_order=LITTLE), at(0xFFFF, 0x7FFF)),
        (point(ValueType.U32, nan=frozenset({0}), note="acc"), at(0, 0)),
        (point(ValueType.F32), at(0x7FC0, 0)),
        (point(ValueType.F32), at(0x7F80, 0)),
        (point(ValueType.F64), at(0xFFF0, 0, 0, 0)),
        (point(ValueType.U16, scale_register=14), {10: 5, 14: 0x8000}),
        (point(ValueType.U16, scale_register=14), {10: 5, 14: 11}),
        (point(ValueType.U16, valid=Range(minimum=Fraction(0), maximum=Fraction(100))), at(101)),
        (point(ValueType.S16, valid=Range(minimum=Fraction(0))), at(0xFFFF)),
        (point(ValueType.STR), at(0, 0, 0, 0)),
        (point(ValueType.STR), at(0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF)),
        (point(ValueType.STR), at(0x2020, 0x2020, 0x2020, 0x2020)),
    ],
)
def test_what_is_no_value_is_none_and_never_zero(described: RegisterPoint, registers: dict[int, int]) -> None:
    assert decode(described, registers) is None


@pytest.mark.parametrize("missing", [10, 11, 14])
def test_a_register_that_was_not_read_is_an_error(missing: int) -> None:
    registers = {10: 1, 11: 2, 14: 0}
    del registers[missing]
    with pytest.raises(KeyError):
        decode(point(ValueType.U32, scale_register=14), registers)
    with pytest.raises(KeyError):
        decode(point(ValueType.STR), at(1, 2, 3))


@given(
    kind=st.sampled_from([kind for kind in ValueType if kind not in (ValueType.STR, ValueType.BIT)]),
    order=st.sampled_from(WordOrder),
    words=st.lists(st.integers(0, 0xFFFF), min_size=4, max_size=4),
)
def test_every_pattern_comes_back(kind: ValueType, order: WordOrder, words: list[int]) -> None:
    described = point(kind, word_order=order)
    registers = at(*words[: LENGTHS[kind]])
    value = decode(described, registers)
    if value is not None:
        assert not isinstance(value, str)
        again = encode(described, value)
        if value == 0:
            assert decode(described, again) == 0
        else:
            assert again == registers


@given(value=st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_floats_are_the_shortest_decimal_of_the_same_number(value: float) -> None:
    words = struct.unpack(">HH", struct.pack(">f", value))
    decoded = decode(point(ValueType.F32), at(*words))
    assert isinstance(decoded, Fraction)
    assert struct.pack(">f", float(decoded)) == struct.pack(">f", value) or value == 0


@given(
    value=st.integers(-32768, 32767),
    exponent=st.integers(-10, 10),
    scale=st.sampled_from([Fraction(1), Fraction(1, 10), Fraction(-10)]),
    offset=st.integers(-5, 5),
)
def test_scales_are_exact(value: int, exponent: int, scale: Fraction, offset: int) -> None:
    described = point(ValueType.S16, scale=scale, offset=Fraction(offset), scale_register=20)
    expected = value * scale * Fraction(10) ** exponent + offset
    registers = encode(described, expected, exponent=exponent)
    assert registers == {10: value & 0xFFFF, 20: exponent & 0xFFFF}
    assert decode(described, registers) == expected


def test_encode_split_words_text_and_missing_values() -> None:
    assert encode(point(ValueType.S32, high_word=90), Fraction(-2512)) == {10: 0xF630, 90: 0xFFFF}
    assert encode(point(ValueType.STR), "ABC") == at(0x4142, 0x4300, 0, 0)
    assert encode(point(ValueType.STR), None) == at(0, 0, 0, 0)
    assert encode(point(ValueType.U16, nan=frozenset({0xFFFF})), None) == at(0xFFFF)
    assert encode(point(ValueType.U16, mask=0x0F00), Fraction(2)) == at(0x0200)
    for kind in (ValueType.F32, ValueType.F64):
        assert decode(point(kind), encode(point(kind), None)) is None


def test_what_cant_be_encoded_says_why() -> None:
    with pytest.raises(ValueOutOfRange, match=r"p \(raw\) is 65536 , allowed are 0 to 65535"):
        encode(point(ValueType.U16), Fraction(65536))
    with pytest.raises(ValueOutOfRange, match="length of p is 9 bytes, allowed are 0 to 8 bytes"):
        encode(point(ValueType.STR), "123456789")
    with pytest.raises(ValueError, match="p has no pattern for a missing value"):
        encode(point(ValueType.U16), None)
    with pytest.raises(TypeError, match="p takes a number, not the text 'x'"):
        encode(point(ValueType.U16), "x")
    with pytest.raises(TypeError, match="p takes a text, not the number 1"):
        encode(point(ValueType.STR), Fraction(1))


@pytest.mark.parametrize(
    ("value", "rounding", "raw"),
    [
        ("2.9", Rounding.DOWN, 2),
        ("-2.9", Rounding.DOWN, -2),
        ("2.1", Rounding.UP, 3),
        ("-2.1", Rounding.UP, -3),
        ("2.4", Rounding.NEAREST, 2),
        ("2.6", Rounding.NEAREST, 3),
        ("2", Rounding.UP, 2),
    ],
)
def test_rounding_of_what_is_written(value: str, rounding: Rounding, raw: int) -> None:
    assert encode_number(ValueType.S16, Fraction(value), rounding=rounding) == [raw & 0xFFFF]


def test_numbers_to_write() -> None:
    assert encode_number(ValueType.U32, Fraction(70000), order=LITTLE) == [4464, 1]
    assert encode_number(ValueType.U16, Fraction(5000), scale=Fraction(10)) == [500]
    assert encode_number(ValueType.F32, Fraction(-1500), order=LITTLE) == [0x8000, 0xC4BB]
    with pytest.raises(ValueOutOfRange, match="limit is 700000 W, allowed are 0 to 655350 W"):
        encode_number(ValueType.U16, Fraction(700000), scale=Fraction(10), what="limit", unit="W")
    with pytest.raises(ValueOutOfRange):
        encode_number(ValueType.F32, Fraction(10) ** 60)


def test_names_of_codes_and_bits() -> None:
    codes = point(ValueType.U16, meaning=Meaning.ENUM, labels={2: "discharge", 3: "charge"})
    assert labels(codes, Fraction(3)) == ("charge",)
    assert labels(codes, Fraction(9)) == ("9",)
    bits = point(ValueType.U16, meaning=Meaning.BITS, labels={3: "hot", 0: "low"})
    assert labels(bits, Fraction(9)) == ("low", "hot")
    assert labels(bits, Fraction(0)) == ()
    assert labels(bits, None) == ()
    assert labels(point(ValueType.U16), Fraction(1)) == ()
