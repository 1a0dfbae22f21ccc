"""What SQLite and the system report, as errors that say what to do."""

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ledger_core.chain.store.files import log_size, rebuild_command
from ledger_core.errors import ChainError

_NO_ROOM: Final = 1024 * 1024
"""With less free space than this a failed write is taken for a full disk."""
_FULL_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextlib.contextmanager
def as_chain_errors(database: Path) -> Iterator[None]:
    """Turn what goes wrong with a database into a ChainError that names the file and the remedy."""
    try:
        yield
    except sqlite3.Error as error:
        raise _from_sqlite(error, database) from error
    except OSError as error:
        raise _from_system(error, database) from error


def disk_full(database: Path) -> ChainError:
    """Return the error of a disk without room."""
    return ChainError(
        "disk_full",
        f"{database}: no room left on the disk; nothing was lost: free some space (or raise the quota) and "
        "try again",
        path=str(database),
    )


def damaged(database: Path, why: str) -> ChainError:
    """Return the error of a database that can't be read as it is."""
    return ChainError(
        "store_damaged",
        f"{database} is damaged ({why}); stop the node and run: {rebuild_command(database.parent)}",
        path=str(database),
        reason=why,
    )


def _from_system(error: OSError, database: Path) -> ChainError:
    if error.errno in _FULL_ERRORS:
        return disk_full(database)
    path = str(error.filename or database)
    return ChainError(
        "store_unreachable",
        f"{path}: {(error.strerror or str(error)).lower()}; check the path and its permissions",
        path=path,
    )


def _from_sqlite(error: sqlite3.Error, database: Path) -> ChainError:
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and _no_room(database)):
        return disk_full(database)
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return ChainError(
            "store_busy",
            f"{database}: another program holds the database; close it and try again",
            path=str(database),
        )
    if primary in (
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
    ):
        return ChainError(
            "store_unreachable",
            f"{database}: can't be opened for writing ({error}); check the path and its permissions",
            path=str(database),
        )
    if primary == sqlite3.SQLITE_IOERR:
        return ChainError(
            "store_io_error",
            f"{database}: the disk failed ({error.sqlite_errorname}); check the disk, then run: "
            f"{rebuild_command(database.parent)}",
            path=str(database),
        )
    if isinstance(error, sqlite3.ProgrammingError):
        return ChainError("store_closed", f"{database}: the store is closed", path=str(database))
    return damaged(database, str(error))


def _no_room(database: Path) -> bool:
    try:
        system = os.statvfs(database.parent)
        size = log_size(database)
    except OSError:
        return False
    return system.f_bavail * system.f_frsize < _NO_ROOM or size >= _file_size_limit() - _NO_ROOM


def _file_size_limit() -> float:
    """Return how large a file this process may write, in bytes."""
    import resource  # noqa: PLC0415 - only after a failure

    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return float("inf") if soft == resource.RLIM_INFINITY else soft
