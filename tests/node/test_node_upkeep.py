"""What a node does now and then: old bodies go, a sync tells how far it is, events reach the log."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger_core.chain.chain import Chain
from ledger_core.chain.store import store as store_module
from ledger_core.chain.store import transaction
from ledger_core.chain.store.opening import open_store
from ledger_core.errors import ChainError
from ledger_core.node import upkeep
from ledger_core.node.engine.engine import Progress
from ledger_core.node.engine.outputs import (
    BlockConnected,
    BranchParted,
    ClockDoubted,
    ClockTrusted,
    Equivocation,
    RecordContested,
    RecordLost,
    SnapshotAdopted,
    VotingStopped,
)
from ledger_core.records.votes import VOTE_NONCE, Vote
from ledger_core.rules.events import CheckpointFinal
from tests.core.chains import LATER, assert_holds, fill, grow, verifier
from tests.core.world import World
from tests.node.peer_world import eventually


class Thread:
    """Answers questions at once; an engine that only tells how far it is."""

    def __init__(self, *told: Progress) -> None:
        self._told = list(told)
        self.synced = True
        self.looks = 0

    async def look(self, question: Callable[[Any, float], Any]) -> Any:
        self.looks += 1
        return question(self, 0.0)

    def progress(self, _now: float) -> Progress:
        return self._told.pop(0) if len(self._told) > 1 else self._told[0]


def thread(*told: Progress) -> Any:
    return Thread(*told)


async def test_old_bodies_go_as_far_as_is_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "PRUNED_AT_ONCE", 20)
    world = grow(World(), 80)
    with open_store(tmp_path, world.genesis) as store:
        # Without a snapshot below the last final block nothing may go.
        assert await upkeep.prune_once(thread(), store, world.now) == 0
        fill(store, world.blocks)
        assert await upkeep.prune_once(thread(), store, world.genesis.created) == 0
        middle = world.genesis.created + 40 * 30
        assert upkeep.first_since(store, middle) == 40
        removed = await upkeep.prune_once(thread(), store, middle)
        assert 0 < removed == store.head().pruned < 40
        everything = await upkeep.prune_once(thread(), store, world.now + 1)
        assert store.head().pruned == removed + everything < store.final()[0]
        assert store.block_at(1) is None
        assert store.header_at(1) is not None
        assert await upkeep.prune_once(thread(), store, world.now + 1) == 0


async def test_pruning_comes_once_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_FIRST_PRUNING_S", 0.0)
    world = grow(World(), 80)
    with open_store(tmp_path, world.genesis) as store:
        fill(store, world.blocks)
        clock = world.now + 86_400 + 60
        task = asyncio.create_task(upkeep.prune(thread(), store, 1, lambda: float(clock)))
        await eventually(lambda: store.head().pruned > 0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_sync_tells_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    asked = thread(
        Progress(0, 0, True, None, None),
        Progress(0, 40, False, None, None, phase="headers", claimed=90),
        Progress(0, 90, False, None, None, phase="snapshot", claimed=90),
        Progress(5, 60, False, None, None, phase="blocks", claimed=90),
        Progress(5, 60, False, None, None, phase="blocks", claimed=90),
        Progress(60, 90, False, None, None, phase="blocks", claimed=80),
        Progress(90, 90, True, None, None),
    )
    task = asyncio.create_task(upkeep.tell_progress(asked, 0.001))
    await eventually(lambda: "synced: block 90" in caplog.text)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [record.message for record in caplog.records if record.name == upkeep.__name__] == [
        "syncing: header 40 of 90",
        "syncing: fetching a state, all 90 headers are here",
        "syncing: block 5 of 90",
        "syncing: block 60 of 90",
        "synced: block 90",
    ]


def test_what_the_owner_may_have_to_act_on_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    vote = Vote(bytes(32), 1, VOTE_NONCE, 0, bytes(32), 4, bytes(32))
    upkeep.log_events(
        [
            VotingStopped("a copy runs"),
            ClockDoubted("an hour behind"),
            ClockTrusted(),
            Equivocation(bytes(32), vote, bytes(64), vote, bytes(64)),
            BranchParted(bytes(32), 12, 8),
            RecordContested(bytes(32), "offer_unknown", "the offer is taken", {}),
            RecordLost(bytes(32), "offer_closed", "the offer is closed", {}),
            SnapshotAdopted(77, bytes(32)),
            BlockConnected(bytes(32), 9, [CheckpointFinal(8, bytes(32))]),
        ]
    )
    told = [(record.levelname, record.message) for record in caplog.records]
    for level, part in (
        ("ERROR", "a copy runs"),
        ("WARNING", "an hour behind"),
        ("INFO", "the clock is right"),
        ("WARNING", "two votes that conflict, for heights 4 and 4"),
        ("ERROR", "other blocks are final (up to height 12) than to this one (up to 8)"),
        ("INFO", "does not fit for now: offer_unknown: the offer is taken"),
        ("WARNING", "offer_closed: the offer is closed"),
        ("INFO", "height 77"),
        ("DEBUG", "height 8 is final"),
    ):
        assert any(each == level and part in text for each, text in told), part


async def test_what_a_sync_left_loose_is_packed_when_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(transaction, "LOOSE_BLOCKS", 8)
    monkeypatch.setattr(store_module, "_PACKED_AT_ONCE", 2)
    world = grow(World(), 80)
    with open_store(tmp_path, world.genesis) as store:
        store.pack_later = True
        checker = verifier()
        Chain.open(store, checker).add_blocks(world.blocks, LATER)
        rests: list[bool] = []
        engine = thread()
        engine.synced = False
        asked: list[bool] = []
        pack_some = store.pack_some

        def counted() -> bool:
            asked.append(engine.synced)
            if len(asked) == 2:
                raise ChainError("disk_full", "no room left on the disk")
            return pack_some()

        monkeypatch.setattr(store, "pack_some", counted)
        monkeypatch.setattr(checker, "rest", lambda: rests.append(engine.synced))
        task = asyncio.create_task(upkeep.tidy(engine, store, checker, every_s=0.0, pause_s=0.0))
        await eventually(lambda: engine.looks > 3)
        assert asked == []
        engine.synced = True
        await eventually(lambda: len(asked) > 15)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert all(asked)
        assert all(rests)
        assert len(rests) >= len(asked)
        assert not pack_some()
        assert_holds(store, world.blocks)
    assert caplog.text.count("blocks stay unpacked for now: no room left on the disk") == 1
