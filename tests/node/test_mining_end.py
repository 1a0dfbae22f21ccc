"""The mining process at the end of its node: whoever ends both at once reads of no restart."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger_core.client.local import Founding, found, prepare_founding
from ledger_core.community import parameters_as_dict
from ledger_core.node.mining import miner as miner_module
from ledger_core.node.mining.miner import Miner
from tests.node.peer_world import free_ports
from tests.node.processes import QUICK, NodeProcess, seeded, until

LIMIT_S = 20.0
RESTART = "the mining process ended"


def founded(directory: Path) -> NodeProcess:
    prepare_founding(directory)
    founding = Founding(
        name="Lone street", currency="EUR", founder_name="F", parameters=parameters_as_dict(QUICK)
    )
    found(directory, founding, seeded("founder").public_key, int(time.time()) - 2)
    return NodeProcess(directory, directory.name, free_ports(1)[0])


def children(process: int) -> list[int]:
    """The processes that a process has started, and that live."""
    return [
        int(child)
        for thread in Path(f"/proc/{process}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]


async def mines(node: NodeProcess) -> bool:
    return (await node.status()).tip.height >= 2


def terminal(node: int, _miner: int) -> None:
    """Ctrl-C: a terminal tells its foreground process group."""
    os.killpg(node, signal.SIGINT)


def group(node: int, _miner: int) -> None:
    os.killpg(node, signal.SIGTERM)


def service(node: int, miner: int) -> None:
    """A service manager that ends every process of the service."""
    for process in (miner, node):
        os.kill(process, signal.SIGTERM)


@pytest.mark.parametrize(
    ("end", "early"),
    [(terminal, True), (group, False), (service, True), (service, False)],
    ids=["terminal", "group", "service, just ready", "service"],
)
async def test_a_signal_to_all_of_its_processes_ends_a_node_quietly(
    tmp_path: Path, end: Callable[[int, int], None], early: bool
) -> None:
    node = founded(tmp_path / "lone")
    try:
        # A session of its own: the signal must not reach the tests.
        await node.start(start_new_session=True)
        assert node.process is not None
        if not early:
            await until(lambda: mines(node), "blocks", lambda: node.log)
        (miner,) = children(node.process.pid)
        assert os.getpgid(miner) != node.process.pid
        end(node.process.pid, miner)
        assert await node.ended() == 0
    finally:
        await node.close()
    assert " INFO ledger_core.node.process: the node has ended" in node.log
    assert RESTART not in node.log
    assert "Traceback" not in node.log
    assert " WARNING " not in node.log


async def test_its_end_is_told_only_where_it_is_started_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = asyncio.Event()

    class Hears(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if RESTART in record.getMessage():
                told.set()

    handler = Hears()
    logging.getLogger(miner_module.__name__).addHandler(handler)
    try:
        for first_pause_s, restarted in ((LIMIT_S, False), (0.01, True)):
            monkeypatch.setattr(miner_module, "FIRST_PAUSE_S", first_pause_s)
            miner = Miner(lambda _header: None)
            await miner.start()
            async with asyncio.timeout(LIMIT_S):
                while (process := miner._process) is None:
                    await asyncio.sleep(0.01)
                os.kill(process.pid, signal.SIGTERM)
                await process.wait()
                while miner._process is process:
                    await asyncio.sleep(0.01)
                if restarted:
                    await told.wait()
            await miner.stop()
            assert told.is_set() == restarted
    finally:
        logging.getLogger(miner_module.__name__).removeHandler(handler)
    assert "exit code -15" in caplog.text


async def test_no_rate_outlives_its_process() -> None:
    miner = Miner(lambda _header: None)
    await miner.start()
    async with asyncio.timeout(LIMIT_S):
        while miner._process is None:
            await asyncio.sleep(0.01)
    miner._hear(b'{"rate": 1000.0}')
    assert miner.rate == 1000
    await miner.stop()
    assert miner.rate == 0
