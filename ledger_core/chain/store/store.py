"""The chain store on SQLite: keeps the protocol of `ledger_core.chain.model`."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from msgspec import Struct

from ledger_core.chain.model import Commit, RecentBlock, SnapshotInfo
from ledger_core.chain.store import pruning, recent, snapshots
from ledger_core.chain.store.archive import Archive
from ledger_core.chain.store.base import Base
from ledger_core.chain.store.compression import RowError
from ledger_core.chain.store.database import Database
from ledger_core.chain.store.faults import damaged
from ledger_core.chain.store.files import log_size
from ledger_core.chain.store.head import Head, read_head
from ledger_core.chain.store.transaction import StageHook, Transaction
from ledger_core.community import Genesis
from ledger_core.errors import ChainError
from ledger_core.records.block import Block

_PACKED_AT_ONCE: Final = 8
"""Segments packed in one transaction: some milliseconds of work."""

type Progress = Callable[[int, int], None]
"""Told how much of long work is done, and how much there is."""


class Usage(Struct, frozen=True):
    """How much room a store takes on the disk, in bytes."""

    database: int
    free: int
    """Part of the database that is empty and will be used again."""
    log: int
    """The write-ahead log beside it."""


class SqliteStore:
    """One community's chain in one database; `open_store` opens a data directory's.

    Reading is safe from any thread; one thread at a time writes. A failed change leaves the store as it was,
    and the store works again once the cause is gone.
    """

    def __init__(
        self, database: Database, genesis: Genesis, on_stage: StageHook, on_close: Callable[[], None]
    ) -> None:
        self.path: Path = database.path
        self._database = database
        self._genesis = genesis
        self._on_stage = on_stage
        self._on_close = on_close
        self._archive = Archive(genesis, database.path)
        with self._reading() as connection:
            self._archive.load_book(connection)
            self._head = read_head(connection, database.path)
        self.pack_later = False
        """Whether a commit leaves the packing of many blocks that it makes final to `pack_some`."""

    # The protocol

    @property
    def genesis(self) -> Genesis:
        """The community whose chain this is."""
        return self._genesis

    def commit(self, commit: Commit) -> None:
        """Make a change durable, wholly or not at all.

        Raises ChainError `commit_inconsistent` for a change that does not fit the chain, `disk_full`,
        `store_damaged`, `store_busy`, `store_io_error`.
        """
        with self._changing() as connection:
            change = Transaction(connection, self._archive, self._genesis, self._head, self._on_stage)
            change.run(commit, pack_later=self.pack_later)

    def recent(self) -> Iterator[RecentBlock]:
        """Yield the blocks above the last final checkpoint, and that checkpoint, in order of arrival."""
        after = -1
        while True:
            with self._reading() as connection:
                page = recent.page(connection, after)
            if not page:
                return
            for row_id, block in page:
                after = row_id
                yield block

    def final(self) -> tuple[int, bytes]:
        """Return height and hash of the highest final checkpoint: (0, chain id) at first."""
        return self.head().final

    def tip(self) -> tuple[int, bytes]:
        """Return height and hash of the active branch's highest block: (0, chain id) at first."""
        return self.head().tip

    def block(self, block_hash: bytes) -> Block | None:
        """Return a recent block, or the last final one, by its hash."""
        with self._view() as (connection, head):
            if block_hash == head.final[1] and head.final[0]:
                return self._archived(connection, head.final[0])
            return recent.block(connection, block_hash)

    def block_at(self, height: int) -> Block | None:
        """Return the active branch's block at a height; None above the tip or where its body was pruned."""
        with self._view() as (connection, head):
            if not 0 < height <= head.tip[0]:
                return None
            if height <= head.final[0]:
                return self._archived(connection, height)
            block_hash = recent.hash_at(connection, height)
            return None if block_hash is None else recent.block(connection, block_hash)

    def header_at(self, height: int) -> bytes | None:
        """Return the active branch's header at a height, also where the body was pruned."""
        sealed = self.sealed_headers(height, 1)
        return sealed[0][0] if sealed else None

    def undo(self, block_hash: bytes) -> bytes:
        """Return the undo data of an active block above the last final one.

        Raises ChainError `undo_missing`.
        """
        with self._reading() as connection:
            data = recent.undo(connection, block_hash)
        if data is None:
            raise ChainError(
                "undo_missing", f"no undo data of block {block_hash.hex()} is kept", hash=block_hash
            )
        return data

    def snapshots(self) -> list[SnapshotInfo]:
        """Return the snapshots kept, highest first."""
        with self._reading() as connection:
            return snapshots.infos(connection)

    def snapshot(self, block_hash: bytes) -> bytes:
        """Return the snapshot after a block; raises ChainError `snapshot_missing`."""
        with self._reading() as connection:
            data = snapshots.load(connection, block_hash)
        if data is None:
            raise ChainError(
                "snapshot_missing", f"no snapshot after block {block_hash.hex()} is kept", hash=block_hash
            )
        return data

    def close(self) -> None:
        """Close the store; the object can't be used afterwards."""
        self._database.close()
        self._on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What else a node and the commands need

    def head(self) -> Head:
        """Return the tip, the last final checkpoint, and up to where bodies are gone."""
        if self._database.writable:
            return self._head
        with self._view() as (_, head):
            return head

    def sealed_headers(self, first: int, count: int) -> list[tuple[bytes, bytes]]:
        """Return the active branch's headers with their miners' signatures: `count` from a height upwards.

        Fewer where the tip is nearer.
        """
        found: list[tuple[bytes, bytes]] = []
        with self._view() as (connection, head):
            height, last = first, min(first + count - 1, head.tip[0])
            while 0 < height <= min(last, head.final[0]):
                segment = self._archive.segment_at(connection, height)
                blocks = segment.blocks[height - segment.first : last + 1 - segment.first]
                found += [(block.header, block.signature) for block in blocks]
                height += len(blocks)
            if 0 < height <= last:
                found += recent.sealed_at(connection, height, last)
        return found

    def set_durable(self, *, durable: bool) -> None:
        """Choose whether a commit waits for the disk; while syncing it need not (the store stays whole)."""
        self._database.set_durable(durable=durable)

    def checkpoint(self) -> None:
        """Work off the write-ahead log, so that the database's file alone holds everything."""
        self._database.checkpoint()

    def prune(self, before: int, progress: Progress | None = None) -> int:
        """Remove final bodies below a height, as far as the kept snapshots allow; headers stay.

        Returns the height up to which bodies are gone now. Raises ChainError `prune_refused` where no good
        snapshot is kept from which the chain could start without them.
        """
        head = self.head()
        limit = min(before - 1, pruning.lowest_start(self))
        done, start = head.pruned, head.pruned
        while done < limit:
            with self._changing() as connection:
                reached = pruning.prune_some(connection, self._archive, head, limit)
            if reached == done:
                break
            done, head = reached, self.head()
            if progress is not None:
                progress(done - start, limit - start)
        return done

    def pack_some(self) -> bool:
        """Pack the next few segments that were left loose; returns whether there are more."""
        with self._reading() as connection:
            if connection.execute("SELECT first FROM loose LIMIT 1").fetchone() is None:
                return False
        with self._changing() as connection:
            return self._archive.pack_some(
                connection, _PACKED_AT_ONCE, lambda: self._on_stage("segment packed")
            )

    def compact(self) -> None:
        """Give the room of removed data back to the disk; needs as much free space as the database has."""
        self._database.execute_alone("VACUUM")
        self._database.checkpoint()

    def install(
        self,
        headers: Iterable[tuple[bytes, bytes]],
        blocks: Iterable[Block],
        snapshot: tuple[SnapshotInfo, bytes],
    ) -> None:
        """Begin an empty store at a final checkpoint instead of at the genesis.

        `headers` with their signatures start at height 1; `blocks` follow them and end with the checkpoint;
        the snapshot's state stands after the checkpoint's parent or any block of `blocks`. That they are what
        the community agreed on is the caller's to verify. Raises ChainError `commit_inconsistent`.
        """
        with self._changing() as connection:
            base = Base(connection, self._archive, self._genesis, self._on_stage)
            base.install(self._head, headers, blocks, snapshot)

    def integrity(self) -> list[str]:
        """Return what SQLite finds wrong with the whole file: nothing if all is well."""
        with self._reading() as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    def usage(self) -> Usage:
        """Return how much room the store takes."""
        with self._reading() as connection:
            pages, free, size = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
        return Usage(pages * size, free * size, log_size(self.path))

    # Connections

    def _archived(self, connection: sqlite3.Connection, height: int) -> Block | None:
        segment = self._archive.segment_at(connection, height)
        stored = segment.blocks[height - segment.first]
        return None if stored.body is None else Block(stored.header, stored.signature, stored.body)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._database.reading() as connection, self._damage_named():
            yield connection

    @contextlib.contextmanager
    def _view(self) -> Iterator[tuple[sqlite3.Connection, Head]]:
        """Give a connection and the head that belongs to what it sees."""
        with self._reading() as connection:
            head = read_head(connection, self.path)
            if not self._database.writable and head.final != self._head.final:
                # The node that writes may have moved blocks to the archive, and numbered further keys.
                self._archive.load_book(connection)
                self._head = head
            yield connection, head

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Run one transaction, and let the memory follow it."""
        try:
            with self._database.writing() as connection, self._damage_named():
                yield connection
                head = read_head(connection, self.path)
                self._on_stage("before commit")
        except BaseException:
            self._archive.rolled_back()
            raise
        self._archive.committed()
        self._head = head
        self._on_stage("committed")

    @contextlib.contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except RowError as error:
            raise damaged(self.path, str(error)) from error
