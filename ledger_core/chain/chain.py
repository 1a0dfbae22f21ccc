"""The chain: takes blocks in any order and keeps the state at the tip of the best branch."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Self

from ledger_core.chain.fork_choice import best_entry
from ledger_core.chain.index import BlockIndex, Entry
from ledger_core.chain.model import ChainStore, Commit, Connected, SnapshotInfo
from ledger_core.chain.orphans import OrphanPool
from ledger_core.chain.pending import Connection, NodeKeys, Outcome, Pending
from ledger_core.chain.start import Start, load_start
from ledger_core.chain.verify import Verifier
from ledger_core.errors import ChainError, LedgerError, RuleError
from ledger_core.keys import require_agreed_library
from ledger_core.records.block import Block, Header, decode_header, header_hash
from ledger_core.rules.apply import Applied, apply_block
from ledger_core.rules.finality import counting_nodes
from ledger_core.rules.headers import check_header, check_not_future, is_checkpoint
from ledger_core.rules.prepare import PreparedBlock, prepare_block
from ledger_core.rules.state import State, Undo

SNAPSHOT_EVERY = 4
"""Checkpoints between snapshots: with slots of 15 minutes, one an hour."""

COMMIT_BLOCKS = 512
"""Blocks in one transaction while syncing."""


class Chain:
    """The sole writer of a store, with the state at the tip in memory.

    Blocks and their order come from outside; `now` is the caller's clock in UTC seconds. When the store
    fails, the memory is as it was before the call.
    """

    def __init__(self, store: ChainStore, start: Start, verifier: Verifier) -> None:
        self._store = store
        self._verifier = verifier
        self.genesis = start.state.genesis
        self.chain_id = start.state.chain_id
        self.state: State = start.state
        self.index: BlockIndex = start.index
        self._tip: Entry = start.tip
        self._active: dict[int, Entry] = {entry.height: entry for entry in start.tip.chain_down()}
        self._arrivals = max(entry.arrival for entry in start.index)
        self._orphans = OrphanPool()
        self._pending = Pending()
        self._undos: dict[bytes, Undo] = {}

    @classmethod
    def open(cls, store: ChainStore, verifier: Verifier) -> Self:
        """Load the newest snapshot on the active branch and replay what stands above it.

        Raises ChainError where data is missing or damaged, and LedgerError `signature_library` where this
        machine would judge signatures differently from the other members'.
        """
        require_agreed_library()
        return cls(store, load_start(store), verifier)

    @property
    def height(self) -> int:
        """Height of the tip."""
        return self._tip.height

    @property
    def tip_hash(self) -> bytes:
        """Hash of the tip; the chain id before the first block."""
        return self._tip.hash

    @property
    def final_height(self) -> int:
        """Height of the highest final checkpoint."""
        return self.index.root.height

    def is_active(self, block_hash: bytes) -> bool:
        """Return whether a block from the last final one on stands on the active branch."""
        entry = self.index.get(block_hash)
        return entry is not None and self._active.get(entry.height) is entry

    def branch_changed(self, outcome: Outcome) -> None:
        """Hear of a change of the active branch, right after it was stored: for subclasses, nothing here.

        `add_blocks` makes many such changes and returns their number only.
        """

    def add_block(self, block: Block, now: int) -> Outcome:
        """Take a block, and those that waited for it.

        Raises RuleError or RecordError for a block that the rules refuse: `time_too_new` may be right later,
        anything else never. Raises ChainError when the store fails.
        """
        block_hash = header_hash(block.header)
        if self.index.get(block_hash) is not None or block_hash in self._orphans:
            return Outcome("known")
        header = decode_header(block.header)
        if self.index.get(header.previous) is None:
            self._require_above_final(header)
            self._orphans.add(block_hash, header.previous, block)
            return Outcome("orphan")
        before = self._tip
        entry = self._insert(block, now)
        self._insert_orphans(entry, now)
        self._choose(now)
        refusal = self._pending.refusals.get(block_hash)
        outcome = self._settle(before, now)
        if refusal is not None:
            raise refusal
        if entry.invalid:
            raise _parent_invalid(block_hash)
        return outcome

    def add_blocks(self, blocks: Iterable[Block], now: int, done: Callable[[int], None] | None = None) -> int:
        """Take many blocks, best in the order of the branch; signatures are verified ahead in threads.

        Returns how many were new; `done` is told their number after every transaction. Raises as `add_block`
        at the first block that is refused; what came before it is kept.
        """
        before, added, open_blocks = self._tip, 0, 0
        nodes = NodeKeys(self.state.nodes)
        try:
            for prepared in self._verifier.pipeline(blocks, self.genesis, self.chain_id, nodes):
                if prepared.header.previous == self._tip.hash:
                    self._append(prepared, now)
                    added, open_blocks = added + 1, open_blocks + 1
                else:
                    self._settle(before, now)
                    before, open_blocks = self._tip, 0
                    added += self.add_block(prepared.block, now).status != "known"
                    before = self._tip
                if open_blocks >= COMMIT_BLOCKS:
                    self._settle(before, now)
                    before, open_blocks = self._tip, 0
                    if done is not None:
                        done(added)
        finally:
            self._settle(before, now)
        if done is not None:
            done(added)
        return added

    # Taking blocks into the tree

    def _require_above_final(self, header: Header) -> None:
        final = self.index.root.height
        if header.height <= final:
            raise RuleError(
                "below_final",
                f"the block's height {header.height} is not above the final {final}",
                height=header.height,
                final=final,
            )

    def _insert(self, block: Block, now: int) -> Entry:
        """Check what can be checked without the branch's state, and add the block to the tree."""
        header = decode_header(block.header)
        block_hash = header_hash(block.header)
        parent = self.index.get(header.previous)
        if parent is None:
            raise ChainError("parent_unknown", "the block's parent is not in the tree", hash=block_hash)
        if parent.invalid:
            raise _parent_invalid(block_hash)
        check_not_future(header, now)
        check_header(header, block_hash, parent.as_parent, self.genesis)
        self._require_known_miner(header.miner, parent)
        prepared = prepare_block(block, self.genesis, self.chain_id, NodeKeys(self.state.nodes))
        self._verifier.verify(prepared)
        return self._add_entry(prepared, parent)

    def _require_known_miner(self, miner: bytes, parent: Entry) -> None:
        """Refuse an outsider's block before it costs anything; the exact rule is applied with the state."""
        if miner in self.state.node_keys:
            return
        if any(miner in entry.new_nodes for entry in parent.chain_down()):
            return
        fork = next(entry for entry in parent.chain_down() if self._active.get(entry.height) is entry)
        if any(self._active[height].departures for height in range(fork.height + 1, self._tip.height + 1)):
            # It may have been a node where the branches part.
            return
        raise RuleError("miner_not_node", "the miner is not a node of the community", miner=miner)

    def _add_entry(self, prepared: PreparedBlock, parent: Entry) -> Entry:
        self._arrivals += 1
        entry = self.index.add(prepared.hash, prepared.header, parent, self._arrivals)
        entry.take_contents(prepared.bundles, (record.body for record in prepared.records))
        self._pending.blocks[entry.hash] = (prepared, self._arrivals)
        return entry

    def _insert_orphans(self, entry: Entry, now: int) -> None:
        """Add the blocks that waited for this one; those that are refused are forgotten."""
        stack = [entry]
        while stack:
            for block in self._orphans.take_children(stack.pop().hash):
                with suppress(LedgerError):
                    stack.append(self._insert(block, now))

    def _append(self, prepared: PreparedBlock, now: int) -> None:
        """Apply a verified block right after the tip."""
        self._keep_snapshot(prepared)
        applied = apply_block(self.state, prepared, now)
        entry = self._add_entry(prepared, self._tip)
        self._connected(entry, applied)
        if self._orphans.waits_for(entry.hash):
            self._insert_orphans(entry, now)
            self._choose(now)

    # Moving between branches, in memory

    def _choose(self, now: int) -> None:
        """Move to the best branch, trying those that may be better."""
        while True:
            best = best_entry(self.index)
            if best is self._tip:
                return
            self._move_to(best, now)

    def _move_to(self, target: Entry, now: int) -> None:
        """Take blocks back and apply others up to the target, or to the last one that the rules take."""
        ahead = []
        fork = target
        while self._active.get(fork.height) is not fork:
            ahead.append(fork)
            if fork.parent is None:
                raise ChainError("tree_broken", "a branch does not reach the final block; run chain rebuild")
            fork = fork.parent
        while self._tip is not fork:
            self._disconnect_tip()
        for entry in reversed(ahead):
            try:
                prepared = self._prepared(entry)
                self._keep_snapshot(prepared)
                applied = apply_block(self.state, prepared, max(now, prepared.header.time))
            except ChainError:
                raise
            except LedgerError as refusal:
                self._pending.refusals[entry.hash] = refusal
                self._pending.invalid += self.index.mark_invalid(entry)
                return
            self._connected(entry, applied)

    def _connected(self, entry: Entry, applied: Applied) -> None:
        entry.justified = self.state.tip.justified
        entry.counting = counting_nodes(self.state)
        self._tip = entry
        self._active[entry.height] = entry
        self._undos[entry.hash] = applied.undo
        self._pending.events[entry.hash] = applied.events

    def _disconnect_tip(self) -> None:
        entry = self._tip
        undo = self._undos.pop(entry.hash, None)
        if undo is None:
            undo = self.state.decode_undo(self._store.undo(entry.hash))
        if entry.parent is None:
            raise ChainError("tree_broken", "the final block can't be taken back; run chain rebuild")
        self.state.undo(undo)
        del self._active[entry.height]
        self._tip = entry.parent

    def _prepared(self, entry: Entry) -> PreparedBlock:
        pending = self._pending.blocks.get(entry.hash)
        if pending is not None:
            return pending[0]
        block = self._store.block(entry.hash)
        if block is None:
            raise ChainError(
                "block_missing",
                f"the block at height {entry.height} is not in the store; run energy-ledger chain rebuild",
                hash=entry.hash,
            )
        prepared = prepare_block(block, self.genesis, self.chain_id, NodeKeys(self.state.nodes))
        self._verifier.verify(prepared)
        return prepared

    def _keep_snapshot(self, prepared: PreparedBlock) -> None:
        """Keep the state before every few checkpoints, whose header proves its hash: one in a commit."""
        if self._pending.snapshot is not None:
            return
        height = prepared.header.height
        if is_checkpoint(height, self.genesis.parameters.checkpoint_interval * SNAPSHOT_EVERY):
            tip = self.state.tip
            info = SnapshotInfo(tip.height, tip.hash, prepared.header.state_hash)
            self._pending.snapshot = (prepared.hash, info, self.state.snapshot())

    # Making it durable

    def _settle(self, before: Entry, now: int) -> Outcome:
        """Store what changed since `before` was the tip; on failure the memory goes back to it."""
        pending = self._pending
        refused = [entry for entry in pending.invalid if entry.hash in pending.blocks]
        for entry in sorted(refused, key=lambda entry: -entry.height):
            self.index.remove(entry)
            del pending.blocks[entry.hash]
        pending.invalid = [entry for entry in pending.invalid if entry not in refused]
        left, joined = self._difference(before)
        if not (pending.blocks or pending.invalid or left or joined):
            return Outcome("known")
        try:
            final = self._new_final()
            dropped = self.index.beside(final) if final is not None else []
            self._store.commit(self._as_commit(left, joined, final, dropped))
        except BaseException:
            self._roll_back(before, now)
            raise
        if final is not None:
            self.index.raise_root(final)
            for height in [height for height in self._active if height < final.height]:
                self._undos.pop(self._active.pop(height).hash, None)
            for entry in dropped:
                self._undos.pop(entry.hash, None)
        connected = [Connection(entry.hash, entry.height, pending.events[entry.hash]) for entry in joined]
        self._pending = Pending()
        outcome = Outcome("tip" if left or joined else "side", [entry.hash for entry in left], connected)
        if left or joined:
            self.branch_changed(outcome)
        return outcome

    def _difference(self, before: Entry) -> tuple[list[Entry], list[Entry]]:
        """Return the entries that left the active branch, highest first, and that joined it, lowest first."""
        left = []
        fork = before
        while self._active.get(fork.height) is not fork:
            left.append(fork)
            if fork.parent is None:
                raise ChainError("tree_broken", "a branch does not reach the final block; run chain rebuild")
            fork = fork.parent
        joined = []
        entry = self._tip
        while entry is not fork and entry.parent is not None:
            joined.append(entry)
            entry = entry.parent
        return left, joined[::-1]

    def _new_final(self) -> Entry | None:
        height = self.state.tip.final
        return self._active[height] if height > self.index.root.height else None

    def _as_commit(
        self, left: Sequence[Entry], joined: Sequence[Entry], final: Entry | None, dropped: Sequence[Entry]
    ) -> Commit:
        pending, state = self._pending, self.state
        gone = {entry.hash for entry in dropped}
        floor = final.height if final is not None else self.index.root.height
        connected = []
        for entry in joined:
            undo = state.encode_undo(self._undos[entry.hash]) if entry.height > floor else b""
            connected.append(Connected(entry.hash, undo))
        snapshot = None
        if pending.snapshot is not None:
            above, info, data = pending.snapshot
            if any(entry.hash == above for entry in joined):
                snapshot = (info, data)
        return Commit(
            added=[
                (prepared.block, arrival)
                for block_hash, (prepared, arrival) in pending.blocks.items()
                if block_hash not in gone
            ],
            disconnected=[entry.hash for entry in left],
            connected=connected,
            invalid=[entry.hash for entry in pending.invalid],
            dropped=[entry.hash for entry in dropped if entry.hash not in pending.blocks],
            final=(final.height, final.hash) if final is not None else None,
            snapshot=snapshot,
        )

    def _roll_back(self, before: Entry, now: int) -> None:
        """Go back to the state that the store has."""
        pending = self._pending
        for entry in pending.invalid:
            entry.invalid = False
        self._move_to(before, now)
        new = [entry for entry in self.index if entry.hash in pending.blocks]
        for entry in sorted(new, key=lambda entry: -entry.height):
            self._undos.pop(entry.hash, None)
            self.index.remove(entry)
        self._pending = Pending()


def _parent_invalid(block_hash: bytes) -> RuleError:
    return RuleError("parent_invalid", "the block stands on one that was refused", hash=block_hash)
