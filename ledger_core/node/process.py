"""The node as a process: signals, the parent's end, the readiness line, the log."""

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from ledger_core.errors import LedgerError
from ledger_core.node.config import Settings
from ledger_core.node.data_directory import DataDirectory
from ledger_core.node.log_limits import limit_callers
from ledger_core.node.node import Node

_LOGGER: Final = logging.getLogger(__name__)
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_COLLECT_EVERY: Final = 20_000
"""New objects between two searches for unused cycles, of which this program makes few: with Python's own
number, 2,000, they take four percent of a sync."""
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Orders(Struct, frozen=True, kw_only=True):
    """How the process behaves, beside the node's settings."""

    with_parent: bool = False
    """End when standard input closes."""
    resume_voting: bool = False
    """The owner says that no other copy of this node runs."""


class NodeFailure(LedgerError):
    """The node had to stop."""


def run(directory: Path, settings: Settings, orders: Orders) -> None:
    """Run a node until it is told to end.

    Writes one JSON line to standard output when it is ready, and its log to standard error. Raises
    LedgerError or OSError where it can't start or go on.
    """
    start_log(settings.log_level)
    asyncio.run(_serve(directory, settings, orders))


def start_log(level: str) -> None:
    """Write log lines to standard error: UTC time, level, logger, message."""
    formatter = logging.Formatter(_FORMAT, "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("ledger_core").setLevel(level.upper())
    limit_callers()


async def _serve(directory: Path, settings: Settings, orders: Orders) -> None:
    loop = asyncio.get_running_loop()
    ending, hurry = asyncio.Event(), asyncio.Event()
    failures: list[BaseException] = []

    def failed(error: BaseException) -> None:
        failures.append(error)
        ending.set()

    def end(why: str) -> None:
        if ending.is_set():
            _LOGGER.info("%s: the node hurries", why)
            hurry.set()
        else:
            _LOGGER.info("%s: the node ends", why)
            ending.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, end, number.name)
    if orders.with_parent:
        _watch_parent(lambda: loop.call_soon_threadsafe(end, "standard input is closed"))
    node = Node(DataDirectory(directory), settings, failed=failed)
    starting = asyncio.create_task(node.start(resume_voting=orders.resume_voting))
    told = asyncio.create_task(ending.wait())
    await asyncio.wait((starting, told), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        # What is being opened is brought to a good end first.
        await asyncio.wait((starting,))
    try:
        ready = starting.result()
        if not ending.is_set():
            _tell({"ready": True, "pid": os.getpid(), **msgspec.to_builtins(ready)})
            _spare_collector()
            await told
    finally:
        told.cancel()
        await node.stop(hurry)
    if failures:
        raise _as_failure(failures[0])
    _LOGGER.info("the node has ended")


def _spare_collector() -> None:
    """Let Python search for unused objects seldom, and not among those that stay as long as the process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY)


def _as_failure(error: BaseException) -> BaseException:
    if isinstance(error, LedgerError | OSError):
        return error
    _LOGGER.error("a part of the node failed", exc_info=error)
    return NodeFailure(
        "internal_error", f"a mistake in the program, please report it: {type(error).__name__}: {error}"
    )


def _tell(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _watch_parent(gone: Callable[[], object]) -> None:
    """Call back, from a thread of its own, when standard input has ended."""

    def read() -> None:
        try:
            while os.read(sys.stdin.fileno(), 4096):
                pass
        except OSError, ValueError:
            # Not open, or gone: there is no parent to live with.
            pass
        gone()

    threading.Thread(target=read, name="parent", daemon=True).start()
