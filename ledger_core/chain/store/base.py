"""Beginning a store at a final checkpoint: headers below, a few bodies, and a state."""

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import batched

from ledger_core.chain.model import SnapshotInfo
from ledger_core.chain.store import recent, snapshots
from ledger_core.chain.store.archive import Archive
from ledger_core.chain.store.head import Head, write_head
from ledger_core.chain.store.stored import StoredBlock
from ledger_core.chain.store.transaction import StageHook, inconsistent, require
from ledger_core.community import Genesis
from ledger_core.records.block import Block, decode_header, header_hash


class Base:
    """Fills an empty store inside one transaction of the caller."""

    def __init__(
        self, connection: sqlite3.Connection, archive: Archive, genesis: Genesis, on_stage: StageHook
    ) -> None:
        self._connection = connection
        self._archive = archive
        self._genesis = genesis
        self._on_stage = on_stage
        self._height = 0
        self._hash = genesis.chain_id
        self._time = genesis.created

    def install(
        self,
        head: Head,
        headers: Iterable[tuple[bytes, bytes]],
        blocks: Iterable[Block],
        snapshot: tuple[SnapshotInfo, bytes],
    ) -> None:
        """Store everything; raises ChainError `commit_inconsistent` for parts that do not fit each other."""
        interval = self._genesis.parameters.checkpoint_interval
        require(head.tip[0] == 0, "it is not empty")
        bare = (StoredBlock(header, signature, None) for header, signature in headers)
        for part in batched(bare, interval, strict=False):
            self._append(part)
        pruned = self._height
        last = None
        # Only now: both may come from one source that is read from its beginning to its end.
        for batch in batched(blocks, interval, strict=False):
            self._append([StoredBlock(block.header, block.signature, block.body) for block in batch])
            last = batch[-1]
        if last is None:
            raise inconsistent("there are no blocks")
        require(self._height % interval == 0, "the last block is no checkpoint")
        info, data = snapshot
        require(pruned <= info.height < self._height, "the snapshot lies outside the blocks")
        recent.add_header(self._connection, last, 0, active=True)
        snapshots.save(self._connection, info, data)
        self._on_stage("snapshot installed")
        final = (self._height, self._hash)
        write_head(self._connection, Head(final, final, pruned))

    def _append(self, part: Sequence[StoredBlock]) -> None:
        parent = (self._height, self._hash, self._time)
        for block in part:
            header = decode_header(block.header)
            fits = header.previous == self._hash and header.height == self._height + 1
            require(fits, f"block {self._height + 1} does not follow the one below it")
            self._height, self._hash, self._time = header.height, header_hash(block.header), header.time
        self._archive.append(self._connection, part, parent, lambda: self._on_stage("segment archived"))
