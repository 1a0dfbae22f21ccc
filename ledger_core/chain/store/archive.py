"""Final blocks, packed in segments."""

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from msgspec import Struct

from ledger_core.chain.store import shared
from ledger_core.chain.store.columns import ColumnsError, Context
from ledger_core.chain.store.faults import damaged
from ledger_core.chain.store.keybook import KeyBook
from ledger_core.chain.store.loose import encode_loose
from ledger_core.chain.store.segment import Place, decode_segment, encode_segment
from ledger_core.chain.store.stored import StoredBlock
from ledger_core.community import Genesis
from ledger_core.errors import ChainError
from ledger_core.records.block import decode_header, header_hash

MAX_SEGMENT_BLOCKS: Final = 64
MAX_SEGMENT_BYTES: Final = 4 * 1024 * 1024
"""Where a checkpoint interval is larger, it is cut into several segments."""

CACHE_BYTES: Final = 16 * 1024 * 1024
KNOWN_HASHES: Final = 4
"""How many hashes below a segment its votes may refer to without writing them out."""


class Segment(Struct, frozen=True):
    """Some final blocks that follow each other."""

    first: int
    """Height of the lowest."""
    blocks: list[StoredBlock]


class Archive:
    """Reads and writes segments on connections that it is given."""

    def __init__(self, genesis: Genesis, database: Path) -> None:
        self._genesis = genesis
        self._chain_id = genesis.chain_id
        self._database = database
        self._book = KeyBook()
        self._saved = (0, 0)
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, Segment] = OrderedDict()
        self._cached_bytes = 0

    def load_book(self, connection: sqlite3.Connection) -> None:
        """Read what the segments share; raises RowError."""
        self._book = shared.load_book(connection)
        self._saved = (len(self._book), len(self._book.dictionaries))

    # Writing: inside one transaction, ended by `committed` or `rolled_back`

    def append(
        self,
        connection: sqlite3.Connection,
        blocks: Sequence[StoredBlock],
        parent: tuple[int, bytes, int],
        on_segment: Callable[[], None],
        *,
        loose: bool = False,
    ) -> None:
        """Add blocks that follow the archive's last; `parent` is that one's height, hash and time.

        `loose`: as they are, for `pack_some` to pack.
        """
        height, parent_hash, parent_time = parent
        interval = self._genesis.parameters.checkpoint_interval
        for part in _cut(blocks, height + 1, interval):
            first = height + 1
            if loose:
                data = encode_loose(part)
                connection.execute("INSERT INTO loose VALUES (?)", (first,))
            else:
                data = self._pack(connection, part, (height, parent_hash, parent_time))
            connection.execute("INSERT INTO segments VALUES (?, ?, ?)", (first, parent_hash, data))
            height += len(part)
            if not loose:
                self._make_dictionary(connection, height)
            parent_hash = header_hash(part[-1].header)
            parent_time = decode_header(part[-1].header).time
            on_segment()

    def pack_some(self, connection: sqlite3.Connection, count: int, on_segment: Callable[[], None]) -> bool:
        """Pack so many of the loose segments, lowest first; returns whether any is left.

        Raises ChainError `store_damaged` where one can't be read.
        """
        rows = connection.execute("SELECT first FROM loose ORDER BY first LIMIT ?", (count + 1,)).fetchall()
        for (first,) in rows[:count]:
            segment = self._read(connection, first)
            parent = connection.execute("SELECT parent FROM segments WHERE first = ?", (first,)).fetchone()[0]
            place = (first - 1, parent, self._time_at(connection, first - 1))
            self._replace(connection, first, self._pack(connection, segment.blocks, place))
            self._make_dictionary(connection, first + len(segment.blocks) - 1)
            on_segment()
        return len(rows) > count

    def _time_at(self, connection: sqlite3.Connection, height: int) -> int:
        if height == 0:
            return self._genesis.created
        below = self.segment_at(connection, height)
        return decode_header(below.blocks[height - below.first].header).time

    def _replace(self, connection: sqlite3.Connection, first: int, data: bytes) -> None:
        connection.execute("UPDATE segments SET data = ? WHERE first = ?", (data, first))
        connection.execute("DELETE FROM loose WHERE first = ?", (first,))

    def _pack(
        self, connection: sqlite3.Connection, blocks: Sequence[StoredBlock], parent: tuple[int, bytes, int]
    ) -> bytes:
        """Return a segment's bytes, and store what it shares with others."""
        height, parent_hash, parent_time = parent
        place = self._place(connection, height, parent_hash)
        known = len(self._book)
        data = self._encode(blocks, place, parent_time)
        entries = [shared.encode_entry(entry) for entry in self._book.since(known)]
        shared.write_rows(connection, shared.KEYS, known, entries)
        return data

    def _encode(self, blocks: Sequence[StoredBlock], place: Place, parent_time: int) -> bytes:
        try:
            return encode_segment(blocks, place, parent_time)
        except ColumnsError as error:
            raise ChainError("archive_refused", f"{self._database}: {error}") from error

    def _make_dictionary(self, connection: sqlite3.Connection, height: int) -> None:
        """Train a dictionary whenever the archive has grown well beyond the last one's samples."""
        made = len(self._book.dictionaries)
        segments = height // self._genesis.parameters.checkpoint_interval
        if made < len(shared.TRAINED_AT) and segments >= shared.TRAINED_AT[made]:
            dictionary = shared.train(connection, self._book, height)
            if dictionary is not None:
                shared.write_rows(connection, shared.DICTIONARIES, made, [dictionary.dict_content])
                self._book.dictionaries.append(dictionary)

    def committed(self) -> None:
        """Take note that the transaction is durable."""
        self._saved = (len(self._book), len(self._book.dictionaries))

    def rolled_back(self) -> None:
        """Forget what the transaction would have added."""
        keys, dictionaries = self._saved
        self._book.forget_after(keys)
        del self._book.dictionaries[dictionaries:]

    def prune(self, connection: sqlite3.Connection, segment: Segment) -> None:
        """Replace a segment by one without bodies; its headers keep their Merkle roots."""
        first = segment.first
        row = connection.execute("SELECT parent FROM segments WHERE first = ?", (first,)).fetchone()
        bare = [StoredBlock(block.header, block.signature, None) for block in segment.blocks]
        parent_time = decode_header(bare[0].header).time
        self._replace(connection, first, self._pack(connection, bare, (first - 1, row[0], parent_time)))

    def forget(self, first: int) -> None:
        """Drop a segment from memory."""
        with self._lock:
            segment = self._cache.pop(first, None)
            if segment is not None:
                self._cached_bytes -= _size(segment)

    # Reading

    def segment_at(self, connection: sqlite3.Connection, height: int) -> Segment:
        """Return the segment that holds a final block, checked against the chain of hashes.

        Raises ChainError `store_damaged`.
        """
        row = connection.execute(
            "SELECT first FROM segments WHERE first <= ? ORDER BY first DESC LIMIT 1", (height,)
        ).fetchone()
        if row is None:
            raise damaged(self._database, f"the segment of block {height} is missing")
        with self._lock:
            segment = self._cache.get(row[0])
            if segment is not None:
                self._cache.move_to_end(row[0])
        if segment is None:
            segment = self._read(connection, row[0])
            self._keep(segment)
        if height >= segment.first + len(segment.blocks):
            raise damaged(self._database, f"the segment of block {height} is missing")
        return segment

    def _read(self, connection: sqlite3.Connection, first: int) -> Segment:
        parent_hash, data = connection.execute(
            "SELECT parent, data FROM segments WHERE first = ?", (first,)
        ).fetchone()
        following = connection.execute(
            "SELECT first, parent FROM segments WHERE first > ? ORDER BY first LIMIT 1", (first,)
        ).fetchone()
        if following is None:
            height, following_parent = connection.execute(
                "SELECT final_height, final_hash FROM chain"
            ).fetchone()
            following = (height + 1, following_parent)
        try:
            blocks = decode_segment(data, self._place(connection, first - 1, parent_hash))
        except ColumnsError as error:
            raise damaged(
                self._database, f"the segment from block {first} is not readable: {error}"
            ) from error
        if len(blocks) != following[0] - first or header_hash(blocks[-1].header) != following[1]:
            raise damaged(self._database, f"the segment from block {first} does not fit the next one")
        return Segment(first, blocks)

    def _place(self, connection: sqlite3.Connection, height: int, parent_hash: bytes) -> Place:
        below = connection.execute(
            "SELECT parent FROM segments WHERE first <= ? ORDER BY first DESC LIMIT ?",
            (height, KNOWN_HASHES - 1),
        ).fetchall()
        hashes = (parent_hash, *chain.from_iterable(below))
        return Place(self._genesis, self._chain_id, height, parent_hash, Context(self._book, hashes))

    def _keep(self, segment: Segment) -> None:
        with self._lock:
            if segment.first in self._cache:
                return
            self._cache[segment.first] = segment
            self._cached_bytes += _size(segment)
            while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
                _, oldest = self._cache.popitem(last=False)
                self._cached_bytes -= _size(oldest)


def _size(segment: Segment) -> int:
    """Return roughly how much memory a segment takes, in bytes."""
    return sum(512 + len(block.body or b"") for block in segment.blocks)


def _cut(blocks: Sequence[StoredBlock], first: int, interval: int) -> Iterator[list[StoredBlock]]:
    """Cut blocks after every checkpoint and wherever a segment would become too large."""
    part: list[StoredBlock] = []
    size = 0
    for height, block in enumerate(blocks, first):
        part.append(block)
        size += len(block.body or b"")
        if height % interval == 0 or len(part) >= MAX_SEGMENT_BLOCKS or size >= MAX_SEGMENT_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
