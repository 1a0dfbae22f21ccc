"""Reading what can still be read of a damaged database.

The file is never changed. Rows are read one by one, so that a bad page costs only what stands on it. A
database whose list of tables is gone is read through the list of a new one: every database of a schema
version has its tables at the same places.
"""

import contextlib
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ledger_core.chain.model import SnapshotInfo
from ledger_core.chain.store import schema, shared
from ledger_core.chain.store.archive import KNOWN_HASHES, MAX_SEGMENT_BLOCKS
from ledger_core.chain.store.columns import ColumnsError, Context
from ledger_core.chain.store.compression import RowError, blob, decompress
from ledger_core.chain.store.files import BUILDING, log_size
from ledger_core.chain.store.keybook import KeyBook
from ledger_core.chain.store.segment import Place, decode_segment
from ledger_core.chain.store.stored import StoredBlock
from ledger_core.community import Genesis, decode_genesis
from ledger_core.errors import LedgerError
from ledger_core.records.block import Block, header_hash
from ledger_core.rules.state import load_snapshot

_DATABASE_SIZE: Final = 28
"""Where a database's first page says how many pages there are (SQLite file format, section 1.3)."""

_MAX_MISSES: Final = 10_000
"""Keys in a row that are not readable before the rest of a table is given up."""

_UNREADABLE: Final = (sqlite3.Error, RowError, LedgerError, TypeError, ValueError)


class Salvage:
    """What a database, possibly damaged, still holds."""

    def __init__(
        self, connection: sqlite3.Connection, tables: frozenset[str], genesis: Genesis | None
    ) -> None:
        self._connection = connection
        self._tables = tables
        found = self._find_genesis()
        self.genesis = found if found is not None else genesis
        """None where neither the database nor the caller says whose chain it is."""
        self.tip_height = self._find_tip()
        """As the database says; None where that is not readable."""
        self._book = self._read_book()

    def _find_genesis(self) -> Genesis | None:
        with contextlib.suppress(*_UNREADABLE):
            return decode_genesis(blob(self._connection.execute("SELECT genesis FROM chain").fetchone()[0]))
        for _, data in self.snapshots():
            with contextlib.suppress(*_UNREADABLE):
                return load_snapshot(data).genesis
        return None

    def _find_tip(self) -> int | None:
        with contextlib.suppress(*_UNREADABLE):
            height = self._connection.execute("SELECT tip_height FROM chain").fetchone()[0]
            return height if type(height) is int else None
        return None

    def _read_book(self) -> KeyBook:
        book = KeyBook(shared.decode_entry(data) for data in self._shared(shared.KEYS))
        with contextlib.suppress(RowError):
            for data in self._shared(shared.DICTIONARIES):
                book.dictionaries.append(shared.load_dictionary(data))
        return book

    def _shared(self, table: str) -> Iterator[bytes]:
        """Yield the values of a table, each from whichever copy is whole, up to the first that is lost."""
        number = 0
        while (value := self._shared_value(table, number)) is not None:
            yield value
            number += 1

    def _shared_value(self, table: str, number: int) -> bytes | None:
        for again in (False, True):
            with contextlib.suppress(*_UNREADABLE):
                value = shared.read_row(self._connection, table, number, again=again)
                if value is not None:
                    return value
        return None

    def _rows(self, table: str, key: str, columns: str, first: int = 0) -> Iterator[tuple[Any, ...]]:
        """Yield rows by ascending key from `first` on; where one is not readable, those after it."""
        if table not in self._tables:
            return
        statement = f"SELECT {key}, {columns} FROM {table} WHERE {key} >= ? ORDER BY {key} LIMIT 1"  # noqa: S608
        at, misses = first, 0
        while misses < _MAX_MISSES:
            try:
                row = self._connection.execute(statement, (at,)).fetchone()
            except _UNREADABLE:
                at += 1
                misses += 1
                continue
            if row is None or type(row[0]) is not int or row[0] < at:
                return
            yield row
            at, misses = row[0] + 1, 0

    def segments(self, first: int = 1) -> Iterator[tuple[int, list[StoredBlock]]]:
        """Yield the whole segments that hold or follow a height: the lowest height, and the blocks."""
        genesis = self.genesis
        if genesis is None:
            return
        interval = genesis.parameters.checkpoint_interval
        span = min(interval, MAX_SEGMENT_BLOCKS)
        for height, parent, data in self._rows("segments", "first", "parent, data", max(first - span + 1, 0)):
            if type(parent) is not bytes or type(data) is not bytes:
                continue
            context = Context(self._book, (parent, *self._parents_below(height, interval)))
            place = Place(genesis, genesis.chain_id, height - 1, parent, context)
            with contextlib.suppress(ColumnsError):
                yield height, decode_segment(data, place)

    def _parents_below(self, height: int, interval: int) -> list[bytes]:
        """Return the parents of the segments below, nearest first; nothing stands in for one that is lost."""
        rows: dict[int, bytes] = {}
        with contextlib.suppress(*_UNREADABLE):
            statement = "SELECT first, parent FROM segments WHERE first < ? ORDER BY first DESC LIMIT ?"
            for first, parent in self._connection.execute(statement, (height, KNOWN_HASHES - 1)):
                rows[first] = blob(parent)
        if any((height - first) % interval for first in rows):
            return list(rows.values())
        regular = range(height - interval, 0, -interval)[: KNOWN_HASHES - 1]
        return [rows.get(first, b"") for first in regular]

    def recent(self) -> Iterator[Block]:
        """Yield the readable blocks above the archive, in the order of their arrival."""
        for row_id, block_hash, header, signature in self._rows("recent", "id", "hash, header, signature"):
            with contextlib.suppress(*_UNREADABLE):
                row = self._connection.execute("SELECT data FROM bodies WHERE id = ?", (row_id,)).fetchone()
                if row is not None and header_hash(blob(header)) == block_hash:
                    yield Block(header, blob(signature), decompress(blob(row[0])))

    def snapshots(self) -> list[tuple[SnapshotInfo, bytes]]:
        """Return the readable snapshots, highest first."""
        found: list[tuple[SnapshotInfo, bytes]] = []
        for _, height, block_hash, state_hash, data in self._rows(
            "snapshots", "id", "height, hash, state_hash, data"
        ):
            with contextlib.suppress(*_UNREADABLE):
                info = SnapshotInfo(int(height), blob(block_hash), blob(state_hash))
                found.append((info, decompress(blob(data))))
        return sorted(found, key=lambda each: -each[0].height)


@contextlib.contextmanager
def open_damaged(database: Path, genesis: Genesis | None, work: Path) -> Iterator[Salvage]:
    """Open what is left of a database; `work` is a directory for a copy where one is needed.

    `genesis` stands in where the database does not say any more whose chain it is. Raises OSError.
    """
    with contextlib.ExitStack() as stack:
        for candidate in _candidates(database, work):
            connection = sqlite3.connect(candidate, uri=True, autocommit=True)
            stack.callback(connection.close)
            tables = _tables(connection)
            if tables:
                yield Salvage(connection, tables, genesis)
                return
        nothing = sqlite3.connect(":memory:", autocommit=True)
        stack.callback(nothing.close)
        yield Salvage(nothing, frozenset(), genesis)


def _candidates(database: Path, work: Path) -> Iterator[str]:
    """Yield ways to open a database: with its write-ahead log, without, with its list of tables renewed."""
    address = database.absolute().as_uri()
    if log_size(database):
        yield f"{address}?mode=ro"
    yield f"{address}?immutable=1"
    for compacted in (False, True):
        patched = work / f"{BUILDING}-{secrets.token_hex(4)}"
        shutil.copyfile(database, patched)
        _renew_table_list(patched, work, compacted=compacted)
        yield f"{patched.absolute().as_uri()}?immutable=1"


def _tables(connection: sqlite3.Connection) -> frozenset[str]:
    """Return the names of the tables that the database lists."""
    try:
        connection.execute("PRAGMA query_only = ON")
        # A file that is shorter than it says is refused otherwise.
        connection.execute("PRAGMA writable_schema = ON")
        rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    except sqlite3.Error:
        return frozenset()
    return frozenset(row[0] for row in rows) if ("segments",) in rows else frozenset()


def _renew_table_list(patched: Path, work: Path, *, compacted: bool) -> None:
    """Overwrite the pages that list the tables with those of a new database, as VACUUM leaves it or not."""
    model = work / f"{patched.name}-model"
    schema.create(model, b"", b"")
    connection = sqlite3.connect(model, autocommit=True)
    try:
        if compacted:
            connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        roots = {row[0] for row in connection.execute("SELECT rootpage FROM sqlite_schema")}
    finally:
        connection.close()
    size = schema.PAGE_SIZE
    with model.open("rb") as source, patched.open("r+b") as target:
        for page in range(1, pages + 1):
            if page not in roots:
                source.seek((page - 1) * size)
                target.seek((page - 1) * size)
                target.write(source.read(size))
        target.seek(_DATABASE_SIZE)
        target.write((patched.stat().st_size // size).to_bytes(4))
