"""The rows that all segments share: numbered keys, and the compressor's dictionaries.

Every row carries a checksum and stands in two tables, so that one bad page does not cost the whole archive.
"""

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from compression.zstd import ZstdDict, ZstdError, train_dict
from typing import Final

from ledger_core.chain.store.columns import ColumnsError, unpack
from ledger_core.chain.store.compression import RowError, blob
from ledger_core.chain.store.keybook import Entry, KeyBook

KEYS: Final = "keys"
DICTIONARIES: Final = "dictionaries"
_AGAIN: Final = "_again"
_CHECKSUM_BYTES: Final = 4
_SPACE_BYTES: Final = 8

TRAINED_AT: Final = (64, 1024, 16_384)
"""Segments in the archive at which a dictionary is made of the latest ones."""
_SAMPLES: Final = 64
_FEWEST_SAMPLES: Final = 16
_DICTIONARY_BYTES: Final = 16 * 1024


def seal(value: bytes) -> bytes:
    """Return a value with its checksum."""
    return value + zlib.crc32(value).to_bytes(_CHECKSUM_BYTES)


def unseal(row: bytes) -> bytes:
    """Return the value in a row; raises RowError where the checksum is wrong."""
    value = row[:-_CHECKSUM_BYTES]
    if len(row) < _CHECKSUM_BYTES or zlib.crc32(value).to_bytes(_CHECKSUM_BYTES) != row[-_CHECKSUM_BYTES:]:
        raise RowError("a key or dictionary whose checksum is wrong")
    return value


def read_row(connection: sqlite3.Connection, table: str, number: int, *, again: bool = False) -> bytes | None:
    """Return a value by its number, or None; raises RowError."""
    row = connection.execute(
        f"SELECT value FROM {table}{_AGAIN if again else ''} WHERE number = ?",  # noqa: S608 - the names are ours
        (number,),
    ).fetchone()
    return None if row is None else unseal(blob(row[0]))


def _read_all(connection: sqlite3.Connection, table: str) -> Iterator[bytes]:
    rows = connection.execute(f"SELECT number, value FROM {table} ORDER BY number")  # noqa: S608
    for expected, (number, value) in enumerate(rows):
        if number != expected:
            raise RowError(f"row {expected} of the table {table} is missing")
        yield unseal(blob(value))


def write_rows(connection: sqlite3.Connection, table: str, first: int, values: Sequence[bytes]) -> None:
    """Add values from a number upwards."""
    rows = [(number, seal(value)) for number, value in enumerate(values, first)]
    connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)  # noqa: S608
    connection.executemany(f"INSERT INTO {table}{_AGAIN} VALUES (?, ?)", rows)  # noqa: S608


def encode_entry(entry: Entry) -> bytes:
    """Return a key book's entry as bytes."""
    space, value = entry
    return space.to_bytes(_SPACE_BYTES) + value


def decode_entry(data: bytes) -> Entry:
    """Return the key book's entry in bytes."""
    return int.from_bytes(data[:_SPACE_BYTES]), data[_SPACE_BYTES:]


def load_book(connection: sqlite3.Connection) -> KeyBook:
    """Return everything that segments share; raises RowError."""
    book = KeyBook(decode_entry(data) for data in _read_all(connection, KEYS))
    book.dictionaries = [load_dictionary(data) for data in _read_all(connection, DICTIONARIES)]
    return book


def load_dictionary(data: bytes) -> ZstdDict:
    """Return a dictionary; raises RowError."""
    try:
        return ZstdDict(data)
    except (ZstdError, ValueError) as error:
        raise RowError(f"a dictionary that is not readable: {error}") from error


def train(connection: sqlite3.Connection, book: KeyBook, height: int) -> ZstdDict | None:
    """Return a dictionary of what the latest packed segments up to a height have in common.

    None where they are too few.
    """
    rows = connection.execute(
        "SELECT data FROM segments WHERE first <= ? AND first NOT IN (SELECT first FROM loose) "
        "ORDER BY first DESC LIMIT ?",
        (height, _SAMPLES),
    )
    samples = []
    for (data,) in rows:
        try:
            samples.append(unpack(blob(data), book.dictionaries)[0])
        except ColumnsError as error:
            raise RowError(f"a segment that is not readable: {error}") from error
    if len(samples) < _FEWEST_SAMPLES:
        return None
    try:
        return train_dict(samples, _DICTIONARY_BYTES)
    except ZstdError, ValueError:
        # The samples have too little in common, or are too small: nothing to gain.
        return None
