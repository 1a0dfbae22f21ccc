"""The stream of events: cursors, restarts and crashes at any place, reorganisations, bounds."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger_core.chain.start import load_start
from ledger_core.chain.store.opening import open_store
from ledger_core.chain.store.store import SqliteStore
from ledger_core.node.api import replay
from ledger_core.node.api.event_feed import EventFeed
from ledger_core.node.api.event_log import FILE, CursorError, Entry, EventLog, EventLogError
from ledger_core.node.api.model import EventView
from ledger_core.node.api.routes import STREAM_PATH
from ledger_core.node.engine.followed_chain import FollowedChain
from ledger_core.node.engine.outputs import BlockConnected, BlockDisconnected, NodeEvent, RecordLost
from ledger_core.records.block import Block
from tests.core.chains import LATER, grow, twin, verifier
from tests.core.world import World
from tests.node.api_world import AUTHORIZED, api_world

NOW = 1_900_000_000


def entry(number: int) -> Entry:
    return Entry("test", None, None, NOW, {"number": number})


def numbers(events: Iterable[EventView]) -> list[int]:
    return [event.data["number"] for event in events]


class Node:
    """A chain and its log in one data directory; `crash` loses what the log was not told yet."""

    def __init__(self, directory: Path, world: World) -> None:
        self.directory, self.world = directory, world
        self.open()

    def open(self) -> None:
        self.store: SqliteStore = open_store(self.directory, self.world.genesis)
        self.chain = FollowedChain(self.store, load_start(self.store), verifier())
        self.log = EventLog(self.directory / FILE)
        self.feed = EventFeed(self.log, self.store, NOW)

    def close(self) -> None:
        self.log.close()
        self.store.close()

    def restart(self) -> None:
        self.close()
        self.open()

    def add(self, blocks: Sequence[Block]) -> None:
        """Give the chain blocks, of which the log hears nothing."""
        self.chain.add_blocks(blocks, LATER)

    def tell(self) -> None:
        """Tell the log what happened in the chain."""
        events: list[NodeEvent] = []
        for outcome in self.chain.take_outcomes():
            events += [BlockDisconnected(block_hash) for block_hash in outcome.disconnected]
            events += [BlockConnected(step.hash, step.height, step.events) for step in outcome.connected]
        self.feed.take(events, NOW)

    def events(self, after: str | None = None) -> list[EventView]:
        return self.log.page(after, 500)


class Reader:
    """A client that follows the stream by its cursor alone and keeps what every block did."""

    def __init__(self, log: EventLog) -> None:
        self.cursor = log.cursor
        self.branch: list[tuple[str, list[Any]]] = []

    def follow(self, log: EventLog, page: int = 7) -> None:
        while events := log.page(self.cursor, page):
            for event in events:
                self.cursor = event.cursor
                self._take(event)

    def _take(self, event: EventView) -> None:
        if event.event == "block_connected":
            assert event.block is not None
            self.branch.append((event.block, []))
        elif event.event == "block_undone":
            assert self.branch.pop()[0] == event.block
        elif event.block is not None and event.event != "log_started":
            assert self.branch[-1][0] == event.block
            self.branch[-1][1].append((event.event, event.data))


@pytest.fixture
def node(tmp_path: Path) -> Any:
    made = Node(tmp_path, World())
    yield made
    made.close()


def test_pages_go_on_from_the_cursor(tmp_path: Path) -> None:
    log = EventLog(tmp_path / FILE)
    log.append([entry(number) for number in range(10)])
    first = log.page(None, 4)
    assert numbers(first) == [0, 1, 2, 3]
    assert numbers(log.page(first[-1].cursor, 100)) == [4, 5, 6, 7, 8, 9]
    assert log.page(log.cursor, 100) == []
    log.close()
    again = EventLog(tmp_path / FILE)
    assert numbers(again.page(first[-1].cursor, 100)) == [4, 5, 6, 7, 8, 9]
    again.close()


def test_old_events_go_and_their_cursors_say_so(tmp_path: Path) -> None:
    log = EventLog(tmp_path / FILE, keep=50)
    log.append([entry(0)])
    old = log.cursor
    for number in range(1, 200):
        log.append([entry(number)])
    kept = numbers(log.page(None, 500))
    assert kept == list(range(kept[0], 200))
    assert 50 <= len(kept) <= 56
    with pytest.raises(CursorError) as caught:
        log.page(old, 10)
    assert caught.value.code == "cursor_expired"
    log.close()


@pytest.mark.parametrize(
    "cursor", ["7-0011223344556677", "1-0011223344556677", "x", "1", "-", "1-", "9" * 30 + "-00"]
)
def test_a_cursor_of_another_log_is_refused(tmp_path: Path, cursor: str) -> None:
    log = EventLog(tmp_path / FILE)
    log.append([entry(0)])
    with pytest.raises(CursorError) as caught:
        log.check(cursor)
    assert caught.value.code == "cursor_unknown"
    log.close()


def test_a_restored_copy_does_not_take_the_cursor_of_what_it_never_wrote(tmp_path: Path) -> None:
    log = EventLog(tmp_path / FILE)
    log.append([entry(0)])
    before = log.cursor
    log.close()
    (tmp_path / "backup").write_bytes((tmp_path / FILE).read_bytes())
    log = EventLog(tmp_path / FILE)
    log.append([entry(1)])
    lost = log.cursor
    log.close()
    (tmp_path / "backup").replace(tmp_path / FILE)
    log = EventLog(tmp_path / FILE)
    log.append([entry(2)])
    assert numbers(log.page(before, 10)) == [2]
    with pytest.raises(CursorError):
        log.page(lost, 10)
    log.close()


def test_a_damaged_log_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not a database at all " * 100)
    log = EventLog(tmp_path / FILE)
    assert log.is_empty
    assert (tmp_path / (FILE + ".damaged")).exists()
    log.close()


def test_a_log_that_can_not_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EventLogError, match="check its directory"):
        EventLog(tmp_path / "missing" / FILE)


def test_listeners_are_called_after_each_append(tmp_path: Path) -> None:
    log = EventLog(tmp_path / FILE)
    heard: list[str] = []
    stop = log.listen(lambda: heard.append(log.cursor))
    log.append([entry(0)])
    assert heard == [log.cursor]
    stop()
    log.append([entry(1)])
    assert len(heard) == 1
    log.close()


async def test_a_slow_disk_holds_no_other_request_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing, release, written = threading.Event(), threading.Event(), threading.Event()
    write = EventLog._write

    def slow(log: EventLog, *args: Any) -> int:
        writing.set()
        # Not for ever: a loop that waits for the disk would never come to release it.
        release.wait(10)
        written.set()
        return write(log, *args)

    async with (
        api_world(tmp_path, World()) as api,
        aiohttp.ClientSession(api.server.url, headers=AUTHORIZED) as http,
    ):
        monkeypatch.setattr(EventLog, "_write", slow)
        appending = asyncio.create_task(asyncio.to_thread(api.log.append, [entry(0)]))
        await asyncio.to_thread(writing.wait)
        streaming = asyncio.ensure_future(http.ws_connect(STREAM_PATH))
        paging = asyncio.ensure_future(http.get("/v1/events"))
        for _ in range(3):
            async with http.get("/v1/status") as response:
                assert response.status == 200
        assert not written.is_set()
        release.set()
        stream, page = await asyncio.gather(streaming, paging)
        await appending
        assert [event["event"] for event in (await page.json())["items"]] == ["log_started", "test"]
        await stream.close()


def expected(world: World) -> list[tuple[str, list[Any]]]:
    """What a client that missed nothing knows of a world's branch."""
    from ledger_core.node.api.plain import fields

    return [
        (block.hash.hex(), [(str(each.__struct_config__.tag), fields(each)) for each in applied.events])
        for block, applied in zip(world.blocks, world.applied, strict=True)
    ]


def test_a_client_learns_of_every_block_once(node: Node) -> None:
    grow(node.world, 9)
    reader = Reader(node.log)
    node.add(node.world.blocks)
    node.tell()
    reader.follow(node.log)
    assert reader.branch == expected(node.world)


def test_a_reorganisation_undoes_what_it_takes_back(node: Node) -> None:
    grow(node.world, 3)
    other = twin(node.world, 1)
    grow(other, 4, step=20)
    reader = Reader(node.log)
    node.add(node.world.blocks)
    node.tell()
    node.add(other.blocks)
    node.tell()
    assert node.chain.tip_hash == other.blocks[-1].hash
    undone = [event.block for event in node.events() if event.event == "block_undone"]
    assert undone == [block.hash.hex() for block in reversed(node.world.blocks[1:])]
    reader.follow(node.log)
    assert reader.branch == expected(other)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_crashes_anywhere_lose_nothing_and_tell_nothing_twice(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """The log may miss any of the chain's steps before a crash, on both branches of a reorganisation."""
    node = Node(tmp_path_factory.mktemp("node"), grow(World(), 7))
    try:
        other = twin(node.world, 5)
        grow(other, 4, step=20)
        reader = Reader(node.log)
        for block in [*node.world.blocks, *other.blocks[5:]]:
            node.add([block])
            for step in data.draw(st.lists(st.sampled_from(["tell", "restart", "follow"]), max_size=2)):
                if step == "tell":
                    node.tell()
                elif step == "restart":
                    node.restart()
                else:
                    reader.follow(node.log)
        node.restart()
        reader.follow(node.log)
        assert reader.branch == expected(other)
    finally:
        node.close()


def test_the_log_follows_a_chain_that_got_ahead_while_it_was_off(node: Node) -> None:
    """Final blocks above the log's end are applied again from a snapshot."""
    grow(node.world, 60)
    reader = Reader(node.log)
    node.add(node.world.blocks[:20])
    node.tell()
    node.add(node.world.blocks[20:])
    assert node.chain.final_height > 50
    node.restart()
    reader.follow(node.log)
    assert reader.branch == expected(node.world)


def test_a_gap_that_is_too_long_is_told(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAX_REPLAY", 5)
    monkeypatch.setattr(replay.replay_events, "__defaults__", (5,))
    grow(node.world, 12, votes=False)
    node.add(node.world.blocks)
    node.restart()
    last = node.events()[-1]
    assert (last.event, last.height) == ("resync", 12)
    grow(node.world, 1, votes=False)
    node.add(node.world.blocks[-1:])
    node.tell()
    assert node.events(last.cursor)[0].event == "block_connected"


def test_a_full_disk_is_made_up_for(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    grow(node.world, 3)
    reader = Reader(node.log)

    def full(*_: object) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(node.log, "_write", full)
        node.add(node.world.blocks[:2])
        node.tell()
        node.feed.take([RecordLost(b"\1" * 32, "funds_insufficient", "no money", {"left": 0})], NOW)
        with pytest.raises(EventLogError, match="full"):
            node.log.append([entry(1)])
        assert len(node.events()) == 1
    node.add(node.world.blocks[2:])
    node.tell()
    assert [event.data["code"] for event in node.events() if event.event == "record_lost"] == [
        "funds_insufficient"
    ]
    reader.follow(node.log)
    assert reader.branch == expected(node.world)


def test_the_log_starts_where_the_chain_stands(tmp_path: Path) -> None:
    world = grow(World(), 5)
    store = open_store(tmp_path, world.genesis)
    chain = FollowedChain(store, load_start(store), verifier())
    chain.add_blocks(world.blocks, LATER)
    log = EventLog(tmp_path / FILE)
    EventFeed(log, store, NOW)
    assert [(event.event, event.height) for event in log.page(None, 10)] == [("log_started", 5)]
    log.close()
    store.close()
