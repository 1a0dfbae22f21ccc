"""Peers through Home Assistant's own server: what passes, and what does not."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from unittest.mock import patch

import pytest
from aiohttp import WSMsgType, WSServerHandshakeError, web
from aiohttp.test_utils import TestClient, TestServer
from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped]
    MockConfigEntry,
)
from pytest_homeassistant_custom_component.typing import (  # type: ignore[import-untyped]
    ClientSessionGenerator,
)

from custom_components.energy_ledger import peer_view
from custom_components.energy_ledger.const import CONF_INVITATION, CONF_PEER_VIEW
from custom_components.energy_ledger.node.process import Readiness
from custom_components.energy_ledger.node_setup import node_settings
from tests.integration.conftest import EntryMaker, wait_until
from tests.integration.own_node import OwnEntry, invite, own_entry
from tests.node.api_world import ApiWorld

__all__ = ["own_entry"]

type Client = TestClient[web.Request, web.Application]


@dataclass
class PeerPort:
    """What stands for the node's peer port: echoes frames."""

    place: str = ""
    heard: list[WSMsgType] = field(default_factory=list)
    open: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        self.open += 1
        async for message in socket:
            self.heard.append(message.type)
            if message.type is WSMsgType.PING:
                await socket.pong(message.data)
            elif message.data == b"end":
                break
            else:
                await socket.send_bytes(message.data)
        await socket.close()
        self.open -= 1
        return socket


@dataclass
class FakeNode:
    """A supervisor, as far as the view looks at it."""

    readiness: Readiness | None

    async def stop(self) -> None:
        """There is nothing to end."""


@pytest.fixture
async def port() -> AsyncIterator[PeerPort]:
    """An open peer port."""
    found = PeerPort()
    app = web.Application()
    app.router.add_get("/peer", found.handle)
    server = TestServer(app)
    await server.start_server()
    found.place = f"0.0.0.0:{server.port}"
    yield found
    await server.close()


@pytest.fixture
async def reachable(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, port: PeerPort
) -> MockConfigEntry:
    """An entry whose node may be reached through Home Assistant."""
    entry = await make_entry(node, **{CONF_PEER_VIEW: True})
    told = Readiness("0", "http://127.0.0.1:1", port.place, "el1", "00")
    entry.runtime_data.node = FakeNode(told)
    return entry


def path(entry: MockConfigEntry) -> str:
    return f"/api/energy_ledger/{entry.entry_id}/peer"


async def test_frames_pass_both_ways(
    hass: HomeAssistant,
    reachable: MockConfigEntry,
    port: PeerPort,
    hass_client_no_auth: ClientSessionGenerator,
) -> None:
    client = await hass_client_no_auth()
    async with client.ws_connect(path(reachable), autoping=False) as socket:
        await socket.send_bytes(b"sealed")
        assert await socket.receive_bytes() == b"sealed"
        await socket.ping(b"hello")
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.PONG, b"hello")
        # The view answers by itself: nothing but frames reaches the node.
        assert port.heard == [WSMsgType.BINARY]
        await socket.send_str("no frame")
        assert (await socket.receive()).type is WSMsgType.CLOSE
    await wait_until(lambda: port.open == 0)


async def test_the_node_ends_the_link(
    reachable: MockConfigEntry, port: PeerPort, hass_client_no_auth: ClientSessionGenerator
) -> None:
    client = await hass_client_no_auth()
    async with client.ws_connect(path(reachable), autoping=False) as socket:
        await socket.send_bytes(b"end")
        assert (await socket.receive()).type is WSMsgType.CLOSE


async def test_silence_ends_the_link(
    reachable: MockConfigEntry, port: PeerPort, hass_client_no_auth: ClientSessionGenerator
) -> None:
    client = await hass_client_no_auth()
    with patch.object(peer_view, "SILENT_S", 0.05):
        async with client.ws_connect(path(reachable), autoping=False) as socket:
            assert (await socket.receive()).type is WSMsgType.CLOSE
    await wait_until(lambda: port.open == 0)


async def test_much_is_passed_more_slowly(
    reachable: MockConfigEntry, port: PeerPort, hass_client_no_auth: ClientSessionGenerator
) -> None:
    client = await hass_client_no_auth()
    pauses: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await real(0)

    with (
        patch.object(peer_view, "BYTES_PER_SECOND", 1000),
        patch("custom_components.energy_ledger.peer_view.asyncio.sleep", sleep),
    ):
        async with client.ws_connect(path(reachable), autoping=False) as socket:
            for _ in range(3):
                await socket.send_bytes(bytes(1000))
                await socket.receive_bytes()
    assert max(pauses) > 0.5


async def test_nobody_else_gets_in(
    hass: HomeAssistant,
    reachable: MockConfigEntry,
    port: PeerPort,
    hass_client_no_auth: ClientSessionGenerator,
) -> None:
    client = await hass_client_no_auth()

    async def status(where: str = path(reachable), **headers: str) -> int:
        async with client.get(where, headers=headers) as response:
            found: int = response.status
            return found

    assert await status(Origin="http://elsewhere.example") == 404
    assert await status("/api/energy_ledger/unknown/peer") == 404
    # No WebSocket at all.
    assert await status() == 400
    hass.config_entries.async_update_entry(reachable, options={CONF_PEER_VIEW: False})
    assert await status() == 404
    await hass.async_block_till_done()


@pytest.mark.parametrize("peer", [None, "none"])
async def test_a_node_that_nobody_reaches(
    reachable: MockConfigEntry, hass_client_no_auth: ClientSessionGenerator, peer: str | None
) -> None:
    told = Readiness("0", "http://127.0.0.1:1", None, "el1", "00")
    reachable.runtime_data.node = FakeNode(told if peer is None else None)
    client = await hass_client_no_auth()
    async with client.get(path(reachable)) as response:
        assert response.status == 404


async def test_a_node_that_takes_nobody(
    reachable: MockConfigEntry, hass_client_no_auth: ClientSessionGenerator
) -> None:
    reachable.runtime_data.node = FakeNode(Readiness("0", "http://127.0.0.1:1", "127.0.0.1:1", "el1", "00"))
    client = await hass_client_no_auth()
    with pytest.raises(WSServerHandshakeError) as refused:
        await client.ws_connect(path(reachable))
    assert refused.value.status == 503


async def test_no_more_than_some(
    reachable: MockConfigEntry, port: PeerPort, hass_client_no_auth: ClientSessionGenerator
) -> None:
    client = await hass_client_no_auth()
    sockets = [await client.ws_connect(path(reachable)) for _ in range(peer_view.MAX_TUNNELS_PER_SOURCE)]
    async with client.get(path(reachable)) as response:
        assert response.status == 503
    for socket in sockets:
        await socket.close()
    await wait_until(lambda: port.open == 0)
    statuses = []
    for _ in range(peer_view.OPENED_AT_ONCE + 1):
        async with client.get(path(reachable)) as response:
            statuses.append(response.status)
    assert 503 in statuses


async def test_the_address_is_told_to_the_node(hass: HomeAssistant, reachable: MockConfigEntry) -> None:
    hass.config.external_url = "https://home.example.org"
    wanted = f"wss://home.example.org{path(reachable)}"
    assert peer_view.peer_url(hass, reachable) == wanted
    assert node_settings(hass, reachable)["advertise"] == wanted


async def test_a_newcomer_joins_through_home_assistant(
    hass: HomeAssistant, own_entry: OwnEntry, hass_client_no_auth: ClientSessionGenerator
) -> None:
    founder = await own_entry(**{CONF_PEER_VIEW: True})
    client: Client = await hass_client_no_auth()
    place = f"ws://127.0.0.1:{client.port}{path(founder)}"
    entry = await own_entry("newcomer", invitation=await invite(founder, place))
    await wait_until(lambda: CONF_INVITATION not in entry.data, 60)
    assert [peer.address for peer in entry.runtime_data.ledger.data.peers if "/api/" in peer.address]
    # Its link would hold the server's end up.
    await hass.config_entries.async_remove(entry.entry_id)
