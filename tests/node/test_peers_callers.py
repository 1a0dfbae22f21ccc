"""Callers who never prove a key hold little of a node, and not for long."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import ClientSession, WSMsgType, WSServerHandshakeError

from ledger_core.node.peers import listener
from ledger_core.node.peers.handshake import Initiator
from tests.node.peer_world import (
    NOTE,
    PATIENCE_S,
    Members,
    Node,
    eventually,
    local_node,
    raw_peer,
    running,
    seeded,
)


async def holding(node: Node, source: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection with the first word of a request, and wait until the node has taken it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.manager.port, local_addr=(source, 0))
    writer.write(b"GET")
    own = writer.get_extra_info("sockname")
    server = node.manager._listener
    assert server is not None
    await eventually(lambda: any(each.get_extra_info("peername") == own for each in server._places))
    return reader, writer


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
        """Beyond the number, who took longest gives way; the linked ones do not notice."""
        async with (
            running(tmp_path, 1, max_pending=2) as one,
            ClientSession() as client,
            raw_peer(one, 2) as honest,
            client.ws_connect(one.url) as first,
            client.ws_connect(one.url) as second,
            client.ws_connect(one.url) as third,
        ):
            assert (await first.receive(PATIENCE_S)).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
            await honest.send_message(NOTE, b"not me")
            await one.owner.until(lambda: one.owner.messages)
            for other in (second, third):
                initiator = Initiator(local_node(seeded(77)))
                await other.send_bytes(initiator.opening())
                initiator.answer(await other.receive_bytes(timeout=PATIENCE_S))

    async def test_too_many_handshakes_in_a_short_time_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """That caller is told to come later, without a WebSocket."""
        monkeypatch.setattr(listener, "_LOOPBACK_FACTOR", 1)
        async with running(tmp_path, 1) as one, ClientSession() as client:

            async def refusal() -> WSServerHandshakeError:
                while True:
                    try:
                        await (await client.ws_connect(one.url)).close()
                    except WSServerHandshakeError as error:
                        return error

            assert (await asyncio.wait_for(refusal(), PATIENCE_S)).status == 503

    async def test_connections_are_bounded(self, tmp_path: Path) -> None:
        """Beyond the number, the one that waited longest ends."""
        async with running(tmp_path, 1, max_unheard=3) as one:
            held = [await holding(one) for _ in range(4)]
            assert await asyncio.wait_for(held[0][0].read(), PATIENCE_S) == b""
            for reader, writer in held[1:]:
                writer.write(b" / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"404" in await asyncio.wait_for(reader.readline(), PATIENCE_S)
            for _, writer in held:
                writer.close()

    async def test_a_stranger_displaces_nobody_from_elsewhere(self, tmp_path: Path) -> None:
        async with running(tmp_path, 1, max_unheard=3) as one:
            reader, writer = await holding(one, source="127.0.0.2")
            held = [await holding(one) for _ in range(8)]
            writer.write(b" / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"404" in await asyncio.wait_for(reader.readline(), PATIENCE_S)
            for each in [writer, *(other for _, other in held)]:
                each.close()

    async def test_who_was_refused_holds_no_more_than_who_never_asked(self, tmp_path: Path) -> None:
        """A connection that is kept after an answer counts again."""
        async with running(tmp_path, 1, max_unheard=2) as one:
            asked = []
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", one.manager.port)
                writer.write(b"GET /peer HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\n\r\n")
                assert b"403" in await asyncio.wait_for(reader.readline(), PATIENCE_S)
                asked.append((reader, writer))
            await asyncio.wait_for(asked[0][0].read(), PATIENCE_S)
            asked[2][1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"404" in await asyncio.wait_for(asked[2][0].readuntil(b"404"), PATIENCE_S)
            for _, writer in asked:
                writer.close()

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


async def test_a_stranger_that_never_ends_its_requests_keeps_no_member_out(tmp_path: Path) -> None:
    """Nor does it use up the places of members: with all of its own taken, they still link."""
    async with running(tmp_path, 1, max_inbound=2, max_pending=2, max_unheard=4) as one:
        held = [await holding(one) for _ in range(8)]
        async with raw_peer(one, 2) as honest:
            held += [await holding(one) for _ in range(8)]
            await honest.send_message(NOTE, b"still here")
            await one.owner.until(lambda: one.owner.messages)
        for _, writer in held:
            writer.close()


async def test_a_stranger_that_never_ends_handshakes_keeps_no_member_out(tmp_path: Path) -> None:
    async with running(tmp_path, 1, max_pending=2) as one, ClientSession() as client:
        held = [await client.ws_connect(one.url) for _ in range(2)]
        async with raw_peer(one, 2) as honest:
            await honest.send_message(NOTE, b"here")
            await one.owner.until(lambda: one.owner.messages)
        for each in held:
            await each.close()


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
