"""Connections to the API, and how many there may be: who does not show the token keeps nobody out."""

import asyncio
from typing import Any, Final

from aiohttp import web

from ledger_core.node.api.guard import ApiLimits, RefusedError
from ledger_core.node.api.problems import http_problem, internal_problem, malformed

_LINGERING_S: Final = 1.0
"""Time for the rest of a refused body."""


class Places:
    """Counts connections: those that showed the token, and strangers, who make room for later ones."""

    def __init__(self, limits: ApiLimits) -> None:
        self._limits = limits
        self._strangers: dict[asyncio.Transport, asyncio.TimerHandle] = {}
        self._known: set[asyncio.Transport] = set()

    @property
    def count(self) -> int:
        """How many are connected."""
        return len(self._strangers) + len(self._known)

    def enter(self, transport: asyncio.Transport) -> None:
        """Take a new connection in, which turns the oldest stranger out where there are too many.

        Whoever has the token shows it at once. So it is the newest who may be the owner.
        """
        if len(self._strangers) >= self._limits.strangers:
            self._turn_out(next(iter(self._strangers)))
        loop = asyncio.get_running_loop()
        self._strangers[transport] = loop.call_later(self._limits.token_s, self._turn_out, transport)

    def know(self, transport: asyncio.Transport | None) -> None:
        """Count a connection that showed the token; raises RefusedError `too_many_connections`."""
        if transport not in self._strangers:
            return
        if len(self._known) >= self._limits.connections:
            raise RefusedError(
                429, "too_many_connections", f"{self._limits.connections} connections are open already", 1
            )
        self._strangers.pop(transport).cancel()
        self._known.add(transport)

    def is_known(self, transport: asyncio.Transport | None) -> bool:
        """Tell whether a connection has shown the token."""
        return transport in self._known

    def leave(self, transport: asyncio.Transport) -> None:
        """Count a connection's end."""
        self._known.discard(transport)
        timer = self._strangers.pop(transport, None)
        if timer is not None:
            timer.cancel()

    def _turn_out(self, transport: asyncio.Transport) -> None:
        self.leave(transport)
        # A farewell would wait for one who may not read.
        transport.abort()


class Connection(web.RequestHandler):
    """One connection, which has its place while it is open."""

    __slots__ = ("_link", "_places")

    def __init__(self, server: web.Server, places: Places, limits: ApiLimits) -> None:
        options: dict[str, Any] = {
            "access_log": None,
            "keepalive_timeout": limits.keep_alive_s,
            "lingering_time": _LINGERING_S,
            # Or it would decompress what strangers send, before anybody looked at their token.
            "auto_decompress": False,
        }
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._places = places
        self._link: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("the API speaks over streams")
        self._link = transport
        self._places.enter(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place back."""
        if self._link is not None:
            self._places.leave(self._link)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what never reached a handler, or made aiohttp fail, in JSON."""
        # Logs it, and raises where an answer is under way already.
        super().handle_error(request, status, exc, message)
        answer = malformed(status, message or "") if status < 500 else internal_problem()
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; what aiohttp refused before any middleware (an unknown Expect) goes out as JSON."""
        answer = http_problem(resp, request) if isinstance(resp, web.HTTPException) else resp
        return await super().finish_response(request, answer, start_time)
