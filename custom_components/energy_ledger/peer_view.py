"""Lets other homes' nodes reach this home's through Home Assistant's own URL.

A WebSocket that carries sealed frames between the caller and the node's peer port, and nothing else. It asks
for no login of Home Assistant: caller and node prove to each other who they are, and whoever is no member
gets no further than the node's handshake. It is off unless the entry's options turn it on.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import ClientError, ClientWSTimeout, WSCloseCode, WSMessage, WSMsgType, web
from homeassistant.config_entries import ConfigEntry, ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.helpers.http import HomeAssistantView
from homeassistant.helpers.network import NoURLAvailableError, get_url
from yarl import URL

from ledger_core.client.places import DEFAULT_PATH, MAX_PEER_MESSAGE

from .const import CONF_PEER_VIEW, DOMAIN

_LOGGER = logging.getLogger(__name__)

PATH: Final = f"/api/{DOMAIN}/{{entry_id}}/peer"
MAX_TUNNELS: Final = 32
MAX_TUNNELS_PER_SOURCE: Final = 4
OPENED_PER_SECOND: Final = 0.5
OPENED_AT_ONCE: Final = 20
BYTES_PER_SECOND: Final = 4 * 1024 * 1024
"""A caller that sends more is read more slowly."""
SILENT_S: Final = 180.0
"""Nodes ping each other every half minute; a tunnel without a frame for so long has ended."""
CLOSE_S: Final = 2.0
_EVERYWHERE: Final = ("0.0.0.0", "[::]", "")  # noqa: S104 - compared, not bound

type Socket = Any
"""A WebSocket of aiohttp, either side: both have the same methods, and no common base."""


def peer_url(hass: HomeAssistant, entry: ConfigEntry[Any]) -> str | None:
    """Return the URL under which others reach this home's node through Home Assistant, if it has one."""
    try:
        base = URL(get_url(hass, prefer_external=True, allow_cloud=False))
    except NoURLAvailableError:
        return None
    scheme = "wss" if base.scheme == "https" else "ws"
    return str(base.with_scheme(scheme).with_path(PATH.format(entry_id=entry.entry_id)))


class PeerView(HomeAssistantView):
    """Passes the nodes' frames on."""

    url = PATH
    name = f"api:{DOMAIN}:peer"
    requires_auth = False
    cors_allowed = False

    def __init__(self, hass: HomeAssistant) -> None:
        """Begin without any tunnel."""
        self._hass = hass
        self._open: Counter[str] = Counter()
        self._allowance = float(OPENED_AT_ONCE)
        self._counted = hass.loop.time()

    async def get(self, request: web.Request, entry_id: str) -> web.StreamResponse:
        """Take a caller's WebSocket and carry it to its end."""
        node = self._node(entry_id)
        if node is None or "Origin" in request.headers:
            # The latter is a page in somebody's browser. Neither is told whether there is a node.
            raise web.HTTPNotFound
        source = request.remote or ""
        if not self._admit(source):
            raise web.HTTPServiceUnavailable(text="no place for another caller now\n")
        self._open[source] += 1
        try:
            return await self._tunnel(request, node)
        finally:
            self._open[source] -= 1
            if not self._open[source]:
                del self._open[source]

    def _node(self, entry_id: str) -> str | None:
        """Return the URL of the peer port of an entry's node, if it may be reached."""
        entry = self._hass.config_entries.async_get_entry(entry_id)
        if entry is None or entry.domain != DOMAIN or entry.state is not ConfigEntryState.LOADED:
            return None
        node = entry.runtime_data.node
        told = None if node is None else node.readiness
        if told is None or told.peer is None or not entry.options.get(CONF_PEER_VIEW, False):
            return None
        host, _, port = told.peer.rpartition(":")
        return f"ws://{'127.0.0.1' if host in _EVERYWHERE else host}:{port}{DEFAULT_PATH}"

    def _admit(self, source: str) -> bool:
        """Tell whether one more caller is taken."""
        now = self._hass.loop.time()
        gained = (now - self._counted) * OPENED_PER_SECOND
        self._allowance, self._counted = min(self._allowance + gained, OPENED_AT_ONCE), now
        full = self._open.total() >= MAX_TUNNELS or self._open[source] >= MAX_TUNNELS_PER_SOURCE
        if full or self._allowance < 1:
            _LOGGER.debug("No place for a caller from %s", source)
            return False
        self._allowance -= 1
        return True

    async def _tunnel(self, request: web.Request, node: str) -> web.StreamResponse:
        outer = web.WebSocketResponse(
            timeout=CLOSE_S, autoping=False, compress=False, max_msg_size=MAX_PEER_MESSAGE
        )
        if not outer.can_prepare(request):
            raise web.HTTPBadRequest(text="this is a WebSocket for nodes\n")
        session = async_get_clientsession(self._hass)
        try:
            inner = await session.ws_connect(
                node,
                autoping=False,
                compress=0,
                max_msg_size=MAX_PEER_MESSAGE,
                timeout=ClientWSTimeout(ws_close=CLOSE_S),
            )
        except (ClientError, OSError) as error:
            _LOGGER.debug("The node takes no caller: %s", error)
            raise web.HTTPServiceUnavailable(text="the node takes no caller now\n") from error
        try:
            await outer.prepare(request)
            await _carry(outer, inner)
            await outer.close(code=WSCloseCode.GOING_AWAY)
        finally:
            await inner.close(code=WSCloseCode.GOING_AWAY)
        return outer


async def _carry(outer: Socket, inner: Socket) -> None:
    """Pass frames both ways until either side ends."""
    ways = [asyncio.ensure_future(_pass(outer, inner)), asyncio.ensure_future(_pass(inner, outer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pass(giver: Socket, taker: Socket) -> None:
    """Pass binary messages on, no faster than allowed; returns at the end, or at what no node sends."""
    loop = asyncio.get_running_loop()
    free_at = loop.time()
    answers: dict[WSMsgType, Callable[[bytes], Awaitable[None]]] = {
        WSMsgType.BINARY: taker.send_bytes,
        WSMsgType.PING: giver.pong,
    }
    while True:
        try:
            message: WSMessage = await giver.receive(timeout=SILENT_S)
            answer = answers.get(message.type)
            if answer is None:
                return
            await answer(message.data)
        except TimeoutError, ClientError, OSError, RuntimeError:
            return
        free_at = max(free_at, loop.time() - 1.0) + len(message.data) / BYTES_PER_SECOND
        if (wait := free_at - loop.time()) > 0:
            await asyncio.sleep(wait)
