"""Opening the store of a data directory, and making a new one."""

import contextlib
from collections.abc import Callable
from pathlib import Path

from ledger_core.chain.store import files, schema
from ledger_core.chain.store.database import Database
from ledger_core.chain.store.faults import as_chain_errors, damaged
from ledger_core.chain.store.store import SqliteStore
from ledger_core.chain.store.transaction import StageHook
from ledger_core.community import Genesis, decode_genesis, encode_genesis
from ledger_core.errors import ChainError, LedgerError


def no_stage(_name: str) -> None:
    """Take no note of the steps."""


def open_store(
    directory: Path,
    genesis: Genesis | None = None,
    *,
    writable: bool = True,
    on_stage: StageHook = no_stage,
) -> SqliteStore:
    """Open a community's store; a new one is made only where `genesis` is given.

    A store opened for reading only needs no lock: a node may write at the same time. `on_stage` is told the
    name of every step of every change (for tests that end the process there).

    Raises ChainError `store_missing`, `store_in_use`, `store_foreign`, `store_newer`, `store_older`,
    `other_community`, `store_damaged`, `store_unreachable`, `disk_full`.
    """
    path = directory / files.DATABASE
    lock = files.DirectoryLock(directory)
    with contextlib.ExitStack() as undo, as_chain_errors(path):
        _require_place(directory, genesis if writable else None)
        undo.callback(lock.release)
        if writable or files.pending_replacement(directory) is not None:
            lock.acquire()
            files.finish_replacement(directory, on_stage)
            files.discard_unfinished(directory)
        if not path.exists():
            if files.log_size(path):
                raise damaged(path, "the file is gone, but its write-ahead log is there")
            if genesis is None or not writable:
                raise _missing(directory)
            _create(directory, genesis, on_stage)
        if not writable:
            lock.release()
        store = _open(path, genesis, on_stage, lock.release, writable=writable)
        undo.pop_all()
        return store


def _open(
    path: Path,
    genesis: Genesis | None,
    on_stage: StageHook,
    on_close: Callable[[], None],
    *,
    writable: bool,
) -> SqliteStore:
    database = Database(path, writable=writable)
    try:
        database.migrate()
        found = _read_genesis(database, genesis)
        on_stage("opened")
        return SqliteStore(database, found, on_stage, on_close)
    except BaseException:
        database.close()
        raise


def build_store(directory: Path, genesis: Genesis, on_stage: StageHook = no_stage) -> SqliteStore:
    """Make a new database beside the one in use; the caller holds the directory's lock.

    Once it is closed, `files.announce_replacement` lets it take the other's place.
    """
    building = directory / files.BUILDING
    files.discard_unfinished(directory)
    with as_chain_errors(building):
        schema.create(building, encode_genesis(genesis), genesis.chain_id)
        return _open(building, genesis, on_stage, lambda: None, writable=True)


def _create(directory: Path, genesis: Genesis, on_stage: StageHook) -> None:
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


def _read_genesis(database: Database, wanted: Genesis | None) -> Genesis:
    with database.reading() as connection:
        row = connection.execute("SELECT genesis FROM chain WHERE id = 1").fetchone()
    if row is None:
        raise damaged(database.path, "the row with the genesis is missing")
    try:
        genesis = decode_genesis(row[0])
    except (LedgerError, TypeError) as error:
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
