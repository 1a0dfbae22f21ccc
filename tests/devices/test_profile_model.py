"""The small parts of the profile model: tests of values, amounts, units; and every point both ways."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custom_components.energy_ledger.devices.codec import decode, encode
from custom_components.energy_ledger.devices.profile.load import load_profiles
from custom_components.energy_ledger.devices.profile.model import (
    REGISTERS,
    ROLE_UNITS,
    Amount,
    Function,
    MissingValueError,
    Range,
    RegisterPoint,
    Role,
    Test,
    Unit,
    ValueType,
    WordOrder,
)
from custom_components.energy_ledger.devices.profile.units import convert, convertible, dimension

POINTS = [
    point
    for profile in load_profiles().values()
    for table in (profile.points, profile.settings)
    for point in table.values()
    if isinstance(point, RegisterPoint) and point.type is not ValueType.STR and point.mask is None
]


@given(data=st.data())
def test_every_point_of_every_profile_survives_both_ways(data: st.DataObject) -> None:
    """What a point decodes from registers, it encodes to the same registers."""
    point = data.draw(st.sampled_from(POINTS))
    word = st.integers(0, 1) if point.type is ValueType.BIT else st.integers(0, 0xFFFF)
    places = [first + n for first, count in point.addresses() for n in range(count)]
    registers = {address: data.draw(word) for address in places}
    exponent = 0
    if point.scale_register is not None:
        exponent = data.draw(st.integers(-10, 10))
        registers[point.scale_register] = exponent & 0xFFFF
    value = decode(point, registers)
    if value is None:
        return
    again = encode(point, value, exponent=exponent)
    assert decode(point, again) == value
    if point.type is not ValueType.F32:  # a float's shortest decimal is the same, -0.0 is 0
        assert again == registers


@given(
    kind=st.sampled_from([kind for kind in ValueType if kind is not ValueType.STR]),
    order=st.sampled_from(WordOrder),
    scale=st.sampled_from([Fraction(1), Fraction(1, 10), Fraction(1, 1000), Fraction(10), Fraction(1, 60)]),
    offset=st.sampled_from([Fraction(0), Fraction(-40), Fraction(1, 2)]),
    data=st.data(),
)
def test_every_type_survives_both_ways(
    kind: ValueType, order: WordOrder, scale: Fraction, offset: Fraction, data: st.DataObject
) -> None:
    point = RegisterPoint(
        name="x",
        function=Function.READ_COILS if kind is ValueType.BIT else Function.READ_HOLDING,
        address=10,
        type=kind,
        length=REGISTERS[kind],
        word_order=order,
        scale=scale,
        offset=offset,
    )
    highest = 1 if kind is ValueType.BIT else 0xFFFF
    registers = {10 + n: data.draw(st.integers(0, highest)) for n in range(REGISTERS[kind])}
    value = decode(point, registers)
    if value is not None:
        assert decode(point, encode(point, value)) == value


def test_a_split_high_word_is_read_and_written() -> None:
    point = next(point for point in POINTS if point.name == "grid_power" and point.high_word == 690)
    assert point.addresses() == ((625, 1), (690, 1))
    assert decode(point, {625: 0xFFFE, 690: 0xFFFF}) == -2
    assert decode(point, {625: 0x0001, 690: 0x0001}) == 65_537
    assert encode(point, Fraction(-2)) == {625: 0xFFFE, 690: 0xFFFF}


def test_tests_of_values() -> None:
    assert not Test(equals=(Fraction(1),)).accepts(None)
    assert Test(equals=(Fraction(1), "a")).accepts("a")
    assert not Test(equals=(Fraction(1),)).accepts(Fraction(2))
    assert Test(pattern="^GW").accepts("GW10K")
    assert not Test(pattern="^GW").accepts("SUN")
    assert not Test(pattern="1").accepts(Fraction(1))
    within = Test(within=Range(minimum=Fraction(1), maximum=Fraction(2)))
    assert within.accepts(Fraction(3, 2))
    assert not within.accepts(Fraction(3))
    assert not within.accepts("text")
    bits = Test(bits_set=0b10, bits_clear=0b01)
    assert bits.accepts(Fraction(0b110))
    assert not bits.accepts(Fraction(0b111))
    assert not bits.accepts(Fraction(0b100))


def test_a_test_says_what_would_be_right() -> None:
    assert str(Test(equals=(Fraction(2), "x"))) == "2 or 'x'"
    assert str(Test(pattern="^GW")) == "a text matching '^GW'"
    assert str(Test(within=Range(minimum=Fraction(1), maximum=Fraction(2)))) == "at least 1 and at most 2"
    assert str(Test(within=Range(maximum=Fraction(5, 2)))) == "at most 2.5"
    assert str(Test(bits_set=2, bits_clear=1)) == "bits 0x2 set, bits 0x1 clear"


def test_amounts() -> None:
    values = {"power_w": Fraction(1000), "rated": Fraction(4000), "none": Fraction(0)}
    assert Amount(literal=Fraction(7)).evaluate({}) == 7
    share = Amount(source="power_w", factor=Fraction(-100), per="rated", offset=Fraction(5))
    assert share.evaluate(values) == -20
    assert share.needs() == {"power_w", "rated"}
    shifted = Amount(source="power_w", offset="rated", maximum=Fraction(4500))
    assert shifted.evaluate(values) == 4500
    assert Amount(source="power_w", minimum="rated").evaluate(values) == 4000
    assert Amount(source="saved", default=Fraction(3)).evaluate(values) == 3
    with pytest.raises(MissingValueError, match="saved has no value now"):
        Amount(source="saved").evaluate(values)
    with pytest.raises(MissingValueError, match="none is 0, so no share"):
        Amount(source="power_w", per="none").evaluate(values)
    with pytest.raises(MissingValueError, match="a literal or a source"):
        Amount().evaluate(values)


def test_units() -> None:
    assert convert(Fraction(3, 2), Unit.KWH, Unit.WH) == 1500
    assert convert(Fraction(25), Unit.PERCENT, Unit.PER_MILLE) == 250
    assert convert(Fraction(1), Unit.MPA, Unit.MBAR) == 10_000
    assert not convertible(Unit.W, Unit.WH)
    with pytest.raises(ValueError, match="W is power and can't be expressed in Wh, which is energy"):
        convert(Fraction(1), Unit.W, Unit.WH)
    with pytest.raises(ValueError, match="a plain number is number"):
        convert(Fraction(1), Unit.NONE, Unit.WH)
    assert all(dimension(unit) for unit in Unit)
    assert set(ROLE_UNITS) == set(Role)
