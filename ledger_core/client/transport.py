"""HTTP to a node: sends a request, and turns every failure into a ClientError."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any, Final, Self

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from ledger_core.client.errors import (
    AnswerInvalidError,
    ClientError,
    RefusedError,
    TimedOutError,
    UnauthorizedError,
    UnreachableError,
    refusal,
)
from ledger_core.errors import LedgerError
from ledger_core.node.api.model import Problem

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
SILENT_S: Final = 60.0
"""A node that sends nothing on a WebSocket for so long is gone: it pings every 20 s."""
UPGRADE_NEEDED: Final = 426


type Find = Callable[[], tuple[str, str]]
"""Tells, maybe slowly, where the node is by now, and its token; raises LedgerError, OSError where none is."""


class Transport:
    """Requests to one node. A session that was given is not closed."""

    def __init__(
        self,
        url: str,
        token: str,
        session: aiohttp.ClientSession | None,
        timeout_s: float,
        find: Find | None = None,
    ) -> None:
        """Raises ClientError `url_invalid`, UnauthorizedError for a text that can be no token."""
        self._url = _node_url(url)
        self._headers = _headers(token)
        self._find = find
        self._session = session
        self._owns_session = session is None
        self._timeout_s = timeout_s

    async def close(self) -> None:
        """Close the session, if it is the transport's own."""
        session = self._session
        if self._owns_session and session is not None:
            self._session = None
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def request[A](
        self, method: str, path: str, kind: type[A], query: Struct | None = None, body: Struct | None = None
    ) -> A:
        """Send a request and return its answer; raises ClientError."""
        await self._locate()
        content = None if body is None else msgspec.json.encode(body)
        headers = {**self._headers, **({} if body is None else {"Content-Type": "application/json"})}
        async with (
            self._failures(),
            self._open_session().request(
                method,
                self._url.joinpath(*path.strip("/").split("/")),
                params=parameters(query),
                data=content,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            ) as response,
        ):
            data = await _read(response)
            status = response.status
        if status >= 300:
            raise _refusal(status, data)
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise AnswerInvalidError(
                "answer_invalid", f"the answer to {path} is not what this client knows: {error}", path=path
            ) from error

    @asynccontextmanager
    async def socket(self, path: str, query: Struct) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a WebSocket; raises ClientError."""
        await self._locate()
        url = self._url.joinpath(*path.strip("/").split("/"))
        async with self._failures():
            try:
                connection = await self._open_session().ws_connect(
                    url,
                    params=parameters(query),
                    headers=self._headers,
                    max_msg_size=MAX_ANSWER_BYTES,
                    timeout=aiohttp.ClientWSTimeout(ws_receive=SILENT_S, ws_close=2.0),
                )
            except aiohttp.WSServerHandshakeError as error:
                await self._explain(path, query)
                raise AnswerInvalidError("answer_invalid", f"no WebSocket at {path}: {error}") from error
        try:
            yield connection
        finally:
            await connection.close()

    async def _explain(self, path: str, query: Struct) -> None:
        """Raise what a plain request is told: the answer to a handshake is gone with its body."""
        try:
            await self.request("GET", path, Problem, query)
        except RefusedError as error:
            if error.status == UPGRADE_NEEDED:
                # What stood in the way of the WebSocket a moment ago is gone.
                raise UnreachableError("unreachable", "the node was busy", url=str(self._url)) from error
            raise

    async def _locate(self) -> None:
        """Learn where the node is by now: after a restart another program may have its port."""
        if self._find is None:
            return
        try:
            url, token = await asyncio.to_thread(self._find)
        except LedgerError as error:
            raise UnreachableError("unreachable", error.message, url=str(self._url)) from error
        except OSError as error:
            raise UnreachableError("unreachable", str(error), url=str(self._url)) from error
        self._url, self._headers = _node_url(url), _headers(token)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return self._session

    @asynccontextmanager
    async def _failures(self) -> AsyncIterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise TimedOutError(
                "timeout",
                f"the node at {self._url} did not answer within {self._timeout_s:g} s",
                url=str(self._url),
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnreachableError(
                "unreachable",
                f"no connection to the node at {self._url}: {_reason(error)}",
                url=str(self._url),
            ) from error


def _node_url(text: str) -> URL:
    try:
        url = URL(text)
    except ValueError as error:
        raise _url_invalid(text) from error
    if url.scheme not in ("http", "https") or not url.host or url.port == 0:
        raise _url_invalid(text)
    if url.user is not None or url.password is not None:
        raise ClientError("url_invalid", "a node's URL names no user: its token alone opens it")
    return url


def _url_invalid(text: str) -> ClientError:
    return ClientError("url_invalid", f"{text!r} is no node's URL, such as http://127.0.0.1:7945")


def _headers(token: str) -> dict[str, str]:
    if not (token.isascii() and token.isprintable()):
        raise UnauthorizedError(
            "unauthorized", "this is no node's token, which stands in one line in its api.token", 401
        )
    return {"Authorization": f"Bearer {token}"}


def _reason(error: aiohttp.ClientError | OSError) -> str:
    """Return why there is no connection in the system's words, where it has any."""
    if not isinstance(error, aiohttp.ClientConnectorError):
        return str(error)
    cause = error.os_error
    if cause.errno and cause.errno > 0 and not isinstance(error, aiohttp.ClientConnectorDNSError):
        return os.strerror(cause.errno)
    # Numbers of the search for names are not the system's.
    return cause.strerror or str(error)


def parameters(query: Struct | None) -> dict[str, str]:
    """Return a query's fields that differ from their defaults, as text."""
    if query is None:
        return {}
    defaults = dict(zip(query.__struct_fields__, query.__struct_defaults__, strict=True))
    given = {name: getattr(query, name) for name in query.__struct_fields__}
    return {name: _text(value) for name, value in given.items() if value != defaults[name]}


def _text(value: Any) -> str:
    return str(value.value) if isinstance(value, Enum) else str(value)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_chunked(65_536):
        data += chunk
        if len(data) > MAX_ANSWER_BYTES:
            raise AnswerInvalidError("answer_invalid", f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    return bytes(data)


def _refusal(status: int, data: bytes) -> ClientError:
    try:
        problem = msgspec.json.decode(data, type=Problem)
    except msgspec.DecodeError, UnicodeDecodeError:
        return AnswerInvalidError(
            "answer_invalid", f"status {status} without a reason: this is no node's API", status=status
        )
    return refusal(status, problem.code, problem.message, problem.details)
