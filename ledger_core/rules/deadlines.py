"""What happens by itself when a time is reached: kept by the minute, handled at the exact second."""

from collections.abc import Callable, Mapping

from ledger_core.rules.context import Context

OFFER = 1
WAITING = 2
CLOSED = 3
INVITATION = 4
FORMER_NODE = 5

MINUTE = 60

type Handler = Callable[[Context, bytes], None]


def add_deadline(ctx: Context, time: int, kind: int, subject: bytes) -> None:
    """Have `kind` handled for a subject in the first block at or after a time."""
    minute = time // MINUTE
    rows = ctx.state.deadlines.get(minute, ())
    ctx.put(ctx.state.deadlines, minute, tuple(sorted((*rows, (time, kind, subject)))))


def handle_deadlines(ctx: Context, handlers: Mapping[int, Handler]) -> None:
    """Handle everything due by the block's time: by time, then kind, then id.

    The block's end writes down how far this has come.
    """
    deadlines = ctx.state.deadlines
    chain = ctx.state.tip
    first, last = chain.deadline // MINUTE, ctx.time // MINUTE
    if last - first < len(deadlines):
        minutes = [minute for minute in range(first, last + 1) if minute in deadlines]
    else:
        minutes = sorted(minute for minute in deadlines if minute <= last)
    for minute in minutes:
        rows = deadlines[minute]
        if rows[0][0] > ctx.time:
            continue
        later = tuple(row for row in rows if row[0] > ctx.time)
        if later:
            ctx.put(deadlines, minute, later)
        else:
            ctx.drop(deadlines, minute)
        for _, kind, subject in rows[: len(rows) - len(later)]:
            handlers[kind](ctx, subject)
