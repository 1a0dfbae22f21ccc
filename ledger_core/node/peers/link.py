"""One WebSocket that carries sealed frames, the same from both sides."""

import contextlib
import socket
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

    def __init__(self, websocket: web.WebSocketResponse | ClientWebSocketResponse, remote: str) -> None:
        self._websocket = websocket
        self.remote = remote
        """Network address of the other side, for the log."""

    async def send(self, data: bytes) -> None:
        """Send one binary message, waiting while too much is under way; raises LinkLost."""
        try:
            await self._websocket.send_bytes(data)
        except (ClientError, OSError, RuntimeError) as error:
            raise _lost(error) from error

    async def receive(self) -> bytes:
        """Return the next binary message.

        Raises LinkLost at the end, Misbehaviour `oversized` or `frame_malformed` for what no node sends.
        The time limit is the caller's: pings do not extend it.
        """
        for _ in range(MAX_PINGS):
            try:
                message = await self._websocket.receive()
            except (ClientError, OSError, RuntimeError) as error:
                raise _lost(error) from error
            if message.type is WSMsgType.BINARY:
                data: bytes = message.data
                return data
            if message.type in _ENDED:
                raise LinkLost("link_lost", "the other side is gone")
            if message.type is WSMsgType.ERROR:
                raise _broken(message.data)
            if message.type is WSMsgType.PING:
                await self._pong(message.data)
            elif message.type is not WSMsgType.PONG:
                raise Misbehaviour("frame_malformed", "a text where a sealed frame belongs")
        raise Misbehaviour("flooding", f"more than {MAX_PINGS} WebSocket pings without a frame between them")

    async def _pong(self, content: bytes) -> None:
        try:
            await self._websocket.pong(content)
        except (ClientError, OSError, RuntimeError) as error:
            raise _lost(error) from error

    async def close(self) -> None:
        """End the WebSocket by its closing handshake; the caller limits the time, and aborts after it."""
        with contextlib.suppress(ClientError, OSError, RuntimeError):
            await self._websocket.close(code=WSCloseCode.GOING_AWAY)

    def abort(self) -> None:
        """End the connection at once, whatever is under way on it."""
        connection = self._websocket.get_extra_info("socket")
        if connection is not None:
            # A transport's own `close` would wait for a peer that does not read.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _lost(error: Exception) -> LinkLost:
    return LinkLost("link_lost", f"the link is lost: {str(error) or type(error).__name__}")


def _broken(error: object) -> PeerError:
    if not isinstance(error, WebSocketError):
        return LinkLost("link_lost", f"the link is lost: {error}")
    if error.code == WSCloseCode.MESSAGE_TOO_BIG:
        return Misbehaviour("oversized", "a WebSocket message is larger than any sealed frame")
    return Misbehaviour("frame_malformed", f"the WebSocket protocol is broken: {error}")
