"""Putting a block together: the records and votes that the rules take, and the header to mine."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from ledger_core.errors import LedgerError
from ledger_core.keys import Signer
from ledger_core.records.block import (
    HEADER_VERSION,
    NO_STATE_HASH,
    Block,
    BlockBody,
    Header,
    body_root,
    encode_block_body,
    header_hash,
    miner_message,
)
from ledger_core.records.codec import Record
from ledger_core.records.votes import Vote, VoteBundle
from ledger_core.rules import deadlines
from ledger_core.rules.apply import HANDLERS, apply_record
from ledger_core.rules.context import Context
from ledger_core.rules.difficulty import expand_target, next_target
from ledger_core.rules.finality import apply_bundle, countable
from ledger_core.rules.headers import is_checkpoint, median_time
from ledger_core.rules.prepare import envelope_size, require_record_size
from ledger_core.rules.state import State
from ledger_core.rules.table import Journal
from ledger_core.rules.work import search

FRAMING_BYTES = 32
"""At most so many bytes stand around a record or a bundle in a block's body."""


class Template(Struct, frozen=True):
    """A block without work: the header's nonce and the miner's signature are still to come."""

    # Seen by the garbage collector: a refusal's traceback leads back to the frames that hold the template.

    header: Header
    body: bytes
    refused: list[tuple[Record, LedgerError]]
    """Candidates that the rules do not take on this state."""


type VoteSignature = tuple[Vote, bytes]


def bundle_votes(
    votes: Iterable[VoteSignature], index_of: Callable[[bytes], int | None]
) -> tuple[VoteBundle, ...]:
    """Gather single votes by link, as a block carries them; `index_of` gives a node key's member index."""
    links: dict[tuple[int, bytes, int, bytes, int], dict[int, bytes]] = {}
    for vote, signature in votes:
        index = index_of(vote.author)
        if index is not None:
            link = (vote.target_height, vote.target_hash, vote.source_height, vote.source_hash, vote.created)
            links.setdefault(link, {})[index] = signature
    return tuple(
        VoteBundle(
            created,
            source_height,
            source_hash,
            target_height,
            target_hash,
            b"".join(index.to_bytes(2) + signatures[index] for index in sorted(signatures)),
        )
        for (target_height, target_hash, source_height, source_hash, created), signatures in sorted(
            links.items()
        )
    )


def assemble(
    state: State, candidates: Sequence[Record], bundles: Sequence[VoteBundle], miner: bytes, now: int
) -> Template:
    """Return the next block for a miner: what the rules take of the candidates, in the order given.

    The state is as before. `now` is the clock's time; the block's time is at least one second above the
    median of the last blocks. Votes that can't count any more are left out of their bundles.
    """
    tip, parameters = state.tip, state.parameters
    time = max(now, median_time(tip.times) + 1)
    journal = Journal()
    ctx = Context(state, journal, tip.height + 1, time)
    added: list[int] = []
    taken: list[Record] = []
    refused: list[tuple[Record, LedgerError]] = []
    room = parameters.block_max_bytes - FRAMING_BYTES
    try:
        deadlines.handle_deadlines(ctx, HANDLERS)
        kept = []
        for bundle in bundles:
            trimmed = countable(state, bundle)
            if trimmed is None or _bundle_size(trimmed) > room:
                continue
            if _takes(ctx, partial(apply_bundle, ctx, trimmed)) is None:
                kept.append(trimmed)
                room -= _bundle_size(trimmed)
        for record in candidates:
            size = envelope_size(record.envelope) + FRAMING_BYTES
            if size > room:
                continue
            refusal = _takes(ctx, partial(_apply_candidate, ctx, record, added))
            if refusal is None:
                taken.append(record)
                room -= size
            else:
                refused.append((record, refusal))
    finally:
        journal.revert()
        for created in reversed(added):
            state.seen.remove_last(created)
    body = BlockBody(tuple(record.envelope for record in taken), tuple(kept))
    checkpoint = is_checkpoint(tip.height + 1, parameters.checkpoint_interval)
    header = Header(
        HEADER_VERSION,
        tip.height + 1,
        tip.hash,
        body_root(taken, body.votes),
        len(taken) + len(kept),
        state.hash() if checkpoint else NO_STATE_HASH,
        time,
        next_target(parameters, state.genesis.created, tip.height, tip.times[-1]),
        miner,
        0,
    )
    return Template(header, encode_block_body(body), refused)


def _apply_candidate(ctx: Context, record: Record, added: list[int]) -> None:
    require_record_size(record.envelope, ctx.parameters.record_max_bytes)
    apply_record(ctx, record, added)


def _bundle_size(bundle: VoteBundle) -> int:
    return len(bundle.votes) + 2 * 32 + FRAMING_BYTES


def _takes(ctx: Context, apply: Callable[[], object]) -> LedgerError | None:
    """Apply something; on a refusal take back what it changed and return the refusal."""
    changes, events = len(ctx.journal.changes), len(ctx.events)
    try:
        apply()
    except LedgerError as refusal:
        ctx.journal.revert_to(changes)
        del ctx.events[events:]
        return refusal
    return None


def search_nonce(header: Header, first: int = 0, tries: int = 2**32) -> Header | None:
    """Return the header with the lowest nonce that meets its target, or None within so many tries."""
    target = expand_target(header.target)
    if target is None:
        raise ValueError(f"not a compact target: {header.target:#x}")
    nonce = search(header.encode(), target, first, tries)
    return None if nonce is None else replace(header, nonce=nonce)


def seal(header: Header, body: bytes, signer: Signer) -> Block:
    """Return the finished block with the miner's signature."""
    data = header.encode()
    return Block(data, signer.sign(miner_message(header_hash(data))), body)
