"""Callers who never prove a key hold little of a node, and not for long."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import ClientSession, WSMsgType, WSServerHandshakeError

from ledger_core.node.peers.handshake import Initiator
from tests.node.peer_world import (
    NOTE,
    PATIENCE_S,
    Members,
    eventually,
    local_node,
    raw_peer,
    running,
    seeded,
)


class TestBeforeTheHandshake:
    """Callers who never prove a key hold little, and not for long."""

    async def test_a_caller_that_says_nothing_is_sent_away(self, tmp_path: Path) -> None:
        async with (
            running(tmp_path, 1, handshake_s=0.4) as one,
            ClientSession() as client,
            client.ws_connect(one.url) as caller,
        ):
            assert (await caller.receive(PATIENCE_S)).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)

    @pytest.mark.parametrize("header", [b"", b"GET /peer HTTP/1.1\r\nHost: x\r\nX: "])
    async def test_a_caller_that_dribbles_its_request_is_sent_away(
        self, tmp_path: Path, header: bytes
    ) -> None:
        """The classic slow request: one byte at a time, never an end."""
        async with running(tmp_path, 1, handshake_s=0.5) as one:
            reader, writer = await asyncio.open_connection("127.0.0.1", one.manager.port)
            writer.write(header)
            ended = asyncio.create_task(reader.read())
            try:
                async with asyncio.timeout(PATIENCE_S):
                    while not ended.done():
                        writer.write(b"a" if header else b"")
                        await asyncio.sleep(0.05)
            finally:
                ended.cancel()
                writer.close()
            await asyncio.gather(ended, return_exceptions=True)

    async def test_a_page_in_a_browser_is_sent_away(self, tmp_path: Path) -> None:
        async with running(tmp_path, 1) as one, ClientSession() as client:
            with pytest.raises(WSServerHandshakeError) as error:
                await client.ws_connect(one.url, origin="http://evil.example")
            assert error.value.status == 403

    async def test_handshakes_under_way_are_bounded(self, tmp_path: Path) -> None:
        """The next caller is told to come later, without a WebSocket; the linked ones do not notice."""
        async with (
            running(tmp_path, 1, max_pending=2) as one,
            ClientSession() as client,
            raw_peer(one, 2) as honest,
        ):
            async with client.ws_connect(one.url), client.ws_connect(one.url):
                with pytest.raises(WSServerHandshakeError) as error:
                    await client.ws_connect(one.url)
                assert error.value.status == 503
                await honest.send_message(NOTE, b"not me")
                await one.owner.until(lambda: one.owner.messages)

            async def free() -> bool:
                try:
                    async with client.ws_connect(one.url):
                        return True
                except WSServerHandshakeError:
                    return False

            async with asyncio.timeout(PATIENCE_S):
                while not await free():
                    await asyncio.sleep(0.02)

    async def test_connections_are_bounded(self, tmp_path: Path) -> None:
        """Beyond the number, a connection ends at once."""
        async with running(tmp_path, 1, max_inbound=1, max_pending=2) as one:
            held = [await asyncio.open_connection("127.0.0.1", one.manager.port) for _ in range(3)]
            for _, writer in held:
                writer.write(b"GET ")
            await eventually(lambda: len(one.manager._listener._runner.server.connections) == 3)  # type: ignore[union-attr]
            reader, writer = await asyncio.open_connection("127.0.0.1", one.manager.port)
            assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
            for _, each in [*held, (reader, writer)]:
                each.close()

    async def test_nothing_is_ever_decompressed(self, tmp_path: Path) -> None:
        """Compression is not negotiated, and a compressed frame is refused."""
        async with (
            running(tmp_path, 1) as one,
            ClientSession() as client,
            client.ws_connect(one.url, compress=15) as caller,
        ):
            assert caller.compress == 0
            caller._writer.transport.write(b"\xc2\x81aaaa\x00")
            assert (await caller.receive(PATIENCE_S)).data == 1002

    async def test_a_long_message_is_refused_before_it_is_read(self, tmp_path: Path) -> None:
        async with (
            running(tmp_path, 1) as one,
            ClientSession() as client,
            client.ws_connect(one.url) as caller,
        ):
            sent = 0
            with suppress(ConnectionError):
                while sent < 1000 and not caller.closed:
                    await caller.send_bytes(bytes(10**6))
                    sent += 1
            assert sent < 1000
            assert one.owner.joined_keys == []


async def test_members_alone_get_past_the_handshake(tmp_path: Path) -> None:
    """A stranger with a key of its own is refused in words, before anything else."""
    async with running(tmp_path, 1, Members(seeded(2).public_key)) as one, ClientSession() as client:
        async with client.ws_connect(one.url) as caller:
            stranger = Initiator(local_node(seeded(77)))
            await caller.send_bytes(stranger.opening())
            stranger.answer(await caller.receive_bytes(timeout=PATIENCE_S))
            await caller.send_bytes(stranger.proof())
            with pytest.raises(Exception, match="belongs to no member"):
                stranger.verdict(await caller.receive_bytes(timeout=PATIENCE_S))
        assert one.owner.joined_keys == []
