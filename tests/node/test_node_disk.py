"""A disk that fills up: nothing is lost, and what was missed is fetched when there is room again."""

import asyncio
import resource
from collections.abc import Callable
from pathlib import Path

from tests.node.processes import QUICK, street

BYTES = 16
"""Too little for anything."""


def fill_disk(process: asyncio.subprocess.Process | None) -> Callable[[], None]:
    """Let a process write no file any more; returns what ends that."""
    assert process is not None
    pid = process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (BYTES, hard))

    def end() -> None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

    return end


async def test_a_full_disk_at_the_start_is_named_and_loses_nothing(tmp_path: Path) -> None:
    async with street(tmp_path, 1, QUICK) as homes:
        node = homes[0].node
        await homes.until(lambda: homes.all_final(4), "final")
        height = (await node.status()).tip.height
        await node.stop()

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (BYTES, resource.RLIM_INFINITY))

        await node.launch(preexec_fn=limit)
        assert await node.ended() == 1
        # Not always the last line: what measures coverage may have no room either.
        (line,) = [line for line in node.log.splitlines() if "no room left on the disk" in line]
        assert "free some space" in line
        await node.start()
        assert (await node.status()).tip.height >= height


async def test_a_node_with_a_full_disk_catches_up_when_there_is_room(tmp_path: Path) -> None:
    async with street(tmp_path, 2) as homes:
        poor = homes[1].node
        await poor.client.change_mining(on=False)
        await homes.until(lambda: homes.all_final(4), "they agree")
        end = fill_disk(poor.process)

        async def in_trouble() -> bool:
            return (await poor.status()).disk_trouble is not None

        await homes.until(in_trouble, "the disk is full")
        stuck = (await poor.status()).tip.height

        async def far_ahead() -> bool:
            return (await homes[0].node.status()).tip.height > stuck + 8

        await homes.until(far_ahead, "the other one goes on")
        before = await poor.status()
        assert before.tip.height < stuck + 8
        assert before.final >= 4
        end()
        await homes.until(lambda: homes.all_at(stuck + 8), "it catches up")
        assert await homes.same_state(stuck)

        async def over() -> bool:
            return (await poor.status()).disk_trouble is None

        await homes.until(over, "the trouble is over")
        # Neither took the other's trouble for misbehaviour.
        assert "banned" not in homes[0].node.log + poor.log
