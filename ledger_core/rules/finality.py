"""Votes and finality: Casper FFG over the community's nodes (Buterin and Griffith 2017, EIP-1011).

A link from a justified checkpoint to a later one with more than two thirds of the quorum justifies the later
one; where both are neighbours, the earlier one is final. A node that joins counts from the next final
checkpoint on; one that is revoked or silent leaves at once. Silence alone never lets less than half of all
nodes decide: two halves of a street that lose sight of each other must not both reach finality.
"""

from collections.abc import Iterator, Sequence
from struct import Struct

from msgspec.structs import replace

from ledger_core.errors import RuleError
from ledger_core.keys import verify
from ledger_core.records.codec import Record, decode_body, encode_body, record_message
from ledger_core.records.types import Role
from ledger_core.records.votes import VOTE_NONCE, Evidence, SignedVote, Vote, VoteBundle
from ledger_core.rules.accounts import pay_final_fees
from ledger_core.rules.context import Context, body_of
from ledger_core.rules.events import CheckpointFinal, CheckpointJustified, NodePunished
from ledger_core.rules.members import owner_of_node, punish_node
from ledger_core.rules.rows import CheckpointRow
from ledger_core.rules.state import CHAIN, State

_VOTE = Struct(">H64s")
"""A vote inside a bundle."""

_VOTER = Struct(">H64x")
"""The voter of a vote inside a bundle."""

type SignatureCheck = tuple[bytes, bytes, bytes]
"""Public key, message, signature."""


def vote_of(bundle: VoteBundle, node: bytes) -> Vote:
    """Return one node's vote as it signed it."""
    return Vote(
        node,
        bundle.created,
        VOTE_NONCE,
        bundle.source_height,
        bundle.source_hash,
        bundle.target_height,
        bundle.target_hash,
    )


_VOTER_AT = encode_body(Vote(b"\xff" * 32, 0, VOTE_NONCE, 0, bytes(32), 0, bytes(32))).index(b"\xff" * 32)
"""Where a vote's body holds the voter's key."""


def vote_message_parts(bundle: VoteBundle, prefix: bytes) -> tuple[bytes, bytes]:
    """Return what stands before and after the voter's key in the signed bytes of all votes of a bundle.

    They differ in nothing else, and encoding each would cost more than anything but its signature.
    """
    data = encode_body(vote_of(bundle, bytes(32)))
    return prefix + data[:_VOTER_AT], data[_VOTER_AT + 32 :]


def votes_in(bundle: VoteBundle) -> Iterator[tuple[int, bytes]]:
    """Yield member index and signature of each vote of a bundle."""
    return _VOTE.iter_unpack(bundle.votes)


def apply_bundle(ctx: Context, bundle: VoteBundle) -> None:
    """Count the votes for one link, and justify or finalise what they suffice for.

    Signatures are verified before. Raises RuleError `vote_link`, `vote_source`, `vote_stale`,
    `vote_unordered`, `vote_not_node`, `vote_duplicate`, `vote_conflicts`.
    """
    _check_link(ctx, bundle)
    key = (bundle.target_height, bundle.source_height)
    known = int.from_bytes(ctx.state.tallies.get(key, b""))
    others = 0
    for other, bits in ctx.state.tallies.items():
        if other[0] == bundle.target_height and other != key:
            others |= int.from_bytes(bits)
    voters = [index for (index,) in _VOTER.iter_unpack(bundle.votes)]
    given = 0
    for index in voters:
        given |= 1 << index
    nodes = ctx.state.nodes
    ascending = given.bit_count() == len(voters) and voters == sorted(voters)
    if not ascending or given & (known | others) or not nodes.keys() >= set(voters):
        _refuse_vote(ctx.state, voters, known, others)
    ctx.journal.put_all(ctx.state.last_votes, voters, ctx.time)
    votes = known | given
    ctx.put(ctx.state.tallies, key, votes.to_bytes((votes.bit_length() + 7) // 8))
    _justify(ctx, bundle.source_height, bundle.target_height)


def _refuse_vote(state: State, voters: Sequence[int], known: int, others: int) -> None:
    """Say which of a bundle's votes can't be counted; `known` and `others` hold a bit per member index."""
    last = -1
    for index in voters:
        if index <= last:
            raise RuleError("vote_unordered", "votes ascend by member index, once each", index=index)
        last = index
        if index not in state.nodes:
            raise RuleError("vote_not_node", "the voter is not a node of the community", index=index)
        if known >> index & 1:
            raise RuleError("vote_duplicate", "that vote is in the chain already", index=index)
        if others >> index & 1:
            raise RuleError(
                "vote_conflicts", "that node voted for this target from another source", index=index
            )


def countable(state: State, bundle: VoteBundle) -> VoteBundle | None:
    """Return the bundle with only the votes that a block can still carry; None without any."""
    taken = 0
    for (target, _), bits in state.tallies.items():
        if target == bundle.target_height:
            taken |= int.from_bytes(bits)
    votes = b"".join(
        index.to_bytes(2) + signature
        for index, signature in votes_in(bundle)
        if index in state.nodes and not taken >> index & 1
    )
    return replace(bundle, votes=votes) if votes else None


def _check_link(ctx: Context, bundle: VoteBundle) -> None:
    chain, checkpoints = ctx.state.tip, ctx.state.checkpoints
    if bundle.target_height <= chain.final:
        raise RuleError(
            "vote_stale", f"the target {bundle.target_height} is final already", target=bundle.target_height
        )
    source = checkpoints.get(bundle.source_height)
    target = checkpoints.get(bundle.target_height)
    if (
        source is None
        or target is None
        or bundle.source_height >= bundle.target_height
        or source.hash != bundle.source_hash
        or target.hash != bundle.target_hash
        or target.time != bundle.created
    ):
        raise RuleError(
            "vote_link",
            "the link does not join two checkpoints of this branch",
            source=bundle.source_height,
            target=bundle.target_height,
        )
    if not source.justified:
        raise RuleError("vote_source", "the link's source is not justified", source=bundle.source_height)


def counting_nodes(state: State) -> int:
    """Return how many nodes count for the quorum, the silent ones included."""
    return sum(node.counts for node in state.nodes.values())


def quorum_reached(state: State, votes: int, time: int) -> bool:
    """Return whether votes (a bit per member index) decide at a time: more than two thirds of the nodes that
    count and are not silent, and more than half of all that count.
    """
    counting = active = given = 0
    since = time - state.parameters.silence_s
    last_votes = state.last_votes
    for index, node in state.nodes.items():
        if node.counts:
            counting += 1
            if last_votes[index] >= since:
                active += 1
                given += votes >> index & 1
    return given * 3 > active * 2 and given * 2 > counting


def _justify(ctx: Context, source_height: int, target_height: int) -> None:
    checkpoints = ctx.state.checkpoints
    target = checkpoints[target_height]
    chain = ctx.state.tip
    neighbours = target_height - source_height == ctx.parameters.checkpoint_interval
    finalises = neighbours and source_height > chain.final
    if target.justified and not finalises:
        return
    votes = int.from_bytes(ctx.state.tallies[target_height, source_height])
    if not quorum_reached(ctx.state, votes, ctx.time):
        return
    if not target.justified:
        ctx.put(checkpoints, target_height, replace(target, justified=True))
        ctx.events.append(CheckpointJustified(target_height, target.hash))
        if target_height > chain.justified:
            ctx.put(ctx.state.chain, CHAIN, replace(chain, justified=target_height))
    if finalises:
        _finalise(ctx, source_height)


def _finalise(ctx: Context, height: int) -> None:
    state = ctx.state
    ctx.put(state.chain, CHAIN, replace(state.tip, final=height))
    for key in sorted(key for key in state.tallies if key[0] <= height):
        ctx.drop(state.tallies, key)
    for old in sorted(old for old in state.checkpoints if old < height):
        ctx.drop(state.checkpoints, old)
    for index in sorted(
        index for index, node in state.nodes.items() if not node.counts and node.joined <= height
    ):
        ctx.put(state.nodes, index, replace(state.nodes[index], counts=True))
    pay_final_fees(ctx, height)
    ctx.events.append(CheckpointFinal(height, state.checkpoints[height].hash))


def add_checkpoint(ctx: Context, block_hash: bytes, time: int) -> None:
    """Remember a checkpoint's hash and its block's time, for the votes to come."""
    ctx.put(ctx.state.checkpoints, ctx.height, CheckpointRow(block_hash, time, False))


def conflict(first: Vote, second: Vote) -> str | None:
    """Return `double` or `surround` where no honest node signs both votes, else None."""
    if first == second or first.author != second.author:
        return None
    if first.target_height == second.target_height:
        return "double"
    outer, inner = (first, second) if first.source_height < second.source_height else (second, first)
    if outer.source_height < inner.source_height and inner.target_height < outer.target_height:
        return "surround"
    return None


def apply_vote(_ctx: Context, _record: Record) -> None:
    """Refuse a single vote: blocks carry votes together, by link."""
    raise RuleError("vote_not_bundled", "votes stand in a block's vote bundles, not among its records")


def apply_evidence(ctx: Context, record: Record) -> None:
    """Take the role `node` from whoever signed two conflicting votes."""
    body = body_of(record, Evidence)
    member = ctx.state.members.get(body.author)
    if member is None or not member.roles:
        raise RuleError("member_unknown", "evidence comes from a member", key=body.author)
    first = _open_vote(ctx, body.first)
    second = _open_vote(ctx, body.second)
    offence = conflict(first, second)
    if offence is None:
        raise RuleError("evidence_no_conflict", "the two votes do not conflict")
    owner = owner_of_node(ctx, first.author)
    if owner is None or not ctx.state.members[owner].roles & Role.NODE:
        raise RuleError("evidence_no_node", "the voter is no node (any more)", key=first.author)
    punish_node(ctx, owner)
    ctx.events.append(NodePunished(owner, first.author, offence))


def _open_vote(ctx: Context, signed: SignedVote) -> Vote:
    body = decode_body(signed.body)
    if not isinstance(body, Vote):
        raise RuleError("evidence_not_votes", f"the evidence holds a {body.KIND}, not a vote")
    if not verify(body.author, record_message(ctx.state.chain_id, signed.body), signed.signature):
        raise RuleError("evidence_forged", "a vote's signature is not valid", key=body.author)
    return body
