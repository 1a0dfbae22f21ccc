"""The API as an aiohttp application."""

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.http import HttpProcessingError
from msgspec import Struct

from ledger_core.errors import LedgerError
from ledger_core.node.api import openapi, queries, stream
from ledger_core.node.api.backend import Backend
from ledger_core.node.api.connections import Connection, Places
from ledger_core.node.api.guard import ApiLimits, Guard, RefusedError
from ledger_core.node.api.handlers import Call
from ledger_core.node.api.problems import (
    JSON,
    NO_STORE,
    http_problem,
    internal_problem,
    on_one_line,
    problem,
    refusal,
)
from ledger_core.node.api.routes import OPENAPI_PATH, ROUTES, STREAM_PATH, Route

_LOGGER: Final = logging.getLogger(__name__)

type _Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ApiError(LedgerError):
    """The API can't be opened."""


class ApiServer:
    """Serves a backend between `start` and `close`."""

    def __init__(
        self, backend: Backend, token: str, host: str, port: int, limits: ApiLimits | None = None
    ) -> None:
        self._backend = backend
        self._token = token
        self._host, self._wanted_port = host, port
        self._limits = limits or ApiLimits()
        self._document = msgspec.json.encode(openapi.document())
        self._sockets: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None
        self._is_closing = False
        self.port = 0
        """The port that is open."""

    @property
    def url(self) -> str:
        """Where the API is."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    async def start(self) -> None:
        """Open the port, after `close` the same one again.

        Raises ApiError `api_port_in_use` or `api_host_unusable`.
        """
        self._guard = Guard(self._token, self._limits)
        self._is_closing = False
        app = web.Application(middlewares=[self._problems], client_max_size=self._limits.body_bytes)
        for route in ROUTES:
            app.router.add_route(route.method, route.path, self._bound(route))
        app.router.add_get(STREAM_PATH, self._stream, allow_head=False)
        app.router.add_get(OPENAPI_PATH, self._openapi, allow_head=False)
        runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=2.0)
        await runner.setup()
        try:
            self._listening = await self._listen(runner)
        except OSError as error:
            await runner.cleanup()
            raise self._not_opened(error) from error
        self._runner = runner
        self.port = self._listening.sockets[0].getsockname()[1]

    async def _listen(self, runner: web.AppRunner) -> asyncio.Server:
        server, places = runner.server, Places(self._limits)
        if server is None:
            raise RuntimeError("the runner was set up and has no server")
        self._places = places
        return await asyncio.get_running_loop().create_server(
            lambda: Connection(server, places, self._limits), self._host, self._wanted_port or self.port
        )

    async def close(self) -> None:
        """Close streams and port."""
        runner, self._runner = self._runner, None
        self._is_closing = True
        # Nobody new comes meanwhile: who is told to go away may be quick to come back.
        if self._listening is not None:
            self._listening.close()
        await stream.go_away(list(self._sockets))
        if runner is not None:
            await runner.cleanup()

    def _not_opened(self, error: OSError) -> ApiError:
        place = f"{self._host}:{self._wanted_port}"
        if error.errno == errno.EADDRINUSE:
            return ApiError(
                "api_port_in_use",
                f"{place} is in use by another program: set api_port to another port, or to 0 for a free one",
                setting="api_port",
            )
        return ApiError(
            "api_host_unusable",
            f"the API can't be opened at {place} ({error.strerror}): set api_host to an address of this "
            "computer, such as 127.0.0.1",
            setting="api_host",
        )

    @web.middleware
    async def _problems(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Admit a request, and turn every refusal into JSON."""
        try:
            self._guard.admit(request.headers.get("Authorization"))
            self._places.know(request.transport)
            return await handler(request)
        except LedgerError as error:
            response = refusal(error)
            if not self._places.is_known(request.transport):
                # One answer for a stranger, who then gives the place back.
                response.force_close()
            return response
        except web.HTTPException as error:
            return http_problem(error, request)
        except TimeoutError:
            late = LedgerError("timeout", f"the request took more than {self._limits.request_s:g} s")
            response = problem(408, late)
            # The rest of its body may still be under way.
            response.force_close()
            return response
        except OSError as error:
            _LOGGER.warning("%s %s: %s", request.method, request.path, error)
            return problem(503, LedgerError("os_error", f"the node's disk or network failed: {error}"))
        except Exception:
            _LOGGER.exception("%s %s", request.method, request.path)
            return internal_problem()

    def _bound(self, route: Route) -> _Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            leave = self._guard.enter()
            try:
                async with asyncio.timeout(self._limits.request_s):
                    answer = await route.handler(self._backend, await _call(route, request))
            finally:
                leave()
            return web.Response(
                body=msgspec.json.encode(answer), status=route.status, content_type=JSON, headers=NO_STORE
            )

        return handle

    async def _openapi(self, request: web.Request) -> web.StreamResponse:
        _parse(queries.Nothing, _single(request))
        return web.Response(body=self._document, content_type=JSON)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        query = _parse(queries.StreamQuery, _single(request))
        log = self._backend.events
        cursor = log.cursor if query.after is None else query.after
        await asyncio.to_thread(log.check, cursor)
        socket = web.WebSocketResponse(timeout=_FAREWELL_S, autoping=False, max_msg_size=1024)
        leave = self._guard.enter_stream()
        try:
            if not socket.can_prepare(request).ok:
                raise RefusedError(426, "websocket_needed", "this path takes WebSockets only")
            await socket.prepare(request)
            self._sockets.add(socket)
            if self._is_closing:
                await stream.go_away([socket])
            else:
                await stream.follow(socket, log, cursor, self._limits.heartbeat_s)
        except ConnectionError:
            _LOGGER.debug("a stream's client is gone")
        finally:
            self._sockets.discard(socket)
            leave()
        return socket


_FAREWELL_S: Final = 2.0
"""Time for a client to answer the end of its stream."""


async def _call(route: Route, request: web.Request) -> Call:
    path = _parse(route.path_type, dict(request.match_info))
    query = _parse(route.query_type, _single(request))
    if route.body_type is None:
        return Call(path, query)
    data = await _body(request)
    try:
        body = msgspec.json.decode(data, type=route.body_type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LedgerError("request_invalid", f"the body: {error}") from error
    return Call(path, query, body)


async def _body(request: web.Request) -> bytes:
    if request.content_type != JSON:
        raise RefusedError(415, "media_type", f"send the body as {JSON}, not as {request.content_type}")
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.lower() != "identity":
        raise RefusedError(
            415,
            "content_encoding",
            f"send the body as it is, without Content-Encoding: {on_one_line(coding)}",
        )
    try:
        return await request.read()
    except (web.RequestPayloadError, HttpProcessingError) as error:
        raise LedgerError("request_invalid", f"the body: {on_one_line(error)}") from error
    except ConnectionError as error:
        # Nobody is there to read this; it is not the node's disk or network that failed.
        raise LedgerError("request_cut", "the connection ended within the body") from error


def _single(request: web.Request) -> dict[str, str]:
    values = dict(request.query)
    if len(values) != len(request.query):
        raise LedgerError("request_invalid", "a parameter is given more than once")
    return values


def _parse[Q: Struct](kind: type[Q], values: dict[str, str]) -> Q:
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(kind.__struct_fields__) or "none"
        raise LedgerError("request_invalid", f"{error}; parameters here: {known}") from error
