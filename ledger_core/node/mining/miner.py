"""Steering the mining process: one job at a time, restarted when it dies, ended with the node."""

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

import ledger_core
from ledger_core.records.block import Header
from ledger_core.rules.difficulty import expand_target

_LOGGER = logging.getLogger(__name__)

WORKER = "ledger_core.node.mining.worker"
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
END_S = 3.0
MAX_LINE = 4096

type Found = Callable[[Header], None]


class Miner:
    """A child process that searches the header it was last given.

    `found` is called on the event loop with the header that meets its target. `share` is the part of one
    core that the search may take, above 0 and up to 1.
    """

    def __init__(self, found: Found, share: float = 0.05) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"the share lies above 0 and up to 1, not at {share}")
        self._found = found
        self._share = share
        self._job = 0
        self._header: Header | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self.rate = 0.0
        """Hashes a second, lately."""

    async def start(self) -> None:
        """Start the process and keep it running until `stop`."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="miner")

    async def stop(self) -> None:
        """End the process; returns when it is gone."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper

    @property
    def share(self) -> float:
        """The part of one core that the search may take."""
        return self._share

    def set_share(self, share: float) -> None:
        """Take another part of one core, above 0 and up to 1, from now on."""
        if not 0 < share <= 1:
            raise ValueError(f"the share lies above 0 and up to 1, not at {share}")
        self._share = share
        if self._header is not None:
            self._send()

    def search(self, header: Header) -> None:
        """Search this header from now on, instead of the one before."""
        self._job += 1
        self._header = header
        self._send()

    def pause(self) -> None:
        """Search nothing until the next header."""
        self._job += 1
        self._header = None
        self._send()

    async def _keep(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            loop = asyncio.get_running_loop()
            started = loop.time()
            code: int | None = None
            try:
                code = await self._run()
            except OSError as error:
                _LOGGER.warning("the mining process can't be started: %s", error)
            if loop.time() - started > LONGEST_PAUSE_S:
                pause = FIRST_PAUSE_S
            await asyncio.sleep(pause)
            if code is not None:
                # Not before the pause: who ends the whole service ends both, and there is nothing to tell.
                _LOGGER.warning("the mining process ended with exit code %d; it is started again", code)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _run(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            WORKER,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=MAX_LINE,
            env=_environment(),
            # Ctrl-C tells a terminal's whole process group; this process ends with its node, not beside it.
            start_new_session=True,
        )
        self._process = process
        try:
            self._send()
            if process.stdout is not None:
                async for line in process.stdout:
                    self._hear(line)
            return await process.wait()
        finally:
            self._process = None
            self.rate = 0.0
            await _end(process)

    def _send(self) -> None:
        process, header = self._process, self._header
        if process is None or process.stdin is None or process.stdin.is_closing():
            return
        message: dict[str, Any] = {"pause": True}
        if header is not None:
            target = expand_target(header.target)
            if target is None:
                raise ValueError(f"not a compact target: {header.target:#x}")
            message = {
                "job": self._job,
                "header": header.encode().hex(),
                "target": f"{target:x}",
                "first": header.nonce,
                "share": self._share,
            }
        process.stdin.write(json.dumps(message).encode() + b"\n")

    def _hear(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            _LOGGER.warning("the mining process says %r", line[:80])
            return
        if "rate" in message:
            self.rate = float(message["rate"])
        elif "error" in message:
            _LOGGER.error("the mining process refuses its job: %s", message["error"])
        elif message.get("job") == self._job and self._header is not None:
            header, self._header = self._header, None
            self._found(replace(header, nonce=int(message["nonce"])))


def _environment() -> dict[str, str]:
    """Return an environment in which the worker finds this very program, wherever it was put."""
    place = str(Path(ledger_core.__file__).parents[1])
    others = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{others}" if others else place}


async def _end(process: asyncio.subprocess.Process) -> None:
    """Let the process end by itself, then make it."""
    if process.stdin is not None:
        process.stdin.close()
    if process.returncode is None:
        try:
            await asyncio.wait_for(process.wait(), END_S)
        except TimeoutError:
            process.kill()
            await process.wait()
