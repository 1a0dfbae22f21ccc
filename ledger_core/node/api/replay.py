"""What happened in stored blocks, found again by applying them to an older state."""

from ledger_core.chain.model import ChainStore
from ledger_core.chain.pending import Connection, NodeKeys
from ledger_core.errors import LedgerError
from ledger_core.records.block import header_hash
from ledger_core.rules.apply import apply_block
from ledger_core.rules.genesis import genesis_state
from ledger_core.rules.prepare import prepare_block
from ledger_core.rules.state import State, load_snapshot

MAX_REPLAY: int = 4096
"""Blocks applied again at the most."""


def replay_events(store: ChainStore, above: int, limit: int = MAX_REPLAY) -> list[Connection] | None:
    """Return what happened in the active branch's blocks above a height, lowest first.

    None where no snapshot is near enough, or a body is gone: then only a fresh look at the state helps.
    """
    tip = store.tip()[0]
    state = _state_at_or_below(store, above)
    if tip - state.tip.height > limit:
        return None
    steps = []
    for height in range(state.tip.height + 1, tip + 1):
        block = store.block_at(height)
        if block is None:
            return None
        prepared = prepare_block(block, store.genesis, state.chain_id, NodeKeys(state.nodes))
        # They were verified before they were stored.
        prepared.verified = True
        applied = apply_block(state, prepared, prepared.header.time)
        if height > above:
            steps.append(Connection(prepared.hash, height, applied.events))
    return steps


def _state_at_or_below(store: ChainStore, height: int) -> State:
    for info in store.snapshots():
        header = store.header_at(info.height) if info.height <= height else None
        if header is None or header_hash(header) != info.hash:
            continue
        try:
            state = load_snapshot(store.snapshot(info.hash))
        except LedgerError:
            continue
        if state.hash() == info.state_hash:
            return state
    return genesis_state(store.genesis)
