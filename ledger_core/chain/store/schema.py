"""The database's tables, and the steps that bring an older database up to them."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ledger_core.chain.store.faults import damaged
from ledger_core.errors import ChainError

APPLICATION_ID: Final = 0x454C4331
"""ASCII `ELC1` in the database's header: `file` and a wrong program can tell it from any other."""

PAGE_SIZE: Final = 1024
"""A segment of the archive fills several pages; the smaller the page, the less of the last one is lost."""

_FIRST: Final = (
    # One row: whose chain this is and where it stands. Bodies up to height `pruned` are gone.
    """CREATE TABLE chain (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        genesis BLOB NOT NULL,
        tip_height INTEGER NOT NULL,
        tip_hash BLOB NOT NULL,
        final_height INTEGER NOT NULL,
        final_hash BLOB NOT NULL,
        pruned INTEGER NOT NULL
    ) STRICT""",
    # Blocks above the last final checkpoint, and that one; what is rarely read stands apart.
    """CREATE TABLE recent (
        id INTEGER PRIMARY KEY,
        hash BLOB NOT NULL,
        height INTEGER NOT NULL,
        arrival INTEGER NOT NULL,
        active INTEGER NOT NULL,
        invalid INTEGER NOT NULL,
        header BLOB NOT NULL,
        signature BLOB NOT NULL
    ) STRICT""",
    "CREATE TABLE bodies (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT",
    "CREATE TABLE undos (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT",
    # Final blocks: each row from height `first` up to the next row, on the block with the hash `parent`.
    "CREATE TABLE segments (first INTEGER PRIMARY KEY, parent BLOB NOT NULL, data BLOB NOT NULL) STRICT",
    # What the segments share, each row with a checksum, and once more: no segment can be read without.
    "CREATE TABLE keys (number INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT",
    "CREATE TABLE keys_again (number INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT",
    "CREATE TABLE dictionaries (number INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT",
    "CREATE TABLE dictionaries_again (number INTEGER PRIMARY KEY, value BLOB NOT NULL) STRICT",
    """CREATE TABLE snapshots (
        id INTEGER PRIMARY KEY,
        height INTEGER NOT NULL,
        hash BLOB NOT NULL,
        state_hash BLOB NOT NULL,
        data BLOB NOT NULL
    ) STRICT""",
    "CREATE UNIQUE INDEX recent_by_hash ON recent (hash)",
    "CREATE INDEX recent_by_height ON recent (height)",
    "CREATE UNIQUE INDEX snapshots_by_hash ON snapshots (hash)",
)


def _create_tables(connection: sqlite3.Connection) -> None:
    for statement in _FIRST:
        connection.execute(statement)


def _add_loose(connection: sqlite3.Connection) -> None:
    # The segments, by their lowest height, that were stored as they came and are still to be packed.
    connection.execute("CREATE TABLE loose (first INTEGER PRIMARY KEY) STRICT")


type Migration = Callable[[sqlite3.Connection], None]

MIGRATIONS: Final[Sequence[Migration]] = (_create_tables, _add_loose)
"""Step n brings schema version n to n + 1; a step that was released never changes."""


def read_version(connection: sqlite3.Connection, database: Path) -> int:
    """Return the schema version, changing nothing.

    Raises ChainError `store_foreign` for the database of another program, `store_newer` for one that a newer
    version of this program made, and `store_damaged` for an empty one.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        if application == 0 and not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise damaged(database, "it is empty")
        raise ChainError(
            "store_foreign",
            f"{database} is a database of another program (application id {application:#010x}, not "
            f"{APPLICATION_ID:#010x}); use another data directory",
            path=str(database),
        )
    known = len(MIGRATIONS)
    if version > known:
        raise ChainError(
            "store_newer",
            f"{database} has schema version {version}, this program knows versions up to {known}; update "
            "Energy Ledger, or use another data directory",
            path=str(database),
            version=version,
            known=known,
        )
    return int(version)


def create(path: Path, genesis: bytes, chain_id: bytes) -> None:
    """Make a new database of a community, without any block; raises sqlite3.Error, also where one exists."""
    connection = sqlite3.connect(path, autocommit=True)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        migrate(connection, 0)
        connection.execute(
            "INSERT INTO chain VALUES (1, :genesis, 0, :id, 0, :id, 0)", {"genesis": genesis, "id": chain_id}
        )
        connection.execute("COMMIT")
    finally:
        connection.close()


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring the database from a version up to date, inside the caller's transaction."""
    for step in MIGRATIONS[version:]:
        step(connection)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
