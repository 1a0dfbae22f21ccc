"""`energy-ledger history`: what happened, from the events that the node keeps."""

import argparse
from collections import deque

from ledger_core.cli.connection import add_member, add_node, ask, member_of, plain
from ledger_core.cli.event_text import concerns, event_line
from ledger_core.cli.frame import Program, UsageError
from ledger_core.cli.input_files import public_key_of
from ledger_core.cli.output import show
from ledger_core.cli.quantities import past_moment, show_time
from ledger_core.client import NodeClient
from ledger_core.client.views import EventsQuery, EventView

MAX_LIMIT = 100_000


def register(program: Program) -> None:
    """Add the command to the program."""
    history = program.single().command("history", _history, "tell what happened, oldest first", json=True)
    whose = history.add_mutually_exclusive_group()
    add_member(whose, "whom it concerns")
    whose.add_argument("--all", action="store_true", help="what concerns anybody")
    history.add_argument(
        "--since", metavar="TIME", help="only what happened after it; 2d: in the last two days"
    )
    history.add_argument("--limit", metavar="N", type=int, default=50, help="the last N (otherwise 50)")
    add_node(history)


def _history(arguments: argparse.Namespace) -> None:
    if not 1 <= arguments.limit <= MAX_LIMIT:
        raise UsageError(f"--limit: a number from 1 to {MAX_LIMIT} is needed, not {arguments.limit}")
    since = None if arguments.since is None else past_moment(arguments.since, "--since")

    async def work(client: NodeClient) -> None:
        member = None
        if not arguments.all:
            member = public_key_of(await member_of(client, arguments.member)).hex()
        currency = (await client.status()).currency
        events = [
            each
            for each in await happened(client, since)
            if event_line(each, currency) is not None and (member is None or concerns(each, member))
        ][-arguments.limit :]
        lines = [f"{show_time(each.time)}  {event_line(each, currency)}" for each in events]
        show(arguments, {"items": plain(events)}, lines or ["nothing happened"])

    ask(arguments, work)


async def happened(client: NodeClient, since: int | None) -> list[EventView]:
    """Return the events that the node keeps, without those of blocks that were undone."""
    kept: deque[EventView] = deque()
    cursor: str | None = None
    while True:
        page = await client.events(EventsQuery(after=cursor, limit=500))
        for event in page.items:
            if event.event == "block_undone":
                _undo(kept, event)
            elif since is None or event.time >= since:
                kept.append(event)
        if not page.items or page.cursor == cursor:
            return list(kept)
        cursor = page.cursor


def _undo(kept: deque[EventView], undone: EventView) -> None:
    """Take back what an undone block told: it is among the last."""
    aside: list[EventView] = []
    while kept and (kept[-1].height is None or kept[-1].block == undone.block):
        last = kept.pop()
        if last.height is None:
            aside.append(last)
    kept.extend(reversed(aside))
