"""What happened in words, history over undone blocks, and the live view in a real terminal."""

import asyncio
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ledger_core.cli.event_text import _TEXTS, concerns, event_line
from ledger_core.cli.history_command import happened
from ledger_core.cli.watch_command import _Live, _member
from ledger_core.cli.watch_view import Picture, page
from ledger_core.client import ClientError, CursorLostError, NodeClient, RefusedError, UnreachableError
from ledger_core.client.home import Home
from ledger_core.client.views import Events, EventView, StatusView
from ledger_core.errors import LedgerError
from ledger_core.keys import address
from tests.core.scenario import eventful_world
from tests.core.world import World, signer
from tests.node.api_world import TOKEN
from tests.node.cli_world import CliWorld, cli_world
from tests.node.home_world import home_world
from tests.node.peer_world import free_ports
from tests.node.processes import QUICK, make_street

NOW = 1_795_269_600
KEY = World()["anna"].id.hex()


def event(name: str, at: int | None = None, block: str | None = None, /, **data: Any) -> EventView:
    return EventView(cursor="1-" + "0" * 16, event=name, height=at, block=block, time=NOW, data=data)


async def test_every_event_of_an_eventful_street_reads_well(tmp_path: Path) -> None:
    async with home_world(tmp_path, eventful_world()) as homes:
        told = await happened(homes.client, None)
    lines = {each.event: event_line(each, "EUR") for each in told}
    # The log began with the street's last block: the rest is told below.
    assert all(line is None or "{" not in line for line in lines.values())


def test_events_in_words() -> None:
    who = f"{address(bytes.fromhex(KEY))[:9]}.."
    trade = "ab" * 32
    shared = {"seller": KEY, "buyer": KEY, "trade": trade}
    slot = {
        **shared,
        "slot_end": NOW,
        "agreed_wh": 1000,
        "sent_wh": None,
        "received_wh": 990,
        "delivered_wh": 0,
        "paid": 5,
        "shortfall_paid": 7,
        "disputed": True,
    }
    cases = [
        (event("member_changed", member=KEY, roles=3, admitted=True), "joined as home, node"),
        (event("member_changed", member=KEY, roles=1, admitted=False), "is home now"),
        (event("member_changed", member=KEY, roles=0, admitted=False), "was revoked"),
        (event("asset_changed", asset=trade, owner=KEY, rating_w=5), "gives up to 0.005 kW"),
        (event("asset_changed", asset=trade, owner=KEY, rating_w=0), "is retired"),
        (event("offer_opened", offer=trade, author=KEY), f"offer abababababab by {who}"),
        (event("offer_closed", offer=trade, author=KEY, reason="taken"), "closed: taken"),
        (
            event("acceptance_waits", acceptance=trade, author=KEY, offer=trade, offerer=KEY, bid=True),
            "bids for offer",
        ),
        (
            event("acceptance_waits", acceptance=trade, author=KEY, offer=trade, offerer=KEY, bid=False),
            "proposes other terms",
        ),
        (event("acceptance_ended", acceptance=trade, author=KEY, offer=trade, reason="lost"), "ended: lost"),
        (event("slot_settled", **slot), "sent -, received 0.99 kWh, delivered 0 kWh, paid 0.000005 EUR"),
        (event("slot_settled", **slot), "0.000007 EUR back for what was missing, disputed"),
        (event("trade_terminated", trade=trade, by=KEY, end=NOW, compensation=0), "ends at"),
        (event("trade_closed", **shared, delivered_wh=10, paid=1), "is done: 0.01 kWh delivered"),
        (event("money_moved", kind="issue", source=KEY, target=KEY, amount=1), "issues 0.000001 EUR to"),
        (event("score_given", trade=trade, by=KEY, member=KEY, score=9), "9 of 10"),
        (event("node_punished", member=KEY, node=KEY, offence="double vote"), "double vote"),
        (event("checkpoint_final", height=8, hash=trade), "block 8 is final"),
        (event("record_contested", record=trade, code="x", message="taken", details={}), "is beaten: taken"),
        (event("record_lost", record=trade, code="x", message="too late", details={}), "too late"),
        (event("record_lost", record=trade, code="x", message="40 W left", details={}), "0.04 kW left"),
        (event("voting_stopped", reason="two nodes"), "two nodes"),
        (event("branch_parted", node=KEY, final=8, own_final=4), "other blocks are final to the node"),
        (event("clock_doubted", reason="off"), "off"),
        (event("clock_trusted"), "trusts its clock"),
        (event("resync", height=9, hash=trade), "before block 9"),
        (event("snapshot_adopted", height=9, hash=trade), "snapshot at block 9"),
    ]
    for each, text in cases:
        line = event_line(each, "EUR")
        assert line is not None
        assert text in line
    agreed = {"offer": trade, "origin": "posted", "asset": trade, "basis": "energy", "quantity": 1500}
    terms = {"watts": 1500, "start": NOW, "end": NOW + 3600, "price": 200_000}
    line = event_line(event("trade_agreed", **shared, **agreed, **terms), "EUR")
    assert line is not None
    assert "sells 1.5 kWh to" in line
    assert {each.event for each, _ in cases} | {"trade_agreed"} == set(_TEXTS)
    assert event_line(event("block_connected"), "EUR") is None
    assert concerns(cases[0][0], KEY)
    assert not concerns(cases[0][0], "00" * 32)


async def test_what_an_undone_block_told_is_not_history() -> None:
    """Against pages as a node gives them after a reorganisation."""
    pages = [
        [event("a", 1, "aa"), event("b", 2, "bb"), event("clock_trusted"), event("c", 2, "bb")],
        [event("block_undone", 2, "bb"), event("d", 2, "dd")],
        [],
    ]

    class Pages:
        async def events(self, query: Any) -> Any:
            left = pages.pop(0)
            return Events(items=left, cursor=f"{len(pages)}-" + "0" * 16)

    told = await happened(Pages(), None)  # type: ignore[arg-type]
    assert [each.event for each in told] == ["a", "clock_trusted", "d"]


@pytest.fixture
async def cli(tmp_path: Path) -> AsyncIterator[CliWorld]:
    async with cli_world(tmp_path) as made:
        yield made


async def picture_of(homes: Any, member: str) -> Picture:
    client = homes.client
    return Picture(
        member,
        await client.status(),
        await client.account(member),
        await client.all_offers(),
        await client.all_trades(),
        connected=True,
    )


async def test_the_page_fits_every_terminal(tmp_path: Path) -> None:
    async with home_world(tmp_path, eventful_world()) as homes:
        picture = await picture_of(homes, homes["anna"].address)
    for number in range(40):
        picture.events.append(f"event {number} \x1b[31m")
    for width in (0, 1, 20, 80, 250):
        for height in (0, 1, 3, 10, 24, 80):
            lines = page(picture, width, height, NOW)
            assert len(lines) <= height
            assert all(len(line) <= width for line in lines)
            assert "\x1b" not in "".join(lines)
    lines = page(picture, 250, 60, NOW)
    assert lines[0].startswith("Test street")
    assert any(line.startswith("balance") for line in lines)
    assert any(line.startswith("event 39") for line in lines)
    assert any(line.startswith("... and ") for line in page(picture, 250, 20, NOW))
    picture.connected = False
    assert "NO CONNECTION" in page(picture, 250, 20, NOW)[0]
    assert page(Picture(None), 80, 24, NOW)[0].startswith("waiting for the node")


class Screen:
    """A real command on a pseudo-terminal."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self.process = process
        self.master = master
        self.shown = b""

    async def until(self, text: str) -> None:
        """Wait until a text was drawn after everything that was looked for before."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(60):
            while text.encode() not in self.shown:
                self.shown += await loop.run_in_executor(None, os.read, self.master, 65_536)
        self.shown = self.shown[self.shown.index(text.encode()) + len(text) :]

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)


@asynccontextmanager
async def on_screen(*arguments: object, rows: int = 24, columns: int = 160) -> AsyncIterator[Screen]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ledger_core.cli", *map(str, arguments)),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    screen = Screen(process, master)
    try:
        yield screen
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(master)


async def test_the_live_view_follows_resizes_and_ends_with_ctrl_c(cli: CliWorld) -> None:
    async with on_screen("watch", *cli.node) as screen:
        await screen.until("Test street")
        await screen.until("nothing is offered")
        made = await cli.act(
            "anna",
            *("offer", "--energy", "4", "--from", "tomorrow 18:00", "--to", "tomorrow 19:00"),
            "--price",
            "1",
        )
        await screen.until(made["record"][:12])
        screen.resize(12, 31)
        await screen.until("…")
        await cli.api.server.close()
        screen.resize(24, 160)
        await screen.until("NO CONNECTION")
        await cli.api.server.start()
        await screen.until("in step")
        screen.process.send_signal(signal.SIGINT)
        await screen.until("\x1b[?1049l")
        assert await screen.process.wait() == 0


async def test_without_a_terminal_every_event_is_a_line(cli: CliWorld) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ledger_core.cli", "watch", "--json", *map(str, cli.node)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while not cli.api.server._sockets:
            await asyncio.sleep(0.01)
        await cli.act("anna", "transfer", address(cli.world["bert"].id), "5")
        first = json.loads(await process.stdout.readline())
        assert re.fullmatch("[0-9]+-[0-9a-f]{16}", first["cursor"])
        process.send_signal(signal.SIGINT)
        rest = await process.stdout.read()
        assert await process.wait() == 0
    assert {json.loads(line)["event"] for line in rest.splitlines()} <= {"block_connected", "money_moved"}


async def test_events_after_a_cursor_as_lines(cli: CliWorld) -> None:
    async with NodeClient(cli.api.server.url, TOKEN) as client:
        cursor = (await client.status()).cursor
    await cli.act("anna", "transfer", address(cli.world["bert"].id), "5")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ledger_core.cli", "watch", "--after", cursor, *map(str, cli.node)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert b"pays 5.00 EUR to" in await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


@pytest.mark.parametrize("killed", [False, True])
async def test_a_node_that_is_elsewhere_after_a_restart_is_found_again(tmp_path: Path, killed: bool) -> None:
    homes = await make_street(tmp_path, 1, QUICK)
    node = homes[0].node
    before, after = free_ports(2)
    node.settings["api_port"] = before
    await node.start()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ledger_core.cli", "watch", "--json", "--data", str(node.directory)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            assert json.loads(await process.stdout.readline())
            await (node.crash() if killed else node.stop())
            assert b"link to the node is lost" in await process.stderr.readline()
            node.settings["api_port"] = after
            await node.start()
            assert b"link to the node is back" in await process.stderr.readline()
            since = (await node.status()).tip.height
            while (json.loads(await process.stdout.readline())["height"] or 0) <= since:
                pass
            process.send_signal(signal.SIGINT)
            _, left = await process.communicate()
            # That it ends is no news.
            assert (process.returncode, left) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await homes.close()


async def test_a_node_that_refuses_ends_the_view(cli: CliWorld) -> None:
    async with on_screen("watch", "--url", cli.api.server.url, "--token", "wrong") as screen:
        await screen.until("this is not the token of")
        assert await screen.process.wait() == 1


async def test_what_can_not_be_answered_now_is_asked_again() -> None:
    class Node:
        """Refuses everything."""

        error: ClientError = RefusedError("too_many_requests", "later", 429)

        async def status(self) -> StatusView:
            raise self.error

    node = Node()
    live = _Live(node, None)  # type: ignore[arg-type]
    await live._refresh()
    assert live._stale
    node.error = UnreachableError("unreachable", "gone")
    await live._refresh()
    assert live._stale
    node.error = RefusedError("unauthorized", "no", 401)
    with pytest.raises(RefusedError):
        await live._refresh()


async def test_a_stream_that_lost_its_place_begins_anew() -> None:
    class Node:
        """Loses the cursor once, then ends the view."""

        ways: ClassVar[list[ClientError]] = [
            CursorLostError("cursor_expired", "gone", 410),
            RefusedError("unauthorized", "no", 401),
        ]

        async def stream(self, on_connection: Any) -> AsyncIterator[EventView]:
            on_connection(True)
            yield event("clock_trusted")
            raise self.ways.pop(0)

    live = _Live(Node(), None)  # type: ignore[arg-type]
    with pytest.raises(RefusedError):
        await live._follow()
    told = [line.split("  ", 1)[-1] for line in live._picture.events]
    assert told == [
        "the node trusts its clock again",
        "events are missing here",
        "the node trusts its clock again",
    ]


async def test_a_node_of_no_member_shows_the_view_without_an_account(cli: CliWorld) -> None:
    async with NodeClient(cli.api.server.url, TOKEN) as client:
        home = Home(client, cli.world["anna"].key)
        await home.change_node_key(signer("another node").public_key)
        await cli.mine()
        assert await _member(client, None) is None
        assert await _member(client, home.address) == home.address
        with pytest.raises(LedgerError):
            await _member(client, "nonsense")
    assert "give --member" in (await cli("balance")).error
