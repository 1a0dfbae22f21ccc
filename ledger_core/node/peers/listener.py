"""Takes the connections of others: a WebSocket route, and a server of its own for it.

The route can stand in any aiohttp application; there, that application's own limits hold before it.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, cast

from aiohttp import web

from ledger_core.node.peers.callers import Callers, Place, source_of
from ledger_core.node.peers.errors import PeerError
from ledger_core.node.peers.limits import TokenBucket
from ledger_core.node.peers.link import WEBSOCKET_LIMIT, Link
from ledger_core.node.peers.location import is_loopback_address
from ledger_core.node.peers.settings import PeerSettings

_LOGGER: Final = logging.getLogger(__name__)
_MAX_SOURCES: Final = 1024
_SOURCE_BURST: Final = 30
_SOURCE_PER_SECOND: Final = 1.0
_LOOPBACK_FACTOR: Final = 20
"""Behind loopback may stand a proxy: it counts as so many sources."""
_MAX_HEADER_BYTES: Final = 4096

type LinkHandler = Callable[[Link, Callable[[], None]], Awaitable[None]]
"""Carries a link to its end; calls the function it is given as soon as the handshake is over."""


class SourceGate:
    """Bounds handshakes: how many are under way, in all and per source, and how many begin per second."""

    def __init__(self, settings: PeerSettings) -> None:
        self._settings = settings
        self._pending = Callers(settings.max_pending)
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def enter(self, address: str, now: float, send_away: Callable[[], None]) -> Place | None:
        """Count a handshake that begins, until `leave`; None for one too many in a short time.

        `send_away` ends it when its place is given to another caller.
        """
        source = source_of(address)
        factor = _LOOPBACK_FACTOR if is_loopback_address(source) else 1
        if not self._bucket(source, factor, now).take(1, now):
            return None
        return self._pending.enter(source, send_away, self._settings.max_pending_per_source * factor)

    def leave(self, place: Place) -> None:
        """Count a handshake's end."""
        self._pending.leave(place)

    def _bucket(self, source: str, factor: int, now: float) -> TokenBucket:
        bucket = self._buckets.pop(source, None)
        if bucket is None:
            bucket = TokenBucket(_SOURCE_PER_SECOND * factor, _SOURCE_BURST * factor, now)
        self._buckets[source] = bucket
        while len(self._buckets) > _MAX_SOURCES:
            self._buckets.popitem(last=False)
        return bucket


class PeerRoute:
    """The WebSocket route; `handle` is an aiohttp request handler."""

    def __init__(self, settings: PeerSettings, carry: LinkHandler) -> None:
        self._settings = settings
        self._carry = carry
        self._gate = SourceGate(settings)
        self._links: dict[asyncio.Task[object], Link] = {}
        self._is_closed = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Take one connection, and return when it has ended."""
        if "Origin" in request.headers:
            # A page in somebody's browser, not a node.
            return web.Response(status=403, text="this is a place for nodes\n")
        source = request.remote or ""
        transport = request.transport
        place = None
        if transport is not None and not self._is_closed:
            place = self._gate.enter(source, asyncio.get_running_loop().time(), transport.abort)
        if place is None:
            _LOGGER.debug("no place for a caller from %s", source)
            busy = web.Response(status=503, text="this node has no place for another caller now\n")
            busy.force_close()
            return busy
        settled = partial(self._gate.leave, place)
        try:
            websocket = web.WebSocketResponse(
                timeout=self._settings.close_s,
                autoping=False,
                compress=False,
                max_msg_size=WEBSOCKET_LIMIT,
            )
            await websocket.prepare(request)
            await self._carry_link(Link(websocket, source, is_loopback=is_loopback_address(source)), settled)
            return websocket
        finally:
            settled()

    async def _carry_link(self, link: Link, settled: Callable[[], None]) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a link is carried within a task")
        self._links[task] = link
        try:
            await self._carry(link, settled)
        finally:
            del self._links[task]
            await link.close(self._settings.close_s)

    def refuse(self) -> None:
        """Take no more."""
        self._is_closed = True

    async def close(self) -> None:
        """Take no more; end the handshakes under way, and wait until every link has ended."""
        self._is_closed = True
        tasks = dict(self._links)
        for link in tasks.values():
            link.abort()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=2 * self._settings.close_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)


class Listener:
    """A server that offers the route alone, with a bound on connections that do not ask for it."""

    def __init__(self, settings: PeerSettings, route: PeerRoute) -> None:
        self._settings = settings
        self._route = route
        self._unheard = Callers(settings.max_unheard)
        """Connections that have not asked for the route yet, or were told that they can't have it."""
        self._places: dict[asyncio.Transport, Place] = {}
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; raises PeerError `listen_failed`, which names the setting and the remedy."""
        application = web.Application()
        application.router.add_get(self._settings.path, self._take)
        # The keep-alive time also ends connections that never send a request.
        runner = web.AppRunner(
            application,
            handle_signals=False,
            access_log=None,
            lingering_time=0,
            auto_decompress=False,
            keepalive_timeout=self._settings.handshake_s,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            shutdown_timeout=self._settings.close_s,
        )
        await runner.setup()
        server = runner.server
        if server is None:
            raise RuntimeError("the runner was set up and has no server")
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: _Watched(server(), self._enter, self._leave),
                self._settings.listen_host,
                self._settings.listen_port,
            )
        except OSError as error:
            await runner.cleanup()
            where = f"{self._settings.listen_host}:{self._settings.listen_port}"
            raise PeerError(
                "listen_failed",
                f"this node can't listen on {where}: {error.strerror or error}. Choose another listen_host or"
                " listen_port, or end the program that has it",
                setting="listen_port",
            ) from error
        self._runner = runner

    @property
    def port(self) -> int:
        """The port that is listened on; 0 before the start."""
        sockets = self._server.sockets if self._server is not None else ()
        return int(sockets[0].getsockname()[1]) if sockets else 0

    async def close(self) -> None:
        """Stop listening; the route must be closed before."""
        if self._server is not None:
            self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()
        self._server = self._runner = None

    async def _take(self, request: web.Request) -> web.StreamResponse:
        """Take a request in full: the route has places of its own for those who prove who they are."""
        transport = request.transport
        if transport is None:
            raise web.HTTPServiceUnavailable
        self._leave(transport)
        try:
            return await self._route.handle(request)
        finally:
            if request.transport is not None:
                self._enter(transport)

    def _enter(self, transport: asyncio.Transport) -> None:
        address = transport.get_extra_info("peername")
        self._places[transport] = self._unheard.enter(
            source_of(str(address[0]) if address else ""), transport.abort
        )

    def _leave(self, transport: asyncio.Transport) -> None:
        place = self._places.pop(transport, None)
        if place is not None:
            self._unheard.leave(place)


class _Watched(asyncio.Protocol):
    """A connection of the server, of whose beginning and end the listener is told."""

    def __init__(
        self,
        inner: asyncio.Protocol,
        begun: Callable[[asyncio.Transport], None],
        ended: Callable[[asyncio.Transport], None],
    ) -> None:
        self._inner = inner
        self._begun = begun
        self._ended = ended
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._inner.connection_made(transport)
        self._begun(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._ended(self._transport)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
