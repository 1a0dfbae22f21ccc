"""Connections to one database: a writer with transactions, and readers that can't write."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ledger_core.chain.store import schema
from ledger_core.chain.store.faults import as_chain_errors
from ledger_core.errors import ChainError

_BUSY_S: Final = 5.0
_WAL_LIMIT: Final = 4 * 1024 * 1024
"""The write-ahead log is cut to this size once it is worked off, bytes."""
_CHECKPOINT_PAGES: Final = 2000
_CACHE_KIB: Final = 4096


class Database:
    """One database file. Every method raises ChainError, never sqlite3.Error."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path = path
        self.writable = writable
        self._lock = threading.RLock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._writer: sqlite3.Connection | None = None
        if writable:
            with as_chain_errors(path):
                self._writer = self._connect(
                    "PRAGMA synchronous = FULL",
                    f"PRAGMA journal_size_limit = {_WAL_LIMIT}",
                    f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}",
                )

    def _connect(self, *settings: str) -> sqlite3.Connection:
        """Open a connection; raises ChainError where the database is not of this program and version."""
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_S, autocommit=True, check_same_thread=False, cached_statements=64
        )
        try:
            schema.read_version(connection, self.path)
            for setting in (f"PRAGMA cache_size = -{_CACHE_KIB}", *settings):
                connection.execute(setting)
        except BaseException:
            connection.close()
            raise
        return connection

    def writer(self) -> sqlite3.Connection:
        """Return the writing connection; the caller is inside `writing` or knows that nobody else writes."""
        if self._writer is None:
            raise ChainError(
                "store_read_only", f"{self.path} was opened for reading only", path=str(self.path)
            )
        return self._writer

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run one transaction: wholly done when the block ends, not at all when it raises."""
        with self._lock, as_chain_errors(self.path):
            connection = self.writer()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give a connection that sees one committed state of the database and can't write."""
        with as_chain_errors(self.path):
            connection = self._take_reader()
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._give_back(connection)

    def _take_reader(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise ChainError("store_closed", f"{self.path}: the store is closed", path=str(self.path))
            if self._idle:
                return self._idle.pop()
        return self._connect("PRAGMA query_only = ON")

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def migrate(self) -> None:
        """Bring an older schema up to date; raises ChainError `store_older` where only reading is allowed."""
        with self.reading() as connection:
            version = schema.read_version(connection, self.path)
        if version == len(schema.MIGRATIONS):
            return
        if self._writer is None:
            raise ChainError(
                "store_older",
                f"{self.path} has the older schema version {version}; start the node once, it brings it "
                "up to date",
                path=str(self.path),
                version=version,
            )
        with self.writing() as connection:
            schema.migrate(connection, version)

    def set_durable(self, *, durable: bool) -> None:
        """Choose whether a commit waits for the disk (FULL), or may be lost with the power (NORMAL).

        Either way the database stays whole. Turning it on makes all earlier commits durable.
        """
        with self._lock, as_chain_errors(self.path):
            self.writer().execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            if durable:
                # What was only handed to the system so far goes to the disk.
                self.writer().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def checkpoint(self) -> None:
        """Work off the write-ahead log and cut it."""
        with self._lock, as_chain_errors(self.path):
            busy = self.writer().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise ChainError(
                "store_busy",
                f"{self.path}: another program reads the database; close it and try again",
                path=str(self.path),
            )

    def execute_alone(self, statement: str) -> None:
        """Run a statement that can't stand in a transaction."""
        with self._lock, as_chain_errors(self.path):
            self.writer().execute(statement).fetchone()

    def close(self) -> None:
        """Close every connection; readers in use are closed when they are given back."""
        with self._lock:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()
            if self._writer is not None:
                self._writer.close()
