"""Own records until they are final: kept on disk, so that a crash loses none before its block has come."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ledger_core.errors import RuleError
from ledger_core.node.engine.logfile import LogFile
from ledger_core.records.codec import MAX_RECORD_BYTES, Envelope, decode_envelope, encode_envelope

_ADDED = b"+"
_REMOVED = b"-"
_ID_BYTES = 32


class Outbox(Protocol):
    """Keeps the records that were submitted at this node."""

    def add(self, records: Mapping[bytes, Envelope]) -> None:
        """Keep records by id; they are durable when the call returns."""
        ...

    def remove(self, record_ids: Collection[bytes]) -> None:
        """Forget records."""
        ...

    def items(self) -> list[tuple[bytes, Envelope]]:
        """Return what is kept, oldest first."""
        ...

    def __len__(self) -> int:
        """Return how many records are kept."""
        ...

    def __contains__(self, record_id: object) -> bool:
        """Return whether a record is kept, by its id."""
        ...


class MemoryOutbox:
    """An outbox that lives as long as the process."""

    def __init__(self) -> None:
        self._records: dict[bytes, Envelope] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, record_id: object) -> bool:
        return record_id in self._records

    def add(self, records: Mapping[bytes, Envelope]) -> None:
        """Keep records."""
        self._records.update(records)

    def remove(self, record_ids: Collection[bytes]) -> None:
        """Forget records."""
        for record_id in record_ids:
            self._records.pop(record_id, None)

    def items(self) -> list[tuple[bytes, Envelope]]:
        """Return what is kept, oldest first."""
        return list(self._records.items())


class FileOutbox(MemoryOutbox):
    """An outbox in one append-only file, written anew once most of it is history."""

    def __init__(self, path: Path, compact_at: int = 1024) -> None:
        super().__init__()
        self._log = LogFile(path, _ID_BYTES + 2 * MAX_RECORD_BYTES)
        self._compact_at = compact_at
        self._entries = 0
        for entry in self._log.read():
            self._entries += 1
            record_id = entry[1 : 1 + _ID_BYTES]
            if entry[:1] == _ADDED:
                super().add({record_id: decode_envelope(entry[1 + _ID_BYTES :], 2 * MAX_RECORD_BYTES)})
            else:
                super().remove((record_id,))

    def add(self, records: Mapping[bytes, Envelope]) -> None:
        """Keep records; they are on disk when the call returns."""
        self._append(_added(records))
        super().add(records)

    def remove(self, record_ids: Collection[bytes]) -> None:
        """Forget records."""
        known = [record_id for record_id in record_ids if record_id in self._records]
        self._append([_REMOVED + record_id for record_id in known])
        super().remove(known)

    def _append(self, entries: Sequence[bytes]) -> None:
        if not entries:
            return
        if self._entries >= self._compact_at and self._entries > 4 * len(self._records):
            self._log.replace(_added(self._records))
            self._entries = len(self._records)
        self._log.append(*entries)
        self._entries += len(entries)


def _added(records: Mapping[bytes, Envelope]) -> list[bytes]:
    return [_ADDED + record_id + encode_envelope(envelope) for record_id, envelope in records.items()]


def require_room(waiting: int, limit: int) -> None:
    """Raise RuleError `outbox_full` where no further own record can be kept."""
    if waiting >= limit:
        raise RuleError(
            "outbox_full",
            f"{waiting} own records are not final yet, at most {limit} are kept; is the node connected?",
            waiting=waiting,
            limit=limit,
        )
