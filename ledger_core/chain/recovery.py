"""Checking a store: quickly at every start, wholly on demand."""

from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct

from ledger_core.chain.pending import NodeKeys
from ledger_core.chain.store.faults import damaged
from ledger_core.chain.store.pruning import proven
from ledger_core.chain.store.segment import body_commitment
from ledger_core.chain.store.store import SqliteStore
from ledger_core.chain.verify import Verifier
from ledger_core.community import Genesis
from ledger_core.errors import ChainError, LedgerError, RecordError, RuleError
from ledger_core.keys import verify
from ledger_core.records.block import Block, decode_header, header_hash, miner_message
from ledger_core.records.codec import record_prefix
from ledger_core.rules.apply import apply_block
from ledger_core.rules.genesis import genesis_state
from ledger_core.rules.headers import Parent, check_header, next_times
from ledger_core.rules.prepare import invalid_signature
from ledger_core.rules.state import State, load_snapshot

QUICK_BLOCKS: Final = 64
_HEADERS_AT_ONCE: Final = 960

type Progress = Callable[[int, int], None]
"""Told how much of long work is done, and how much there is."""


class VerifyReport(Struct, frozen=True):
    """What a whole check looked at, and found good."""

    height: int
    hash: bytes
    state_hash: bytes
    final_height: int
    headers: int
    """Headers whose bodies were pruned: their hashes, times and work were checked."""
    blocks: int
    """Blocks of the active branch that were applied by the rules."""
    side_blocks: int
    snapshots: int


def quick_check(store: SqliteStore, blocks: int = QUICK_BLOCKS) -> None:
    """Check the last blocks of a store: hashes, bodies, miners' signatures, undo data, tip, and final block.

    Raises ChainError `store_damaged` that names what is wrong and the command that repairs it.
    """
    head = store.head()
    tip, final = head.tip[0], head.final[0]
    if not head.pruned <= final <= tip:
        raise damaged(store.path, f"the tip {tip}, the final block {final} and what is pruned do not fit")
    expected = head.tip[1]
    lowest = max(tip - blocks, 0)
    for height in range(tip, lowest, -1):
        sealed = store.sealed_headers(height, 1)
        if not sealed or header_hash(sealed[0][0]) != expected:
            raise damaged(store.path, f"block {height} is missing or is not the one that the next one names")
        header = decode_header(sealed[0][0])
        if not verify(header.miner, miner_message(expected), sealed[0][1]):
            raise damaged(store.path, f"the miner's signature of block {height} is not valid")
        if height == final and expected != head.final[1]:
            raise damaged(store.path, f"the final block {height} is not on the active branch")
        if height > head.pruned:
            _check_body(store, height, store.block_at(height))
        if height > final:
            _require_undo(store, expected)
        expected = header.previous
    if lowest == 0 and expected != store.genesis.chain_id:
        raise damaged(store.path, "block 1 does not follow the genesis")


def _check_body(store: SqliteStore, height: int, block: Block | None) -> None:
    if block is None:
        raise damaged(store.path, f"the body of block {height} is missing")
    header = decode_header(block.header)
    prefix = record_prefix(store.genesis.chain_id)
    if body_commitment(block.body, prefix) != (header.merkle_root, header.count):
        raise damaged(store.path, f"the body of block {height} is not the one that its header commits to")


def _require_undo(store: SqliteStore, block_hash: bytes) -> bytes:
    try:
        return store.undo(block_hash)
    except ChainError as error:
        if error.code != "undo_missing":
            raise
        raise damaged(store.path, error.message) from error


def verify_store(store: SqliteStore, verifier: Verifier, progress: Progress | None = None) -> VerifyReport:
    """Check everything: the file, every header, every signature, every block by the rules, every snapshot.

    Nobody may write to the store meanwhile. Raises ChainError `store_damaged` that names the first fault and
    the command that repairs it.
    """
    problems = store.integrity()
    if problems:
        raise damaged(store.path, "; ".join(problems[:3]))
    quick_check(store)
    return _WholeCheck(store, verifier, progress).run()


class _WholeCheck:
    def __init__(self, store: SqliteStore, verifier: Verifier, progress: Progress | None) -> None:
        self._store = store
        self._verifier = verifier
        self._progress = progress
        self._head = store.head()
        self._snapshots = {info.hash: info for info in store.snapshots()}
        self._checked_snapshots = 0

    def run(self) -> VerifyReport:
        head = self._head
        tip = head.tip[0]
        state = self._start()
        first = state.tip.height + 1
        self._check_headers(first - 1)
        self._check_blocks(state, first)
        self._check_end(state)
        return VerifyReport(
            height=tip,
            hash=head.tip[1],
            state_hash=state.hash(),
            final_height=head.final[0],
            headers=first - 1,
            blocks=tip - first + 1,
            side_blocks=self._check_side_blocks(),
            snapshots=self._checked_snapshots,
        )

    def _check_headers(self, last: int) -> None:
        checked = HeaderChain(self._store.genesis)
        try:
            for header, signature in self._sealed(last):
                checked.take(header, signature)
                self._show(checked.height)
        except (RuleError, RecordError) as error:
            why = f"header {checked.height + 1} is not valid: {error.message}"
            raise damaged(self._store.path, why) from error

    def _check_blocks(self, state: State, first: int) -> None:
        store, head = self._store, self._head
        blocks = (self._block_at(height) for height in range(first, head.tip[0] + 1))
        nodes = NodeKeys(state.nodes)
        height = first - 1
        try:
            for prepared in self._verifier.pipeline(blocks, store.genesis, state.chain_id, nodes):
                applied = apply_block(state, prepared, prepared.header.time)
                height += 1
                if height > head.final[0]:
                    self._check_undo(prepared.hash, state.encode_undo(applied.undo))
                self._check_snapshot(state)
                self._show(height)
        except (RuleError, RecordError) as error:
            raise damaged(store.path, f"block {height + 1} is not valid: {error.message}") from error

    def _start(self) -> State:
        """Return the state of the genesis, or of the lowest snapshot where bodies were pruned."""
        pruned = self._head.pruned
        if not pruned:
            return genesis_state(self._store.genesis)
        for info in sorted(self._snapshots.values(), key=lambda info: info.height):
            if info.height >= pruned:
                state = proven(self._store, info)
                if state is not None:
                    self._checked_snapshots += 1
                    return state
        raise damaged(self._store.path, f"bodies up to {pruned} are pruned and no snapshot above is good")

    def _sealed(self, last: int) -> Iterator[tuple[bytes, bytes]]:
        for first in range(1, last + 1, _HEADERS_AT_ONCE):
            yield from self._store.sealed_headers(first, min(_HEADERS_AT_ONCE, last + 1 - first))

    def _block_at(self, height: int) -> Block:
        block = self._store.block_at(height)
        if block is None:
            raise damaged(self._store.path, f"block {height} is missing")
        return block

    def _check_undo(self, block_hash: bytes, wanted: bytes) -> None:
        if _require_undo(self._store, block_hash) != wanted:
            raise damaged(self._store.path, f"the undo data of block {block_hash.hex()} is not right")

    def _check_snapshot(self, state: State) -> None:
        info = self._snapshots.get(state.tip.hash)
        if info is None:
            return
        try:
            kept = load_snapshot(self._store.snapshot(info.hash)).hash()
        except LedgerError as error:
            raise damaged(self._store.path, f"the snapshot at {info.height}: {error.message}") from error
        if not kept == info.state_hash == state.hash():
            raise damaged(
                self._store.path, f"the snapshot at {info.height} is not the state after that block"
            )
        self._checked_snapshots += 1

    def _check_end(self, state: State) -> None:
        if state.tip.hash != self._head.tip[1]:
            raise damaged(self._store.path, "the blocks do not lead to the tip")
        # It may be lower: the votes may stand on a branch that was left.
        if state.tip.final > self._head.final[0]:
            why = f"the blocks make {state.tip.final} final, not only {self._head.final[0]}"
            raise damaged(self._store.path, why)

    def _check_side_blocks(self) -> int:
        count = 0
        for row in self._store.recent():
            if not row.active:
                _check_body(self._store, decode_header(row.header).height, self._store.block(row.hash))
                count += 1
        return count

    def _show(self, height: int) -> None:
        if self._progress is not None:
            self._progress(height, self._head.tip[0])


class HeaderChain:
    """Checks headers one after the other from height 1 on, with their miners' signatures."""

    def __init__(self, genesis: Genesis) -> None:
        self._genesis = genesis
        self._parent = Parent(0, genesis.chain_id, (genesis.created,))

    @property
    def height(self) -> int:
        """Height of the last header that was good."""
        return self._parent.height

    def take(self, data: bytes, signature: bytes) -> None:
        """Check the next header; raises RuleError as `check_header` does, or `signature_invalid`."""
        header, block_hash = decode_header(data), header_hash(data)
        check_header(header, block_hash, self._parent, self._genesis)
        if not verify(header.miner, miner_message(block_hash), signature):
            raise invalid_signature(header.miner)
        self._parent = Parent(header.height, block_hash, next_times(self._parent.times, header.time))
