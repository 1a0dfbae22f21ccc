"""An append-only file of small entries: what was appended is on disk when the call returns.

Each entry is its length and CRC-32 (4 bytes each, big-endian) and its bytes. A torn entry at the end is what
a crash or a full disk leaves of one that was never confirmed: it is cut off, before anything is written
behind it.
"""

import os
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ledger_core.errors import ChainError
from ledger_core.keys.whole_file import write_whole_file

_HEAD_BYTES = 8


class LogFile:
    """The entries of one file, of which one process at a time is the owner."""

    def __init__(self, path: Path, max_entry: int) -> None:
        self.path = path
        self._max_entry = max_entry
        self._whole: int | None = None
        """Bytes of the whole entries; None: not read yet."""
        self.is_new = not path.exists()
        """Whether the file was made by this call."""
        if self.is_new:
            write_whole_file(path, b"", force=False, private=True)

    def read(self) -> list[bytes]:
        """Return the whole entries and cut a torn one off; raises ChainError `log_damaged`."""
        entries, self._whole = self._scan()
        return entries

    def _scan(self) -> tuple[list[bytes], int]:
        """Return the whole entries and their length in the file, once it has nothing else."""
        data = self.path.read_bytes()
        entries, offset = [], 0
        while offset < len(data):
            size = int.from_bytes(data[offset : offset + 4])
            content = data[offset + _HEAD_BYTES : offset + _HEAD_BYTES + size]
            if len(data) < offset + _HEAD_BYTES + size and size <= self._max_entry:
                break
            if not size or zlib.crc32(content) != int.from_bytes(data[offset + 4 : offset + _HEAD_BYTES]):
                if not any(data[offset:]):
                    # The file's length reached the disk and its content did not.
                    break
                raise ChainError(
                    "log_damaged",
                    f"{self.path}: damaged at byte {offset}; restore the file from a backup, or move it away "
                    f"and read in the manual what is lost with it",
                    offset=offset,
                )
            entries.append(content)
            offset += _HEAD_BYTES + size
        if offset < len(data):
            self._cut(offset)
        return entries, offset

    def append(self, *contents: bytes) -> None:
        """Add entries, no empty ones; they are on disk when the call returns.

        Raises OSError, e.g. for a full disk: then none of them was added.
        """
        whole = self._scan()[1] if self._whole is None else self._whole
        data = b"".join(map(_framed, contents))
        if self.path.stat().st_size != whole:
            self._cut(whole)
        try:
            with self.path.open("ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):  # if this fails, too, the next append begins with it
                self._cut(whole)
            self._whole = whole
            raise
        self._whole = whole + len(data)

    def replace(self, contents: Iterable[bytes]) -> None:
        """Write the whole file anew with these entries."""
        data = b"".join(map(_framed, contents))
        write_whole_file(self.path, data, force=True, private=True)
        self._whole = len(data)

    def _cut(self, length: int) -> None:
        with self.path.open("r+b") as file:
            file.truncate(length)
            os.fsync(file.fileno())


def _framed(content: bytes) -> bytes:
    return len(content).to_bytes(4) + zlib.crc32(content).to_bytes(4) + content
