"""The API as an aiohttp application."""

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import Struct

from ledger_core.errors import ChainError, LedgerError, RuleError
from ledger_core.node.api import openapi, queries, stream
from ledger_core.node.api.backend import Backend
from ledger_core.node.api.event_log import CursorError
from ledger_core.node.api.guard import ApiLimits, Guard, RefusedError
from ledger_core.node.api.handlers import Call
from ledger_core.node.api.model import Problem
from ledger_core.node.api.routes import OPENAPI_PATH, ROUTES, STREAM_PATH, Route
from ledger_core.node.api.views import NotFoundError

_LOGGER: Final = logging.getLogger(__name__)
_JSON: Final = "application/json"
_STATUSES: Final[tuple[tuple[type[LedgerError], int], ...]] = (
    (NotFoundError, 404),
    (CursorError, 410),
    (RuleError, 409),
    (ChainError, 503),
    (LedgerError, 400),
)

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
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=2.0, lingering_time=1.0
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._wanted_port or self.port).start()
        except OSError as error:
            await runner.cleanup()
            raise self._not_opened(error) from error
        self._runner = runner
        self.port = runner.addresses[0][1]

    async def close(self) -> None:
        """Close streams and port."""
        runner, self._runner = self._runner, None
        self._is_closing = True
        # Nobody new comes meanwhile: who is told to go away may be quick to come back.
        for site in () if runner is None else list(runner.sites):
            await site.stop()
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
            return await handler(request)
        except RefusedError as error:
            headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
            if error.status == 401:
                headers["WWW-Authenticate"] = "Bearer"
            return _problem(error.status, error, headers)
        except LedgerError as error:
            status = next(status for kind, status in _STATUSES if isinstance(error, kind))
            return _problem(status, error)
        except web.HTTPException as error:
            return _problem(error.status, _http_error(error, request), _allow(error))
        except TimeoutError:
            late = LedgerError("timeout", f"the request took more than {self._limits.request_s:g} s")
            response = _problem(408, late)
            # The rest of its body may still be under way.
            response.force_close()
            return response
        except OSError as error:
            _LOGGER.warning("%s %s: %s", request.method, request.path, error)
            return _problem(503, LedgerError("os_error", f"the node's disk or network failed: {error}"))
        except Exception:
            _LOGGER.exception("%s %s", request.method, request.path)
            return _problem(
                500, LedgerError("internal_error", "a mistake in the program; the node's log tells more")
            )

    def _bound(self, route: Route) -> _Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            leave = self._guard.enter()
            try:
                async with asyncio.timeout(self._limits.request_s):
                    answer = await route.handler(self._backend, await _call(route, request))
            finally:
                leave()
            return web.Response(
                body=msgspec.json.encode(answer), status=route.status, content_type=_JSON, headers=_NO_STORE
            )

        return handle

    async def _openapi(self, request: web.Request) -> web.StreamResponse:
        _parse(queries.Nothing, _single(request))
        return web.Response(body=self._document, content_type=_JSON)

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
        finally:
            self._sockets.discard(socket)
            leave()
        return socket


_FAREWELL_S: Final = 2.0
"""Time for a client to answer the end of its stream."""
_NO_STORE: Final = {"Cache-Control": "no-store"}


async def _call(route: Route, request: web.Request) -> Call:
    path = _parse(route.path_type, dict(request.match_info))
    query = _parse(route.query_type, _single(request))
    if route.body_type is None:
        return Call(path, query)
    if request.content_type != _JSON:
        raise RefusedError(415, "media_type", f"send the body as {_JSON}, not as {request.content_type}")
    try:
        body = msgspec.json.decode(await request.read(), type=route.body_type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LedgerError("request_invalid", f"the body: {error}") from error
    return Call(path, query, body)


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


def _http_error(error: web.HTTPException, request: web.Request) -> LedgerError:
    match error.status:
        case 404:
            return LedgerError("path_unknown", f"there is no {request.path[:80]!r}; see {OPENAPI_PATH}")
        case 405:
            return LedgerError("method_not_allowed", f"{request.method} is not for {request.path[:80]!r}")
        case 413:
            return LedgerError("request_too_large", error.text or error.reason)
        case _:
            return LedgerError("http_error", error.reason)


def _allow(error: web.HTTPException) -> dict[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}


def _problem(status: int, error: LedgerError, headers: dict[str, str] | None = None) -> web.Response:
    details: dict[str, Any] = msgspec.to_builtins(error.details, enc_hook=str)
    problem = Problem(code=error.code, message=error.message, details=details)
    return web.Response(
        body=msgspec.json.encode(problem),
        status=status,
        content_type=_JSON,
        headers={**_NO_STORE, **(headers or {})},
    )
