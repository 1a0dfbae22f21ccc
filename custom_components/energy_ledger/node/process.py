"""One run of the node's process: started, heard until it is ready, logged, ended."""

import asyncio
import contextlib
import logging
import os
import re
import sys
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

import ledger_core

from ..vendor import LEDGER_FOLDER

_LOGGER = logging.getLogger(__name__)

READY_S: Final = 60.0
"""A node that verifies a long chain after a crash needs its time."""
END_S: Final = 15.0
"""Between the request to end and the kill: the node finishes what it writes."""
KEPT_LINES: Final = 512
_MAX_LINE: Final = 64 * 1024
_PREFIX: Final = "ENERGY_LEDGER_"
_LEVELS: Final = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
}
_LEVEL: Final = re.compile(r"\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b", re.IGNORECASE)
_SECRETS: Final = re.compile(r"(elsec1|ELINVITE-)\S+|(?<=Bearer )\S+", re.IGNORECASE)


class Readiness(Struct, frozen=True):
    """What the node tells on one line when it is ready."""

    version: str
    api: str
    """URL of the API."""
    peer: str | None
    """Where other nodes reach it; None: nowhere."""
    node: str
    """Address of the node's key."""
    chain_id: str


class NodeStartError(Exception):
    """The node did not become ready; the text says why, and ends with what the node said last."""


@dataclass(frozen=True, kw_only=True)
class NodeLaunch:
    """How a node is started."""

    directory: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    """Names as in the node's settings, values as text."""
    command: Sequence[str] = (sys.executable, "-m", "ledger_core.cli", "node", "--with-parent")

    def arguments(self) -> list[str]:
        """Return the command line."""
        return [*self.command, "--data", str(self.directory)]

    def environment(self, **settings: str) -> dict[str, str]:
        """Return the child's environment: what this process has, and the settings."""
        # What Home Assistant's own environment says of the node stands where the settings say nothing.
        kept = dict(os.environ)
        kept |= {f"{_PREFIX}{name.upper()}": value for name, value in {**self.settings, **settings}.items()}
        folder = LEDGER_FOLDER or _checkout()
        if folder is not None:
            paths = [str(folder), *filter(None, [kept.get("PYTHONPATH")])]
            kept["PYTHONPATH"] = os.pathsep.join(paths)
        return kept


def _checkout() -> Path | None:
    """Return the folder of `ledger_core` where this Python finds it by none of its own paths."""
    folder = Path(ledger_core.__file__).parent.parent
    return None if folder.name in ("site-packages", "dist-packages") else folder


class NodeProcess:
    """A node's process between `start` and `stop`."""

    def __init__(self, launch: NodeLaunch, lines: deque[str], ready_s: float = READY_S) -> None:
        """Prepare a run; what the node says goes to `lines` as well."""
        self._launch = launch
        self._lines = lines
        self._ready_s = ready_s
        self._process: Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._ready: asyncio.Future[Readiness] = asyncio.get_running_loop().create_future()

    @property
    def pid(self) -> int | None:
        """The process's id."""
        return None if self._process is None else self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process was started, and its end was not noticed."""
        return self._process is not None and self._process.returncode is None

    async def start(self, **settings: str) -> Readiness:
        """Start the process and wait until it is ready; raises NodeStartError, and no process is left."""
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *self._launch.arguments(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._launch.environment(**settings),
                limit=_MAX_LINE,
            )
        except OSError as error:
            raise NodeStartError(f"the process can't be started: {error}") from error
        loop = asyncio.get_running_loop()
        # Both are pipes, as asked for above.
        stdout, stderr = (
            cast(asyncio.StreamReader, process.stdout),
            cast(asyncio.StreamReader, process.stderr),
        )
        self._readers = [
            loop.create_task(self._read(stdout, self._hear), name="node answers"),
            loop.create_task(self._read(stderr, self._log), name="node log"),
        ]
        try:
            return await self._until_ready(process)
        except BaseException:
            await self.stop()
            raise

    async def _until_ready(self, process: Process) -> Readiness:
        ended = asyncio.get_running_loop().create_task(self._ended(process), name="node start")
        try:
            waited: list[asyncio.Future[Any]] = [self._ready, ended]
            await asyncio.wait(waited, timeout=self._ready_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)
        if self._ready.done():
            return self._ready.result()
        if process.returncode is not None:
            raise NodeStartError(self._words(f"it ended with exit code {process.returncode}"))
        raise NodeStartError(self._words(f"it was not ready within {self._ready_s:g} s"))

    async def wait(self) -> int:
        """Wait for the end of the process; returns its exit code, at once where there is no process."""
        return 0 if self._process is None else await self._process.wait()

    async def stop(self, end_s: float = END_S) -> None:
        """End the process, by force if it does not heed; returns when it is gone."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if process.returncode is None:
                process.terminate()
        try:
            async with asyncio.timeout(end_s):
                await process.wait()
        except TimeoutError:
            _LOGGER.warning("The node did not end within %g s and is killed", end_s)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if process.stdin is not None:
            process.stdin.close()
        # A grandchild may hold the pipes open: the readers are not waited for.
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._process = None

    async def _ended(self, process: Process) -> None:
        """Return when the process is gone and everything that it said was heard."""
        await process.wait()
        await asyncio.wait(self._readers, timeout=1.0)

    async def _read(self, stream: asyncio.StreamReader, take: Callable[[str], None]) -> None:
        while True:
            try:
                line = await stream.readline()
            except ValueError:
                continue  # a line beyond the limit: what was read of it is dropped
            if not line:
                return
            take(_SECRETS.sub("****", line.decode(errors="replace").rstrip()))

    def _hear(self, line: str) -> None:
        """Take a line of the standard output: the first one that makes sense tells that the node is ready."""
        try:
            told = msgspec.json.decode(line, type=Readiness)
        except msgspec.DecodeError:
            self._log(line)
        else:
            if not self._ready.done():
                self._ready.set_result(told)

    def _log(self, line: str) -> None:
        self._lines.append(line)
        found = _LEVEL.search(line[:200])
        _LOGGER.log(_LEVELS[found[1].upper()] if found else logging.WARNING, "%s", line)

    def _words(self, what: str) -> str:
        last = next((line for line in reversed(self._lines) if line.strip()), "")
        return f"{what}: {last}" if last else what
