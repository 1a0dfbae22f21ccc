"""The miner stays on the newest template: a real mining process on a real engine."""

import asyncio
import logging
from pathlib import Path

import pytest

from ledger_core.node.engine.engine import Engine
from ledger_core.node.mining.control import MiningControl
from ledger_core.node.mining.miner import Miner
from ledger_core.records.block import Header
from tests.core.actions import SLOT, WINDOW, offer, street
from tests.node.api_world import ApiWorld, api_world

LIMIT_S = 30.0


class Paper:
    """Writes down what the miner is told."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[Header | None] = asyncio.Queue()

    def search(self, header: Header) -> None:
        self.told.put_nowait(header)

    def pause(self) -> None:
        self.told.put_nowait(None)

    async def next(self) -> Header | None:
        async with asyncio.timeout(LIMIT_S):
            return await self.told.get()


async def height(api: ApiWorld) -> int:
    return await api.thread.look(lambda engine, _: engine.chain.height)


async def test_a_process_mines_block_after_block_with_what_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    world = street()
    async with api_world(tmp_path, world) as api:
        control = MiningControl(api.thread, new_records_s=0.01)
        api.heard.append(control.follow)
        miner = Miner(control.found, share=1.0)
        record = offer(world, start=WINDOW + 50 * SLOT)
        await api.thread.run(lambda engine, now: engine.submit(record.envelope, now))
        before = await height(api)
        # Half a minute lies between two blocks for the rules, not for the test.
        world.now += 3600
        await miner.start()
        control.start(miner)
        try:
            async with asyncio.timeout(LIMIT_S):
                while await height(api) < before + 3:
                    await asyncio.sleep(0.02)
        finally:
            await control.stop()
            await miner.stop()
        assert await api.thread.look(lambda engine, _: record.id in engine.chain.state.offers)
    # Blocks may follow each other by the second: at a higher level they would fill a log.
    assert {line.levelno for line in caplog.records if "mined block" in line.message} == {logging.DEBUG}


async def test_templates_follow_the_tip_and_the_records(tmp_path: Path) -> None:
    world = street()
    async with api_world(tmp_path, world) as api:
        control, paper = MiningControl(api.thread, new_records_s=0.01), Paper()
        api.heard.append(control.follow)
        control.start(paper)
        first = await paper.next()
        assert first is not None
        assert (first.height, first.count) == (world.state.tip.height + 1, 0)
        record = offer(world, start=WINDOW + 50 * SLOT)
        await api.thread.run(lambda engine, now: engine.submit(record.envelope, now))
        second = await paper.next()
        assert second is not None
        assert (second.height, second.count) == (first.height, 1)
        await api.mine()
        third = await paper.next()
        assert third is not None
        assert third.height == first.height + 1
        await control.stop()


async def test_a_node_that_may_not_mine_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with api_world(tmp_path, street()) as api:
        control, paper = MiningControl(api.thread, refresh_s=0.01), Paper()
        monkeypatch.setattr(Engine, "template", lambda *_: None)
        control.start(paper)
        assert await paper.next() is None
        monkeypatch.undo()
        while await paper.next() is None:
            pass
        await control.stop()


async def test_a_header_that_came_too_late_is_let_go(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with api_world(tmp_path, street()) as api:
        control, paper = MiningControl(api.thread), Paper()
        control.start(paper)
        header = await paper.next()
        assert header is not None
        caplog.set_level("INFO")
        control.found(Header(1, 1, bytes(32), bytes(32), 0, bytes(32), 1, 0, bytes(32), 0))
        assert await paper.next() is not None
        await control.stop()
    assert "template_unknown" in caplog.text
