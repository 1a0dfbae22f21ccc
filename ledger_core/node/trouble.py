"""Trouble with the node's own disk: told once, watched until it is over.

A full disk ends nothing: what can't be written is not taken, the store stays as it was, and the node goes on
reading and answering. It asks the disk again and again, and resumes mining when there is room.
"""

import asyncio
import errno
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ledger_core.errors import ChainError

_LOGGER: Final = logging.getLogger(__name__)
_PROBE_BYTES: Final = 256 * 1024
PROBE_EVERY_S: Final = 5.0
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class DiskTrouble:
    """Remembers the last failure of the disk until a probe succeeds; used on the event loop."""

    def __init__(
        self, directory: Path, over: Callable[[], None] = lambda: None, probe_every_s: float = PROBE_EVERY_S
    ) -> None:
        """Watch a directory's disk; `over` is called when it takes data again."""
        self._directory = directory
        self._over = over
        self._every_s = probe_every_s
        self._told = asyncio.Event()
        self.reason: str | None = None
        """What is wrong, for people; None: nothing."""

    def report(self, error: ChainError | OSError) -> None:
        """Note a failure; it is logged once, not with every try."""
        reason = self._text(error)
        if self.reason is None:
            _LOGGER.error("%s", reason)
        self.reason = reason
        self._told.set()

    def _text(self, error: ChainError | OSError) -> str:
        if isinstance(error, ChainError):
            return f"{error.code}: {error.message}"
        remedy = "make room on the disk" if error.errno in _FULL else "see to the disk"
        what = error.strerror or str(error)
        return (
            f"the node's data in {self._directory} can't be written ({what}): {remedy}, the node goes on "
            "by itself"
        )

    async def watch(self) -> None:
        """Probe the disk while there is trouble, until cancelled."""
        while True:
            await self._told.wait()
            self._told.clear()
            await asyncio.sleep(self._every_s)
            if await asyncio.to_thread(self._is_writable):
                _LOGGER.warning("the disk takes data again: the node goes on")
                self.reason = None
                self._over()
            else:
                self._told.set()

    def _is_writable(self) -> bool:
        try:
            # Without a name of its own: nothing can stand in its way, and nothing stays after a crash.
            with tempfile.TemporaryFile(dir=self._directory) as file:
                file.write(bytes(_PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            return False
        return True
