"""Keeps the node's process running: starts it again with growing pauses, and tells when that won't do."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from yarl import URL

from ledger_core import __version__
from ledger_core.client import Backoff, ClientError, NodeClient

from ..const import DOMAIN, ISSUE_NODE_CANNOT_START, ISSUE_NODE_VERSION_MISMATCH
from .process import END_S, KEPT_LINES, READY_S, NodeLaunch, NodeProcess, NodeStartError, Readiness

_LOGGER = logging.getLogger(__name__)

TOKEN_FILE: Final = "api.token"  # noqa: S105 - a file's name


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How patient the supervisor is; seconds."""

    ready_s: float = READY_S
    end_s: float = END_S
    poll_s: float = 10.0
    """Between two questions whether the node still answers."""
    deaf_polls: int = 3
    """So many questions without an answer, and the node is started again."""
    stable_s: float = 60.0
    """A run of this length forgives the failures before it."""
    failures: int = 5
    """So many failed starts in a row, and the user is told; it goes on, at the longest pause."""
    first_pause_s: float = 0.5
    longest_pause_s: float = 120.0


class NodeUnavailable(HomeAssistantError):
    """The node can't be started now."""

    def __init__(self, issue: str, reason: str) -> None:
        super().__init__(
            translation_domain=DOMAIN, translation_key=issue, translation_placeholders={"reason": reason}
        )
        self.issue = issue
        self.reason = reason


class NodeSupervisor:
    """Owns the node's process from `start` to `stop`."""

    def __init__(
        self,
        hass: HomeAssistant,
        launch: NodeLaunch,
        client_of: Callable[[str, str], NodeClient],
        on_trouble: Callable[[NodeUnavailable | None], None],
        pace: Pace | None = None,
    ) -> None:
        """Supervise a node.

        `client_of` makes a client for URL and token; `on_trouble` is told why the node does not run, and
        None when it runs again.
        """
        self._hass = hass
        self.launch = launch
        """How the node is started next."""
        self._client_of = client_of
        self._on_trouble = on_trouble
        self._pace = pace or Pace()
        self._backoff = Backoff(self._pace.first_pause_s, self._pace.longest_pause_s)
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._process: NodeProcess | None = None
        self._watch: asyncio.Task[None] | None = None
        self._kept: tuple[NodeClient, str] | None = None
        self._token = ""
        self._failures = 0
        self._pause_over = asyncio.Event()
        self.restarts = 0
        """How often the process was started again."""
        self.readiness: Readiness | None = None
        """What the node told when it was ready last; None while it does not run."""
        self.on_moved: Callable[[], None] = lambda: None
        """Called when the node comes back at another URL than before, or with another token."""

    @property
    def pid(self) -> int | None:
        """The process's id; None while it does not run."""
        return None if self._process is None else self._process.pid

    @property
    def log_lines(self) -> list[str]:
        """What the node said lately, oldest first."""
        return list(self._lines)

    async def start(self) -> NodeClient:
        """Start the node, and keep it running from then on; returns a client of it.

        Raises NodeUnavailable, and nothing runs then.
        """
        told = await self._run()
        client = await self._client(told)
        self._on_trouble(None)
        self._kept = client, told.api
        self._watch_over()
        return client

    async def stop(self) -> None:
        """End the node; returns when it is gone."""
        self._kept = None
        await self.pause()

    async def pause(self) -> None:
        """End the node until `resume`; returns when it is gone, and its files lie still."""
        await self._look_away()
        await self._end()

    def resume(self) -> None:
        """Start the node again after a pause; without one, or after `stop`, nothing happens."""
        if self._watch is None and self._kept is not None:
            self._watch_over()

    async def let_run(self) -> bool:
        """Watch no longer, and leave the process to itself until `take_up` or `stop`; tells if it runs."""
        await self._look_away()
        return self._process is not None and self._process.is_running

    async def take_up(self) -> NodeClient | None:
        """Watch the process again after `let_run`; returns a client of it.

        None: it ended meanwhile, moved or does not answer; only `stop` is left then.
        """
        if self._kept is None or self._process is None or not self._process.is_running:
            _LOGGER.warning("The node ended while nobody watched")
            return None
        client, url = self._kept
        if self.readiness is None or self.readiness.api != url:
            return None
        try:
            await client.status()
        except ClientError as error:
            _LOGGER.warning("The node does not answer and is started anew: %s", error.message)
            return None
        self._on_trouble(None)
        self._watch_over()
        return client

    def try_now(self) -> None:
        """Start the node again without waiting for the end of the pause."""
        self._pause_over.set()

    async def _look_away(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    def _watch_over(self) -> None:
        if self._kept is not None:
            self._watch = self._hass.async_create_background_task(
                self._keep(*self._kept), "energy ledger node", eager_start=True
            )

    async def _run(self, **settings: str) -> Readiness:
        """Start one process; raises NodeUnavailable."""
        process = NodeProcess(self.launch, self._lines, self._pace.ready_s)
        try:
            told = await process.start(**settings)
        except NodeStartError as error:
            raise NodeUnavailable(ISSUE_NODE_CANNOT_START, str(error)) from error
        if told.version != __version__:
            await process.stop(self._pace.end_s)
            raise NodeUnavailable(
                ISSUE_NODE_VERSION_MISMATCH, f"the node has version {told.version}, expected is {__version__}"
            )
        self._process, self.readiness = process, told
        return told

    async def _client(self, told: Readiness) -> NodeClient:
        try:
            self._token = await self._read_token()
        except (OSError, UnicodeDecodeError) as error:
            await self._end()
            raise NodeUnavailable(ISSUE_NODE_CANNOT_START, f"its token can't be read: {error}") from error
        return self._client_of(told.api, self._token)

    async def _read_token(self) -> str:
        path = self.launch.directory / TOKEN_FILE
        return (await self._hass.async_add_executor_job(path.read_text, "ascii")).strip()

    async def _is_new_token(self) -> bool:
        """Whether the node made another token when it started, because its file was gone."""
        try:
            return await self._read_token() != self._token
        except OSError, UnicodeDecodeError:
            return False  # the node can't be asked: its answers will say so

    async def _end(self) -> None:
        process, self._process = self._process, None
        self.readiness = None
        if process is not None:
            await process.stop(self._pace.end_s)

    async def _keep(self, client: NodeClient, url: str) -> None:
        """Watch the process, and start it again, until cancelled."""
        while True:
            if self._process is not None:
                reason = await self._until_gone(client, self._process)
                _LOGGER.warning("The node is started again: %s", reason)
                await self._end()
            else:
                reason = "it was paused"
            if self._failures >= self._pace.failures:
                self._on_trouble(NodeUnavailable(ISSUE_NODE_CANNOT_START, reason))
            told = await self._restart(url)
            if told is None:
                return
            if told.api != url or await self._is_new_token():
                # Whoever holds a client would ask at the old place, or be refused.
                self.on_moved()
                return

    async def _restart(self, url: str) -> Readiness | None:
        """Start the process, again and again, until it is ready; None where that can't help."""
        port = URL(url).port
        while True:
            await self._pause()
            self._failures += 1
            self.restarts += 1
            # The same port keeps clients going; another program may have taken it meanwhile.
            keep = port is not None and self._failures < self._pace.failures
            try:
                return await self._run(**({"api_port": str(port)} if keep else {}))
            except NodeUnavailable as error:
                _LOGGER.warning("The node can't be started: %s", error.reason)
                if error.issue == ISSUE_NODE_VERSION_MISMATCH:
                    self._on_trouble(error)
                    return None
                if self._failures >= self._pace.failures:
                    self._on_trouble(error)

    async def _pause(self) -> None:
        self._pause_over.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.pause(self._failures)):
                await self._pause_over.wait()

    async def _until_gone(self, client: NodeClient, process: NodeProcess) -> str:
        """Return why the process must be started again, as soon as it must."""
        loop = asyncio.get_running_loop()
        gone: asyncio.Task[Any] = loop.create_task(process.wait(), name="node end")
        deaf: asyncio.Task[Any] = loop.create_task(self._until_deaf(client), name="node health")
        tasks = (gone, deaf)
        try:
            done, _ = await asyncio.wait(
                tasks, timeout=self._pace.stable_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                self._failures = 0
                self._on_trouble(None)
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return f"it ended with exit code {gone.result()}" if gone.done() else "it does not answer"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_deaf(self, client: NodeClient) -> None:
        """Return when the node has not answered several times in a row."""
        unanswered = 0
        while unanswered < self._pace.deaf_polls:
            await asyncio.sleep(self._pace.poll_s)
            try:
                await client.status()
            except ClientError as error:
                unanswered += 1
                _LOGGER.debug("The node does not answer: %s", error.message)
            else:
                unanswered = 0
