"""Point values become typed readings: named by direction, in whole units, with quality and age."""

from collections.abc import Mapping
from fractions import Fraction

import pytest

from custom_components.energy_ledger.devices.derive import derive_points
from custom_components.energy_ledger.devices.profile.model import (
    Condition,
    DerivedPoint,
    Direction,
    Function,
    LinkDefaults,
    Meaning,
    Missing,
    Operand,
    Operation,
    Profile,
    Range,
    RegisterPoint,
    Role,
    Test,
    Transport,
    TransportDefaults,
    Unit,
    Value,
    ValueType,
)
from custom_components.energy_ledger.devices.readings import (
    Field,
    PointState,
    Quality,
    Readings,
    derive_readings,
    roles_of,
)


def point(name: str, role: Role | None, unit: Unit = Unit.NONE, **more: object) -> RegisterPoint:
    base: dict[str, object] = {
        "name": name,
        "role": role,
        "unit": unit,
        "function": Function.READ_HOLDING,
        "address": 1,
        "type": ValueType.S32,
        "length": 2,
    }
    return RegisterPoint(**{**base, **more})  # type: ignore[arg-type]


def profile(*points: RegisterPoint, derived: tuple[DerivedPoint, ...] = ()) -> Profile:
    return Profile(
        id="test",
        title="Test",
        manufacturer="Test",
        kinds=("battery",),
        link=LinkDefaults(transports=(TransportDefaults(transport=Transport.TCP, ports=(502,)),)),
        points={p.name: p for p in points},
        derived={d.name: d for d in derived},
    )


def read(described: Profile, states: Mapping[str, PointState], now: float) -> Readings:
    return derive_readings(roles_of(described), states, now)


def good(value: Value | int, at: float = 100.0) -> PointState:
    return PointState(value if isinstance(value, str) else Fraction(value), Quality.GOOD, at)


LOST = PointState(None, Quality.UNAVAILABLE)
NONE = PointState(None, Quality.NOT_IMPLEMENTED, no_value=True)


@pytest.mark.parametrize(
    ("direction", "raw", "charge", "discharge"),
    [
        (Direction.CHARGE, 1500, 1500, 0),
        (Direction.CHARGE, -1500, 0, 1500),
        (Direction.DISCHARGE, 1500, 0, 1500),
        (Direction.DISCHARGE, -1500, 1500, 0),
    ],
)
def test_a_signed_power_goes_to_the_field_of_its_direction(
    direction: Direction, raw: int, charge: int, discharge: int
) -> None:
    battery = point("b", Role.BATTERY_POWER, Unit.W, positive=direction)
    readings = read(profile(battery), {"b": good(raw)}, 103.0)
    assert readings.number(Field.CHARGE_W) == charge
    assert readings.number(Field.DISCHARGE_W) == discharge
    assert readings[Field.CHARGE_W].age_s == 3.0
    assert readings[Field.CHARGE_W].point == "b"


def test_units_are_converted_and_rounded() -> None:
    grid = point("g", Role.GRID_POWER, Unit.KW, positive=Direction.EXPORT)
    soc = point("s", Role.STATE_OF_CHARGE, Unit.PERCENT)
    counter = point("c", Role.PV_ENERGY, Unit.KWH)
    hz = point("f", Role.FREQUENCY, Unit.HZ)
    tank = point("h", Role.HYDROGEN_PRESSURE, Unit.BAR)
    states = {
        "g": PointState(Fraction("-1.2345"), Quality.GOOD, 0),
        "s": PointState(Fraction("66.66667"), Quality.GOOD, 0),
        "c": PointState(Fraction("6085.3999"), Quality.GOOD, 0),
        "f": PointState(Fraction("49.98"), Quality.GOOD, 0),
        "h": PointState(Fraction("199.5"), Quality.GOOD, 0),
    }
    readings = read(profile(grid, soc, counter, hz, tank), states, 0)
    assert readings.number(Field.IMPORT_W) == 1235
    assert readings.number(Field.EXPORT_W) == 0
    assert readings.number(Field.STATE_OF_CHARGE) == 667
    assert readings.number(Field.PV_WH) == 6_085_399
    assert readings[Field.FREQUENCY_HZ].value == 49.98
    assert readings.number(Field.HYDROGEN_MBAR) == 199_500


def test_what_is_missing_has_no_value_and_is_not_zero() -> None:
    battery = point("b", Role.BATTERY_POWER, Unit.W, positive=Direction.CHARGE)
    solar = point("p", Role.PV_POWER, Unit.W)
    readings = read(profile(battery, solar), {"b": LOST, "p": NONE}, 0)
    for field in (Field.CHARGE_W, Field.DISCHARGE_W):
        assert readings[field].value is None
        assert readings[field].quality is Quality.UNAVAILABLE
    assert readings[Field.PV_W].quality is Quality.NOT_IMPLEMENTED
    assert readings[Field.IMPORT_W].quality is Quality.NOT_IMPLEMENTED
    assert readings.number(Field.PV_W) is None
    assert readings.number(Field.IMPORT_W) is None
    assert len(readings) == 3
    assert set(readings) == {Field.CHARGE_W, Field.DISCHARGE_W, Field.PV_W}


def test_a_stale_value_is_shown_but_not_usable() -> None:
    solar = point("p", Role.PV_POWER, Unit.W)
    readings = read(profile(solar), {"p": PointState(Fraction(5), Quality.STALE, 10)}, 25)
    assert readings[Field.PV_W].value == 5
    assert readings[Field.PV_W].age_s == 15
    assert not readings[Field.PV_W].usable
    assert readings.number(Field.PV_W) is None


def test_small_negative_powers_are_zero_where_none_can_be() -> None:
    solar = point("p", Role.PV_POWER, Unit.W)
    assert read(profile(solar), {"p": good(-4)}, 0).number(Field.PV_W) == 0


def test_of_several_points_the_first_of_the_best_quality_counts() -> None:
    first, second = point("a", Role.RATED_POWER, Unit.W), point("b", Role.RATED_POWER, Unit.W)
    both = profile(first, second)
    assert read(both, {"a": good(1), "b": good(2)}, 0).number(Field.RATED_W) == 1
    assert read(both, {"a": NONE, "b": good(2)}, 0).number(Field.RATED_W) == 2
    assert read(both, {"a": LOST}, 0)[Field.RATED_W].quality is Quality.UNAVAILABLE


def test_texts_codes_and_bits() -> None:
    status = point("s", Role.STATUS, meaning=Meaning.ENUM, labels={4: "running"})
    fault = point("f", Role.FAULT, meaning=Meaning.BITS, labels={0: "hot", 1: "low"})
    other = point("o", Role.FAULT)
    serial = point("n", Role.SERIAL)
    readings = read(
        profile(status, fault, other, serial),
        {"s": good(4), "f": good(3), "o": good(0), "n": good("A1")},
        100,
    )
    assert readings.text(Field.STATUS) == "running"
    assert readings.text(Field.FAULT) == "hot, low"
    assert readings.text(Field.SERIAL) == "A1"
    assert readings.text(Field.MODEL) is None
    quiet = read(profile(status, fault, other), {"s": NONE, "f": good(0), "o": NONE}, 100)
    assert quiet[Field.FAULT].value == ""
    assert quiet[Field.FAULT].quality is Quality.GOOD
    lost = read(profile(fault, other), {"f": good(3)}, 100)
    assert lost[Field.FAULT].value is None
    none = read(profile(fault), {"f": NONE}, 100)
    assert none[Field.FAULT].quality is Quality.NOT_IMPLEMENTED
    number = read(profile(point("x", Role.FIRMWARE)), {"x": good(12)}, 100)
    assert number.text(Field.FIRMWARE) == "12"


def test_energy_available_comes_from_capacity_and_state_of_charge() -> None:
    capacity = point("c", Role.CAPACITY, Unit.WH)
    soc = point("s", Role.STATE_OF_CHARGE, Unit.PERCENT)
    readings = read(profile(capacity, soc), {"c": good(9_999), "s": good(50, at=90)}, 100)
    assert readings.number(Field.ENERGY_AVAILABLE_WH) == 4999
    assert readings[Field.ENERGY_AVAILABLE_WH].age_s == 10
    stale = PointState(Fraction(50), Quality.STALE, 90)
    aged = read(profile(capacity, soc), {"c": good(9_999), "s": stale}, 100)
    assert aged[Field.ENERGY_AVAILABLE_WH].quality is Quality.STALE
    lost = read(profile(capacity, soc), {"c": good(9_999), "s": LOST}, 100)
    assert lost[Field.ENERGY_AVAILABLE_WH].quality is Quality.NOT_IMPLEMENTED
    own = point("e", Role.ENERGY_AVAILABLE, Unit.WH)
    said = read(profile(capacity, soc, own), {"c": good(9_999), "s": good(50), "e": good(7)}, 100)
    assert said.number(Field.ENERGY_AVAILABLE_WH) == 7


def test_load_comes_from_the_inverter_and_the_grid() -> None:
    ac = point("a", Role.AC_POWER, Unit.W)
    grid = point("g", Role.GRID_POWER, Unit.W, positive=Direction.IMPORT)
    readings = read(profile(ac, grid), {"a": good(3000), "g": good(-1000)}, 100)
    assert readings.number(Field.LOAD_W) == 2000
    charging = read(profile(ac, grid), {"a": good(-500), "g": good(1200)}, 100)
    assert charging.number(Field.LOAD_W) == 700
    lost = read(profile(ac, grid), {"a": good(3000), "g": LOST}, 100)
    assert Field.LOAD_W not in list(lost)


# --- derived points -----------------------------------------------------------------------------------


def derived(operation: Operation, *operands: tuple[str, int], **more: object) -> DerivedPoint:
    base: dict[str, object] = {
        "name": "d",
        "operation": operation,
        "operands": tuple(Operand(point=name, factor=Fraction(factor)) for name, factor in operands),
    }
    return DerivedPoint(**{**base, **more})  # type: ignore[arg-type]


def value_of(point: DerivedPoint, **states: PointState) -> PointState:
    return derive_points({point.name: point}, states)[point.name]


def test_sums_products_and_signs() -> None:
    total = derived(Operation.SUM, ("a", 1), ("b", -1))
    assert value_of(total, a=good(5), b=good(3)).value == 2
    product = derived(Operation.PRODUCT, ("a", 1), ("b", 10))
    assert value_of(product, a=good(5), b=good(3)).value == 150
    sign = derived(
        Operation.SIGN, ("a", 1), negative_when=Condition(point="mode", test=Test(equals=(Fraction(3),)))
    )
    assert value_of(sign, a=good(5), mode=good(3)).value == -5
    assert value_of(sign, a=good(-5), mode=good(2)).value == 5
    assert value_of(sign, a=good(5), mode=NONE).value is None
    assert value_of(sign, a=good(5)).quality is Quality.UNAVAILABLE


def test_a_sum_without_one_operand_is_not_a_smaller_sum() -> None:
    strict = derived(Operation.SUM, ("a", 1), ("b", 1))
    lenient = derived(Operation.SUM, ("a", 1), ("b", 1), missing=Missing.SKIP)
    assert value_of(strict, a=good(5), b=NONE).value is None
    assert value_of(lenient, a=good(5), b=NONE).value == 5
    assert value_of(lenient, a=good(5), b=LOST).value is None
    assert value_of(lenient, a=good(5), b=LOST).quality is Quality.UNAVAILABLE
    nothing = value_of(lenient, a=NONE, b=NONE)
    assert (nothing.value, nothing.quality, nothing.no_value) == (None, Quality.NOT_IMPLEMENTED, True)


def test_a_derived_value_is_as_bad_and_as_old_as_its_worst_part() -> None:
    total = derived(Operation.SUM, ("a", 1), ("b", 1))
    state = value_of(total, a=good(5, at=10), b=PointState(Fraction(1), Quality.STALE, 4))
    assert (state.value, state.quality, state.at) == (Fraction(6), Quality.STALE, 4.0)


def test_derived_points_of_derived_points_and_of_themselves() -> None:
    first = derived(Operation.SUM, ("a", 2), name="first")
    second = derived(Operation.SUM, ("first", 2), name="second")
    states = derive_points({"second": second, "first": first}, {"a": good(3)})
    assert [states[name].value for name in ("first", "second")] == [6, 12]
    loop = derived(Operation.SUM, ("d", 1))
    assert value_of(loop).value is None


def test_a_derived_value_out_of_range_is_none() -> None:
    total = derived(Operation.SUM, ("a", 1), valid=Range(maximum=Fraction(10)))
    assert value_of(total, a=good(10)).value == 10
    out = value_of(total, a=good(11))
    assert (out.value, out.quality) == (None, Quality.UNAVAILABLE)
