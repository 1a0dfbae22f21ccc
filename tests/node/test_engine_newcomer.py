"""A newcomer and a private branch: whose word it takes before it begins with a snapshot."""

import pytest
from msgspec.structs import replace

from ledger_core.chain.signature_cache import SignatureCache
from ledger_core.chain.verify import Verifier
from ledger_core.errors import RuleError
from ledger_core.node.engine import snapshot_sync
from ledger_core.node.engine.outputs import SnapshotAdopted
from ledger_core.node.engine.snapshot_proof import burying, check_blocks
from ledger_core.node.messages import (
    BlockRef,
    GetHeaders,
    GetSnapshots,
    Headers,
    Message,
    NewBlock,
    SealedHeader,
    SnapshotOffer,
    SnapshotPart,
    Snapshots,
    Status,
)
from ledger_core.records.block import Block, decode_header, header_hash
from ledger_core.records.types import Role
from ledger_core.rules.state import State
from tests.core.actions import member
from tests.core.world import HOUSEHOLD, Home, World
from tests.node.test_engine_sync import grown, snapshots
from tests.node.virtual import Net, Node, nobody_muted


def private(net: Net, blocks: int, shared: int = 0, name: str = "private") -> Node:
    """A node on a branch of its own, which it offers snapshots of as if it were final."""
    other = Net(snapshot_gap_blocks=20)
    anna = other["anna"]
    for height in range(1, shared + 1):
        block = net["anna"].store.block_at(height)
        assert block is not None
        assert anna.engine._intake.take([(block, None)], net.now) is None
        other.now = float(decode_header(block.header).time)
    anna.engine.resume_voting(other.now)
    other.now += 60
    for _ in range(blocks - shared):
        other.mine("anna", wait=12)
    net.now = max(net.now, other.now)
    anna.net, anna.id = net, name.encode().ljust(32, b"\0")
    offer_all(net, anna)
    engine = anna.engine
    # It claims what it likes, and takes nothing from others.
    engine._handle[Headers] = lambda *_: None
    engine._headers.consider = lambda *_: None  # type: ignore[method-assign]
    status = engine._hub.status

    def boast(now: float) -> Status:
        return replace(status(now), final=engine._hub.tip_ref())

    engine._hub.status = boast  # type: ignore[method-assign]
    net.nodes[name] = anna
    net.mute = lambda _source, _target, message: isinstance(message, NewBlock)
    return anna


def offer_all(net: Net, node: Node) -> None:
    """Let a node offer its snapshots to the newcomer whether they are final or not."""
    engine = node.engine

    def offer(_peer: object, _message: Message, _now: float) -> None:
        offers = [
            SnapshotOffer(
                BlockRef(info.height, info.hash), info.state_hash, len(engine._serving._load(info.hash))
            )
            for info in node.store.snapshots()[:4]
        ]
        engine._hub.send(net["eva"].id, Snapshots(tuple(offers)))

    engine._handle[GetSnapshots] = offer


def honest_end(net: Net, node: Node) -> bool:
    """Whether the newcomer ends on the street's branch, as it goes on."""
    net.pass_time(90)
    net.mute = nobody_muted
    net.mine("bert", 2)
    net.pass_time(5)
    return node.engine.chain.tip_hash == net["bert"].engine.chain.tip_hash


@pytest.mark.parametrize("others", [("bert",), ("bert", "cara", "dora")])
def test_a_longer_private_branch_is_not_begun_with(others: tuple[str, ...]) -> None:
    net = snapshots(40)
    node = net.add("eva")
    private(net, 100)
    net.link("eva", "private")
    for name in others:
        net.link("eva", name)
    assert honest_end(net, node)
    assert node.told(SnapshotAdopted) == []


@pytest.mark.parametrize("kind", [Headers, Snapshots, SnapshotPart])
def test_peers_that_come_later_are_asked_too(kind: type[Message]) -> None:
    net = snapshots(40)
    node = net.add("eva")
    private(net, 100)
    held: list[Message] = []

    def hold(_source: bytes, target: bytes, message: Message) -> bool:
        if target == node.id and isinstance(message, kind):
            held.append(message)
        return isinstance(message, (NewBlock, kind))

    # An answer takes until another peer is there.
    net.mute = hold
    net.link("eva", "private")
    net.settle()
    net.link("eva", "bert")
    net.mute = lambda _source, _target, message: isinstance(message, NewBlock)
    (late,) = held
    node.engine.message(net["private"].id, late, net.now)
    assert honest_end(net, node)
    assert node.told(SnapshotAdopted) == []


def test_a_private_branch_on_top_of_the_street_s_is_confirmed_by_nobody() -> None:
    net = snapshots(40)
    node = net.add("eva")
    private(net, 100, shared=40)
    net.link("eva", "private")
    net.link("eva", "bert")
    net.pass_time(30)
    assert node.told(SnapshotAdopted) == []


def test_a_branch_is_followed_through_more_headers_than_one_answer_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot_sync, "MAX_HEADERS", 7)
    net = snapshots(60)
    node = net.add("eva")
    private(net, 100, shared=30)
    private(net, 100, shared=30, name="accomplice")
    net.link("eva", "private")
    net.link("eva", "accomplice")
    net.link("eva", "bert")
    assert honest_end(net, node)
    assert node.told(SnapshotAdopted) == []


def test_a_snapshot_that_is_final_to_nobody_else_is_passed_over() -> None:
    net = grown(40, snapshot_gap_blocks=20, voting=False)
    node = net.add("eva")
    offer_all(net, net["anna"])
    net.link("eva", "anna")
    net.link("eva", "bert")
    net.pass_time(30)
    assert net["anna"].store.snapshots()
    assert node.told(SnapshotAdopted) == []
    assert net.same_tip()


def test_a_header_without_work_is_no_contradiction() -> None:
    net = snapshots(40)
    node = net.add("eva")
    net.link("eva", "anna")
    liar = net.join("mallory", "eva", tip=BlockRef(90, bytes(32)))
    net.pass_time(1)
    (asked,) = net.asked(liar, GetHeaders)
    first = net["anna"].store.sealed_headers(asked.locator[0].height + 1, 1)[0]
    lazy = replace(decode_header(first[0]), nonce=1, merkle_root=bytes(32)).encode()
    while header_hash(lazy)[0] < 0x80:
        lazy = replace(decode_header(lazy), nonce=decode_header(lazy).nonce + 1).encode()
    net.say(liar, "eva", Headers((SealedHeader(lazy, bytes(64)),)))
    assert [drop.code for drop in node.drops] == ["work_missing"]
    net.link("eva", "bert")
    net.pass_time(30)
    assert node.told(SnapshotAdopted)
    assert net.same_tip()


def test_nobody_but_the_first_peer_is_waited_for_a_while() -> None:
    net = snapshots(40)
    node = net.add("eva", start_grace_s=10)
    net.link("eva", "anna")
    net.pass_time(8)
    assert node.told(SnapshotAdopted) == []
    net.pass_time(4)
    assert node.told(SnapshotAdopted)
    assert net.same_tip()


# What is left, and what an invitation's anchor does about it


def test_whoever_knows_a_private_branch_only_begins_with_it() -> None:
    """Nothing but other peers, or an anchor, can tell a newcomer that the street is elsewhere."""
    net = snapshots(40)
    node = net.add("eva")
    private(net, 100)
    net.link("eva", "private")
    net.pass_time(30)
    assert node.told(SnapshotAdopted)


@pytest.mark.parametrize("full", [False, True])
def test_an_anchor_keeps_a_newcomer_off_a_branch_that_parts_below_it(*, full: bool) -> None:
    net = snapshots(40)
    header = net["anna"].store.header_at(8)
    assert header is not None
    node = net.add("eva", anchor=BlockRef(8, header_hash(header)), full_sync=full)
    private(net, 100)
    net.link("eva", "private")
    net.pass_time(30)
    assert [drop.code for drop in node.drops] == ["anchor_missed"]
    assert node.engine.chain.height < 8
    net.link("eva", "bert")
    assert honest_end(net, node)


# Signatures of miners


def test_headers_with_forged_signatures_prove_no_snapshot() -> None:
    net = snapshots(40)
    node = net.add("eva")
    anna = net["anna"].id

    def forge(source: bytes, message: Message) -> Message:
        if source == anna and isinstance(message, Headers):
            return Headers(tuple(SealedHeader(each.header, bytes(64)) for each in message.headers))
        return message

    net.twist = forge
    net.link("eva", "anna")
    net.pass_time(30)
    assert node.told(SnapshotAdopted) == []
    assert [drop.code for drop in node.drops] == ["signature_invalid"]
    net.link("eva", "bert")
    net.pass_time(30)
    assert node.engine.chain.tip_hash == net["bert"].engine.chain.tip_hash


def test_a_snapshot_that_too_few_known_nodes_bury_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def shy(state: State, above: list[SealedHeader], verifier: Verifier) -> int:
        return 0 if state.tip.height > 40 else burying(state, above, verifier)

    monkeypatch.setattr(snapshot_sync, "burying", shy)
    net = snapshots(60)
    node = net.add("eva")
    net.link("eva", "anna")
    net.link("eva", "bert")
    net.pass_time(10)
    assert [event.height for event in node.told(SnapshotAdopted)] == [32]
    assert net.same_tip()


def sealed(blocks: list[Block]) -> list[SealedHeader]:
    return [SealedHeader(block.header, block.signature) for block in blocks]


def test_who_mined_around_a_snapshot() -> None:
    """Nodes of the state bury it, others that joined later do not; strangers' blocks stand not below it."""
    verifier = Verifier(1, SignatureCache(bytes(16)))
    world = World()
    for name in ("anna", "bert", "cara"):
        world.mine(miner=name)
    state = world.state.copy()
    world.mine()
    fred = Home("fred")
    key = world["anna"].key
    world.mine(member(world, key, fred.id, fred.key, roles=HOUSEHOLD, node=fred.node.public_key))
    world.homes["fred"] = fred
    for name in ("fred", "bert", "fred", "cara"):
        world.mine(miner=name)
    above = sealed(world.blocks[4:])
    assert burying(state, above, verifier) == 3
    forged = SealedHeader(above[0].header, bytes(64))
    with pytest.raises(RuleError) as refusal:
        burying(state, [*above, forged], verifier)
    assert refusal.value.code == "signature_invalid"
    after = state.copy()
    check_blocks(after, world.blocks[:4], verifier, world.now)
    assert after.tip.hash == world.blocks[3].hash
    with pytest.raises(RuleError) as refusal:
        check_blocks(state.copy(), [*world.blocks[5:6], world.blocks[3]], verifier, world.now)
    assert refusal.value.code == "miner_not_node"


def test_nodes_that_left_lately_may_have_mined_below_a_snapshot() -> None:
    verifier = Verifier(1, SignatureCache(bytes(16)))
    world = World()
    world.mine(miner="bert")
    key = world["anna"].key
    world.mine(member(world, key, world["bert"].id, roles=int(Role.HOME)))
    world.mine()
    state = world.state.copy()
    world.mine()
    assert world["bert"].node.public_key not in state.node_keys
    check_blocks(state, world.blocks, verifier, world.now)
    assert state.tip.height == 4
