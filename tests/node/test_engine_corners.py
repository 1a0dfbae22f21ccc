"""Bounds and rare turns of the sync, the serving and the vote book."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from ledger_core.errors import RuleError
from ledger_core.node.engine import holds
from ledger_core.node.engine.compact import Partial, make_compact, make_parts
from ledger_core.node.engine.header_tree import HeaderTree
from ledger_core.node.engine.holds import SYNCING
from ledger_core.node.engine.hub import Hub
from ledger_core.node.engine.outputs import SnapshotAdopted
from ledger_core.node.engine.settings import EngineSettings
from ledger_core.node.engine.staging import (
    SEALED_BYTES,
    FileStaging,
    MemoryStaging,
    Staging,
    staged_headers,
    staged_ref,
)
from ledger_core.node.engine.vote_book import VoteBook, indexes
from ledger_core.node.messages import (
    MAX_LINKS,
    BlockRef,
    Bodies,
    Body,
    Compact,
    GetBodies,
    GetCompact,
    GetHeaders,
    GetParts,
    Headers,
    Message,
    SealedHeader,
    SnapshotOffer,
    SnapshotPart,
    Snapshots,
)
from ledger_core.records.block import BlockBody, decode_block_body, decode_header, header_hash
from ledger_core.records.votes import VoteBundle
from tests.node.test_engine_hostile import forge, votes_of
from tests.node.test_engine_sync import grown, snapshots
from tests.node.virtual import HOMES, VERIFIER, Net, announce, listening, ref


def sealed_of(net: Net, first: int, count: int, name: str = "anna") -> list[SealedHeader]:
    return [SealedHeader(*pair) for pair in net[name].store.sealed_headers(first, count)]


# Headers ahead of the bodies


def test_a_small_window_of_headers_is_enough_for_a_long_chain() -> None:
    net = grown(60)
    node = net.add("eva", header_window=16, body_batch=4, full_sync=True)
    heard: list[tuple[bytes, Message]] = []
    net.mute = listening(heard, Headers)
    net.link("eva", "anna")
    net.link("eva", "bert")
    net.pass_time(5)
    assert net.same_tip()
    assert len(heard) > 2
    assert len(node.engine._tree) <= 16


def test_the_tree_gives_up_the_least_work() -> None:
    net = grown(40)
    node = net.add("eva")
    hub = Hub(node.engine.chain, node.store, VERIFIER, EngineSettings(header_window=16), Random(1))
    tree = HeaderTree(hub)
    for number, sealed in enumerate(sealed_of(net, 1, 40), 1):
        if number <= 16:
            assert tree.add(sealed, net.now) is not None
    assert tree.full
    weak = Net()
    weak.mesh()
    weak.mine("bert", wait=7)
    stray = sealed_of(weak, 1, 1)[0]
    added = tree.add(stray, net.now)
    assert added is not None
    assert tree.get(added.hash) is None
    assert len(tree) == 16
    best = tree.best()
    assert best is not None
    assert best.height == 16
    assert [node.height for node in tree.path(best)] == list(range(1, 17))
    gone = tree.remove_with_descendants(tree.path(best)[3].hash)
    assert sorted(node.height for node in gone) == list(range(4, 17))
    assert len(tree) == 3
    with pytest.raises(RuleError) as refusal:
        tree.add(sealed_of(net, 20, 1)[0], net.now)
    assert refusal.value.code == "parent_unknown"


def test_a_peer_that_gives_no_headers_loses_patience() -> None:
    net = grown(6)
    peer = net.join("mute", "anna", tip=BlockRef(50, b"\1" * 32))
    assert net.asked(peer, GetHeaders)
    for number in range(40):
        net.pass_time(21, 21)
        if net["anna"].drops:
            break
        tip = BlockRef(50 + number, bytes(31) + bytes((number,)))
        net["anna"].engine.peers[peer].tip = tip
        net["anna"].engine._headers.consider(net["anna"].engine.peers[peer], net.now)
    assert [drop.code for drop in net["anna"].drops] in (["patience"], ["silent"])


def test_many_blocks_from_the_future_are_bounded() -> None:
    net = grown(6)
    engine = net["anna"].engine
    peer = net.join("early", "anna")
    for number in range(80):
        block = forge(net, time=int(net.now) + 500 + number)
        net.say(peer, "anna", announce(block))
    assert len(engine._headers._deferred) == 64
    assert net["anna"].drops == []
    assert engine._headers.next_deferred(120) == pytest.approx(net.now + 380, abs=1)


def test_too_many_bodies_ahead_are_not_asked_for() -> None:
    net = grown(40)
    node = net.add("eva", full_sync=True, body_batch=2)
    node.engine._hub.settings = replace(node.settings, bodies_ahead_bytes=1)
    first = net["anna"].store.block_at(1)
    assert first is not None
    held: list[Message] = []

    def hold_first(_source: bytes, _target: bytes, message: Message) -> bool:
        if isinstance(message, Bodies) and message.bodies[0].hash == first.hash and not held:
            held.append(message)
            return True
        return False

    net.mute = hold_first
    for name in ("anna", "bert", "cara"):
        net.link("eva", name)
    net.pass_time(40)
    assert held
    assert net.same_tip()


@pytest.mark.parametrize("at_once", [1, 3, 5])
def test_so_many_requests_for_bodies_at_once(at_once: int) -> None:
    net = grown(60)
    node = net.add("eva", full_sync=True, body_batch=2, requests_at_once=at_once)
    first = net["anna"].store.block_at(1)
    assert first is not None
    most = 0
    held: list[bytes] = []

    def hold_first(source: bytes, _target: bytes, message: Message) -> bool:
        nonlocal most
        most = max(most, sum(map(len, node.engine._bodies._requests.values())))
        if isinstance(message, Bodies) and message.bodies[0].hash == first.hash and not held:
            held.append(source)
            return True
        return False

    net.mute = hold_first
    for name in ("anna", "bert", "cara"):
        net.link("eva", name)
    net.pass_time(5)
    assert held
    assert node.engine.chain.height == 0
    net.pass_time(60)
    assert net.same_tip()
    assert most == at_once


# Answers from bodies


def test_bodies_beside_those_asked_for_cost_patience() -> None:
    net = grown(6)
    block = forge(net)
    peer = net.join("mallory", "anna")
    net.say(peer, "anna", announce(block))
    before = net["anna"].engine.peers[peer].patience
    net.say(peer, "anna", Bodies((Body(block.hash, None), Body(bytes(32), b"junk"))))
    assert net["anna"].engine.peers[peer].patience < before
    # It has nothing to give: another branch, and mining, go on.
    assert net["anna"].engine.synced
    assert net["anna"].engine._bodies.next_time() is None


def test_an_announced_block_that_only_others_have_is_fetched_from_them() -> None:
    net = grown(6)
    block = forge(net)
    empty, giver = net.join("empty", "anna"), net.join("giver", "anna")
    net.say(empty, "anna", announce(block))
    net.say(empty, "anna", Bodies((Body(block.hash, None),)))
    net.say(giver, "anna", announce(block))
    assert [message.block for message in net.asked(giver, GetCompact)] == [ref(block)]
    net.say(giver, "anna", Bodies((Body(block.hash, block.body),)))
    assert net["anna"].engine.chain.tip_hash == block.hash


def test_a_second_compact_block_is_taken_for_an_excuse() -> None:
    net = grown(6)
    block = forge(net, net.pay("anna", "bert"))
    peer = net.join("mallory", "anna")
    net.say(peer, "anna", announce(block))
    for _ in range(2):
        net.say(peer, "anna", Compact(block.hash, bytes(8), ()))
    assert net.asked(peer, GetBodies)


def test_compact_blocks_of_votes_are_rebuilt_from_the_book() -> None:
    net = grown(7)
    net.pass_time(6)
    anna = net["anna"].engine
    block = net["bert"].template_block()
    assert block is not None
    body = decode_block_body(block.body)
    assert body.votes
    compact = make_compact(block.hash, body, net.world.chain_id)
    assert compact is not None
    sealed = SealedHeader(block.header, block.signature)
    partial = Partial(compact, sealed)
    assert not partial.complete()
    wanted = partial.missing(ref(block))
    assert wanted is not None
    parts = make_parts(body, wanted)
    assert parts is not None
    assert not Partial(compact, sealed).fill(replace(parts, signatures=(b"short",)))
    assert partial.fill(parts)
    assert partial.block() == block
    other = Partial(compact, sealed)
    other.fill_from(anna.pool, anna._book, anna.chain.state)
    assert other.complete()
    assert other.block() == block


def test_compact_forms_have_bounds() -> None:
    bundle = VoteBundle(1, 0, bytes(32), 4, bytes(32), bytes(66))
    assert make_compact(bytes(32), BlockBody((), (bundle,) * (MAX_LINKS + 1)), bytes(32)) is None
    assert make_parts(BlockBody(), GetParts(BlockRef(1, bytes(32)), (0,), ())) is None
    assert make_parts(BlockBody(), GetParts(BlockRef(1, bytes(32)), (), (b"",))) is None
    unknown = Compact(bytes(32), bytes(8 * 1001), ())
    assert Partial(unknown, SealedHeader(bytes(158), bytes(64))).missing(BlockRef(1, bytes(32))) is None


# Votes


def test_one_voter_counts_once_for_a_target() -> None:
    net = grown(9)
    engine = net["anna"].engine
    book = engine._book
    state = engine.chain.state
    peer = net.join("mallory", "anna")
    for name in ("bert", "cara", "dora"):
        net.say(peer, "anna", votes_of(net, name, 4, 8))
    net.say(peer, "anna", votes_of(net, "dora", 0, 8))
    pending = book.pending(state)
    assert [(bundle.source_height, len(bundle.votes) // 66) for bundle in pending] == [(4, 3)]
    net.mine("anna", 3)
    assert state.tip.justified == 8


def test_the_book_is_bounded() -> None:
    net = grown(9)
    state = net["anna"].engine.chain.state
    book = VoteBook()
    for number in range(500):
        target = number.to_bytes(32)
        book.open_any(VoteBundle(1, 4, bytes(32), 8, target, bytes(66)), state)
    assert len(book) <= MAX_LINKS + 128
    assert book.active() == []
    stale = VoteBundle(1, 0, bytes(32), 0, bytes(32), bytes(66))
    assert VoteBook().open_any(stale, state) is None
    assert book.open(state, BlockRef(8, bytes(32)), BlockRef(4, bytes(32))) is None
    assert list(indexes(0b1010_0001)) == [0, 5, 7]


# Staging


@pytest.fixture(params=["memory", "file"])
def staging(request: pytest.FixtureRequest, tmp_path: Path) -> Staging:
    return MemoryStaging() if request.param == "memory" else FileStaging(tmp_path / "headers", bytes(32))


def test_staging_keeps_headers_by_height(staging: Staging) -> None:
    net = grown(8)
    headers = sealed_of(net, 1, 8)
    staging.append(headers[:5])
    staging.append(headers[5:])
    assert len(staging) == 8
    assert staging.read(3, 2) == headers[2:4]
    assert staging.read(8, 5) == headers[7:]
    assert staging.read(9, 5) == []
    assert list(staged_headers(staging, 8)) == [(each.header, each.signature) for each in headers]
    assert staged_ref(staging, 0, bytes(32)) == BlockRef(0, bytes(32))
    assert staged_ref(staging, 2, bytes(32)) == BlockRef(2, header_hash(headers[1].header))
    with pytest.raises(RuleError):
        staged_ref(staging, 9, bytes(32))
    with pytest.raises(RuleError):
        list(staged_headers(staging, 9))
    staging.clear()
    assert len(staging) == 0


def test_a_damaged_staging_file_is_used_up_to_the_damage(tmp_path: Path) -> None:
    net = grown(8)
    path = tmp_path / "headers"
    staging = FileStaging(path, net.world.chain_id)
    staging.append(sealed_of(net, 1, 8))
    data = bytearray(path.read_bytes())
    data[5 * SEALED_BYTES + 10] ^= 1
    path.write_bytes(bytes(data[:-10]))
    again = FileStaging(path, net.world.chain_id)
    assert len(again) == 5
    again.append(sealed_of(net, 6, 3))
    assert len(FileStaging(path, net.world.chain_id)) == 8
    assert len(FileStaging(path, bytes(32))) == 0


# Snapshots from peers that are wrong or unhelpful


def scripted(net: Net, liar: str, change: Any) -> None:
    """Change what one node says."""
    liar_id = net[liar].id
    net.twist = lambda source, message: change(message) if source == liar_id else message


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (
            lambda message: (
                replace(message, data=message.data[:-1])
                if isinstance(message, SnapshotPart) and message.data
                else message
            ),
            "snapshot_size",
        ),
        (
            lambda message: (
                Bodies(tuple(replace(each, body=b"\x92\x90\x90") for each in message.bodies))
                if isinstance(message, Bodies)
                else message
            ),
            "merkle_root_wrong",
        ),
        (
            lambda message: (
                Headers((replace(message.headers[0], header=bytes(158)), *message.headers[1:]))
                if isinstance(message, Headers)
                else message
            ),
            "header_version",
        ),
    ],
    ids=["size", "body", "header"],
)
def test_wrong_answers_to_a_new_node_are_banned(change: Any, code: str) -> None:
    net = snapshots()
    scripted(net, "bert", change)
    node = net.add("eva")
    net.link("eva", "bert")
    net.settle()
    assert [drop.code for drop in node.drops] == [code]
    net.link("eva", "anna")
    net.pass_time(5)
    assert net["anna"].engine.chain.tip_hash == node.engine.chain.tip_hash


@pytest.mark.parametrize(
    "change",
    [
        lambda message: replace(message, data=None) if isinstance(message, SnapshotPart) else message,
        lambda message: (
            Bodies(tuple(replace(each, body=None) for each in message.bodies))
            if isinstance(message, Bodies)
            else message
        ),
        lambda message: (
            Snapshots(
                (
                    SnapshotOffer(BlockRef(10**6, bytes(32)), bytes(32), 100),
                    SnapshotOffer(BlockRef(14, bytes(32)), bytes(32), 100),
                    SnapshotOffer(BlockRef(15, bytes(32)), bytes(32), 100),
                )
            )
            if isinstance(message, Snapshots)
            else message
        ),
    ],
    ids=["no part", "no body", "no fitting offer"],
)
def test_what_one_peer_does_not_have_another_gives(change: Any) -> None:
    net = snapshots()
    scripted(net, "bert", change)
    node = net.add("eva")
    net.link("eva", "bert")
    net.link("eva", "anna")
    net.pass_time(60)
    assert net.same_tip()
    assert node.drops == []
    assert node.told(SnapshotAdopted)


def test_mixed_parts_that_do_not_fit_are_fetched_from_one_peer_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("snapshot_sync", "serving"):
        monkeypatch.setattr(f"ledger_core.node.engine.{module}.SNAPSHOT_PART_BYTES", 300)
    net = snapshots()

    def forged(message: Message) -> Message:
        if isinstance(message, SnapshotPart) and message.data:
            return replace(message, data=message.data[:-1] + bytes((message.data[-1] ^ 1,)))
        return message

    scripted(net, "bert", forged)
    node = net.add("eva")
    for name in ("bert", "anna", "cara"):
        net.link("eva", name)
    net.pass_time(30)
    assert net["anna"].engine.chain.tip_hash == node.engine.chain.tip_hash
    assert node.told(SnapshotAdopted)
    assert {drop.code for drop in node.drops} <= {"snapshot_forged"}


def test_staged_headers_of_another_branch_lead_to_a_full_sync() -> None:
    net = snapshots()
    other = Net()
    for _ in range(30):
        other.mine("anna", wait=21)
    node = net.add("eva")
    node.staging.append(sealed_of(other, 1, 30))
    node.start()
    net.link("eva", "anna")
    net.pass_time(5)
    assert net.same_tip()
    assert node.told(SnapshotAdopted) == []
    assert len(node.staging) == 0


def test_headers_from_the_future_end_a_first_sync_for_now() -> None:
    net = snapshots(30)
    node = net.add("eva")
    node.skew = -2000.0
    node.start()
    net.link("eva", "anna")
    net.settle()
    assert node.drops == []
    assert not node.engine.synced or node.engine.chain.height < 30


def test_blocks_found_during_a_first_sync_are_caught_up_with() -> None:
    net = snapshots()
    node = net.add("eva")
    net.mute = lambda _source, _target, message: isinstance(message, Snapshots)
    net.link("eva", "anna")
    net.settle()
    assert node.engine._snapshots.active
    block = net["anna"].template_block()
    assert block is not None
    net.settle()
    anna = node.engine.peers[net["anna"].id]
    assert anna.tip == ref(block)
    net.mute = lambda _source, _target, _message: False
    net.pass_time(60)
    assert net.same_tip()
    assert decode_header(block.header).height == node.engine.chain.height


def test_progress_is_visible() -> None:
    net = snapshots()
    node = net.add("eva")
    net.mute = lambda _source, _target, message: isinstance(message, Snapshots)
    net.link("eva", "anna")
    net.settle()
    progress = node.engine.progress(net.now)
    assert (progress.height, progress.target, progress.synced) == (0, 60, False)
    assert (progress.phase, progress.claimed) == ("snapshot", 60)
    assert progress.voting_blocked == SYNCING
    there = net[HOMES[0]].engine.progress(net.now)
    assert there.synced
    assert there.phase is None


def test_a_sync_tells_what_it_fetches_and_how_high_its_peers_are() -> None:
    net = snapshots()
    node = net.add("eva")
    net.mute = lambda _source, _target, message: isinstance(message, Headers)
    net.link("eva", "anna")
    net.settle()
    progress = node.engine.progress(net.now)
    assert (progress.phase, progress.target, progress.claimed) == ("headers", 0, 60)
    whole = net.add("fred", full_sync=True)
    net.mute = lambda _source, _target, message: isinstance(message, Bodies)
    net.link("fred", "anna")
    net.settle()
    progress = whole.engine.progress(net.now)
    assert (progress.phase, progress.height, progress.claimed) == ("blocks", 0, 60)


def test_every_hold_has_a_code_that_the_api_names() -> None:
    """Programs, Home Assistant's sensors among them, know the codes by these lists."""
    made = [each for each in vars(holds).values() if isinstance(each, holds.Hold)]
    made += [holds.clock_wrong(""), holds.other_copy(""), holds.watching(1), holds.disk_full("")]
    assert {each.code for each in made} == {*holds.MINING_CODES, *holds.VOTING_CODES}
