"""The chain's thread: what becomes due is done, what the engine tells comes out, failures pass."""

import asyncio
from pathlib import Path

import pytest

from ledger_core.errors import ChainError, LedgerError, RuleError
from ledger_core.node import chain_thread
from ledger_core.node.api_backend import EngineBackend, NodeSide
from ledger_core.node.engine.engine import Engine
from ledger_core.node.engine.outputs import NodeEvent, RecordPooled
from tests.core.actions import SLOT, WINDOW, offer, street
from tests.node.api_world import ApiWorld, api_world

LIMIT_S = 30.0


async def waiting(api: ApiWorld) -> int:
    return await api.thread.look(lambda engine, _: len(engine.pool))


async def until_nothing_waits(api: ApiWorld) -> None:
    async with asyncio.timeout(LIMIT_S):
        while await waiting(api):
            await asyncio.sleep(0.01)


async def submit(api: ApiWorld) -> bytes:
    record = offer(api.world, start=WINDOW + 50 * SLOT)
    return await api.thread.run(lambda engine, now: engine.submit(record.envelope, now))


async def test_what_becomes_due_is_done_by_itself(tmp_path: Path) -> None:
    """A record gets too old for any block, and nobody asks for anything."""
    async with api_world(tmp_path, street()) as api:
        await submit(api)
        api.thread.start_ticking()
        api.world.now += 2 * 86_400
        await api.thread.run(lambda *_: None)
        await until_nothing_waits(api)
        await api.thread.stop_ticking()
        assert api.log.page(None, 500)[-1].event == "record_lost"


async def test_nothing_is_done_before_the_start_nor_after_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks: list[float] = []
    monkeypatch.setattr(Engine, "tick", lambda _, now: ticks.append(now))
    monkeypatch.setattr(Engine, "next_tick", lambda _: 0.0)
    async with api_world(tmp_path, street()) as api:
        await api.thread.run(lambda *_: None)
        await asyncio.sleep(0.05)
        assert not ticks
        api.thread.start_ticking()
        async with asyncio.timeout(LIMIT_S):
            while len(ticks) < 3:
                await asyncio.sleep(0.01)
        await api.thread.stop_ticking()
        count = len(ticks)
        await api.thread.run(lambda *_: None)
        await asyncio.sleep(0.05)
        assert len(ticks) == count


@pytest.mark.parametrize(
    "failure",
    [
        ChainError("disk_full", "the disk is full"),
        OSError("no room"),
        RuleError("a_code", "a rule's refusal"),
        ZeroDivisionError("a mistake"),
    ],
)
async def test_a_tick_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    monkeypatch.setattr(chain_thread, "RETRY_S", 0.01)
    right = Engine.tick
    failures = [failure]

    def tick(engine: Engine, now: float) -> None:
        if failures:
            raise failures.pop()
        right(engine, now)

    monkeypatch.setattr(Engine, "tick", tick)
    async with api_world(tmp_path, street()) as api:
        await submit(api)
        api.world.now += 2 * 86_400
        api.thread.start_ticking()
        await until_nothing_waits(api)
        await api.thread.stop_ticking()
    assert not failures


async def test_events_are_in_the_log_when_the_work_is_done_and_are_delivered(tmp_path: Path) -> None:
    heard: list[NodeEvent] = []
    async with api_world(tmp_path, street()) as api:
        api.heard.append(heard.extend)
        record_id = await submit(api)
        last = api.log.page(None, 500)[-1]
        assert (last.event, last.data["record"]) == ("record_pooled", record_id.hex())
        async with asyncio.timeout(10):
            while not any(isinstance(event, RecordPooled) for event in heard):
                await asyncio.sleep(0.01)


async def test_what_happened_before_a_failure_comes_out_as_well(tmp_path: Path) -> None:
    async with api_world(tmp_path, street()) as api:
        record = offer(api.world, start=WINDOW + 50 * SLOT)

        def work(engine: Engine, now: float) -> None:
            engine.submit(record.envelope, now)
            raise ChainError("disk_full", "the disk is full")

        with pytest.raises(ChainError):
            await api.thread.run(work)
        assert api.log.page(None, 500)[-1].event == "record_pooled"


async def test_a_disk_that_fails_under_records_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubles: list[Exception] = []
    async with api_world(tmp_path, street()) as api:
        record = offer(api.world, start=WINDOW + 50 * SLOT)
        side = NodeSide(failed=troubles.append)
        backend = EngineBackend(api.thread, None, api.log, None, list, list, side)  # type: ignore[arg-type]
        failure = ChainError("disk_full", "the disk is full")

        def submit(*_: object) -> bytes:
            raise failure

        monkeypatch.setattr(Engine, "submit", submit)
        monkeypatch.setattr(Engine, "submit_all", submit)
        for work in (backend.submit(record.envelope), backend.submit_all([record.envelope])):
            with pytest.raises(ChainError):
                await work
        assert troubles == [failure, failure]
        assert (backend.mining.on, backend.mining.share, backend.mining.rate) == (False, 0.0, 0.0)
        with pytest.raises(LedgerError, match="no mining process"):
            await backend.mining.change(on=True)
