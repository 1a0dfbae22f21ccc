"""Peers that give no bodies that were asked for: standing still once is no crime, staying silent is."""

from ledger_core.node.engine.silence import MAX_WITHHELD
from ledger_core.node.messages import Bodies, GetBodies, Message
from tests.node.virtual import Net


def silent(net: Net) -> list[tuple[bytes, bytes, Message]]:
    """Hold every body back from now on; what is held comes to stand in the list."""
    held: list[tuple[bytes, bytes, Message]] = []

    def hold_bodies(source: bytes, target: bytes, message: Message) -> bool:
        if isinstance(message, Bodies):
            held.append((source, target, message))
        return isinstance(message, Bodies)

    net.mute = hold_bodies
    return held


def newcomer() -> Net:
    """A node that is about to fetch thirty blocks in requests of two."""
    net = Net(body_batch=2)
    net.mesh("bert", "cara", "dora")
    net.mine("bert", 30)
    return net


def test_a_peer_that_stood_still_once_in_a_sync_is_not_banned() -> None:
    net = newcomer()
    held = silent(net)
    net.link("anna", "bert")
    net.pass_time(net.settings.request_s + 2)
    # Several requests were out together: more than a peer may leave in a row.
    assert len(held) > MAX_WITHHELD
    net.mute = lambda _source, _target, _message: False
    net.queue.extend(held)
    net.settle()
    net.pass_time(300)
    assert net["anna"].drops == []
    assert net.heights() == [30] * 4


def test_a_peer_that_speaks_and_gives_no_bodies_is_banned() -> None:
    net = newcomer()
    silent(net)
    net.link("anna", "bert")
    for _ in range(4):
        # Nobody else has the branch: it is left alone for a while, and looked at again with the next block.
        net.mine("bert", 1)
        net.pass_time(net.settings.unavailable_s, 5)
    assert [drop.code for drop in net["anna"].drops] == ["bodies_withheld"]


def test_a_peer_that_says_nothing_for_long_stood_still_once() -> None:
    """The way to it is cut for minutes: that is no reason to refuse it for an hour."""
    net = newcomer()
    held = silent(net)
    net.link("anna", "bert")
    net.pass_time(1)
    assert held
    asked: list[Message] = []

    def cut(_source: bytes, _target: bytes, message: Message) -> bool:
        asked.append(message)
        return True

    net.mute = cut
    net.pass_time(5 * net.settings.request_s)
    assert sum(isinstance(message, GetBodies) for message in asked) >= MAX_WITHHELD
    assert net["anna"].drops == []
    net.mute = lambda _source, _target, _message: False
    net.mine("bert", 1)
    net.pass_time(120)
    assert net["anna"].drops == []
    assert net.heights() == [31] * 4
