"""Lifetime counters survive whatever the register does, without a jump."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custom_components.energy_ledger.devices.counters import CounterState, LifetimeCounter


def feed(counter: LifetimeCounter, *raws: int, start: float = 1000.0, rated_w: int = 10_000) -> list[int]:
    return [counter.update(raw, start + 60 * n, rated_w) for n, raw in enumerate(raws)]


def test_grows_with_its_register_and_begins_where_it_stands() -> None:
    assert feed(LifetimeCounter(), 5000, 5010, 5010, 5100) == [5000, 5010, 5010, 5100]


def test_reset_to_zero_goes_on_from_the_total() -> None:
    assert feed(LifetimeCounter(), 500_000, 500_100, 0, 40, 100) == [
        500_000,
        500_100,
        500_100,
        500_140,
        500_200,
    ]


def test_reset_keeps_what_was_counted_since() -> None:
    assert feed(LifetimeCounter(), 500_000, 30, 60) == [500_000, 500_030, 500_060]


def test_a_new_device_with_another_reading_makes_no_jump() -> None:
    assert feed(LifetimeCounter(), 500_000, 200_000, 200_050) == [500_000, 500_000, 500_050]


@pytest.mark.parametrize("modulus", [65_536_000, 4_294_967_296])
def test_rollover_counts_through(modulus: int) -> None:
    raws = (modulus - 100, modulus - 20, 30, 90)
    totals = feed(LifetimeCounter(modulus_wh=modulus), *raws)
    assert totals == [modulus - 100, modulus - 20, modulus + 30, modulus + 90]


def test_zero_for_a_moment_while_the_device_boots() -> None:
    assert feed(LifetimeCounter(), 500_000, 0, 0, 500_020, 500_040) == [
        500_000,
        500_000,
        500_000,
        500_020,
        500_040,
    ]


def test_one_wild_value_is_ignored() -> None:
    assert feed(LifetimeCounter(), 500_000, 90_000_000, 500_020) == [500_000, 500_000, 500_020]


def test_a_lasting_jump_becomes_the_base_without_being_counted() -> None:
    totals = feed(LifetimeCounter(), 500_000, 9_000_000, 9_000_010, 9_000_020, 9_000_050)
    assert totals == [500_000, 500_000, 500_000, 500_000, 500_030]


def test_time_that_runs_fast_is_followed() -> None:
    raws = [500_000 + 200_000 * n for n in range(6)]
    assert feed(LifetimeCounter(), *raws)[3:] == raws[3:]
    assert feed(LifetimeCounter(), 500_000, 590_000, 680_000) == [500_000, 590_000, 680_000]


def test_a_long_absence_may_have_counted_much() -> None:
    counter = LifetimeCounter()
    counter.update(100_000, 0.0, 10_000)
    assert counter.update(300_000, 86_400.0, 10_000) == 300_000


def test_rounding_backwards_is_no_reset() -> None:
    assert feed(LifetimeCounter(), 500_000, 499_990, 500_005) == [500_000, 500_000, 500_005]


def test_a_kept_state_goes_on_after_a_restart() -> None:
    counter = LifetimeCounter()
    feed(counter, 500_000, 10, 60)
    state = counter.state
    assert state == CounterState(500_060, 60, 1120.0)
    assert LifetimeCounter(state=state).update(90, 1200.0, None) == 500_090


def test_a_jump_and_quick_growth_after_it_are_a_new_base() -> None:
    assert feed(LifetimeCounter(), 1_000_000, 1_200_000, 1_200_200, 1_301_000)[-1] == 1_000_000


def test_wild_values_that_happen_to_rise_are_no_energy() -> None:
    assert feed(LifetimeCounter(), 1_000_000, 1_200_000, 9_000_000, 4_000_000_000)[-1] == 1_000_000


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("grow"), st.integers(0, 150)),
            st.tuples(st.just("reset"), st.integers(0, 50)),
            st.tuples(st.just("glitch"), st.integers(0, 1 << 32)),
        ),
        max_size=40,
    )
)
def test_never_falls_and_never_jumps(steps: list[tuple[str, int]]) -> None:
    counter = LifetimeCounter(modulus_wh=1 << 32)
    raw, total, now = 1_000_000, 1_000_000, 0.0
    counter.update(raw, now, 5000)
    wild = 0
    for kind, amount in steps:
        now += 60
        # What three readings in a row confirm is no glitch, but a register that stands elsewhere.
        wild = wild + 1 if kind == "glitch" and wild < 2 else 0
        if kind == "grow":
            raw += amount
        elif kind == "reset":
            raw = amount
        shown = counter.update(amount if wild else raw, now, 5000)
        # the largest step that is taken for energy, and 60 s at twice 5 kW for each poll made up for
        assert total <= shown <= total + 100_000 + 170 * (len(steps) + 1)
        total = shown
