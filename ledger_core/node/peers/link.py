"""One WebSocket that carries sealed frames, the same from both sides."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Final

from aiohttp import ClientError, ClientWebSocketResponse, WebSocketError, WSCloseCode, WSMsgType, web

from ledger_core.node.peers.errors import Misbehaviour, PeerError
from ledger_core.node.peers.frames import MAX_SEALED_FRAME_BYTES

WEBSOCKET_LIMIT: Final = MAX_SEALED_FRAME_BYTES + 1
"""aiohttp refuses messages from this size on, before it reads them."""

MAX_PINGS: Final = 64
"""WebSocket pings that may come between two binary messages. Nodes send none, a proxy on the way may."""

_ENDED: Final = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED)


class LinkLost(PeerError):
    """The WebSocket has ended: the other side closed it, or the network did."""


class Link:
    """Binary messages over a WebSocket that was opened without compression and without automatic pongs."""

    def __init__(
        self,
        websocket: web.WebSocketResponse | ClientWebSocketResponse,
        remote: str,
        *,
        is_loopback: bool,
    ) -> None:
        self._websocket = websocket
        self.remote = remote
        """Network address of the other side, for the log."""
        self.is_loopback = is_loopback
        """Whether the other side is on this machine, or behind a proxy on it."""

    async def send(self, data: bytes) -> None:
        """Send one binary message, waiting while too much is under way; raises LinkLost."""
        with _told_as_lost():
            await self._websocket.send_bytes(data)

    async def receive(self) -> bytes:
        """Return the next binary message.

        Raises LinkLost at the end, Misbehaviour `oversized` or `frame_malformed` for what no node sends.
        The time limit is the caller's: pings do not extend it.
        """
        for _ in range(MAX_PINGS):
            with _told_as_lost():
                message = await self._websocket.receive()
            if message.type is WSMsgType.BINARY:
                data: bytes = message.data
                return data
            if message.type in _ENDED:
                raise LinkLost("link_lost", "the other side is gone")
            if message.type is WSMsgType.ERROR:
                raise _broken(message.data)
            if message.type is WSMsgType.PING:
                with _told_as_lost():
                    await self._websocket.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                raise Misbehaviour("frame_malformed", "a text where a sealed frame belongs")
        raise Misbehaviour("flooding", f"more than {MAX_PINGS} WebSocket pings without a frame between them")

    async def close(self, limit_s: float) -> None:
        """End the WebSocket by its closing handshake if that is done in time, else at once."""
        try:
            with contextlib.suppress(LinkLost, TimeoutError):
                async with asyncio.timeout(limit_s):
                    with _told_as_lost():
                        await self._websocket.close(code=WSCloseCode.GOING_AWAY)
        finally:
            self.abort()

    def abort(self) -> None:
        """End the connection at once, whatever is under way on it."""
        connection = self._websocket.get_extra_info("socket")
        if connection is not None:
            # A transport's own `close` would wait for a peer that does not read.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _told_as_lost() -> Iterator[None]:
    try:
        yield
    except (ClientError, OSError, RuntimeError) as error:
        what = str(error) or type(error).__name__
        raise LinkLost("link_lost", f"the link is lost: {what}") from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody cancels this task: it shares aiohttp's wait for a full socket with one that was cancelled.
        raise LinkLost("link_lost", "the other side takes nothing any more") from error


def _broken(error: object) -> PeerError:
    if not isinstance(error, WebSocketError):
        return LinkLost("link_lost", f"the link is lost: {error}")
    if error.code == WSCloseCode.MESSAGE_TOO_BIG:
        return Misbehaviour("oversized", "a WebSocket message is larger than any sealed frame")
    return Misbehaviour("frame_malformed", f"the WebSocket protocol is broken: {error}")
