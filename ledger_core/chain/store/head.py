"""The row that says where the stored chain stands."""

import sqlite3
from pathlib import Path

from msgspec import Struct

from ledger_core.chain.store.faults import damaged


class Head(Struct, frozen=True, gc=False):
    """Where the stored chain stands."""

    tip: tuple[int, bytes]
    final: tuple[int, bytes]
    pruned: int
    """Bodies up to this height are gone."""


def read_head(connection: sqlite3.Connection, database: Path) -> Head:
    """Return the head; raises ChainError `store_damaged`."""
    row = connection.execute(
        "SELECT tip_height, tip_hash, final_height, final_hash, pruned FROM chain WHERE id = 1"
    ).fetchone()
    if row is None:
        raise damaged(database, "the row with the tip is missing")
    return Head((row[0], row[1]), (row[2], row[3]), row[4])


def write_head(connection: sqlite3.Connection, head: Head) -> None:
    """Replace the head."""
    connection.execute(
        "UPDATE chain SET tip_height = ?, tip_hash = ?, final_height = ?, final_hash = ?, pruned = ?",
        (*head.tip, *head.final, head.pruned),
    )
