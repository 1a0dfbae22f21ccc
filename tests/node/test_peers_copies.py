"""Two processes with one node key: the elder one learns of it, by whatever peers; a restart is no copy."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from ledger_core.node.peers.announcement import Announcement
from ledger_core.node.peers.gossip import SPREAD_S
from tests.node.peer_world import Node, eventually, linked, running

LATER_S = 2 * SPREAD_S


@asynccontextmanager
async def node(directory: Path, met: list[str], *peers: Node, later_s: float = 0) -> AsyncIterator[Node]:
    """Run a node, as if begun later, that dials others, and notes in `met` that it met a copy of itself."""
    places = tuple(peer.place for peer in peers)
    noted = partial(met.append, directory.name)
    async with running(
        directory, 1, bootstrap=places, met_copy=noted, clock=lambda: time.time() + later_s
    ) as found:
        yield found


@pytest.mark.parametrize("peers", [1, 3])
async def test_the_elder_one_learns_of_its_copy(tmp_path: Path, peers: int) -> None:
    met: list[str] = []
    async with (
        running(tmp_path, 2) as hub,
        running(tmp_path, 3, bootstrap=(hub.place,)) as second,
        running(tmp_path, 4, bootstrap=(hub.place, second.place)) as third,
        node(tmp_path / "first", met, *(hub, second, third)[:peers]) as first,
    ):
        await linked(first, hub)
        async with node(tmp_path / "copy", met, hub, later_s=LATER_S):
            await eventually(lambda: met)
    assert met[0] == "first"


async def test_a_copy_among_other_peers_is_heard_of(tmp_path: Path) -> None:
    """Its peers are linked with ours, and no link is ever fought for."""
    met: list[str] = []
    async with (
        running(tmp_path, 2) as one,
        running(tmp_path, 3, bootstrap=(one.place,)) as two,
        node(tmp_path / "first", met, one) as first,
    ):
        await linked(one, two)
        await linked(first, one)
        async with node(tmp_path / "copy", met, two, later_s=LATER_S) as copy:
            await linked(copy, two)
            await eventually(lambda: met)
            assert first.owner.codes() == []
    assert met[0] == "first"


async def test_a_restart_with_a_clock_gone_back_is_no_copy(tmp_path: Path) -> None:
    met: list[str] = []
    async with running(tmp_path, 2) as peer:
        known = peer.manager.book.announcement_of
        before = 0
        for run in range(3):
            # Each run has lost what the one before it kept, and believes that it is a day earlier.
            async with node(tmp_path / str(run), met, peer, later_s=-86_400 * run) as first:
                await linked(first, peer)
                await eventually(partial(is_above, known, first.key, before))
            told = known(first.key)
            assert told is not None
            before = told.sequence
    assert met == []


def is_above(known: Callable[[bytes], Announcement | None], key: bytes, sequence: int) -> bool:
    """Whether a node has announced itself above a sequence."""
    told = known(key)
    return told is not None and told.sequence > sequence


async def test_a_new_link_of_the_same_process_is_no_copy(tmp_path: Path) -> None:
    met: list[str] = []
    async with running(tmp_path, 2) as peer, node(tmp_path / "first", met, peer) as first:
        for links in range(1, 4):
            await eventually(lambda: len(first.owner.joined_keys) == links)  # noqa: B023
            await linked(first, peer)
            first.manager.drop(peer.key, "test", "the link breaks")
    assert met == []
