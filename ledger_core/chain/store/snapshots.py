"""States kept whole."""

import sqlite3
from collections.abc import Collection
from typing import Final

from ledger_core.chain.model import SnapshotInfo
from ledger_core.chain.store.compression import blob, compress, decompress

KEPT_FINAL: Final = 2
"""How many snapshots of final states are kept: the older one in case the newer is damaged."""


def save(connection: sqlite3.Connection, info: SnapshotInfo, data: bytes) -> None:
    """Keep a state; one of the same block is replaced."""
    connection.execute(
        "INSERT INTO snapshots (height, hash, state_hash, data) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (hash) DO UPDATE SET state_hash = excluded.state_hash, data = excluded.data",
        (info.height, info.hash, info.state_hash, compress(data)),
    )


def drop(connection: sqlite3.Connection, hashes: Collection[bytes]) -> None:
    """Remove the snapshots after some blocks."""
    connection.executemany("DELETE FROM snapshots WHERE hash = ?", [(each,) for each in hashes])


def drop_old(connection: sqlite3.Connection, final_height: int) -> None:
    """Remove all final snapshots but the newest."""
    connection.execute(
        "DELETE FROM snapshots WHERE height <= ?1 AND id NOT IN "
        "(SELECT id FROM snapshots WHERE height <= ?1 ORDER BY height DESC LIMIT ?2)",
        (final_height, KEPT_FINAL),
    )


def infos(connection: sqlite3.Connection) -> list[SnapshotInfo]:
    """Return what snapshots there are, highest first."""
    rows = connection.execute("SELECT height, hash, state_hash FROM snapshots ORDER BY height DESC, id DESC")
    return [
        SnapshotInfo(height, blob(block_hash), blob(state_hash)) for height, block_hash, state_hash in rows
    ]


def load(connection: sqlite3.Connection, block_hash: bytes) -> bytes | None:
    """Return the snapshot after a block, or None; raises RowError."""
    row = connection.execute("SELECT data FROM snapshots WHERE hash = ?", (block_hash,)).fetchone()
    return None if row is None else decompress(blob(row[0]))
