"""The table of refusals: headers, blocks, votes, evidence, and the forms of bytes."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from ledger_core.community import FUTURE_LIMIT_S
from ledger_core.records.block import EMPTY_BODY, Block, BlockBody, decode_header, encode_block_body
from ledger_core.records.codec import Envelope, Record, encode_body, record_message
from ledger_core.records.types import Role
from ledger_core.records.votes import VOTE_BYTES, VOTE_NONCE, Evidence, SignedVote, Vote, VoteBundle
from tests.core.actions import member, street, transfer
from tests.core.forge import Attempt, case, forge
from tests.core.samples import digest
from tests.core.world import World, signer

# Headers


def header(code: str, **change: Any) -> None:
    """Enter a block with one field of its header changed, mined and signed with it."""

    @case(code)
    def attempt() -> Attempt:
        world = street()
        fields = {name: value(world) if callable(value) else value for name, value in change.items()}
        return Attempt(world, forge(world), forge(world, **fields))


header("header_version", version=2)
header("header_version", version=0)
header("header_height", height=2)
header("header_height", height=4)
header("header_previous", previous=digest("another parent"))
header("header_previous", previous=lambda world: world.chain_id)
header("time_too_old", time=lambda world: world.genesis.created + 30)
header("time_too_old", time=0)
header("time_too_new", time=lambda world: world.now + 30 + FUTURE_LIMIT_S + 1)
header("time_too_new", time=2**64 - 1)
header("target_wrong", target=0x207FFFFE)
header("target_wrong", target=0)
header("target_wrong", target=0xFFFFFFFF)
header("state_hash_unexpected", state_hash=digest("state"))
header("merkle_root_wrong", merkle_root=digest("root"))
header("count_wrong", count=1)


@case("work_missing")
def _() -> Attempt:
    world = street()
    good = forge(world)
    for nonce in range(200):
        data = good.header[:-8] + nonce.to_bytes(8)
        bad = Block(data, world["anna"].node.sign(b""), good.body)
        if bad.hash[0] >= 0x80:
            return Attempt(world, good, bad)
    raise AssertionError("every nonce met the target")


@case("state_hash_wrong")
def _() -> Attempt:
    world = street()
    world.mine()
    return Attempt(world, forge(world), forge(world, state_hash=digest("another state")))


@case("state_hash_wrong")
def _() -> Attempt:
    world = street()
    world.mine()
    return Attempt(world, forge(world), forge(world, state_hash=bytes(32)))


@case("miner_not_node")
def _() -> Attempt:
    """Work alone adds nothing: a key that is no node of the community."""
    world = street()
    return Attempt(world, forge(world), forge(world, signer=signer("outsider")))


@case("miner_not_node")
def _() -> Attempt:
    """Nor may a home's own key mine, but only its node's."""
    world = street()
    return Attempt(world, forge(world), forge(world, signer=world["anna"].key))


@case("signature_invalid")
def _() -> Attempt:
    world = street()
    good = forge(world)
    return Attempt(world, good, replace(good, signature=bytes(64)))


@case("signature_invalid")
def _() -> Attempt:
    """A block signed by another node than the miner that its header names."""
    world = street()
    good = forge(world, signer=world["bert"].node)
    return Attempt(world, good, replace(good, signature=forge(world).signature))


# Records inside a block


def resealed(world: World, envelopes: Sequence[Envelope]) -> Block:
    """A block whose header fits these envelopes, whatever they are."""
    return forge(world, [world.opened(envelope) for envelope in envelopes])


def paid(world: World) -> Record:
    return transfer(world, "anna", "bert", 5)


@case("signature_invalid")
def _() -> Attempt:
    world = street()
    record = paid(world)
    good = resealed(world, [record.envelope])
    return Attempt(world, good, resealed(world, [replace(record.envelope, signature=bytes(64))]))


@case("signature_invalid")
def _() -> Attempt:
    """A record of another community: its signature and its id are for another chain."""
    world, other = street(), World(name="Other street")
    good, foreign = paid(world), transfer(other, "anna", "bert", 5, created=world.now, nonce=bytes(8))
    return Attempt(world, resealed(world, [good.envelope]), resealed(world, [foreign.envelope]))


@case("signature_invalid")
def _() -> Attempt:
    """A co-signature that is someone else's."""
    world = street()
    record = world.sign(paid(world).body, world["anna"].key, world["bert"].key)
    (co,) = record.envelope.cosignatures
    bad = replace(record.envelope, cosignatures=(replace(co, key=world["cara"].id),))
    return Attempt(world, resealed(world, [record.envelope]), resealed(world, [bad]))


@case("cosignatures_unordered")
def _() -> Attempt:
    world = street()
    record = world.sign(paid(world).body, world["anna"].key, world["bert"].key, world["cara"].key)
    first, second = record.envelope.cosignatures
    good = resealed(world, [record.envelope])
    body = BlockBody((replace(record.envelope, cosignatures=(second, first)),))
    return Attempt(world, good, replace(good, body=encode_block_body(body)))


@case("record_duplicate")
def _() -> Attempt:
    """Twice in one block."""
    world = street()
    record, other = paid(world), paid(world)
    return Attempt(world, forge(world, [record, other]), forge(world, [record, record]))


@case("record_duplicate")
def _() -> Attempt:
    """Once more in a later block; only the nonce differs from the record that is taken."""
    world = street()
    record = paid(world)
    world.mine(record)
    again = transfer(world, "anna", "bert", 5, created=record.body.created)
    return Attempt(world, again, record)


@case("record_future")
def _() -> Attempt:
    world = street()
    ahead = world.now + 30 + FUTURE_LIMIT_S
    return Attempt(
        world,
        transfer(world, "anna", "bert", 5, created=ahead),
        transfer(world, "anna", "bert", 5, created=ahead + 1),
    )


@case("record_expired")
def _() -> Attempt:
    world = street()
    oldest = world.now + 30 - world.genesis.parameters.record_max_age_s
    return Attempt(
        world,
        transfer(world, "anna", "bert", 5, created=oldest),
        transfer(world, "anna", "bert", 5, created=oldest - 1),
    )


@case("record_too_large")
def _() -> Attempt:
    world = street(record_max_bytes=1024)
    rows = [(world.now // 900 * 900 - 900 * age, 0, 0) for age in range(192)]
    small, large = (world.reading("anna", list(reversed(rows[:count]))) for count in (40, 192))
    return Attempt(world, resealed(world, [small.envelope]), resealed(world, [large.envelope]))


@case("block_too_large")
def _() -> Attempt:
    world = street(block_max_bytes=64 * 1024)
    good = forge(world)
    return Attempt(world, good, replace(good, body=good.body + bytes(64 * 1024)))


def lengthened(body: bytes) -> bytes:
    """The body with a record's amount of 5 written as a 16-bit number."""
    start = body.index(b"\xc4", 1)
    size = body[start + 1]
    wide = body[start + 2 : start + 2 + size].replace(b"\x05\xc0", b"\xcd\x00\x05\xc0")
    return body[:start] + b"\xc4" + bytes([len(wide)]) + wide + body[start + 2 + size :]


def with_body(code: str, change: Any) -> None:
    """Enter a block whose body has other bytes."""

    @case(code)
    def attempt() -> Attempt:
        world = street()
        good = forge(world, [paid(world)])
        bad = change(good.body)
        assert bad != good.body
        return Attempt(world, good, replace(good, body=bad))


with_body("block_malformed", lambda body: body[:-1])
with_body("block_malformed", lambda body: body + b"\0")
with_body("block_not_canonical", lambda body: body[:1] + b"\xdc\x00\x01" + body[2:])
with_body("record_malformed", lambda body: body.replace(b"\xa3pay", b"\xa3pax"))
with_body("record_not_canonical", lengthened)
with_body("merkle_root_wrong", lambda body: body.replace(b"\x05\xc0", b"\x06\xc0"))
with_body("count_wrong", lambda _: EMPTY_BODY)


@case("header_malformed")
def _() -> Attempt:
    world = street()
    good = forge(world)
    return Attempt(world, good, replace(good, header=good.header[:-1]))


# Votes


def voting() -> World:
    """Eight blocks: the genesis is justified, checkpoints 4 and 8 are not."""
    world = World()
    for _ in range(9):
        world.mine()
    return world


def votes(code: str, good: Any, bad: Any, stage: Any = voting) -> None:
    """Enter a block with other votes."""

    @case(code)
    def attempt() -> Attempt:
        world = stage()
        return Attempt(world, forge(world, bundles=good(world)), forge(world, bundles=bad(world)))


def all_votes(world: World) -> tuple[VoteBundle, ...]:
    return world.votes(0, 4)


def changed(**fields: Any) -> Any:
    """The votes for the first checkpoint with one field of their link changed, signed so."""

    def make(world: World) -> tuple[VoteBundle, ...]:
        (bundle,) = world.votes(0, 4)
        values = {name: value(world) if callable(value) else value for name, value in fields.items()}
        return (signed_bundle(world, replace(bundle, **values)),)

    return make


def signed_bundle(
    world: World, bundle: VoteBundle, names: Sequence[str] = ("anna", "bert", "cara")
) -> VoteBundle:
    """The bundle with valid signatures of these homes' nodes for its link."""
    pieces = []
    for name in names:
        node = world[name].node
        vote = Vote(
            node.public_key,
            bundle.created,
            VOTE_NONCE,
            bundle.source_height,
            bundle.source_hash,
            bundle.target_height,
            bundle.target_hash,
        )
        index = world.state.node_keys[node.public_key]
        pieces.append(index.to_bytes(2) + node.sign(record_message(world.chain_id, encode_body(vote))))
    return replace(bundle, votes=b"".join(pieces))


votes("vote_link", all_votes, changed(target_hash=digest("another branch")))
votes("vote_link", all_votes, changed(source_hash=digest("another branch")))
votes("vote_link", all_votes, changed(target_height=5))
votes("vote_link", all_votes, changed(source_height=4))
votes("vote_link", all_votes, changed(created=lambda world: world.now))
votes("vote_source", lambda world: world.votes(0, 8), lambda world: world.votes(4, 8))


def finalised() -> World:
    world = voting()
    world.mine(bundles=world.votes(0, 4))
    world.mine(bundles=world.votes(4, 8))
    for _ in range(2):
        world.mine()
    assert world.state.tip.final == 4
    return world


def stale(world: World) -> tuple[VoteBundle, ...]:
    time = decode_header(world.blocks[3].header).time
    bundle = VoteBundle(time, 0, world.chain_id, 4, world.state.checkpoints[4].hash, bytes(VOTE_BYTES))
    return (signed_bundle(world, bundle),)


votes("vote_stale", lambda world: world.votes(8, 12), stale, finalised)


def reordered(world: World) -> tuple[VoteBundle, ...]:
    (bundle,) = world.votes(0, 4)
    pieces = [
        bundle.votes[offset : offset + VOTE_BYTES] for offset in range(0, len(bundle.votes), VOTE_BYTES)
    ]
    return (replace(bundle, votes=b"".join(reversed(pieces))),)


def repeated(world: World) -> tuple[VoteBundle, ...]:
    (bundle,) = world.votes(0, 4)
    return (replace(bundle, votes=bundle.votes[:VOTE_BYTES] * 2 + bundle.votes[VOTE_BYTES:]),)


def by_nobody(world: World) -> tuple[VoteBundle, ...]:
    (bundle,) = world.votes(0, 4)
    return (replace(bundle, votes=bundle.votes + (999).to_bytes(2) + bytes(64)),)


def forged(world: World) -> tuple[VoteBundle, ...]:
    (bundle,) = world.votes(0, 4)
    return (replace(bundle, votes=bundle.votes[:-1] + bytes([bundle.votes[-1] ^ 1])),)


def borrowed(world: World) -> tuple[VoteBundle, ...]:
    """Anna's signature under bert's index."""
    (bundle,) = world.votes(0, 4, ["anna"])
    return (replace(bundle, votes=(1).to_bytes(2) + bundle.votes[2:]),)


votes("vote_unordered", all_votes, reordered)
votes("vote_unordered", all_votes, repeated)
votes("vote_not_node", all_votes, by_nobody)
votes("signature_invalid", all_votes, forged)
votes("signature_invalid", all_votes, borrowed)


def half_voted() -> World:
    world = voting()
    world.mine(bundles=world.votes(0, 8, ["anna"]))
    return world


votes(
    "vote_duplicate",
    lambda world: world.votes(0, 8, ["bert"]),
    lambda world: world.votes(0, 8, ["anna", "bert"]),
    half_voted,
)


def two_sources() -> World:
    """Checkpoint 4 is justified, and anna voted from it for 8."""
    world = voting()
    world.mine(bundles=world.votes(0, 4))
    world.mine(bundles=world.votes(4, 8, ["anna"]))
    return world


votes(
    "vote_conflicts",
    lambda world: world.votes(0, 8, ["bert"]),
    lambda world: world.votes(0, 8, ["anna"]),
    two_sources,
)


@case("vote_not_bundled")
def _() -> Attempt:
    world = voting()
    vote, _ = world.vote("anna", 0, 4)
    return Attempt(world, paid(world), world.sign(vote, world["anna"].node))


# Evidence


def ballot(
    world: World, target: str, source_height: int = 4, target_height: int = 8, who: str = "bert"
) -> Vote:
    node = world[who].node
    return Vote(
        node.public_key, world.now, VOTE_NONCE, source_height, digest("source"), target_height, digest(target)
    )


def cast(world: World, vote: Vote, who: str = "bert") -> SignedVote:
    data = encode_body(vote)
    return SignedVote(data, world[who].node.sign(record_message(world.chain_id, data)))


def accuse(world: World, second: SignedVote, author: str = "anna") -> Record:
    first = cast(world, ballot(world, "one"))
    return world.make(Evidence, world[author].key, first=first, second=second)


def evidence(code: str, second: Any) -> None:
    """Enter evidence with another second vote."""

    @case(code)
    def attempt() -> Attempt:
        world = street()
        good = accuse(world, cast(world, ballot(world, "two")))
        return Attempt(world, good, accuse(world, second(world)))


def offer_as_vote(world: World) -> SignedVote:
    data = encode_body(paid(world).body)
    return SignedVote(data, world["anna"].key.sign(record_message(world.chain_id, data)))


def of_another_chain(world: World) -> SignedVote:
    data = encode_body(ballot(world, "two"))
    return SignedVote(data, world["bert"].node.sign(record_message(digest("another chain"), data)))


evidence("evidence_no_conflict", lambda world: cast(world, ballot(world, "one")))
evidence("evidence_no_conflict", lambda world: cast(world, ballot(world, "two", 8, 12)))
evidence("evidence_no_conflict", lambda world: cast(world, ballot(world, "two", 4, 12)))
evidence("evidence_no_conflict", lambda world: cast(world, ballot(world, "two", 0, 4)))
evidence("evidence_no_conflict", lambda world: cast(world, ballot(world, "two", who="cara"), "cara"))
evidence("evidence_not_votes", offer_as_vote)
evidence("evidence_forged", lambda world: replace(cast(world, ballot(world, "two")), signature=bytes(64)))
evidence("evidence_forged", of_another_chain)
evidence("record_malformed", lambda _: SignedVote(b"\x00", bytes(64)))


@case("evidence_no_node")
def _() -> Attempt:
    world = street()
    cara = world["cara"]
    world.mine(member(world, world["anna"].key, cara.id, roles=int(Role.HOME)))
    good = accuse(world, cast(world, ballot(world, "two")))
    first, second = (cast(world, ballot(world, name, who="cara"), "cara") for name in ("one", "two"))
    bad = world.make(Evidence, world["anna"].key, first=first, second=second)
    return Attempt(world, forge(world, [good]), forge(world, [bad]))


@case("member_unknown")
def _() -> Attempt:
    world = street()
    world.mine(member(world, world["anna"].key, world["cara"].id, roles=0))
    second = cast(world, ballot(world, "two"))
    return Attempt(world, accuse(world, second), accuse(world, second, "cara"))
