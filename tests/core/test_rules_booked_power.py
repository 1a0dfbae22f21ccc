"""The power left in a window, against a look at every single time."""

from hypothesis import given
from hypothesis import strategies as st

from ledger_core.records.assets import CurveStep
from ledger_core.records.types import AssetKind, Basis, Carrier
from ledger_core.rules.availability import booked_power, power_left, rating_at
from ledger_core.rules.rows import AssetRow, TradeRow

TIMES = st.integers(0, 20)


def asset(rating: int, steps: dict[int, int]) -> AssetRow:
    return AssetRow(
        record=b"r",
        owner=b"o",
        kind=AssetKind.PV,
        carrier=Carrier.ELECTRICITY,
        rating_w=rating,
        curve=tuple(CurveStep(start, watts) for start, watts in sorted(steps.items())),
        capacity_wh=None,
        meter=None,
        meter_key=None,
        location=None,
    )


def trade(start: int, length: int, watts: int) -> TradeRow:
    return TradeRow(
        offer=b"f",
        origin="posted",
        seller=b"s",
        buyer=b"b",
        asset=b"a",
        seller_meter=b"m",
        buyer_meter=b"n",
        carrier=Carrier.ELECTRICITY,
        basis=Basis.ENERGY,
        quantity=1,
        watts=watts,
        start=start,
        end=start + length,
        agreed_end=start + length,
        price=0,
        shortfall_price=0,
        held_buyer=0,
        held_seller=0,
        delivered_wh=0,
        paid=0,
    )


BOOKED = st.lists(st.builds(trade, TIMES, st.integers(1, 20), st.integers(0, 4000)), max_size=12)
ASSETS = st.builds(asset, st.integers(0, 9000), st.dictionaries(TIMES, st.integers(0, 9000), max_size=4))


def used_at(booked: list[TradeRow], time: int) -> int:
    return sum(each.watts for each in booked if each.start <= time < each.end)


@given(ASSETS, BOOKED, TIMES, st.integers(1, 20))
def test_the_least_power_of_a_window_is_that_of_its_worst_time(
    row: AssetRow, booked: list[TradeRow], start: int, length: int
) -> None:
    left = [rating_at(row, time) - used_at(booked, time) for time in range(start, start + length)]
    least, where = power_left(row, booked, start, start + length)
    assert least == max(min(left), 0)
    assert max(left[where - start], 0) == least


@given(ASSETS, BOOKED, TIMES)
def test_booked_power_is_told_wherever_it_changes(row: AssetRow, booked: list[TradeRow], start: int) -> None:
    told = dict(booked_power(row, booked, start))
    assert min(told) == start
    power = 0
    for time in range(start, 45):
        power = told.get(time, power)
        assert power == used_at(booked, time)
    assert {step.start for step in row.curve if step.start > start} <= set(told)
