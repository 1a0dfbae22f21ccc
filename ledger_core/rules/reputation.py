"""Reputation: how much of what a seller agreed it delivered, decayed over time, and the scores given."""

from msgspec.structs import replace

from ledger_core.errors import RuleError
from ledger_core.records.codec import Record
from ledger_core.records.trades import Score
from ledger_core.records.types import Role
from ledger_core.rules.context import Context, body_of
from ledger_core.rules.events import ScoreGiven
from ledger_core.rules.rows import ReputationRow

DAY = 86_400
DECAY_PERMILLE = 977
"""What a day leaves of the past: half of it after 30 days."""
MEMORY_DAYS = 365
PRIOR_WH = 10_000
PRIOR_PERMILLE = 900
"""A newcomer counts as one who delivered 900 of 1000 over 10 kWh."""

UNKNOWN = ReputationRow(0, 0, 0, 0, 0)


def decayed(row: ReputationRow, day: int) -> ReputationRow:
    """Return the row with its energies decayed up to a day."""
    days = day - row.day
    if days <= 0:
        return row
    if days > MEMORY_DAYS:
        return replace(row, agreed_wh=0, delivered_wh=0, day=day)
    rest, whole = DECAY_PERMILLE**days, 1000**days
    return replace(
        row, agreed_wh=row.agreed_wh * rest // whole, delivered_wh=row.delivered_wh * rest // whole, day=day
    )


def delivered_permille(row: ReputationRow, day: int) -> int:
    """Return delivered per agreed in per mille on a day, drawn towards the prior while little is known."""
    now = decayed(row, day)
    return (now.delivered_wh * 1000 + PRIOR_WH * PRIOR_PERMILLE) // (now.agreed_wh + PRIOR_WH)


def mean_score_tenths(row: ReputationRow) -> int | None:
    """Return the mean of the scores given, in tenths of a point; None without any."""
    return row.score_sum * 10 // row.scores if row.scores else None


def count_delivery(ctx: Context, seller: bytes, agreed_wh: int, delivered_wh: int) -> None:
    """Add a settled slot to a seller's record."""
    row = decayed(ctx.state.reputation.get(seller, UNKNOWN), ctx.time // DAY)
    ctx.put(
        ctx.state.reputation,
        seller,
        replace(row, agreed_wh=row.agreed_wh + agreed_wh, delivered_wh=row.delivered_wh + delivered_wh),
    )


def apply_score(ctx: Context, record: Record) -> None:
    """Count one side's score for the other side of a settled trade."""
    body = body_of(record, Score)
    ctx.require_role(body.author, Role.HOME)
    trade = ctx.state.closed.get(body.trade)
    if trade is None:
        raise RuleError(
            "trade_not_settled",
            "only a trade whose slots were settled lately can be scored",
            trade=body.trade,
        )
    if body.author == trade.seller:
        done, other, row = trade.scored_by_seller, trade.buyer, replace(trade, scored_by_seller=True)
    elif body.author == trade.buyer:
        done, other, row = trade.scored_by_buyer, trade.seller, replace(trade, scored_by_buyer=True)
    else:
        raise RuleError("not_party", "the member is no side of the trade", trade=body.trade)
    if done:
        raise RuleError("already_scored", "each side scores a trade once", trade=body.trade)
    ctx.put(ctx.state.closed, body.trade, row)
    known = ctx.state.reputation.get(other, UNKNOWN)
    ctx.put(
        ctx.state.reputation,
        other,
        replace(known, scores=known.scores + 1, score_sum=known.score_sum + body.score),
    )
    ctx.events.append(ScoreGiven(body.trade, body.author, other, body.score))
