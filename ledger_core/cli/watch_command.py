"""`energy-ledger watch`: a live view in the terminal; into a pipe or file, a line per event."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import Final

from ledger_core.cli.connection import add_member, add_node, member_of, node_client, plain
from ledger_core.cli.event_text import event_line
from ledger_core.cli.frame import Program
from ledger_core.cli.output import as_json, note, one_line
from ledger_core.cli.quantities import show_time
from ledger_core.cli.watch_view import Picture, page
from ledger_core.client import ClientError, CursorLostError, NodeClient, RefusedError
from ledger_core.client.views import EventView, OffersQuery, TradesQuery
from ledger_core.errors import LedgerError

REDRAW_S: Final = 1.0
"""How long a page stands at the most: its clock goes on."""
GATHER_S: Final = 0.2
"""How long a page stands at the least, and so the shortest pause between two questions to the node."""
_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"


def register(program: Program) -> None:
    """Add the command to the program."""
    watch = program.single().command(
        "watch", _watch, "show offers, trades and events as they come; ends with Ctrl-C", json=True
    )
    add_member(watch, "whose money and trades")
    watch.add_argument("--after", metavar="CURSOR", help="begin with the events after it, without the view")
    add_node(watch)


def _watch(arguments: argparse.Namespace) -> None:
    live = sys.stdout.isatty() and not arguments.json and arguments.after is None

    async def run() -> None:
        async with node_client(arguments) as client:
            if live:
                await _Live(client, await _member(client, arguments.member)).run()
            else:
                await _tell(arguments, client)

    # Ctrl-C is how it ends.
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


async def _member(client: NodeClient, text: str | None) -> str | None:
    try:
        return await member_of(client, text)
    except LedgerError as error:
        if error.code != "member_needed":
            raise
        return None


async def _tell(arguments: argparse.Namespace, client: NodeClient) -> None:
    """Print a line per event."""
    currency = (await client.status()).currency
    async for event in client.stream(arguments.after, on_connection=_Link().changed):
        if arguments.json:
            print(as_json(plain(event)), flush=True)
        else:
            text = event_line(event, currency)
            if text is not None:
                print(one_line(f"{show_time(event.time)}  {text}"), flush=True)


class _Link:
    """Says on standard error when the link to the node is lost, and when it is back."""

    def __init__(self) -> None:
        self._lost = False

    def changed(self, connected: bool) -> None:
        """Tell what is news."""
        if not connected:
            note("the link to the node is lost: waiting until it is back")
        elif self._lost:
            note("the link to the node is back")
        self._lost = not connected


class _Live:
    """Keeps the picture up to date, and draws it."""

    def __init__(self, client: NodeClient, member: str | None) -> None:
        self._client = client
        self._member = member
        self._picture = Picture(member)
        self._changed = asyncio.Event()
        self._stale = True

    async def run(self) -> None:
        """Show the view until the task is cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, self._changed.set)
        sys.stdout.write(_ENTER)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow())
                group.create_task(self._draw())
        except* LedgerError as errors:
            raise errors.exceptions[0] from None
        finally:
            sys.stdout.write(_LEAVE)
            sys.stdout.flush()
            loop.remove_signal_handler(signal.SIGWINCH)

    async def _follow(self) -> None:
        while True:
            stream = self._client.stream(on_connection=self._connection)
            try:
                async for event in stream:
                    self._heard(event)
            except CursorLostError:
                self._picture.events.append("events are missing here")

    def _connection(self, connected: bool) -> None:
        self._picture.connected = connected
        self._stale = True
        self._changed.set()

    def _heard(self, event: EventView) -> None:
        status = self._picture.status
        text = event_line(event, status.currency if status is not None else "")
        if text is not None:
            self._picture.events.append(f"{show_time(event.time)[11:]}  {text}")
        self._stale = True
        self._changed.set()

    async def _draw(self) -> None:
        while True:
            self._changed.clear()
            if self._stale and self._picture.connected:
                await self._refresh()
            size = os.get_terminal_size(sys.stdout.fileno())
            lines = page(self._picture, size.columns, size.lines, int(time.time()))
            sys.stdout.write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")
            sys.stdout.flush()
            await asyncio.sleep(GATHER_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), REDRAW_S)

    async def _refresh(self) -> None:
        """Ask anew; what can't be answered now is asked again with the next event or connection."""
        self._stale = False
        client, picture = self._client, self._picture
        try:
            picture.status = await client.status()
            picture.offers = sorted(
                await client.all_offers(OffersQuery(limit=500)), key=lambda each: each.start
            )
            trades = await client.all_trades(TradesQuery(member=self._member, limit=500))
            picture.trades = sorted(trades, key=lambda each: each.start)
            if self._member is not None:
                picture.account = await client.account(self._member)
        except RefusedError as error:
            if not error.may_pass:
                raise
            self._stale = True
        except ClientError:
            self._stale = True
