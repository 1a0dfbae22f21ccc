"""Events kept on disk: bounded, each with a cursor that only this very event has.

A cursor holds the event's number and random digits of its own. A log that lost its end, or was restored from
an older copy, numbers other events alike; the digits tell such a cursor from a good one, so that a client
never goes on at a wrong place without noticing.
"""

import logging
import secrets
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from ledger_core.errors import LedgerError
from ledger_core.node.api.model import EventView

_LOGGER: Final = logging.getLogger(__name__)

FILE: Final = "events.sqlite"
KEPT_EVENTS: Final = 200_000
KEPT_BLOCKS: Final = 8192
"""A reorganisation deeper than this is told as `resync`."""
MAX_PAGE: Final = 500
_TAG_BYTES: Final = 8

_SCHEMA: Final = """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    PRAGMA journal_size_limit = 4194304;
    CREATE TABLE IF NOT EXISTS events (
        seq INTEGER PRIMARY KEY, tag BLOB NOT NULL, body BLOB NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS blocks (height INTEGER PRIMARY KEY, hash BLOB NOT NULL) STRICT;
"""


class Entry(Struct, frozen=True, array_like=True):
    """An event before it has a cursor."""

    event: str
    height: int | None
    block: str | None
    time: int
    data: dict[str, Any]


type BlockStep = tuple[int, bytes | None]
"""A block that joined the branch that the log tells of, or (None) left it."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entry)


class EventLogError(LedgerError):
    """The log can't be used."""


class CursorError(LedgerError):
    """A cursor that events can't go on from; the client reads anew what it needs."""


class EventLog:
    """Events in a file of the data directory; every method may be called from any thread.

    Whatever reads or writes the file waits for the disk and for the thread that writes: no event loop should.
    """

    def __init__(self, path: Path, keep: int = KEPT_EVENTS) -> None:
        """Open or begin the log; a damaged one is put aside, for all it held can be read anew."""
        self._keep = keep
        self._lock = threading.Lock()
        """Held while the file is read or written."""
        self._listeners: list[Callable[[], None]] = []
        self._path = path
        try:
            self._connection = _open_whole(path)
            self._first, self._newest = self._read_ends()
        except sqlite3.OperationalError as error:
            # The file may be good; where it lies is not.
            raise EventLogError(
                "events_unusable", f"{path}: {_why(error)}; check its directory and the disk", path=str(path)
            ) from error

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever written."""
        return self._newest[0] == 0

    @property
    def cursor(self) -> str:
        """The newest event's cursor; known without the disk."""
        return _cursor(*self._newest)

    def blocks(self) -> dict[int, bytes]:
        """Return the newest blocks that the log tells of, by height, ascending."""
        with self._lock:
            return dict(self._connection.execute("SELECT height, hash FROM blocks ORDER BY height"))

    def append(self, entries: Sequence[Entry], steps: Sequence[BlockStep] = ()) -> None:
        """Write events and the blocks they belong to, wholly or not at all.

        Raises EventLogError `events_unwritable`.
        """
        if not entries:
            return
        with self._lock:
            tags = secrets.token_bytes(_TAG_BYTES * len(entries))
            rows = [
                (seq, tags[at : at + _TAG_BYTES], _encoder.encode(entry))
                for seq, at, entry in zip(
                    count(self._newest[0] + 1), range(0, len(tags), _TAG_BYTES), entries, strict=False
                )
            ]
            try:
                oldest = self._write(rows, steps)
            except sqlite3.Error as error:
                raise EventLogError(
                    "events_unwritable",
                    f"{self._path}: {error}; free some room on the disk",
                    path=str(self._path),
                ) from error
            self._first = oldest
            self._newest = rows[-1][:2]
        for listener in tuple(self._listeners):
            listener()

    def page(self, after: str | None, limit: int) -> list[EventView]:
        """Return events after a cursor (None: the oldest kept), oldest first.

        Raises CursorError `cursor_expired` where events after it are gone, `cursor_unknown` where it is none
        of this log.
        """
        with self._lock:
            last = self._first - 1 if after is None else self._position(after)
            rows = self._connection.execute(
                "SELECT seq, tag, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
                (last, min(limit, MAX_PAGE)),
            ).fetchall()
        return [_view(*row) for row in rows]

    def check(self, cursor: str) -> None:
        """Raise CursorError for a cursor that events can't go on from."""
        with self._lock:
            self._position(cursor)

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call back, in the writing thread, after every append; returns what ends it."""
        self._listeners.append(listener)

        def stop() -> None:
            with suppress(ValueError):
                self._listeners.remove(listener)

        return stop

    def close(self) -> None:
        """Close the file; the object can't be used afterwards."""
        with self._lock:
            self._connection.close()

    def _position(self, cursor: str) -> int:
        number, _, digits = cursor.partition("-")
        if not (number.isdecimal() and len(number) <= 18 and len(digits) == 2 * _TAG_BYTES):
            raise CursorError("cursor_unknown", f"{cursor[:40]!r} is no cursor", cursor=cursor[:40])
        seq = int(number)
        if seq == 0 and cursor == _cursor(*self._newest):
            return 0
        row = self._connection.execute("SELECT tag FROM events WHERE seq = ?", (seq,)).fetchone()
        if row is not None and row[0].hex() == digits:
            return seq
        if row is None and seq < self._first:
            raise CursorError(
                "cursor_expired",
                "events after this cursor are not kept any more: read the state anew, and go on from there",
                cursor=cursor,
                oldest=self._first,
            )
        raise CursorError(
            "cursor_unknown",
            "this node never gave that cursor: read the state anew, and go on from there",
            cursor=cursor,
        )

    def _read_ends(self) -> tuple[int, tuple[int, bytes]]:
        """Return the oldest event's number, and the newest one's number and digits."""
        first, newest = self._connection.execute(
            "SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) FROM events"
        ).fetchone()
        row = self._connection.execute("SELECT tag FROM events WHERE seq = ?", (newest,)).fetchone()
        return first, (newest, row[0] if row is not None else bytes(_TAG_BYTES))

    def _write(self, rows: Sequence[tuple[int, bytes, bytes]], steps: Sequence[BlockStep]) -> int:
        """Return the oldest event's number after the transaction."""
        oldest = self._first
        with self._connection as connection:
            connection.executemany("INSERT INTO events (seq, tag, body) VALUES (?, ?, ?)", rows)
            joined: dict[int, bytes] = {}
            for step in steps:
                follow(joined, step)
            lowest = min((height for height, _ in steps), default=None)
            if lowest is not None:
                connection.execute("DELETE FROM blocks WHERE height >= ?", (lowest,))
                connection.executemany("INSERT INTO blocks VALUES (?, ?)", joined.items())
            if joined:
                oldest_block = next(reversed(joined)) - KEPT_BLOCKS
                connection.execute("DELETE FROM blocks WHERE height <= ?", (oldest_block,))
            excess = rows[-1][0] - oldest + 1 - self._keep
            if excess > 0 and excess >= min(self._keep // 10, 1000):
                oldest += excess
                connection.execute("DELETE FROM events WHERE seq < ?", (oldest,))
        return oldest


def follow(blocks: dict[int, bytes], step: BlockStep) -> None:
    """Do to known blocks, ascending by height, what a step does to the branch."""
    height, block_hash = step
    while blocks and next(reversed(blocks)) >= height:
        blocks.popitem()
    if block_hash is not None:
        blocks[height] = block_hash


def _open_whole(path: Path) -> sqlite3.Connection:
    """Open or begin a log; a damaged one is put aside."""
    try:
        return _open(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        _put_aside(path, error)
        return _open(path)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False)
    try:
        connection.executescript(_SCHEMA)
        connection.execute("SELECT count(*) FROM blocks").fetchone()
        _require_whole(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _why(error: sqlite3.OperationalError) -> str:
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return f"no room left on the disk, or it fails ({error})"
    return str(error)


def _require_whole(connection: sqlite3.Connection) -> None:
    if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise sqlite3.DatabaseError("the file is damaged")


def _put_aside(path: Path, error: sqlite3.Error) -> None:
    _LOGGER.warning("%s can't be read (%s): a new log of events is begun", path, error)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.replace(path.with_name(path.name + ".damaged"))


def _cursor(seq: int, tag: bytes) -> str:
    return f"{seq}-{tag.hex()}"


def _view(seq: int, tag: bytes, body: bytes) -> EventView:
    entry = _decoder.decode(body)
    return EventView(
        cursor=_cursor(seq, tag),
        event=entry.event,
        height=entry.height,
        block=entry.block,
        time=entry.time,
        data=entry.data,
    )
