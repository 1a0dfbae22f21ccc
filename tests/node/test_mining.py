"""Mining in a child process: a real one, bounded by easy targets."""

import asyncio
import json
import os
import queue
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ledger_core.node.mining import miner as miner_module
from ledger_core.node.mining.miner import WORKER, Miner, _environment
from ledger_core.node.mining.worker import parse_job, work
from ledger_core.records.block import Header, header_hash
from ledger_core.rules.assemble import assemble, seal
from ledger_core.rules.difficulty import compact_target, expand_target
from tests.core.world import World

LIMIT_S = 20.0


def header_with(target: int, nonce: int = 0) -> Header:
    return Header(1, 1, bytes(32), bytes(32), 0, bytes(32), 1, compact_target(target), bytes(32), nonce)


def meets(header: Header) -> bool:
    target = expand_target(header.target)
    assert target is not None
    return int.from_bytes(header_hash(header.encode())) <= target


async def mined(header: Header, miner: Miner, found: asyncio.Queue[Header]) -> Header:
    miner.search(header)
    async with asyncio.timeout(LIMIT_S):
        return await found.get()


async def test_a_real_process_mines_a_block_that_the_rules_take() -> None:
    world = World()
    found: asyncio.Queue[Header] = asyncio.Queue()
    miner = Miner(found.put_nowait, share=1.0)
    await miner.start()
    try:
        template = assemble(world.state, (), (), world["anna"].node.public_key, world.now + 30)
        header = await mined(template.header, miner, found)
        world.now += 30
        world.apply(seal(header, template.body, world["anna"].node))
        assert world.state.tip.height == 1
    finally:
        await miner.stop()


async def test_a_newer_job_replaces_an_older_one_and_a_pause_ends_it() -> None:
    found: asyncio.Queue[Header] = asyncio.Queue()
    miner = Miner(found.put_nowait, share=0.5)
    await miner.start()
    try:
        miner.search(header_with(1))
        easy = header_with(2**250, nonce=5)
        header = await mined(easy, miner, found)
        assert meets(header)
        assert header.nonce >= 5
        miner.search(header_with(1))
        miner.pause()
        assert meets(await mined(header_with(2**249), miner, found))
        assert found.empty()
    finally:
        await miner.stop()


async def test_a_killed_process_is_started_again_with_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(miner_module, "FIRST_PAUSE_S", 0.01)
    found: asyncio.Queue[Header] = asyncio.Queue()
    miner = Miner(found.put_nowait, share=1.0)
    await miner.start()
    try:
        assert meets(await mined(header_with(2**250), miner, found))
        process = miner._process
        assert process is not None
        miner.search(header_with(2**248))
        os.kill(process.pid, signal.SIGKILL)
        async with asyncio.timeout(LIMIT_S):
            assert meets(await found.get())
    finally:
        await miner.stop()
    assert process.returncode is not None


async def test_the_process_ends_when_its_parent_does() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", WORKER, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    job = {"job": 1, "header": header_with(1).encode().hex(), "target": "1", "share": 1.0}
    process.stdin.write(json.dumps(job).encode() + b"\n")
    process.stdin.close()
    async with asyncio.timeout(LIMIT_S):
        assert await process.wait() == 0


def test_bad_jobs_are_named_and_do_not_end_the_process() -> None:
    lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
    said: list[dict[str, Any]] = []
    good = {"job": 3, "header": header_with(2**252).encode().hex(), "target": f"{2**252:x}", "share": 1}
    for line in ({"job": 1}, {**good, "share": 0}, {**good, "header": "00"}, good, None):
        lines.put(line)
    lines.put(None)
    work(lines, said.append)
    assert [message["error"][:9] for message in said if "error" in message] == ["not a job"] * 3
    lines = queue.Queue()
    lines.put(good)
    said.clear()

    def say(message: dict[str, Any]) -> None:
        said.append(message)
        lines.put(None)

    work(lines, say)
    assert said[-1]["job"] == 3


async def core_used_by(process: int) -> float:
    """Measure for two seconds which part of a core a process takes."""

    def busy_s() -> float:
        # User and system time stand behind the name, which is in brackets.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before, since = busy_s(), time.perf_counter()
    await asyncio.sleep(2)
    return (busy_s() - before) / (time.perf_counter() - since)


async def test_a_real_process_keeps_its_share_of_a_core() -> None:
    found: asyncio.Queue[Header] = asyncio.Queue()
    miner = Miner(found.put_nowait, share=0.05)
    await miner.start()
    try:
        # Its own start, which no share bounds, is over when it has found something.
        await mined(header_with(2**250), miner, found)
        assert miner._process is not None
        worker = miner._process.pid
        miner.search(header_with(1))
        async with asyncio.timeout(LIMIT_S):
            while not (used := await core_used_by(worker)):
                # A busy machine has let it do nothing yet.
                pass
        assert used < 0.15
        miner.set_share(1.0)
        # Niced, it gets only what others leave.
        async with asyncio.timeout(3 * LIMIT_S):
            while await core_used_by(worker) < 0.3:
                pass
    finally:
        await miner.stop()


def test_a_share_out_of_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="up to 1"):
        Miner(lambda _header: None, share=1.5)
    with pytest.raises(ValueError, match="up to 1"):
        parse_job({"job": 1, "header": "", "target": "1", "share": 2})


async def test_the_worker_is_this_program_wherever_it_was_put(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(__file__).resolve().parents[2])
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert _environment()["PYTHONPATH"] == f"{root}{os.pathsep}/elsewhere"
    monkeypatch.delenv("PYTHONPATH")
    assert _environment()["PYTHONPATH"] == root
    # Without site-packages' own pointers it is found by that alone.
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", "import ledger_core", env=_environment()
    )
    assert await worker.wait() == 0
