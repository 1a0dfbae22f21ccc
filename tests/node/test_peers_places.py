"""Where nodes dial and listen: what is wrong with a place is told, and another application can be one."""

import asyncio
import logging
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import ClientSession, web

from ledger_core.node.peers import PeerError, PeerManager, PeerSettings
from tests.node.peer_world import (
    LIMITS,
    NOTE,
    Everybody,
    Owner,
    eventually,
    free_ports,
    linked,
    local_node,
    running,
    seeded,
)


class TestPlaces:
    """Dialling what is no node, and listening where one cannot."""

    @pytest.mark.parametrize(
        ("place", "code"),
        [
            ("nowhere.invalid:80", "unresolved"),
            ("127.0.0.1:1", "unreachable"),
            ("ws://127.0.0.1:{port}/other", "no_node_there"),
            ("ws://127.0.0.1:{port}/elsewhere", "unreachable"),
            ("ws://127.0.0.1:{port}/chat", "handshake_malformed"),
            ("ws://127.0.0.1:{port}/text", "frame_malformed"),
            ("ws://127.0.0.1:{port}/dumb", "timeout"),
            ("ws://127.0.0.1:{port}/gone", "link_lost"),
        ],
    )
    async def test_what_is_wrong_with_an_address_is_told(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str, code: str
    ) -> None:
        patience = 0.4 if code == "timeout" else 10.0
        async with (
            no_node() as port,
            running(tmp_path, 1, bootstrap=(place.format(port=port),), handshake_s=patience) as one,
        ):
            await eventually(lambda: one.manager.dials() and one.manager.dials()[0].failures > 1)
            dial = one.manager.dials()[0]
            assert f": {code}: " in dial.last_error
            warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
            assert len(warnings) == 1, "the same failure again and again is told once"

    async def test_a_node_does_not_keep_dialling_itself(self, tmp_path: Path) -> None:
        (port,) = free_ports(1)
        place = f"127.0.0.1:{port}"
        async with running(tmp_path, 1, listen_port=port, bootstrap=(place,), backoff_cap_s=50.0) as one:
            await eventually(one.manager.dials)
            (dial,) = one.manager.dials()
            assert "own_node" in dial.last_error
            assert dial.retry_in_s > 40
            assert one.owner.joined_keys == []

    async def test_a_mistake_in_one_dial_leaves_the_others_be(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Such as an error from below that nobody thought of."""
        connect = ClientSession.ws_connect

        def fail_for_one(self: ClientSession, url: str, **more: Any) -> Any:
            if url.endswith("/odd"):
                raise ZeroDivisionError("who would have thought")
            return connect(self, url, **more)

        monkeypatch.setattr(ClientSession, "ws_connect", fail_for_one)
        async with (
            running(tmp_path, 1) as one,
            running(tmp_path, 2, bootstrap=(f"ws://{one.place}/odd", one.place)) as two,
        ):
            await eventually(two.manager.dials)
            assert "internal_error" in two.manager.dials()[0].last_error
            assert "who would have thought" in caplog.text
            await linked(one, two)

    async def test_a_taken_port_is_told_with_the_setting(self, tmp_path: Path) -> None:
        async with running(tmp_path, 1) as one:
            with pytest.raises(PeerError) as error:
                async with running(tmp_path, 2, listen_port=one.manager.port):
                    pass
        assert error.value.code == "listen_failed"
        assert "listen_port" in error.value.message

    def test_kinds_are_bytes(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="0 to 255"):
            manager_of(tmp_path, {256: LIMITS[NOTE]})


def manager_of(directory: Path, limits: Any) -> PeerManager:
    """Make a manager that is not started."""
    return PeerManager(
        local_node(seeded(1)),
        policy=Everybody(),
        limits=limits,
        events=Owner(),
        settings=PeerSettings(),
        directory=directory,
        random=Random(1),
    )


class no_node:  # noqa: N801 - used like a function
    """A web server that is no node, in several ways."""

    async def __aenter__(self) -> int:
        async def elsewhere(_request: web.Request) -> web.Response:
            raise web.HTTPFound("/chat")

        async def talk(request: web.Request) -> web.WebSocketResponse:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            match request.path:
                case "/chat":
                    await socket.send_bytes(b"hello, how can I help you?")
                case "/text":
                    await socket.send_str("hello")
                case "/gone":
                    await socket.close()
            async for _ in socket:
                pass
            return socket

        application = web.Application()
        application.router.add_get("/elsewhere", elsewhere)
        for path in ("/chat", "/text", "/dumb", "/gone"):
            application.router.add_get(path, talk)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


async def test_the_route_works_inside_another_application(tmp_path: Path) -> None:
    """As behind Home Assistant's own server: the node itself listens nowhere."""
    async with running(tmp_path, 1, listen_host=None) as one:
        application = web.Application()
        application.router.add_get("/api/energy_ledger/peer", one.manager.handle)
        runner = web.AppRunner(application, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = int(runner.addresses[0][1])
        try:
            place = f"ws://127.0.0.1:{port}/api/energy_ledger/peer"
            async with running(tmp_path, 2, bootstrap=(place,)) as two:
                await linked(one, two)
                two.manager.send(one.key, NOTE, b"through the house")
                await one.owner.until(lambda: one.owner.messages)
                await one.manager.close()
                await two.owner.until(lambda: two.owner.endings)
                await eventually(lambda: "HTTP 503" in two.manager.dials()[0].last_error)
        finally:
            await runner.cleanup()


async def test_closing_ends_handshakes_and_dials_under_way(tmp_path: Path) -> None:
    """A caller that has said nothing yet, and a node that does not answer, hold nothing up."""
    async with no_node() as port, running(tmp_path, 1, bootstrap=(f"ws://127.0.0.1:{port}/dumb",)) as one:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.manager.port)
        writer.write(
            b"GET /peer HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
        )
        assert b"101" in await reader.readline()
        await one.manager.close()
        assert await reader.read() is not None
        writer.close()
        await writer.wait_closed()
    assert_nothing_runs()


def assert_nothing_runs() -> None:
    assert asyncio.all_tasks() == {asyncio.current_task()}
