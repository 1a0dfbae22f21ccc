"""Own records until they are final: kept on disk, so that a crash loses none before its block has come."""

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

    def add(self, record_id: bytes, envelope: Envelope) -> None:
        """Keep a record; it is durable when the call returns."""
        ...

    def remove(self, record_id: bytes) -> None:
        """Forget a record."""
        ...

    def items(self) -> list[tuple[bytes, Envelope]]:
        """Return what is kept, oldest first."""
        ...

    def __len__(self) -> int:
        """Return how many records are kept."""
        ...


class MemoryOutbox:
    """An outbox that lives as long as the process."""

    def __init__(self) -> None:
        self._records: dict[bytes, Envelope] = {}

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record_id: bytes, envelope: Envelope) -> None:
        """Keep a record."""
        self._records[record_id] = envelope

    def remove(self, record_id: bytes) -> None:
        """Forget a record."""
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
                super().add(record_id, decode_envelope(entry[1 + _ID_BYTES :], 2 * MAX_RECORD_BYTES))
            else:
                super().remove(record_id)

    def add(self, record_id: bytes, envelope: Envelope) -> None:
        """Keep a record; it is on disk when the call returns."""
        self._append(_ADDED + record_id + encode_envelope(envelope))
        super().add(record_id, envelope)

    def remove(self, record_id: bytes) -> None:
        """Forget a record."""
        if record_id in self._records:
            self._append(_REMOVED + record_id)
            super().remove(record_id)

    def _append(self, entry: bytes) -> None:
        if self._entries >= self._compact_at and self._entries > 4 * len(self._records):
            kept = [_ADDED + key + encode_envelope(envelope) for key, envelope in self._records.items()]
            self._log.replace(kept)
            self._entries = len(kept)
        self._log.append(entry)
        self._entries += 1


def require_room(outbox: Outbox, limit: int) -> None:
    """Raise RuleError `outbox_full` where no further own record can be kept."""
    if len(outbox) >= limit:
        raise RuleError(
            "outbox_full",
            f"{len(outbox)} own records are not final yet, at most {limit} are kept; is the node connected?",
            waiting=len(outbox),
            limit=limit,
        )
