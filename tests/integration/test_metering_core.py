"""A meter's registers at slot boundaries, from samples that come when they come."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custom_components.energy_ledger.trading.meter_core import (
    MAX_PENDING,
    Boundaries,
    Pause,
    Problem,
    Sample,
)
from ledger_core.records.readings import Quality, ReadingRow
from ledger_core.rules.readings import TOLERANCE_PERMILLE, TOLERANCE_WH
from ledger_core.units import energy

SLOT = 900


def meter(rating_w: int = 10_000) -> Boundaries:
    return Boundaries(SLOT, rating_w)


def test_a_boundary_between_samples_is_interpolated_down() -> None:
    m = meter()
    assert m.take(Sample(895.0, 1000, 50)) == []
    assert m.take(Sample(905.0, 1011, 50)) == [ReadingRow(900, 1005, 50, Quality.INTERPOLATED)]


def test_a_sample_on_the_boundary_is_measured() -> None:
    m = meter()
    assert m.take(Sample(900.4, 7, 8)) == [ReadingRow(900, 7, 8, Quality.MEASURED)]
    m.take(Sample(1795.0, 20, 8))
    assert m.take(Sample(1800.9, 30, 9)) == [ReadingRow(1800, 30, 9, Quality.MEASURED)]
    early = meter()
    early.take(Sample(899.5, 7, 8))
    assert early.take(Sample(910.0, 9, 9)) == [ReadingRow(900, 7, 8, Quality.MEASURED)]


def test_over_a_gap_every_boundary_is_estimated() -> None:
    m = meter()
    m.take(Sample(450.0, 0, 0))
    rows = m.take(Sample(450.0 + 4 * SLOT, 4000, 40))
    assert [(row.end, row.import_wh) for row in rows] == [
        (900, 500),
        (1800, 1500),
        (2700, 2500),
        (3600, 3500),
    ]
    assert {row.quality for row in rows} == {Quality.ESTIMATED}
    assert m.pending == rows


def test_what_the_chain_holds_is_not_kept() -> None:
    m = meter()
    m.take(Sample(899.0, 0, 0))
    m.take(Sample(3601.0, 0, 0))
    m.confirm(2700)
    assert [row.end for row in m.pending] == [3600]


def test_a_register_that_runs_backwards_pauses_until_it_is_back() -> None:
    m = meter()
    m.take(Sample(890.0, 1000, 500))
    assert m.take(Sample(910.0, 3, 500)) == []
    assert m.pause == Pause(Problem.BACKWARDS, "import", 1000, 3, 910.0)
    assert m.take(Sample(920.0, 5, 500)) == []
    assert m.pause is not None
    assert m.pause.since == 910.0
    assert m.take(Sample(930.0, 1002, 500)) == [ReadingRow(900, 1000, 500, Quality.INTERPOLATED)]
    assert m.pause is None


def test_a_jump_does_not_become_true_by_waiting() -> None:
    m = meter(rating_w=3_600)
    m.take(Sample(890.0, 1000, 500))
    assert m.take(Sample(900.0, 1000, 9500)) == []
    assert m.pause == Pause(Problem.JUMP, "export", 500, 9500, 900.0)
    assert m.take(Sample(890.0 + 3 * 3600, 1000, 9600)) == [], "three hours later it might have been"
    assert m.pause is not None
    assert m.take(Sample(891.0 + 3 * 3600, 1000, 700)), "the register is back where it belongs"
    assert m.pause is None


def test_a_coarse_meter_may_step() -> None:
    m = meter(rating_w=10_000)
    m.take(Sample(890.0, 1000, 0))
    m.take(Sample(892.0, 2000, 0))
    assert m.pause is None
    m.take(Sample(893.0, 6000, 0))
    assert m.pause is not None


@pytest.mark.parametrize("step_s", [10, 60, 300])
def test_many_small_rises_are_no_more_than_the_ledger_takes(step_s: int) -> None:
    """Each sample alone is within what a meter may tell, all of a slot together are not."""
    m = meter(rating_w=10_000)
    m.take(Sample(900.0, 1000, 0))
    for number in range(1, 900 // step_s + 1):
        m.take(Sample(900.0 + number * step_s, 1000 + 6250 * number * step_s // 900, 0))
    assert m.pause is not None
    assert m.pause.problem is Problem.JUMP
    assert [row.end for row in m.pending] == [900]
    assert m.last is not None
    good = m.last.import_wh
    assert m.accept()
    (row,) = m.take(Sample(1801.0, 1000 + 6250 + 10, 0))
    assert row == ReadingRow(1800, good + 10, 0, Quality.ESTIMATED), "it goes on from what the ledger takes"


def test_a_boundary_between_plausible_samples_must_be_plausible_too() -> None:
    """The rise lies within a slot's, but drawn over the gap too much of it falls before the boundary."""
    m = meter(rating_w=10_000)
    m.take(Sample(900.0, 0, 0))
    m.take(Sample(1700.0, 3000, 0))
    assert m.take(Sample(1810.0, 3300, 0)) == []
    assert m.pause == Pause(Problem.JUMP, "import", 0, 3300, 1810.0)


def test_a_connection_that_was_rated_too_low_meters_once_it_is_rated_right() -> None:
    m = meter(rating_w=1_000)
    m.take(Sample(900.0, 0, 0))
    assert m.take(Sample(1000.0, 400, 0)) == []
    again = meter(rating_w=2_000)
    again.restore(json.loads(json.dumps(m.kept())))
    assert m.pause is not None
    assert again.pause is None
    m.rate(1_000)
    assert m.pause is not None, "nothing was changed"
    m.rate(2_000)
    for core in (m, again):
        assert core.take(Sample(1800.0, 450, 0)) == [ReadingRow(1800, 450, 0, Quality.MEASURED)]


@given(
    st.lists(
        st.tuples(st.floats(0.5, 700), st.integers(0, 1500), st.integers(0, 1500)), min_size=1, max_size=60
    )
)
def test_the_ledger_takes_every_boundary(steps: list[tuple[float, int, int]]) -> None:
    m = meter(rating_w=3_600)
    at, imported, exported = 0.0, 0, 0
    rows: list[ReadingRow] = []
    for seconds, more_in, more_out in steps:
        at, imported, exported = at + seconds, imported + more_in, exported + more_out
        rows += m.take(Sample(at, imported, exported))
        if m.pause is not None:
            m.accept()
    for before, after in pairwise(rows):
        limit = energy(3_600, after.end - before.end) * TOLERANCE_PERMILLE // 1000 + TOLERANCE_WH
        assert 0 <= after.import_wh - before.import_wh <= limit
        assert 0 <= after.export_wh - before.export_wh <= limit


def test_a_clock_that_is_set_back_pauses() -> None:
    m = meter()
    m.take(Sample(5000.0, 10, 0))
    assert m.take(Sample(4990.0, 11, 0)) == []
    assert not m.kept()["pause"], "a little is normal"
    m.take(Sample(1000.0, 12, 0))
    assert m.pause == Pause(Problem.CLOCK, "clock", 5000, 1000, 1000.0)


def test_it_goes_on_after_a_restart() -> None:
    m = meter()
    m.take(Sample(890.0, 1000, 500))
    m.take(Sample(910.0, 1010, 500))
    m.take(Sample(911.0, 3, 500))
    again = meter()
    again.restore(json.loads(json.dumps(m.kept())))
    assert again == m
    fresh = meter()
    fresh.restore(json.loads(json.dumps(meter().kept())))
    assert fresh == meter()


def test_what_waits_is_bounded() -> None:
    m = meter()
    m.take(Sample(0.0, 0, 0))
    m.take(Sample(float(SLOT * (MAX_PENDING + 50)), 0, 0))
    assert len(m.pending) == MAX_PENDING
    assert m.pending[-1].end == SLOT * (MAX_PENDING + 50)


@given(
    st.lists(
        st.tuples(st.floats(0.5, 2000), st.integers(0, 400), st.integers(0, 400)), min_size=1, max_size=40
    )
)
def test_boundaries_ascend_without_a_gap_and_run_forward(steps: list[tuple[float, int, int]]) -> None:
    m = meter(rating_w=10**8)
    at, imported, exported = 0.0, 0, 0
    rows: list[ReadingRow] = []
    for seconds, more_in, more_out in steps:
        at, imported, exported = at + seconds, imported + more_in, exported + more_out
        rows += m.take(Sample(at, imported, exported))
        if rows:
            assert rows[-1].end <= at
            assert rows[-1].import_wh <= imported
    assert [row.end for row in rows] == list(
        range(rows[0].end, rows[0].end + SLOT * len(rows), SLOT) if rows else []
    )
    for before, after in pairwise(rows):
        assert before.import_wh <= after.import_wh
        assert before.export_wh <= after.export_wh
