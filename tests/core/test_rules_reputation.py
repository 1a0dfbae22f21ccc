"""Reputation: delivered over agreed, decayed by the day, with a prior; scores beside it."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from ledger_core.rules.reputation import (
    DAY,
    MEMORY_DAYS,
    UNKNOWN,
    decayed,
    delivered_permille,
    mean_score_tenths,
)
from ledger_core.rules.rows import ReputationRow
from tests.core.actions import SLOT, WINDOW, agree, meters, refusal, score, settle, street, until
from tests.core.strategies import PROFILE
from tests.core.world import World


def delivered(world: World, exported: int, imported: int, start: int = WINDOW) -> ReputationRow:
    """Agree on 1 kWh in one slot; the seller's row after it was settled."""
    agree(world, quantity=1_000, start=start, end=start + SLOT)
    meters(world, {"anna": [exported]}, {"bert": [imported]}, start, 100_000 + start - WINDOW)
    settle(world, start + SLOT)
    return world.state.reputation.get(world["anna"].id, UNKNOWN)


def test_what_was_agreed_and_sent_is_counted() -> None:
    row = delivered(street(), 700, 700)
    assert (row.agreed_wh, row.delivered_wh, row.day) == (1_000, 700, WINDOW // DAY)


def test_seller_is_not_blamed_for_what_the_buyer_leaves() -> None:
    world = street(loss_permille=500, loss_wh=10_000)
    row = delivered(world, 1_000, 0)
    assert (row.agreed_wh, row.delivered_wh) == (1_000, 1_000)


def test_disputed_and_unread_lines_are_unknown_not_failure() -> None:
    assert delivered(street(), 1_000, 100) == UNKNOWN
    world = street()
    agree(world, quantity=1_000, end=WINDOW + SLOT)
    settle(world, WINDOW + SLOT)
    assert world["anna"].id not in world.state.reputation


def test_newcomer_starts_at_the_prior_and_volume_moves_it() -> None:
    assert delivered_permille(UNKNOWN, 0) == 900
    assert delivered_permille(ReputationRow(10_000, 10_000, 0, 0, 0), 0) == 950
    assert delivered_permille(ReputationRow(10_000, 0, 0, 0, 0), 0) == 450
    assert delivered_permille(ReputationRow(10**9, 10**9, 0, 0, 0), 0) == 999


@PROFILE
@given(st.integers(0, 10**9), st.integers(0, MEMORY_DAYS))
def test_decay_follows_the_power_rounded_down(energy: int, days: int) -> None:
    row = decayed(ReputationRow(energy, energy, 5, 0, 0), 5 + days)
    assert row.agreed_wh == int(energy * Fraction(977, 1000) ** days)
    assert row.day == 5 + days


def test_half_is_left_after_thirty_days_and_nothing_after_a_year() -> None:
    row = ReputationRow(10_000, 8_000, 0, 3, 20)
    assert 0.49 < decayed(row, 30).agreed_wh / 10_000 < 0.51
    forgotten = decayed(row, MEMORY_DAYS + 1)
    assert (forgotten.agreed_wh, forgotten.delivered_wh) == (0, 0)
    assert (forgotten.scores, forgotten.score_sum) == (3, 20)
    assert decayed(row, -5) == row


def test_decay_applies_between_two_settlements() -> None:
    world = street()
    delivered(world, 1_000, 1_000)
    later = WINDOW + 10 * DAY
    until(world, later - 4 * SLOT)
    row = delivered(world, 0, 0, later)
    assert row.agreed_wh == int(1_000 * Fraction(977, 1000) ** 10) + 1_000
    assert row.delivered_wh == int(1_000 * Fraction(977, 1000) ** 10)


def test_each_side_scores_the_other_once() -> None:
    world = street()
    trade = agree(world, quantity=1_000, end=WINDOW + SLOT)
    meters(world, {"anna": [1_000]}, {"bert": [1_000]})
    assert refusal(world, score(world, "bert", trade)).code == "trade_not_settled"
    settle(world, WINDOW + SLOT)
    world.mine(score(world, "bert", trade, 7), score(world, "anna", trade, 10))
    assert mean_score_tenths(world.state.reputation[world["anna"].id]) == 70
    assert mean_score_tenths(world.state.reputation[world["bert"].id]) == 100
    assert refusal(world, score(world, "bert", trade, 1)).code == "already_scored"
    assert mean_score_tenths(UNKNOWN) is None


def test_scores_are_taken_for_a_while_only() -> None:
    world = street(score_window_s=3_600)
    trade = agree(world, quantity=1_000, end=WINDOW + SLOT)
    settle(world, WINDOW + SLOT)
    closed = world.now
    last = score(world, "bert", trade, created=closed + 3_600)
    world.mine(score(world, "anna", trade), step=3_600)
    until(world, closed + 3_601)
    assert refusal(world, last).code == "trade_not_settled"
    assert not world.state.closed
