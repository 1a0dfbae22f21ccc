"""Keeps callers from filling the log: what they cause is told on one line, and seldom."""

import copy
import errno
import logging
import time
from collections.abc import Callable
from typing import Final

from aiohttp import web
from aiohttp.http import HttpProcessingError

EVERY_S: Final = 600.0
"""Time between two lines about the same kind of trouble."""
LOGGERS: Final = ("aiohttp.server", "asyncio")
"""Loggers of others to which callers' doings come."""
_LACKS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class CallersFilter(logging.Filter):
    """Lets one line of a kind through in a while, and tells with the next one how many there were.

    A caller's fault comes without its traceback, in which nothing is of use to the owner. A mistake of the
    program keeps it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[str, tuple[float, int]] = {}
        """When a kind was told last, and how many came since; as many kinds as there are types of errors."""

    def filter(self, record: logging.LogRecord) -> logging.LogRecord | bool:
        """Return what is to be logged instead of a record, or False for nothing."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return record
        kind, line = _told(record, error)
        now = self._clock()
        last, more = self._kinds.get(kind, (-EVERY_S, 0))
        if now - last < EVERY_S:
            self._kinds[kind] = last, more + 1
            return False
        self._kinds[kind] = now, 0
        told = copy.copy(record)
        told.msg = line or record.getMessage()
        told.args = ()
        if more:
            told.msg += f"; {more} like it since the last line"
        if line is not None:
            told.exc_info = told.exc_text = None
            told.levelno, told.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        return told


def _told(record: logging.LogRecord, error: BaseException) -> tuple[str, str | None]:
    """Return the kind of an error and the line for it; None leaves the record as it is."""
    if isinstance(error, HttpProcessingError | web.RequestPayloadError):
        # Not the error's own text: it holds the caller's bytes, which may be a token.
        return "malformed", f"a malformed request was refused: {record.getMessage()} ({type(error).__name__})"
    if isinstance(error, OSError) and error.errno in _LACKS:
        return "resources", (
            f"the system gives this process no more connections or files ({error.strerror}): raise its "
            "limit (ulimit -n), or lower max_peers"
        )
    return type(error).__name__, None


def limit_callers() -> None:
    """Put the filter before the loggers of the libraries, in place of an earlier one."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for old in [each for each in logger.filters if isinstance(each, CallersFilter)]:
            logger.removeFilter(old)
        logger.addFilter(CallersFilter())
