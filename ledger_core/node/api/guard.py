"""What stands before every handler: the token, and how much may be asked at a time."""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from ledger_core.errors import LedgerError
from ledger_core.node.api.token import is_token


class ApiLimits(Struct, frozen=True, kw_only=True):
    """How much one node's API takes."""

    body_bytes: int = 64 * 1024
    requests_per_s: float = 2000.0
    burst: int = 4000
    wrong_tokens_per_s: float = 1.0
    wrong_tokens_burst: int = 20
    at_once: int = 64
    """Requests under way."""
    streams: int = 16
    connections: int = 128
    """Connections that have shown the token."""
    strangers: int = 256
    """Connections that have not: more than come in one turn of the event loop."""
    token_s: float = 10.0
    """Time for a new connection's first request, with the token."""
    keep_alive_s: float = 75.0
    """How long a connection stays open without a request: longer than clients keep theirs."""
    request_s: float = 20.0
    """Time for one request."""
    heartbeat_s: float = 20.0
    """Streams whose client does not answer a ping in time end."""


class RefusedError(LedgerError):
    """A request that is not looked at."""

    def __init__(self, status: int, code: str, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(code, message)
        self.status = status
        self.retry_after_s = retry_after_s


class Rate:
    """Tokens that come at a rate, up to a burst."""

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float]) -> None:
        self._per_s, self._burst, self._clock = per_s, burst, clock
        self._level, self._seen = float(burst), clock()

    def take(self) -> bool:
        """Take a token; tell whether there was one."""
        now = self._clock()
        self._level = min(self._burst, self._level + (now - self._seen) * self._per_s)
        self._seen = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


class Guard:
    """Counts what is under way. Wrong tokens have a rate of their own: guessing can't use up the owner's."""

    def __init__(self, token: str, limits: ApiLimits) -> None:
        clock = asyncio.get_running_loop().time
        self._token = token
        self._limits = limits
        self._rate = Rate(limits.requests_per_s, limits.burst, clock)
        self._wrong = Rate(limits.wrong_tokens_per_s, limits.wrong_tokens_burst, clock)
        self._under_way = 0
        self._streams = 0

    def admit(self, authorization: str | None) -> None:
        """Raise RefusedError `unauthorized` or `too_many_requests` for a request that may not pass."""
        if not is_token(authorization, self._token):
            if not self._wrong.take():
                raise RefusedError(429, "too_many_requests", "too many wrong tokens; wait a while", 1)
            wrong = "" if authorization is None else "the token is wrong; "
            raise RefusedError(
                401,
                "unauthorized",
                f"{wrong}send the node's token: Authorization: Bearer (content of api.token)",
            )
        if not self._rate.take():
            raise RefusedError(
                429, "too_many_requests", f"more than {self._limits.requests_per_s:g} requests a second", 1
            )

    def enter(self) -> Callable[[], None]:
        """Begin a request; returns what ends it."""
        if self._under_way >= self._limits.at_once:
            raise RefusedError(
                429, "too_many_requests", f"{self._limits.at_once} requests are under way already", 1
            )
        self._under_way += 1

        def leave() -> None:
            self._under_way -= 1

        return leave

    def enter_stream(self) -> Callable[[], None]:
        """Begin a stream; returns what ends it."""
        if self._streams >= self._limits.streams:
            raise RefusedError(
                429, "too_many_streams", f"{self._limits.streams} streams are open already", 10
            )
        self._streams += 1

        def leave() -> None:
            self._streams -= 1

        return leave
