"""Applying a block to a state, and taking it back."""

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from ledger_core.community import FUTURE_LIMIT_S
from ledger_core.errors import LedgerError, RuleError
from ledger_core.keys import verify
from ledger_core.records.codec import Record, encode_body, record_prefix
from ledger_core.rules import deadlines
from ledger_core.rules.accounts import charge_fee, collect_fees
from ledger_core.rules.auctions import end_acceptance, end_offer
from ledger_core.rules.context import Context
from ledger_core.rules.events import Event
from ledger_core.rules.finality import add_checkpoint, apply_bundle, vote_of, votes_in
from ledger_core.rules.headers import check_header, check_not_future, is_checkpoint, next_times
from ledger_core.rules.members import forget_former_node
from ledger_core.rules.prepare import PreparedBlock, failing_checks, invalid_signature, require_record_size
from ledger_core.rules.registry import FEE_KINDS, RULES
from ledger_core.rules.settlement import settle_due
from ledger_core.rules.state import CHAIN, State, Undo
from ledger_core.rules.table import Journal
from ledger_core.rules.trades import forget_closed


class Applied(Struct, frozen=True, gc=False):
    """What a block did."""

    events: list[Event]
    undo: Undo


def _forget_invitation(ctx: Context, key: bytes) -> None:
    ctx.drop(ctx.state.invitations, key)


HANDLERS: Mapping[int, deadlines.Handler] = {
    deadlines.OFFER: end_offer,
    deadlines.WAITING: end_acceptance,
    deadlines.CLOSED: forget_closed,
    deadlines.INVITATION: _forget_invitation,
    deadlines.FORMER_NODE: forget_former_node,
}


def apply_block(state: State, prepared: PreparedBlock, now: int) -> Applied:
    """Apply the block after the state's tip, at the clock's time `now`.

    Raises RuleError (or RecordError) with the state as it was before. Signatures that nobody verified yet
    are verified here.
    """
    header = prepared.header
    check_header(header, prepared.hash, state.tip, state.genesis)
    check_not_future(header, now)
    miner = _require_miner(state, header.miner)
    checkpoint = is_checkpoint(header.height, state.parameters.checkpoint_interval)
    if checkpoint and header.state_hash != state.hash():
        raise RuleError("state_hash_wrong", "the checkpoint's state hash is not that of the state before it")
    if prepared.bundles or not prepared.verified:
        _verify(state, prepared)
    journal = Journal()
    ctx = Context(state, journal, header.height, header.time)
    forgotten = state.seen.forget_before(ctx.time - state.parameters.record_max_age_s)
    added: list[int] = []
    try:
        deadlines.handle_deadlines(ctx, HANDLERS)
        for bundle in prepared.bundles:
            # Before the records: votes are signed with the node keys of the state before the block.
            apply_bundle(ctx, bundle)
        fees = 0
        for record in prepared.records:
            fees += apply_record(ctx, record, added)
        _finish(ctx, prepared, miner, fees, checkpoint=checkpoint)
    except BaseException:
        journal.revert()
        for created in reversed(added):
            state.seen.remove_last(created)
        state.seen.restore(forgotten)
        raise
    return Applied(ctx.events, Undo(journal.changes, added, forgotten))


def _require_miner(state: State, key: bytes) -> bytes:
    index = state.node_keys.get(key)
    if index is None:
        raise RuleError("miner_not_node", "the miner is not a node of the community", miner=key)
    return state.nodes[index].member


def _verify(state: State, prepared: PreparedBlock) -> None:
    """Verify what is left: all signatures, or the votes of nodes whose key was not the state's."""
    if not prepared.verified:
        for check in failing_checks(prepared.checks):
            prepared.failed(check)
        prepared.verified = True
    nodes, used = state.nodes, prepared.used_nodes
    prefix = record_prefix(state.chain_id)
    for bundle in prepared.bundles:
        for index, signature in votes_in(bundle):
            node = nodes.get(index)
            if node is None or used.get(index) == node.key:
                continue
            if not verify(node.key, prefix + encode_body(vote_of(bundle, node.key)), signature):
                raise invalid_signature(node.key)


def apply_record(ctx: Context, record: Record, added: list[int]) -> int:
    """Apply one record and remember its id; returns the fee it paid. `added` gets its creation time."""
    check_record_time(record, ctx.time, ctx.parameters.record_max_age_s)
    state = ctx.state
    if record.id in state.seen:
        raise RuleError("record_duplicate", "the record is in the chain already", record=record.id)
    body = record.body
    kind = type(body)
    fee = charge_fee(ctx, body) if kind in FEE_KINDS else 0
    RULES[kind](ctx, record)
    state.seen.add(record.id, body.created)
    added.append(body.created)
    ctx.sequence += 1
    return fee


def check_record_time(record: Record, time: int, max_age_s: int) -> None:
    """Raise RuleError `record_future` or `record_expired` unless a record fits into a block of this time."""
    created = record.body.created
    if created > time + FUTURE_LIMIT_S:
        raise RuleError(
            "record_future",
            f"the record was created at {created}, over {FUTURE_LIMIT_S} s after the block's time {time}",
            created=created,
            time=time,
        )
    if created < time - max_age_s:
        raise RuleError(
            "record_expired",
            f"the record was created at {created}; a block at {time} takes records up to {max_age_s} s old",
            created=created,
            time=time,
            max_age_s=max_age_s,
        )


def _finish(ctx: Context, prepared: PreparedBlock, miner: bytes, fees: int, *, checkpoint: bool) -> None:
    settle_due(ctx)
    collect_fees(ctx, miner, fees)
    tip = ctx.state.tip
    ctx.put(
        ctx.state.chain,
        CHAIN,
        replace(
            tip,
            height=ctx.height,
            hash=prepared.hash,
            times=next_times(tip.times, prepared.header.time),
            sequence=tip.sequence + ctx.sequence,
            deadline=ctx.time,
        ),
    )
    if checkpoint:
        add_checkpoint(ctx, prepared.hash, prepared.header.time)


def try_record(state: State, record: Record, time: int) -> list[Event]:
    """Return what a record would do in the next block at a time; raises what would refuse it.

    The state is as before in either case; signatures are not looked at.
    """
    journal = Journal()
    ctx = Context(state, journal, state.tip.height + 1, time)
    added: list[int] = []
    try:
        require_record_size(record.envelope, ctx.parameters.record_max_bytes)
        apply_record(ctx, record, added)
    finally:
        journal.revert()
        for created in reversed(added):
            state.seen.remove_last(created)
    return ctx.events


def refusal_of(state: State, record: Record, time: int) -> LedgerError | None:
    """Return why a record would be refused in the next block at a time, or None."""
    try:
        try_record(state, record, time)
    except LedgerError as error:
        return error
    return None
