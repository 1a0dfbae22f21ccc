"""A node whose clock is wrong blames nobody for it, asks no more than it can use, and goes on by itself."""

import pytest

from ledger_core.node.engine import snapshot_sync
from ledger_core.node.engine.header_sync import ASK_AGAIN_S
from ledger_core.node.messages import BlockRef, GetHeaders, Headers, Message, Ping, SealedHeader, Status
from tests.node.test_engine_sync import grown, snapshots
from tests.node.virtual import Net, Node, listening

LATE_S = 600.0
"""So far the late node's clock is behind: 20 blocks, of which it takes 4, for clocks differ."""


def late_node(window: int = 8192) -> tuple[Net, Node, list[tuple[bytes, Message]]]:
    """A grown chain, a new node behind it whose clock is late, and who asks for headers."""
    net = grown(40, full_sync=True)
    node = net.add("eva", header_window=window)
    node.skew = -LATE_S
    node.start()
    asked: list[tuple[bytes, Message]] = []
    net.mute = listening(asked, GetHeaders)
    return net, node, asked


@pytest.mark.parametrize("window", [16, 8192])
def test_a_late_clock_makes_no_peer_a_liar(window: int) -> None:
    """The blocks that it takes to be from the future are its own mistake; it follows as they become due."""
    net, node, asked = late_node(window)
    net.link("eva", "anna")
    net.settle()
    stood = node.engine.chain.height
    assert 10 < stood < 30
    net.mine("anna", 20, wait=2)
    assert node.drops == []
    assert node.engine.chain.height < net["anna"].engine.chain.height - 20
    assert len([source for source, _ in asked if source == node.id]) < 10, "not once for each new block"
    net.pass_time(LATE_S, 10)
    assert net.same_tip("anna", "eva")
    assert node.drops == []


def test_a_clock_put_right_is_enough() -> None:
    net, node, _ = late_node()
    net.link("eva", "anna")
    net.settle()
    assert not net.same_tip("anna", "eva")
    node.skew = 0.0
    net.pass_time(1)
    assert net.same_tip("anna", "eva")


def test_a_peer_that_left_its_branch_from_the_future_is_asked_again() -> None:
    """A block that never comes of age must not keep this node from the branch that the peer has instead."""
    net, node, _ = late_node()
    peer = net.join("mallory", "eva", tip=BlockRef(40, bytes(31) + b"\1"))
    chain = [SealedHeader(*pair) for pair in net["anna"].store.sealed_headers(1, 40)]
    at = net.now + node.skew
    node.engine.message(peer, Headers(tuple(chain)), at)
    net.settle()
    net.heard[peer].clear()
    told = Status(int(at), BlockRef(41, bytes(31) + b"\2"), 0, BlockRef(0, net.world.chain_id))
    node.engine.message(peer, Ping(1, told), at)
    net.settle()
    assert net.asked(peer, GetHeaders) == [], "what it has is from the future; it was asked a moment ago"
    net.pass_time(ASK_AGAIN_S + 1, 5)
    assert net.asked(peer, GetHeaders)
    assert node.drops == []


def test_a_newcomer_with_a_late_clock_begins_at_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is late by more than one answer full of headers: it must not ask for the same ones for ever."""
    monkeypatch.setattr(snapshot_sync, "MAX_HEADERS", 8)
    net = snapshots(60)
    node = net.add("eva")
    node.skew = -LATE_S
    node.start()
    asked: list[tuple[bytes, Message]] = []
    net.mute = listening(asked, GetHeaders)
    for name in ("anna", "bert", "cara"):
        net.link("eva", name)
    net.settle()
    assert 30 < node.engine.chain.height < 50
    assert len([source for source, _ in asked if source == node.id]) < 20
    net.pass_time(LATE_S, 10)
    assert net.same_tip("anna", "eva")
    assert node.drops == []
