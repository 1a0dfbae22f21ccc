"""The rows of the blocks above the last final checkpoint, and of that one."""

import sqlite3
from collections.abc import Sequence
from typing import Final

from ledger_core.chain.model import RecentBlock
from ledger_core.chain.store.compression import RowError, blob, compress, decompress
from ledger_core.records.block import Block, decode_header, header_hash

_PAGE: Final = 500
_COLUMNS: Final = "hash, header, signature, arrival, invalid, active"

type Row = tuple[int, bytes]
"""Id and header of a block."""


def add(connection: sqlite3.Connection, block: Block, arrival: int, *, active: bool = False) -> None:
    """Add a block with its body; raises sqlite3.IntegrityError for one that is there."""
    add_header(connection, block, arrival, active=active)
    connection.execute("INSERT INTO bodies VALUES (last_insert_rowid(), ?)", (compress(block.body),))


def add_header(connection: sqlite3.Connection, block: Block, arrival: int, *, active: bool) -> None:
    """Add a block without its body."""
    connection.execute(
        "INSERT INTO recent (hash, height, arrival, active, invalid, header, signature) "
        "VALUES (?, ?, ?, ?, 0, ?, ?)",
        (block.hash, decode_header(block.header).height, arrival, active, block.header, block.signature),
    )


def find(connection: sqlite3.Connection, block_hash: bytes) -> Row | None:
    """Return a block's row, or None."""
    row = connection.execute("SELECT id, header FROM recent WHERE hash = ?", (block_hash,)).fetchone()
    return None if row is None else (row[0], _header(row[1], block_hash))


def set_active(connection: sqlite3.Connection, row_id: int, undo: bytes | None) -> None:
    """Put a block on the active branch with its undo data, or (None) take it off."""
    connection.execute("UPDATE recent SET active = ? WHERE id = ?", (undo is not None, row_id))
    if undo is None:
        connection.execute("DELETE FROM undos WHERE id = ?", (row_id,))
    else:
        connection.execute("INSERT INTO undos VALUES (?, ?)", (row_id, compress(undo)))


def set_invalid(connection: sqlite3.Connection, row_id: int) -> None:
    """Remember that a rule refused a block."""
    connection.execute("UPDATE recent SET invalid = 1 WHERE id = ?", (row_id,))


def remove(connection: sqlite3.Connection, row_id: int) -> None:
    """Forget a block."""
    strip(connection, row_id)
    connection.execute("DELETE FROM recent WHERE id = ?", (row_id,))


def strip(connection: sqlite3.Connection, row_id: int) -> None:
    """Forget a block's body and undo data."""
    connection.execute("DELETE FROM bodies WHERE id = ?", (row_id,))
    connection.execute("DELETE FROM undos WHERE id = ?", (row_id,))


def remove_up_to(connection: sqlite3.Connection, height: int, keep: bytes) -> None:
    """Forget every block up to a height, of any branch; of the one to keep its header stays."""
    connection.execute("DELETE FROM bodies WHERE id IN (SELECT id FROM recent WHERE height <= ?)", (height,))
    connection.execute("DELETE FROM undos WHERE id IN (SELECT id FROM recent WHERE height <= ?)", (height,))
    connection.execute("DELETE FROM recent WHERE height <= ? AND hash != ?", (height, keep))


def active_between(
    connection: sqlite3.Connection, above: int, up_to: int
) -> list[tuple[int, int, bytes, Block]]:
    """Return height, arrival, hash and block of the active blocks in a range of heights, lowest first."""
    rows = connection.execute(
        "SELECT r.height, r.arrival, r.hash, r.header, r.signature, b.data FROM recent r "
        "JOIN bodies b ON b.id = r.id WHERE r.height > ? AND r.height <= ? AND r.active = 1 "
        "ORDER BY r.height",
        (above, up_to),
    )
    return [
        (height, arrival, block_hash, _block(block_hash, header, signature, data))
        for height, arrival, block_hash, header, signature, data in rows
    ]


def block(connection: sqlite3.Connection, block_hash: bytes) -> Block | None:
    """Return a block with its body; None for one that is not there or has none."""
    row = connection.execute(
        "SELECT r.header, r.signature, b.data FROM recent r JOIN bodies b ON b.id = r.id WHERE r.hash = ?",
        (block_hash,),
    ).fetchone()
    return None if row is None else _block(block_hash, *row)


def _block(block_hash: bytes, header: object, signature: object, data: object) -> Block:
    return Block(_header(header, block_hash), blob(signature), decompress(blob(data)))


def _header(header: object, block_hash: object) -> bytes:
    checked = blob(header)
    if header_hash(checked) != block_hash:
        raise RowError("a header that is not of its hash")
    return checked


def sealed_at(connection: sqlite3.Connection, first: int, last: int) -> Sequence[tuple[bytes, bytes]]:
    """Return headers and signatures of the active branch in a range of heights, lowest first."""
    rows = connection.execute(
        "SELECT hash, header, signature FROM recent WHERE height BETWEEN ? AND ? AND active = 1 "
        "ORDER BY height",
        (first, last),
    )
    return [(_header(header, block_hash), blob(signature)) for block_hash, header, signature in rows]


def hash_at(connection: sqlite3.Connection, height: int) -> bytes | None:
    """Return the hash of the active branch's block at a height, or None."""
    row = connection.execute("SELECT hash FROM recent WHERE height = ? AND active = 1", (height,)).fetchone()
    return None if row is None else blob(row[0])


def undo(connection: sqlite3.Connection, block_hash: bytes) -> bytes | None:
    """Return an active block's undo data, or None."""
    row = connection.execute(
        "SELECT u.data FROM recent r JOIN undos u ON u.id = r.id WHERE r.hash = ?", (block_hash,)
    ).fetchone()
    return None if row is None else decompress(blob(row[0]))


def page(connection: sqlite3.Connection, after: int) -> list[tuple[int, RecentBlock]]:
    """Return the next rows after an id, in the order in which they were added."""
    rows = connection.execute(
        f"SELECT id, {_COLUMNS} FROM recent WHERE id > ? ORDER BY id LIMIT {_PAGE}",  # noqa: S608
        (after,),
    )
    return [
        (
            row_id,
            RecentBlock(
                blob(block_hash),
                _header(header, block_hash),
                blob(signature),
                arrival,
                bool(invalid),
                bool(active),
            ),
        )
        for row_id, block_hash, header, signature, arrival, invalid, active in rows
    ]
