"""A scripted hostile peer: whatever it says, the engine stays on the right branch, and within its bounds."""

from collections.abc import Iterator
from hashlib import sha256
from itertools import batched
from typing import Any

import pytest
from msgspec.structs import replace

from ledger_core.keys import SoftwareSigner
from ledger_core.node.engine import record_relay, silence
from ledger_core.node.engine.outputs import Equivocation
from ledger_core.node.messages import (
    MAX_BODIES,
    BlockRef,
    Bodies,
    Body,
    Compact,
    GetBodies,
    GetCompact,
    GetHeaders,
    GetParts,
    GetRecords,
    GetSnapshotPart,
    GetVotes,
    Headers,
    Inventory,
    LinkVoters,
    NewBlock,
    Parts,
    Ping,
    Pong,
    Records,
    SealedHeader,
    SnapshotPart,
    Status,
    Votes,
    VoteSummary,
)
from ledger_core.records.block import (
    Block,
    BlockBody,
    body_root,
    decode_header,
    encode_block_body,
    header_hash,
)
from ledger_core.records.codec import Envelope, Record, encode_body, open_envelope, record_message
from ledger_core.records.votes import VOTE_NONCE, Vote, VoteBundle
from ledger_core.rules.assemble import assemble, bundle_votes, seal, search_nonce
from ledger_core.rules.state import State
from tests.core.world import World
from tests.node.virtual import HOMES, Net, announce, ref


@pytest.fixture
def net() -> Net:
    made = Net()
    made.mesh()
    for number in range(6):
        made.mine(HOMES[number % 4])
    return made


def drop_codes(net: Net, name: str = "anna") -> list[str]:
    return [drop.code for drop in net[name].drops]


def forge(
    net: Net,
    *records: Record,
    state: State | None = None,
    check: bool = True,
    miner: str = "dora",
    **header: Any,
) -> Block:
    """A block on anna's tip with real work and a real signature, whatever is in it."""
    base = (state or net["anna"].engine.chain.state).copy()
    key = net.world[miner].node
    if check:
        template = assemble(base, records, (), key.public_key, int(net.now))
        body, plain = template.body, template.header
    else:
        template = assemble(base, (), (), key.public_key, int(net.now))
        body = encode_block_body(BlockBody(tuple(record.envelope for record in records)))
        plain = replace(template.header, count=len(records), merkle_root=body_root(list(records), ()))
    worked = search_nonce(replace(plain, **header))
    assert worked is not None
    return seal(worked, body, key)


def give(net: Net, peer: bytes, block: Block, target: str = "anna") -> None:
    """Announce a block and give its body when it is asked for."""
    net.say(peer, target, announce(block))
    for _ in range(3):
        asked = bool(net.asked(peer, GetCompact) or net.asked(peer, GetBodies))
        net.heard[peer].clear()
        if not asked:
            return
        net.say(peer, target, Bodies((Body(block.hash, block.body),)))


# Lies about work and heights


def test_a_claimed_height_that_is_never_shown_costs_patience(net: Net) -> None:
    peer = net.join("mallory", "anna", tip=BlockRef(100_000, bytes(32)))
    for number in range(20):
        if drop_codes(net):
            break
        if net.asked(peer, GetHeaders):
            net.heard[peer].clear()
            net.say(peer, "anna", Headers(()))
        tip = BlockRef(100_000, number.to_bytes(32))
        status = Status(int(net.now), tip, 0, BlockRef(0, net.world.chain_id))
        net.say(peer, "anna", Ping(number, status))
    assert drop_codes(net) == ["patience"]
    assert net["anna"].engine.synced
    assert net["anna"].engine.template(net.now) is not None


def test_headers_without_work_are_banned_at_once(net: Net) -> None:
    peer = net.join("mallory", "anna")
    block = forge(net)
    header = decode_header(block.header)
    tries = (replace(header, nonce=nonce).encode() for nonce in range(1000))
    lazy = next(data for data in tries if header_hash(data)[0] & 0x80)
    net.say(peer, "anna", NewBlock(SealedHeader(lazy, block.signature), 0, 0))
    assert drop_codes(net) == ["work_missing"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"target": 0x20_00FFFF}, "target_wrong"),
        ({"height": 3}, "header_height"),
        ({"version": 9}, "header_version"),
        ({"time": 1_800_000_000}, "time_too_old"),
        ({"state_hash": bytes(31) + b"\1"}, "state_hash_unexpected"),
    ],
)
def test_wrong_headers_are_named(net: Net, change: dict[str, Any], code: str) -> None:
    peer = net.join("mallory", "anna")
    block = forge(net, **change)
    net.say(peer, "anna", announce(block))
    # A height at or below the final one is only ignored.
    assert drop_codes(net) == [code]
    assert net["anna"].engine.chain.height == 6


def test_a_foreign_miner_signature_is_banned(net: Net) -> None:
    peer = net.join("mallory", "anna")
    block = forge(net)
    net.say(peer, "anna", NewBlock(SealedHeader(block.header, bytes(64)), 0, 0))
    assert drop_codes(net) == ["signature_invalid"]


def test_a_false_claim_to_a_justified_checkpoint_is_found_out(net: Net) -> None:
    peer = net.join("mallory", "anna")
    tip = net["anna"].store.block(net["anna"].engine.chain.tip_hash)
    assert tip is not None
    net.say(peer, "anna", announce(tip, justified=400))
    assert drop_codes(net) == ["claim_false"]


def test_a_false_claim_for_a_worse_branch_is_found_out(net: Net) -> None:
    net.part("dora")
    fork = net["dora"].template_block()
    assert fork is not None
    net.mine("anna", 2)
    peer = net.join("mallory", "anna")
    net.say(peer, "anna", announce(fork, justified=400))
    # The branch is fetched because of the claim, and turns out to have nothing justified.
    assert len(net.asked(peer, GetCompact)) == 1
    net.say(peer, "anna", Bodies((Body(fork.hash, fork.body),)))
    assert drop_codes(net) == ["claim_false"]
    assert net["anna"].engine.chain.height == 8


def test_unasked_and_unconnected_headers(net: Net) -> None:
    peer = net.join("mallory", "anna")
    block = forge(net)
    sealed = SealedHeader(block.header, block.signature)
    for _ in range(20):
        net.say(peer, "anna", Headers((sealed,)))
    assert drop_codes(net) == ["patience"]
    other = net.join("other", "anna", tip=BlockRef(7, bytes(31) + b"\1"))
    assert net.asked(other, GetHeaders)
    net.say(other, "anna", Headers((sealed, sealed)))
    assert drop_codes(net)[-1] == "headers_unconnected"


def test_a_foreign_genesis_is_refused(net: Net) -> None:
    peer = net.join("mallory", "anna")
    net.say(peer, "anna", GetHeaders((BlockRef(5, bytes(32)), BlockRef(0, bytes(32))), 10))
    assert drop_codes(net) == ["genesis_foreign"]


# Bodies


def test_withheld_bodies_do_not_stop_the_chain(net: Net) -> None:
    peer = net.join("mallory", "anna")
    block = forge(net)
    net.say(peer, "anna", announce(block))
    assert net["anna"].engine.chain.height == 6
    # Mining goes on meanwhile, and so does the others' branch.
    assert net["anna"].engine.template(net.now) is not None
    net.mine("bert", 2, wait=5)
    assert net["anna"].engine.chain.height == 8
    # Its silence is counted whenever it says something again.
    for _ in range(silence.MAX_WITHHELD + 1):
        net.say(peer, "anna", announce(forge(net)))
        net.pass_time(25, 5)
    assert drop_codes(net) == ["bodies_withheld"]


def test_a_withheld_branch_that_claims_to_be_the_best_costs_no_body_twice(net: Net) -> None:
    """Looking at it again and again must not drop the bodies of the others' branch."""
    peer = net.join("mallory", "anna")
    net.say(peer, "anna", replace(announce(forge(net)), justified=10**6))
    net.mine("bert", 8, wait=5)
    assert net["anna"].engine.chain.height == net["bert"].engine.chain.height


def test_a_claim_whose_block_does_not_come_holds_nobody_up(net: Net) -> None:
    peer = net.join("mallory", "anna")
    block = forge(net)
    net.say(peer, "anna", replace(announce(block), justified=net["anna"].engine.chain.height))
    net.mine("bert", 1, wait=1)
    assert net["anna"].engine.chain.height == 6, "the claim may be true"
    net.mine("bert", 2, wait=2)
    assert net["anna"].engine.chain.height == net["bert"].engine.chain.height == 9


def test_a_body_that_is_not_the_blocks_is_the_givers_fault(net: Net) -> None:
    block = forge(net, net.pay("anna", "bert"))
    liar = net.join("mallory", "anna")
    honest = net.join("honest", "anna")
    net["anna"].engine._bodies._whole.add(block.hash)
    net.say(liar, "anna", announce(block))
    net.say(liar, "anna", Bodies((Body(block.hash, b"\x92\x90\x90"),)))
    assert drop_codes(net) == ["count_wrong"]
    net.say(honest, "anna", announce(block))
    net.say(honest, "anna", Bodies((Body(block.hash, block.body),)))
    assert net["anna"].engine.chain.tip_hash == block.hash


def test_an_invalid_block_bans_all_who_showed_it(net: Net) -> None:
    limit = net.world.genesis.parameters.credit_limit
    block = forge(net, net.pay("anna", "bert", 2 * limit), check=False)
    first, second = net.join("mallory", "anna"), net.join("trudy", "anna")
    net.say(second, "anna", announce(block))
    give(net, first, block)
    net.say(second, "anna", Bodies((Body(block.hash, block.body),)))
    assert sorted(drop_codes(net)) == ["funds_insufficient", "funds_insufficient"]
    assert net["anna"].engine.chain.height == 6
    # It is remembered: the next one who shows it, or something on top, is banned without a look.
    third = net.join("third", "anna")
    net.say(third, "anna", announce(block))
    assert drop_codes(net)[-1] == "parent_invalid"


def test_an_outsiders_block_is_refused(net: Net) -> None:
    stranger = SoftwareSigner(sha256(b"stranger").digest())
    template = assemble(net["anna"].engine.chain.state.copy(), (), (), stranger.public_key, int(net.now))
    header = search_nonce(template.header)
    assert header is not None
    peer = net.join("mallory", "anna")
    give(net, peer, seal(header, template.body, stranger))
    assert drop_codes(net) == ["miner_not_node"]


def test_a_wrong_state_hash_at_a_checkpoint_is_refused(net: Net) -> None:
    net.mine("anna")
    peer = net.join("mallory", "anna")
    give(net, peer, forge(net, state_hash=bytes(31) + b"\1"))
    assert drop_codes(net) == ["state_hash_wrong"]


def test_compact_blocks_that_lead_nowhere_are_fetched_whole(net: Net) -> None:
    block = forge(net, net.pay("anna", "bert"))
    peer = net.join("mallory", "anna")
    net.say(peer, "anna", announce(block))
    assert net.asked(peer, GetCompact)
    net.say(peer, "anna", Compact(block.hash, bytes(8), ()))
    (wanted,) = net.asked(peer, GetParts)
    assert wanted.records == (0,)
    net.say(peer, "anna", Parts(block.hash, (net.pay("cara", "bert").envelope,), ()))
    assert [message.blocks for message in net.asked(peer, GetBodies)] == [(ref(block),)]
    net.say(peer, "anna", Bodies((Body(block.hash, block.body),)))
    assert net["anna"].engine.chain.tip_hash == block.hash
    assert drop_codes(net) == []


def test_parts_of_the_wrong_number_are_given_up(net: Net) -> None:
    block = forge(net, net.pay("anna", "bert"))
    peer = net.join("mallory", "anna")
    net.say(peer, "anna", announce(block))
    net.say(peer, "anna", Compact(block.hash, bytes(8), ()))
    net.say(peer, "anna", Parts(block.hash, (), ()))
    assert net.asked(peer, GetBodies)


def test_unasked_answers_cost_patience(net: Net) -> None:
    for number, message in enumerate(
        [
            Bodies((Body(bytes(32), None),)),
            Compact(bytes(32), b"", ()),
            Parts(bytes(32), (), ()),
            Pong(1, Status(int(net.now), BlockRef(0, bytes(32)), 0, BlockRef(0, bytes(32)))),
            SnapshotPart(bytes(32), 0, b"part"),
            Records((net.pay("anna", "bert").envelope,)),
            GetParts(BlockRef(1, bytes(32)), (), ()),
            GetVotes((LinkVoters(BlockRef(0, bytes(32)), BlockRef(4, bytes(32)), b"\1"),)),
            GetRecords((bytes(32),)),
        ]
    ):
        peer = net.join(f"noisy {number}", "anna")
        for _ in range(500):
            if len(drop_codes(net)) > number:
                break
            net.say(peer, "anna", message)
        assert drop_codes(net)[number:] == ["patience"], message


# Private branches


def test_a_private_branch_with_a_thousand_times_the_work_stays_out_below_final() -> None:
    net = Net()
    net.mesh()
    for number in range(14):
        net.mine(HOMES[number % 4])
    assert net.finals() == [4] * 4
    before = net["anna"].engine.chain.tip_hash
    private = list(private_branch(net, 600))
    peer = net.join("mallory", "anna", tip=ref(private[-1]))
    sealed = [SealedHeader(block.header, block.signature) for block in private]
    assert net.asked(peer, GetHeaders)
    net.say(peer, "anna", Headers(tuple(sealed)))
    assert net["anna"].engine.chain.tip_hash == before
    assert drop_codes(net) == []
    # No way leads to it, and saying it again and again is too much.
    for block in private[-40:]:
        net.say(peer, "anna", announce(block))
        net.say(peer, "anna", Headers(tuple(sealed)))
    assert drop_codes(net) == ["patience"]
    assert len(net["anna"].engine._tree) == 0
    assert net["anna"].engine.chain.tip_hash == before


def private_branch(net: Net, blocks: int) -> Iterator[Block]:
    """A branch from block 1 on, a second apart: far more work than the honest one, all by one node."""
    world = World(HOMES, net.world.genesis.parameters)
    first = net["anna"].store.block_at(1)
    assert first is not None
    world.now = decode_header(first.header).time
    world.apply(first)
    for _ in range(blocks):
        world.mine(miner="dora", step=1)
        yield world.blocks[-1]


def test_a_private_branch_does_not_undo_what_is_justified() -> None:
    net = Net()
    net.mesh()
    for number in range(8):
        net.mine(HOMES[number % 4])
    assert {engine.chain.state.tip.justified for engine in net.engines} == {4}
    honest = net["anna"].engine.chain.tip_hash
    private = list(private_branch(net, 200))
    peer = net.join("mallory", "anna", tip=ref(private[-1]))
    net.say(peer, "anna", Headers(tuple(SealedHeader(b.header, b.signature) for b in private)))
    by_hash = {block.hash: block for block in private}
    for _ in range(60):
        asked = [each for message in net.asked(peer, GetBodies) for each in message.blocks]
        asked += [message.block for message in net.asked(peer, GetCompact)]
        net.heard[peer].clear()
        if not asked:
            break
        for part in batched(asked, MAX_BODIES, strict=False):
            net.say(peer, "anna", Bodies(tuple(Body(each.hash, by_hash[each.hash].body) for each in part)))
    assert net["anna"].engine.chain.index.get(private[-1].hash) is not None
    assert net["anna"].engine.chain.tip_hash == honest
    net.mine("bert", 6)
    assert net.same_tip()


# Records


def test_a_malformed_record_is_banned(net: Net) -> None:
    peer = net.join("mallory", "anna")
    net.say(peer, "anna", Records((Envelope(b"\x93junk", bytes(64)),)))
    assert drop_codes(net) == ["record_malformed"]


def test_a_forged_record_is_banned(net: Net) -> None:
    peer = net.join("mallory", "anna")
    record = net.pay("anna", "bert")
    net.say(peer, "anna", Inventory((record.id,)))
    net.say(peer, "anna", Records((replace(record.envelope, signature=bytes(64)),)))
    assert drop_codes(net) == ["signature_invalid"]
    assert record.id not in net["anna"].engine.pool


def test_a_vote_among_records_is_banned(net: Net) -> None:
    peer = net.join("mallory", "anna")
    vote, signature = net.world.vote("dora", 0, 0)
    vote = replace(vote, target_height=4)
    envelope = Envelope(encode_body(vote), signature)
    record = open_envelope(envelope, net.world.prefix)
    net.say(peer, "anna", Inventory((record.id,)))
    net.say(peer, "anna", Records((envelope,)))
    assert drop_codes(net) == ["vote_not_bundled"]


def test_records_that_the_rules_refuse_cost_a_point_each_on_the_same_tip(net: Net) -> None:
    chain = net["anna"].engine.chain
    peer = net.join("mallory", "anna", tip=BlockRef(chain.height, chain.tip_hash))
    limit = net.world.genesis.parameters.credit_limit
    batches = 0
    while not drop_codes(net):
        batches += 1
        records = [net.pay("anna", "bert", 2 * limit) for _ in range(50)]
        net.say(peer, "anna", Inventory(tuple(record.id for record in records)))
        net.say(peer, "anna", Records(tuple(record.envelope for record in records)))
    assert batches == 5
    assert drop_codes(net) == ["patience"]
    assert len(net["anna"].engine.pool) == 0


def test_endless_inventories_are_bounded(net: Net) -> None:
    peer = net.join("mallory", "anna")
    relay = net["anna"].engine._relay
    for number in range(30):
        ids = tuple(sha256(f"{number} {place}".encode()).digest() for place in range(1000))
        net.say(peer, "anna", Inventory(ids))
    assert len(relay._asked) <= record_relay.MAX_ASKED_PER_PEER
    assert len(net["anna"].engine.peers[peer].known_records) <= 8192
    net.pass_time(15, 5)
    assert drop_codes(net) == []  # it may be busy …
    answer_pings(net, peer)
    assert drop_codes(net) == ["patience"]  # … but not when it has answered what was asked later
    assert len(relay._asked) == 0
    # Others are heard as before.
    net.submit("bert", net.pay("anna", "bert"))
    assert len(net["anna"].engine.pool) == 1


def test_a_record_is_asked_elsewhere_when_it_does_not_come(net: Net) -> None:
    record = net.pay("anna", "bert")
    first, second = net.join("first", "anna"), net.join("second", "anna")
    for peer in (first, second):
        net.say(peer, "anna", Inventory((record.id,)))
    assert net.asked(first, GetRecords)
    assert net.asked(second, GetRecords) == []
    net.pass_time(12, 1)
    assert net.asked(second, GetRecords)
    net.say(second, "anna", Records((record.envelope,)))
    assert record.id in net["anna"].engine.pool


def answer_pings(net: Net, peer: bytes, target: str = "anna") -> None:
    """Wait for the next ping and answer it."""
    net.heard[peer].clear()
    net.pass_time(60, 5)
    (ping,) = net.asked(peer, Ping)
    net.say(peer, target, Pong(ping.token, ping.status))


def patience_of(net: Net, name: str, peer: bytes) -> float:
    return net[name].engine.peers[peer].patience


def test_a_record_that_a_block_took_meanwhile_was_not_kept_back(net: Net) -> None:
    """Busy honest nodes tell of records, mine them, and can't give them from their pools any more."""
    peer = net.join("busy", "anna")
    records = [net.pay("anna", "bert") for _ in range(3)]
    net.say(peer, "anna", Inventory(tuple(record.id for record in records)))
    give(net, peer, forge(net, *records))
    full = patience_of(net, "anna", peer)
    net.pass_time(15, 5)
    assert patience_of(net, "anna", peer) == full
    assert len(net["anna"].engine._relay._asked) == 0


def test_a_late_answer_is_taken(net: Net) -> None:
    """The request has run out; the records come all the same, and nobody is blamed twice."""
    peer = net.join("slow", "anna")
    records = [net.pay("anna", "bert") for _ in range(150)]
    net.say(peer, "anna", Inventory(tuple(record.id for record in records)))
    net.pass_time(12, 3)
    net.say(peer, "anna", Records(tuple(record.envelope for record in records)))
    assert drop_codes(net) == []
    assert len(net["anna"].engine.pool) == 150


def test_what_was_right_on_another_branch_costs_nobody_anything(net: Net) -> None:
    """Streets that were parted pass on what only one of them can take."""
    peer = net.join("parted", "anna", tip=BlockRef(6, bytes(32)))
    limit = net.world.genesis.parameters.credit_limit
    full = patience_of(net, "anna", peer)
    for _ in range(8):
        records = [net.pay("anna", "bert", 2 * limit) for _ in range(50)]
        net.say(peer, "anna", Inventory(tuple(record.id for record in records)))
        net.say(peer, "anna", Records(tuple(record.envelope for record in records)))
    assert patience_of(net, "anna", peer) == full
    assert len(net["anna"].engine.pool) == 0


# Votes


def votes_of(net: Net, name: str, source: int, target: int, **changes: Any) -> Votes:
    """One node's vote on the wire."""
    state = net["anna"].engine.chain.state
    key = net.world[name].node
    vote = Vote(
        key.public_key,
        state.checkpoints[target].time,
        VOTE_NONCE,
        source,
        state.checkpoints[source].hash,
        target,
        state.checkpoints[target].hash,
    )
    signature = key.sign(record_message(net.world.chain_id, encode_body(vote)))
    (bundle,) = bundle_votes([(vote, signature)], state.node_keys.get)
    return Votes((replace(bundle, **changes),))


def test_forged_votes_are_banned(net: Net) -> None:
    peer = net.join("mallory", "anna")
    bundle = votes_of(net, "cara", 0, 4).bundles[0]
    for _ in range(3):
        net.say(peer, "anna", Votes((replace(bundle, votes=bundle.votes[:2] + bytes(64)),)))
    assert drop_codes(net) == ["patience"]
    other = net.join("other", "anna")
    net.say(other, "anna", Votes((replace(bundle, votes=bundle.votes + b"\0"),)))
    assert drop_codes(net)[-1] == "votes_malformed"


def test_votes_of_other_branches_are_not_gathered(net: Net) -> None:
    peer = net.join("mallory", "anna")
    votes = votes_of(net, "cara", 0, 4)
    bundle = votes.bundles[0]
    net.say(peer, "anna", Votes((replace(bundle, target_hash=bytes(32)),)))
    link = LinkVoters(BlockRef(0, net.world.chain_id), BlockRef(4, bytes(32)), b"\xff" * 8192)
    net.say(peer, "anna", VoteSummary((link,)))
    assert len(net["anna"].engine._book) <= 1
    assert net.asked(peer, GetVotes) == []


def test_equivocating_votes_are_told_with_both_signatures() -> None:
    net = Net()
    net.mesh()
    for number in range(9):
        net.mine(HOMES[number % 3])
    state = net["anna"].engine.chain.state
    assert state.tip.justified == 4
    peer = net.join("mallory", "anna")
    # From 4 to 8 and from 0 to 8: no honest node signs both.
    net.say(peer, "anna", votes_of(net, "dora", 4, 8))
    net.say(peer, "anna", votes_of(net, "dora", 0, 8))
    (told,) = net["anna"].told(Equivocation)
    assert told.node == net.world["dora"].node.public_key
    assert {told.first.source_height, told.second.source_height} == {0, 4}
    net.mine("anna", 6)
    assert net.same_tip("anna", "bert", "cara")


def test_a_conflicting_vote_in_a_side_block_is_caught() -> None:
    net = Net()
    net.mesh()
    for number in range(3):
        net.mine(HOMES[number])
    net.part("anna", "bert")
    for name, count in (("anna", 4), ("cara", 6)):
        for _ in range(count):
            net.mine(name, wait=8)
    # Both halves voted for their own block at height 4. Dora also votes for the other one, in anna's block.
    state = net["anna"].engine.chain.state
    key = net.world["dora"].node
    row = state.checkpoints[4]
    vote = Vote(key.public_key, row.time, VOTE_NONCE, 0, net.world.chain_id, 4, row.hash)
    signature = key.sign(record_message(net.world.chain_id, encode_body(vote)))
    bundle = bundle_votes([(vote, signature)], state.node_keys.get)[0]
    net["anna"].engine._votes.absorb(VoteBundle(*(getattr(bundle, f) for f in VoteBundle.__struct_fields__)))
    net.mesh()
    net.pass_time(3)
    assert net.same_tip()
    assert [event.node for event in net["anna"].told(Equivocation)] == [key.public_key]


# Serving


def test_what_is_not_there_is_said_so(net: Net) -> None:
    peer = net.join("curious", "anna")
    net.say(peer, "anna", GetBodies((BlockRef(2, bytes(32)), BlockRef(99, bytes(32)))))
    assert net.asked(peer, Bodies)[-1].bodies == (Body(bytes(32), None), Body(bytes(32), None))
    net.say(peer, "anna", GetSnapshotPart(BlockRef(3, bytes(32)), 0))
    net.say(peer, "anna", GetCompact(BlockRef(2, bytes(32))))
    assert net.asked(peer, Bodies)[-1].bodies[0].body is None
    assert drop_codes(net) == []


def test_answers_fit_into_a_message(net: Net) -> None:
    peer = net.join("curious", "anna")
    store = net["anna"].store
    refs = [ref(block) for height in range(1, 7) if (block := store.block_at(height)) is not None]
    net.say(peer, "anna", GetBodies(tuple(refs * 10)))
    assert len(net.asked(peer, Bodies)[-1].bodies) == 60
    net.say(peer, "anna", GetParts(refs[0], (0, 1, 2), ()))
    assert net.asked(peer, Bodies)[-1].bodies[0].hash == refs[0].hash
    net.say(peer, "anna", GetParts(refs[0], (), ()))
    assert net.asked(peer, Parts)


def test_a_silent_peer_is_let_go_without_a_ban(net: Net) -> None:
    net.join("mute", "anna")
    net.pass_time(400, 10)
    (drop,) = net["anna"].drops
    assert (drop.code, drop.ban_s) == ("silent", 0)
