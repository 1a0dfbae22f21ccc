"""Nodes that find, link and keep each other, on real sockets."""

import asyncio
from pathlib import Path

from ledger_core.node.peers.frames import MAX_MESSAGE_BYTES
from tests.node.peer_world import BLOCK, NOTE, linked, running


async def test_two_nodes_link_and_carry_messages_both_ways(tmp_path: Path) -> None:
    """A note and the largest message there may be, in both directions."""
    async with running(tmp_path, 1) as one, running(tmp_path, 2, bootstrap=(one.place,)) as two:
        await linked(one, two)
        big = bytes(range(256)) * (MAX_MESSAGE_BYTES // 256)
        assert one.manager.send(two.key, NOTE, b"hello")
        assert two.manager.send(one.key, NOTE, b"good day")
        assert two.manager.send(one.key, BLOCK, big)
        await one.owner.until(lambda: len(one.owner.messages) == 2)
        await two.owner.until(lambda: two.owner.messages)
        assert two.owner.messages == [(one.key, NOTE, b"hello")]
        assert sorted(one.owner.messages) == [(two.key, NOTE, b"good day"), (two.key, BLOCK, big)]
    assert [ending.code for _, ending in one.owner.endings] == ["shutdown"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
