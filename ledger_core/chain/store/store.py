"""The chain store on SQLite: keeps the protocol of `ledger_core.chain.model`."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from ledger_core.chain.model import Commit, RecentBlock, SnapshotInfo
from ledger_core.chain.store import files, recent, schema, snapshots
from ledger_core.chain.store.archive import Archive
from ledger_core.chain.store.compression import RowError
from ledger_core.chain.store.database import Database
from ledger_core.chain.store.faults import as_chain_errors, damaged
from ledger_core.chain.store.head import Head, read_head
from ledger_core.chain.store.transaction import StageHook, Transaction
from ledger_core.community import Genesis, decode_genesis, encode_genesis
from ledger_core.errors import ChainError, LedgerError
from ledger_core.records.block import Block

type Progress = Callable[[int, int], None]
"""Told how much of long work is done, and how much there is."""


def no_stage(_name: str) -> None:
    """Take no note of the steps."""


def no_progress(_done: int, _total: int) -> None:
    """Show no progress."""


class SqliteStore:
    """One community's chain in a data directory.

    Reading is safe from any thread; one thread at a time writes. A failed change leaves the store as it was,
    and the store works again once the cause is gone.
    """

    def __init__(
        self, database: Database, genesis: Genesis, lock: files.DirectoryLock, on_stage: StageHook
    ) -> None:
        self.directory = database.path.parent
        self._database = database
        self._genesis = genesis
        self._lock = lock
        self._on_stage = on_stage
        self._archive = Archive(genesis, database.path)
        with self._reading() as connection:
            self._archive.load_keys(connection)
            self._head: Head = read_head(connection, database.path)

    @classmethod
    def open(
        cls,
        directory: Path,
        genesis: Genesis | None = None,
        *,
        writable: bool = True,
        on_stage: StageHook = no_stage,
    ) -> Self:
        """Open a community's store; a new one is made only where `genesis` is given.

        A store opened for reading only needs no lock: a node may write at the same time.

        Raises ChainError `store_missing`, `store_in_use`, `store_foreign`, `store_newer`,
        `other_community`, `store_damaged`, `store_unreachable`, `disk_full`.
        """
        path = directory / files.DATABASE
        lock = files.DirectoryLock(directory)
        with contextlib.ExitStack() as undo, as_chain_errors(path):
            _require_place(directory, genesis)
            undo.callback(lock.release)
            if writable or files.pending_replacement(directory) is not None:
                lock.acquire()
                files.finish_replacement(directory)
                on_stage("replacement finished")
                files.discard_unfinished(directory)
            if not path.exists():
                _require_no_log(path)
                if genesis is None or not writable:
                    raise _missing(directory)
                create(directory, genesis, on_stage)
            if not writable:
                lock.release()
            database = Database(path, writable=writable)
            undo.callback(database.close)
            database.migrate()
            found = _read_genesis(database, genesis)
            on_stage("opened")
            store = cls(database, found, lock, on_stage)
            undo.pop_all()
            return store

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
            Transaction(connection, self._archive, self._genesis, self._head, self._on_stage).run(commit)

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
        return self._head.final

    def tip(self) -> tuple[int, bytes]:
        """Return height and hash of the active branch's highest block: (0, chain id) at first."""
        return self._head.tip

    def block(self, block_hash: bytes) -> Block | None:
        """Return a recent block, or the last final one, by its hash."""
        if block_hash == self._head.final[1]:
            return self.block_at(self._head.final[0])
        with self._reading() as connection:
            return recent.block(connection, block_hash)

    def block_at(self, height: int) -> Block | None:
        """Return the active branch's block at a height; None above the tip or where its body was pruned."""
        if not 0 < height <= self._head.tip[0]:
            return None
        with self._reading() as connection:
            if height > self._head.final[0]:
                block_hash = recent.hash_at(connection, height)
                return None if block_hash is None else recent.block(connection, block_hash)
            segment = self._archive.segment_at(connection, height)
        stored = segment.blocks[height - segment.first]
        return None if stored.body is None else Block(stored.header, stored.signature, stored.body)

    def header_at(self, height: int) -> bytes | None:
        """Return the active branch's header at a height, also where the body was pruned."""
        sealed = self.sealed_headers(height, 1)
        return sealed[0][0] if sealed else None

    def sealed_headers(self, first: int, count: int) -> list[tuple[bytes, bytes]]:
        """Return headers with their miners' signatures from a height upwards, at most `count`."""
        last = min(first + count - 1, self._head.tip[0])
        if first < 1 or last < first:
            return []
        found: list[tuple[bytes, bytes]] = []
        with self._reading() as connection:
            height, final = first, self._head.final[0]
            while height <= min(last, final):
                segment = self._archive.segment_at(connection, height)
                blocks = segment.blocks[height - segment.first : last + 1 - segment.first]
                found += [(block.header, block.signature) for block in blocks]
                height += len(blocks)
            if height <= last:
                found += recent.sealed_at(connection, height, last)
        return found

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
        self._lock.release()

    # What else a node needs

    def set_durable(self, *, durable: bool) -> None:
        """Choose whether a commit waits for the disk; while syncing it need not (the store stays whole)."""
        self._database.set_durable(durable=durable)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._database.reading() as connection, self._damage_named():
            yield connection

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Run one transaction, and let the memory follow it."""
        try:
            with self._database.writing() as connection, self._damage_named():
                yield connection
                head = read_head(connection, self._database.path)
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
            raise damaged(self._database.path, str(error)) from error


def create(directory: Path, genesis: Genesis, on_stage: StageHook = no_stage) -> None:
    """Make a community's database; it appears under its name only when it is complete."""
    building = directory / files.BUILDING
    schema.create(building, encode_genesis(genesis), genesis.chain_id)
    on_stage("database built")
    building.rename(directory / files.DATABASE)
    files.sync_directory(directory)
    on_stage("database created")


def _require_place(directory: Path, genesis: Genesis | None) -> None:
    if genesis is not None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif not directory.is_dir():
        raise _missing(directory)


def _missing(directory: Path) -> ChainError:
    return ChainError(
        "store_missing",
        f"{directory} holds no chain; check the path, or create or join a community first",
        path=str(directory),
    )


def _require_no_log(database: Path) -> None:
    if database.with_name(database.name + "-wal").exists():
        raise damaged(database, "the file is gone, but its write-ahead log is there")


def _read_genesis(database: Database, wanted: Genesis | None) -> Genesis:
    with database.reading() as connection:
        row = connection.execute("SELECT genesis FROM chain WHERE id = 1").fetchone()
    if row is None:
        raise damaged(database.path, "the row with the genesis is missing")
    try:
        genesis = decode_genesis(row[0])
    except LedgerError as error:
        raise damaged(database.path, f"the genesis is not readable: {error}") from error
    if wanted is not None and wanted.chain_id != genesis.chain_id:
        raise ChainError(
            "other_community",
            f"{database.path} holds the chain of the community {genesis.chain_id.hex()}, not of "
            f"{wanted.chain_id.hex()}; use another data directory",
            path=str(database.path),
            found=genesis.chain_id,
            wanted=wanted.chain_id,
        )
    return genesis
