"""Opens a WebSocket to another node."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import (
    ClientConnectorDNSError,
    ClientError,
    ClientHandlerType,
    ClientRequest,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ClientWSTimeout,
    TCPConnector,
    WSServerHandshakeError,
)

from ledger_core.node.peers.errors import DialError
from ledger_core.node.peers.link import WEBSOCKET_LIMIT, Link
from ledger_core.node.peers.location import PeerLocation
from ledger_core.node.peers.settings import PeerSettings


@asynccontextmanager
async def dialled(location: PeerLocation, settings: PeerSettings) -> AsyncIterator[Link]:
    """Open a link to a location, and end its connection at the end.

    Raises DialError `unresolved`, `unreachable` or `no_node_there`. The caller limits the time.
    """
    connector = TCPConnector(limit=1, force_close=True)
    timeout = ClientTimeout(total=None, sock_connect=settings.handshake_s)
    async with ClientSession(connector=connector, timeout=timeout, middlewares=(_no_redirects,)) as session:
        try:
            websocket = await session.ws_connect(
                location.url,
                autoping=False,
                compress=0,
                max_msg_size=WEBSOCKET_LIMIT,
                timeout=ClientWSTimeout(ws_close=settings.close_s),
            )
        except (ClientError, OSError, ValueError) as error:
            raise _dial_error(location, error) from error
        link = Link(websocket, location.url, is_loopback=location.is_loopback)
        try:
            yield link
        finally:
            await link.close(settings.close_s)


async def _no_redirects(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Follow nobody elsewhere: a peer could send this node to any address in its home."""
    response = await handler(request)
    if 300 <= response.status < 400:
        response.close()
        raise ClientError("it sends callers elsewhere")
    return response


def _dial_error(location: PeerLocation, error: Exception) -> DialError:
    if isinstance(error, ClientConnectorDNSError):
        return DialError(
            "unresolved",
            f"the peer address {location.url} does not resolve: is the name right, and is there a network?",
            location=location.url,
        )
    if isinstance(error, WSServerHandshakeError):
        return DialError(
            "no_node_there",
            f"no node answers at {location.url} (HTTP {error.status}): are port and path right?",
            location=location.url,
        )
    return DialError(
        "unreachable",
        f"{location.url} can't be reached: {str(error) or type(error).__name__}",
        location=location.url,
    )
