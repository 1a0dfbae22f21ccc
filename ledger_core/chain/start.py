"""Starting: the newest snapshot on the active branch, the blocks above it, and the tree."""

from typing import NamedTuple, Self

from msgspec import Struct

from ledger_core.chain.index import BlockIndex, Entry
from ledger_core.chain.model import ChainStore
from ledger_core.errors import ChainError, LedgerError
from ledger_core.records.block import decode_block_body, decode_header, header_hash
from ledger_core.records.codec import decode_body
from ledger_core.rules.apply import apply_block
from ledger_core.rules.finality import counting_nodes
from ledger_core.rules.genesis import genesis_state
from ledger_core.rules.headers import MEDIAN_SPAN
from ledger_core.rules.prepare import prepare_block
from ledger_core.rules.rows import ChainRow
from ledger_core.rules.state import State, load_snapshot

REMEDY = "run energy-ledger chain rebuild"


class _Known(NamedTuple):
    """What the fork choice knows of a block that was applied."""

    justified: int
    counting: int | None

    @classmethod
    def of(cls, state: State) -> Self:
        return cls(state.tip.justified, counting_nodes(state))


class Start(Struct, frozen=True, gc=False):
    """What a chain starts with."""

    state: State
    index: BlockIndex
    tip: Entry


def load_start(store: ChainStore) -> Start:
    """Return the state at the tip and the tree; raises ChainError with the remedy where data is missing."""
    state = best_snapshot(store)
    known = {state.tip.hash: _Known.of(state)}
    oldest = state.tip
    tip_height, tip_hash = store.tip()
    for height in range(state.tip.height + 1, tip_height + 1):
        replay(store, state, height)
        known[state.tip.hash] = _Known.of(state)
    if state.tip.hash != tip_hash:
        raise ChainError("tip_wrong", f"the blocks do not lead to the tip at height {tip_height}; {REMEDY}")
    index = _load_tree(store, known, oldest)
    tip = index.get(tip_hash)
    if tip is None:
        raise ChainError("tip_missing", f"the tip at height {tip_height} is not in the tree; {REMEDY}")
    return Start(state, index, tip)


def best_snapshot(store: ChainStore) -> State:
    """Return the state of the highest good snapshot on the active branch, else of the genesis."""
    for info in store.snapshots():
        header = store.header_at(info.height)
        if header is None or header_hash(header) != info.hash:
            continue
        try:
            state = load_snapshot(store.snapshot(info.hash))
        except LedgerError:
            continue
        if state.chain_id == store.genesis.chain_id and state.hash() == info.state_hash:
            return state
    return genesis_state(store.genesis)


def replay(store: ChainStore, state: State, height: int) -> None:
    """Apply a stored block again; its signatures were verified before it was stored."""
    block = store.block_at(height)
    if block is None:
        raise ChainError("block_missing", f"the block at height {height} is not in the store; {REMEDY}")
    try:
        prepared = prepare_block(block, store.genesis, state.chain_id, _node_keys(state))
        prepared.verified = True
        apply_block(state, prepared, prepared.header.time)
    except ChainError:
        raise
    except LedgerError as error:
        raise ChainError(
            "block_damaged", f"the block at height {height} is damaged ({error}); {REMEDY}", height=height
        ) from error


def _node_keys(state: State) -> dict[int, bytes]:
    return {index: node.key for index, node in state.nodes.items()}


def _load_tree(store: ChainStore, known: dict[bytes, _Known], oldest: ChainRow) -> BlockIndex:
    # What was justified below the oldest state that is kept is not known any more, but it was not more.
    below = _Known(oldest.justified, None)
    final_height, final_hash = store.final()
    root = Entry(final_hash, final_height, None, _times_at(store, final_height), 0, 0)
    root.justified, root.counting = known.get(final_hash, below)
    index = BlockIndex(root)
    for row in store.recent():
        if row.hash == final_hash:
            root.arrival = row.arrival
            continue
        header = decode_header(row.header)
        parent = index.get(header.previous)
        if parent is None:
            raise ChainError("tree_broken", f"a block at height {header.height} has no parent; {REMEDY}")
        entry = index.add(row.hash, header, parent, row.arrival)
        entry.invalid = entry.invalid or row.invalid
        if row.active:
            entry.justified, entry.counting = known.get(row.hash, below)
        _load_contents(store, entry)
    return index


def _load_contents(store: ChainStore, entry: Entry) -> None:
    """Read what the fork choice must know of a block."""
    block = store.block(entry.hash)
    if block is None:
        raise ChainError("block_missing", f"the block at height {entry.height} is not in the store; {REMEDY}")
    body = decode_block_body(block.body)
    entry.take_contents(body.votes, (decode_body(envelope.body) for envelope in body.records))


def _times_at(store: ChainStore, height: int) -> tuple[int, ...]:
    """Return the times of the last 11 blocks up to a height, the genesis included where there are fewer."""
    times = []
    for at in range(max(height - MEDIAN_SPAN + 1, 1), height + 1):
        header = store.header_at(at)
        if header is None:
            raise ChainError("header_missing", f"the header at height {at} is not in the store; {REMEDY}")
        times.append(decode_header(header).time)
    if len(times) < MEDIAN_SPAN:
        times.insert(0, store.genesis.created)
    return tuple(times)
