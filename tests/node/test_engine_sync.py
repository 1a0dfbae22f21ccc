"""Catching up: headers first, bodies from several peers, snapshots, and going on after a restart."""

from typing import Any

import pytest

from ledger_core.chain.model import Commit
from ledger_core.node.engine import body_sync, header_sync
from ledger_core.node.engine.outputs import SnapshotAdopted
from ledger_core.node.engine.staging import FileStaging
from ledger_core.node.messages import (
    BlockRef,
    Bodies,
    Compact,
    GetBodies,
    GetCompact,
    GetHeaders,
    GetSnapshotPart,
    Headers,
    Message,
    NewBlock,
    Parts,
    SnapshotPart,
    Snapshots,
)
from ledger_core.records.block import decode_header, header_hash
from ledger_core.rules.assemble import search_nonce
from tests.node.virtual import HOMES, Net, Node, announce, listening, nobody_muted


def grown(blocks: int, **settings: Any) -> Net:
    """Four nodes with a chain that has payments and votes in it."""
    net = Net(**settings)
    net.mesh()
    for number in range(blocks):
        if number % 3 == 0:
            net.submit(HOMES[number % 4], net.pay(HOMES[number % 4], HOMES[(number + 1) % 4], 10 + number))
        net.mine(HOMES[number % 4])
    return net


def test_a_new_node_fetches_every_body_from_several_peers() -> None:
    net = grown(60, body_batch=4, full_sync=True)
    node = net.add("eva")
    heard: list[tuple[bytes, Message]] = []
    net.mute = listening(heard, Bodies)
    for name in HOMES:
        net.link("eva", name)
    net.pass_time(3)
    assert net.same_tip()
    assert node.engine.chain.state.hash() == net["anna"].engine.chain.state.hash()
    assert node.engine.chain.final_height == net["anna"].engine.chain.final_height
    assert node.engine.progress(net.now).synced
    assert len({source for source, _ in heard}) > 1


def test_a_sync_goes_on_after_a_restart() -> None:
    net = grown(60, body_batch=4, full_sync=True)
    node = net.add("eva")
    count = 0

    def some(_source: bytes, _target: bytes, message: Message) -> bool:
        nonlocal count
        count += isinstance(message, Bodies)
        return isinstance(message, Bodies) and count > 5

    net.mute = some
    net.link("eva", "anna")
    net.settle()
    reached = node.engine.chain.height
    assert 0 < reached < 60
    assert not node.engine.synced
    net.cut(node.id, net["anna"].id)
    node.start()
    assert node.engine.chain.height == reached
    heard: list[tuple[bytes, Message]] = []
    net.mute = listening(heard, GetBodies)
    net.link("eva", "bert")
    net.pass_time(2)
    assert net.same_tip()
    asked = [
        block.height for _, message in heard if isinstance(message, GetBodies) for block in message.blocks
    ]
    assert min(asked) == reached + 1


def runs_of(node: Node) -> list[int]:
    """How many blocks joined the node's branch in each of its commits."""
    runs: list[int] = []
    commit = node.store.commit

    def counted(change: Commit) -> None:
        commit(change)
        runs.append(len(change.connected))

    node.store.commit = counted  # type: ignore[method-assign,assignment]
    return runs


def test_few_headers_are_asked_for_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_sync, "FIRST_HEADERS", 8)
    net = grown(60, full_sync=True)
    net.add("eva")
    heard: list[tuple[bytes, Message]] = []
    net.mute = listening(heard, GetHeaders, GetBodies)
    net.link("eva", "anna")
    net.settle()
    assert net.same_tip()
    kinds = [type(message) for _, message in heard]
    assert kinds[:2] == [GetHeaders, GetBodies]
    limits = [message.limit for _, message in heard if isinstance(message, GetHeaders)]
    assert limits[0] == 8
    assert len(limits) > 2


def test_a_long_way_is_stored_in_large_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_sync, "APPLY_AT_ONCE", 16)
    net = grown(60, body_batch=4, full_sync=True)
    runs = runs_of(net.add("eva"))
    net.link("eva", "anna")
    net.settle()
    assert net.same_tip()
    assert sum(runs) == net["anna"].engine.chain.height
    assert runs[:2] == [16, 16]
    # The last blocks are taken as they come.
    assert runs[-1] <= 4


def test_large_bodies_do_not_wait_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_sync, "APPLY_AT_ONCE", 16)
    monkeypatch.setattr(body_sync, "APPLY_BYTES", 1)
    net = grown(60, body_batch=4, full_sync=True)
    runs = runs_of(net.add("eva"))
    net.link("eva", "anna")
    net.settle()
    assert net.same_tip()
    assert max(runs) == 1


def test_what_was_fetched_is_used_when_the_rest_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_sync, "APPLY_AT_ONCE", 16)
    net = grown(60, body_batch=4, full_sync=True)
    node = net.add("eva")
    heard: list[tuple[bytes, Message]] = []
    listen = listening(heard, Bodies)
    net.mute = lambda source, target, message: listen(source, target, message) or len(heard) > 3
    net.link("eva", "anna")
    net.settle()
    assert node.engine.chain.height == 0
    net.mute = nobody_muted
    net.cut(node.id, net["anna"].id)
    assert node.engine.chain.height == 12


def test_an_unanswered_request_goes_to_another_peer() -> None:
    net = grown(30, full_sync=True)
    anna = net["anna"].id
    node = net.add("eva")
    net.mute = lambda source, _target, message: source == anna and isinstance(message, Bodies)
    net.link("eva", "anna")
    net.settle()
    net.link("eva", "bert")
    net.pass_time(30)
    assert node.engine.chain.height >= 30
    assert net.same_tip()


def test_blocks_travel_in_short_when_their_records_are_known() -> None:
    net = Net()
    net.mesh()
    heard: list[tuple[bytes, Message]] = []
    net.mute = listening(heard, Compact, Bodies, Parts)
    net.submit("anna", net.pay("anna", "bert"))
    for _ in range(8):
        net.mine("bert")
    assert {type(message) for _, message in heard} == {Compact}
    assert net.same_tip()


def test_what_a_compact_block_lacks_is_asked_for() -> None:
    net = Net()
    net.mesh()
    net.part("dora")
    for number in range(3):
        net.submit("anna", net.pay("anna", "bert", 5 + number))
    heard: list[tuple[bytes, Message]] = []
    block = net["anna"].template_block()
    assert block is not None
    net.settle()
    dora, anna = net["dora"], net["anna"]
    # Dora hears of the block and not of its records.
    net.mute = listening(heard, Parts)
    net.link("dora", "anna")
    net.settle()
    assert dora.engine.chain.tip_hash == anna.engine.chain.tip_hash
    assert len(heard) == 1


def test_a_long_reorganisation_moves_whole_branches() -> None:
    net = grown(6)
    net.part("anna")
    for _ in range(40):
        net.mine("bert", wait=12)
    net.mine("anna", 3)
    net.mesh()
    net.pass_time(3)
    assert net.same_tip()
    assert net["anna"].engine.chain.height == net["bert"].engine.chain.height >= 46


def test_a_block_from_the_future_waits() -> None:
    net = Net()
    net.mesh("anna", "bert")
    early = net["bert"]
    early.skew = 300.0
    early.engine.clock._hub.peers.clear()
    template = early.engine.template(net.now + 300)
    assert template is not None
    header = search_nonce(template.header)
    assert header is not None
    early.engine.mined(header, net.now + 300)
    block = early.store.block_at(1)
    assert block is not None
    peer = net.join("early", "anna")
    net.say(peer, "anna", announce(block))
    assert net["anna"].engine.chain.height == 0
    assert net["anna"].drops == []
    net.pass_time(200, 10)
    assert net.asked(peer, GetCompact)
    assert decode_header(block.header).time > net.now - 200


# Snapshots


def snapshots(blocks: int = 60, **settings: Any) -> Net:
    return grown(blocks, snapshot_gap_blocks=20, **settings)


def test_a_new_node_begins_with_a_snapshot() -> None:
    net = snapshots()
    node = net.add("eva")
    for name in HOMES[:3]:
        net.link("eva", name)
    net.pass_time(5)
    assert net.same_tip()
    (adopted,) = node.told(SnapshotAdopted)
    assert adopted.height % 16 == 0
    assert adopted.height > 16
    assert node.engine.chain.state.hash() == net["anna"].engine.chain.state.hash()
    # Bodies below were never fetched, the headers were.
    assert node.store.block_at(1) is None
    assert node.store.header_at(1) == net["anna"].store.header_at(1)
    net.mine("anna", 9)
    assert net.same_tip()
    assert node.engine.chain.final_height == net["anna"].engine.chain.final_height
    # Restarted, it stands where it stood; and it can serve headers itself.
    node.start()
    assert node.engine.chain.tip_hash == net["anna"].engine.chain.tip_hash


def test_headers_of_a_first_sync_survive_a_restart(tmp_path: Any) -> None:
    net = snapshots()
    node = net.add("eva")
    node.staging = FileStaging(tmp_path / "headers", net.world.chain_id)
    node.start()
    net.mute = lambda _source, _target, message: isinstance(message, Snapshots)
    net.link("eva", "anna")
    net.settle()
    assert len(node.staging) == 60
    net.cut(node.id, net["anna"].id)
    node.staging = FileStaging(tmp_path / "headers", net.world.chain_id)
    assert len(node.staging) == 60
    node.start()
    heights: list[int] = []

    def listen(_source: bytes, _target: bytes, message: Message) -> bool:
        if isinstance(message, Headers):
            heights.extend(decode_header(each.header).height for each in message.headers)
        return False

    net.mute = listen
    net.link("eva", "bert")
    net.pass_time(3)
    assert net.same_tip()
    assert node.told(SnapshotAdopted)
    assert 1 not in heights


def test_an_anchor_that_the_branch_misses_is_a_refusal() -> None:
    net = snapshots()
    node = net.add("eva", anchor=BlockRef(8, bytes(32)))
    net.link("eva", "anna")
    net.settle()
    assert [drop.code for drop in node.drops] == ["anchor_missed"]
    assert node.engine.chain.height == 0


def test_an_anchor_on_the_branch_is_fine() -> None:
    net = snapshots()
    node = net.add("eva", anchor=BlockRef(8, net["anna"].engine.chain.genesis.chain_id))
    header = net["anna"].store.header_at(8)
    assert header is not None
    node = net.add("eva", anchor=BlockRef(8, header_hash(header)))
    net.link("eva", "anna")
    net.pass_time(3)
    assert node.told(SnapshotAdopted)
    assert net.same_tip()


def forge_parts(net: Net, liar: bytes) -> None:
    """Let one peer give wrong bytes for every snapshot part."""
    node = net.by_id(liar)
    assert node is not None
    original = node.engine._serving._load

    def forged(block_hash: bytes) -> bytes:
        data = original(block_hash)
        return data[:-1] + bytes((data[-1] ^ 1,))

    node.engine._serving._load = forged  # type: ignore[method-assign]


def test_a_forged_snapshot_is_found_out() -> None:
    net = snapshots()
    liar = net["bert"].id
    forge_parts(net, liar)
    node = net.add("eva")
    net.link("eva", "bert")
    net.pass_time(2)
    assert [drop.code for drop in node.drops] == ["snapshot_forged"]
    net.link("eva", "anna")
    net.link("eva", "cara")
    net.pass_time(30)
    assert net.same_tip()


def test_without_a_snapshot_every_block_is_verified() -> None:
    net = snapshots()
    for name in HOMES:
        net[name].store._snapshots.clear()
    node = net.add("eva")
    net.link("eva", "anna")
    net.link("eva", "bert")
    net.pass_time(3)
    assert net.same_tip()
    assert node.told(SnapshotAdopted) == []
    assert node.store.block_at(1) is not None


def test_peers_that_disagree_about_the_past_lead_to_a_full_sync() -> None:
    net = snapshots(24)
    other = Net(snapshot_gap_blocks=20)
    other["anna"].engine.resume_voting(other.now)
    for _ in range(40):
        other.mine("anna", wait=20)
    node = net.add("eva")
    net.nodes["stranger"] = other["anna"]
    net.mute = lambda _source, _target, message: isinstance(message, NewBlock)
    other["anna"].id = b"stranger".ljust(32, b"\0")
    net.link("eva", "anna")
    net.link("eva", "stranger")
    net.pass_time(30)
    # Both branches were verified: the one with justified checkpoints wins over the longer one.
    assert node.told(SnapshotAdopted) == []
    assert node.engine.chain.tip_hash == net["anna"].engine.chain.tip_hash


def test_silent_and_empty_handed_peers_delay_but_do_not_stop_a_snapshot() -> None:
    net = snapshots()
    anna = net["anna"].id
    node = net.add("eva")
    net.mute = lambda source, _target, message: source == anna and isinstance(message, Headers | SnapshotPart)
    net.link("eva", "anna")
    net.settle()
    net.link("eva", "bert")
    net.pass_time(90)
    assert net.same_tip()
    assert node.engine.synced


@pytest.mark.parametrize("kind", [GetHeaders, GetSnapshotPart])
def test_whoever_leaves_in_the_middle_is_replaced(kind: type[Message]) -> None:
    net = snapshots()
    node = net.add("eva")
    net.mute = lambda _source, _target, message: isinstance(message, kind)
    net.link("eva", "anna")
    net.settle()
    net.mute = nobody_muted
    net.link("eva", "bert")
    net.cut(node.id, net["anna"].id)
    net.pass_time(30)
    assert net["bert"].engine.chain.tip_hash == node.engine.chain.tip_hash
    assert node.told(SnapshotAdopted)
