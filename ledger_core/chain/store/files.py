"""The files of a data directory, its lock, and how a new database takes the place of an old one."""

import contextlib
import fcntl
import os
import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ledger_core.errors import ChainError

DATABASE: Final = "chain.db"
LOCK: Final = "chain.lock"
BUILDING: Final = "chain.db.building"
"""A new database that is not complete yet; worth nothing after a crash."""
READY: Final = "chain.db.ready-"
"""A complete new database, then the time it was made: it takes the old one's place at the next chance."""
DAMAGED: Final = "chain.db.damaged-"
"""The old database, kept aside."""
BESIDE: Final = ("-wal", "-shm")
"""What SQLite keeps beside a database that is open or was not closed."""


def rebuild_command(directory: Path) -> str:
    """Return the command that repairs a data directory."""
    return f"energy-ledger chain rebuild --data {shlex.quote(str(directory))}"


def timestamp(now: int) -> str:
    """Return a time as it stands in file names."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")


class DirectoryLock:
    """Keeps a data directory to one writer; the system frees it when the process ends, however it ends."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOCK
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock; raises ChainError `store_in_use` where another process (or store) has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            by = f" (process {holder})" if holder.isdigit() else ""
            raise ChainError(
                "store_in_use",
                f"{self._path.parent} is in use by another node or command{by}; stop it first, or use "
                "another data directory",
                path=str(self._path.parent),
            ) from None
        except OSError:
            os.close(descriptor)
            raise
        self._file = descriptor
        # For the message above only: nothing depends on it, so a full disk is no reason to stop.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory's lock; raises ChainError `store_in_use`."""
    lock = DirectoryLock(directory)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def log_size(database: Path) -> int:
    """Return the size of the write-ahead log beside a database, in bytes; 0 where there is none."""
    try:
        return database.with_name(f"{database.name}-wal").stat().st_size
    except FileNotFoundError:
        return 0


def sync_directory(directory: Path) -> None:
    """Make renames in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def pending_replacement(directory: Path) -> Path | None:
    """Return the complete new database that waits to take its place, or None."""
    ready = sorted(path for path in directory.glob(f"{READY}*") if not path.name.endswith(BESIDE))
    return ready[-1] if ready else None


def announce_replacement(directory: Path, now: int) -> None:
    """Declare the database under construction complete: from here on it will replace the old one."""
    building = directory / BUILDING
    descriptor = os.open(building, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    while (directory / f"{DAMAGED}{timestamp(now)}").exists():
        now += 1
    building.rename(directory / f"{READY}{timestamp(now)}")
    sync_directory(directory)


def finish_replacement(directory: Path, on_stage: Callable[[str], None]) -> Path | None:
    """Put a complete new database in place and the old one aside; can be repeated after a crash at any point.

    `on_stage` is told each step that is done. The caller holds the lock. Returns where the old database is,
    or None where nothing waited.
    """
    ready = pending_replacement(directory)
    if ready is None:
        return None
    database = directory / DATABASE
    aside = directory / f"{DAMAGED}{ready.name.removeprefix(READY)}"
    # A database must never meet the write-ahead log of another: the log goes first, then the old database.
    for suffix in BESIDE:
        _move(directory / f"{DATABASE}{suffix}", directory / f"{aside.name}{suffix}")
    on_stage("log set aside")
    _move(database, aside)
    sync_directory(directory)
    on_stage("database set aside")
    ready.rename(database)
    sync_directory(directory)
    on_stage("database replaced")
    return aside if aside.exists() else None


def _move(source: Path, target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        source.rename(target)


def discard_unfinished(directory: Path) -> None:
    """Remove what an interrupted rebuild left."""
    for path in directory.glob(f"{BUILDING}*"):
        path.unlink(missing_ok=True)
