"""Hostile peers and networks, on real sockets: the honest node refuses, bans, stays small and responsive."""

import asyncio
import logging
import os
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, WSMsgType, WSServerHandshakeError, web
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ledger_core.node.peers import BAN_SECONDS, Bearer, LocalNode
from ledger_core.node.peers.announcement import announce, encode_announcements
from ledger_core.node.peers.cipher import Opener
from ledger_core.node.peers.frames import (
    CHUNK_BYTES,
    MAX_MESSAGE_BYTES,
    Close,
    FrameType,
    Lane,
    Ping,
    addresses_frame,
    message_frames,
    ping_frame,
)
from ledger_core.node.peers.handshake import Initiator, Responder
from tests.node.peer_relay import Impostor, Relay
from tests.node.peer_world import (
    BLOCK,
    CHAIN_ID,
    NOTE,
    PATIENCE_S,
    RARE,
    Members,
    Node,
    RawPeer,
    eventually,
    linked,
    local_node,
    raw_peer,
    running,
    seeded,
)


class TestHandshakeOnTheWire:
    """Somebody on the way, or in a node's place."""

    async def test_a_recorded_handshake_cannot_be_replayed(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Word for word what an honest caller said, an hour or a second later."""
        caplog.set_level(logging.INFO)
        async with running(tmp_path, 1) as one:
            async with Relay(one.place) as relay, running(tmp_path, 2, bootstrap=(relay.place,)) as two:
                await linked(one, two)
                opening, proof = [data for from_caller, data in relay.said if from_caller][:2]
            joined = list(one.owner.joined_keys)
            async with ClientSession() as client, client.ws_connect(one.url) as thief:
                await thief.send_bytes(opening)
                await thief.receive_bytes(timeout=PATIENCE_S)
                await thief.send_bytes(proof)
                assert (await thief.receive(PATIENCE_S)).type is not WSMsgType.BINARY
            assert one.owner.joined_keys == joined
            assert one.manager.bans() == [], "nobody can have another banned"
            assert "broke the handshake: handshake_forged" in caplog.text

    async def test_own_words_reflected_are_refused(self, tmp_path: Path) -> None:
        """An impostor that sends everything back as it came."""

        async def reflect(socket: web.WebSocketResponse) -> None:
            while True:
                await socket.send_bytes(await socket.receive_bytes())

        async with Impostor(reflect) as mirror, running(tmp_path, 1, bootstrap=(mirror.place,)) as one:
            await eventually(one.manager.dials)
            assert "handshake_malformed" in one.manager.dials()[0].last_error
            assert one.owner.joined_keys == []

    async def test_another_key_in_the_looked_for_nodes_place_is_refused(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A member with a key of its own, at an address that the looked for node announced once."""
        caplog.set_level(logging.INFO)
        async with running(tmp_path, 66) as mallory, running(tmp_path, 1, outbound_target=0) as one:
            one.manager.book.learn(
                announce(seeded(2), CHAIN_ID, 1, [mallory.url]), 1_800_000_000, from_loopback=True
            )
        async with (
            running(tmp_path, 66, listen_port=mallory_port(one)) as mallory,
            running(tmp_path, 1) as one,
        ):
            await eventually(one.manager.dials)
            assert "this node refuses" in one.manager.dials()[0].last_error
            assert "wrong_node" in one.manager.dials()[0].last_error
            await eventually(lambda: "refuses this node: wrong_node" in caplog.text)
            assert one.owner.joined_keys == mallory.owner.joined_keys == []

    async def test_a_man_in_the_middle_cannot_pass_on_the_true_nodes_proof(self, tmp_path: Path) -> None:
        """He exchanges keys of his own with both sides: the proof is bound to the other exchange."""
        async with running(tmp_path, 2) as two:

            async def middle(socket: web.WebSocketResponse) -> None:
                async with ClientSession() as client, client.ws_connect(two.url) as other:
                    stolen = await steal_proof(other)
                    await socket.send_bytes(_Showing(stolen).opening(await socket.receive_bytes()))
                    await socket.receive()

            async with Impostor(middle) as mallory, running(tmp_path, 1, bootstrap=(mallory.place,)) as one:
                await eventually(one.manager.dials)
                assert "handshake_forged" in one.manager.dials()[0].last_error
                assert one.owner.joined_keys == []

    async def test_altered_frames_end_the_link_with_a_short_ban_alone(self, tmp_path: Path) -> None:
        """Somebody on the way flips a bit: the honest peer is soon back."""

        def flip(from_caller: bool, number: int, data: bytes) -> bytes:
            return bytes((data[0] ^ 1,)) + data[1:] if from_caller and number == 2 else data

        async with (
            running(tmp_path, 1) as one,
            Relay(one.place, flip) as relay,
            running(tmp_path, 2, bootstrap=(relay.place,)) as two,
        ):
            await one.owner.until(lambda: one.owner.endings)
            assert (one.owner.last_ending.code, one.owner.last_ending.ban_s) == ("frame_forged", 60)
            await eventually(two.manager.dials)

    async def test_a_version_cannot_be_talked_down_on_the_way(self, tmp_path: Path) -> None:
        def talk_down(from_caller: bool, number: int, data: bytes) -> bytes:
            if not from_caller or number:
                return data
            opening = msgspec.msgpack.decode(data)
            opening[1] = 0
            opening[2] -= 1
            return msgspec.msgpack.encode(opening)

        def at_two_versions(number: int) -> LocalNode:
            return LocalNode(seeded(number), CHAIN_ID, "energy-ledger/test", versions=(0, 1))

        async with (
            running(tmp_path, 1, local=at_two_versions(1)) as one,
            Relay(one.place, talk_down) as relay,
            running(tmp_path, 2, local=at_two_versions(2), bootstrap=(relay.place,)) as two,
        ):
            await eventually(two.manager.dials)
            assert "handshake_forged" in two.manager.dials()[0].last_error
            assert one.owner.joined_keys == []

    @hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.lists(st.binary(max_size=300), min_size=1, max_size=3))
    def test_no_callers_words_break_the_node(
        self, tmp_path_factory: pytest.TempPathFactory, data: list[bytes]
    ) -> None:
        """Any messages in place of a handshake: the caller is sent away, the node lives."""

        async def call() -> None:
            async with running(tmp_path_factory.mktemp("n"), 1) as one:
                async with ClientSession() as client, client.ws_connect(one.url) as caller:
                    for each in data:
                        await caller.send_bytes(each)
                    assert (await caller.receive(PATIENCE_S)).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
                async with raw_peer(one, 2):
                    pass

        with asyncio.Runner() as runner:
            runner.run(call())


def mallory_port(node: Node) -> int:
    """Give the port that a node's book has for the looked for node."""
    return node.manager.book.locations(seeded(2).public_key)[0].port


class _Showing(Responder):
    """A responder that shows a proof that is not its own."""

    def __init__(self, proof: bytes) -> None:
        super().__init__(local_node(seeded(66)))
        self._proof = proof

    def _prove(self, bearer: Bearer | None = None) -> bytes:
        return self._proof


async def steal_proof(node: Any) -> bytes:
    """Call a node, and open its proof with the keys that were exchanged."""
    caller = Initiator(local_node(seeded(66)))
    await node.send_bytes(caller.opening())
    answer = msgspec.msgpack.decode(await node.receive_bytes())
    caller._version = answer[1]
    caller._hear(answer[1].to_bytes(2), answer[2], answer[3])
    return Opener(caller._agree(answer[3]).from_responder).open(answer[4], caller._said)


type Misdeed = Callable[[RawPeer], Awaitable[None]]


async def _start(peer: RawPeer, lane: int, kind: int, total: int, chunk: bytes) -> None:
    await peer.send_plain(bytes((FrameType.START, lane, kind)) + total.to_bytes(4) + chunk)


async def forged(peer: RawPeer) -> None:
    await peer.websocket.send_bytes(b"never sealed")


async def truncated(peer: RawPeer) -> None:
    await peer.websocket.send_bytes(peer.session.sealer.seal(b"whole")[:-3])


async def repeated(peer: RawPeer) -> None:
    sealed = peer.session.sealer.seal(ping_frame(b"12345678"))
    await peer.websocket.send_bytes(sealed)
    await peer.websocket.send_bytes(sealed)


async def malformed(peer: RawPeer) -> None:
    await peer.send_plain(b"\xff what is this")


async def unknown_kind(peer: RawPeer) -> None:
    await peer.send_message(200, b"news")


async def empty(peer: RawPeer) -> None:
    await _start(peer, 0, NOTE, 0, b"")


async def wrong_lane(peer: RawPeer) -> None:
    await peer.send_message(NOTE, b"note", Lane.BULK)


async def crumbs(peer: RawPeer) -> None:
    """A large message in tiny chunks would cost a frame each."""
    await _start(peer, 1, BLOCK, MAX_MESSAGE_BYTES, b"x")


async def oversized(peer: RawPeer) -> None:
    await _start(peer, 0, NOTE, 4097, bytes(4097))


async def vast(peer: RawPeer) -> None:
    """More than any message: refused by its announced length, before the rest comes."""
    await _start(peer, 1, BLOCK, 2**32 - 1, bytes(CHUNK_BYTES))


async def oversized_frame(peer: RawPeer) -> None:
    await peer.websocket.send_bytes(bytes(10**6))


async def text(peer: RawPeer) -> None:
    await peer.websocket.send_str("hello")


async def flood(peer: RawPeer) -> None:
    for _ in range(2000):
        await peer.send_message(RARE, b"r")


async def heavy_flood(peer: RawPeer) -> None:
    for _ in range(20):
        await peer.send_message(RARE, bytes(100_000))


async def ping_flood(peer: RawPeer) -> None:
    for _ in range(2000):
        await peer.send_plain(ping_frame(b"12345678"))


async def websocket_ping_flood(peer: RawPeer) -> None:
    for _ in range(200):
        await peer.websocket.ping(b"x" * 100)


async def forged_addresses(peer: RawPeer) -> None:
    foreign = announce(seeded(9), b"\x09" * 32, 1, ["ws://10.0.0.1:1/peer"])
    await peer.send_plain(addresses_frame(encode_announcements([foreign])))


async def nonsense_addresses(peer: RawPeer) -> None:
    await peer.send_plain(addresses_frame(b"\x91\x01"))


@pytest.mark.parametrize(
    ("misdeed", "code"),
    [
        (forged, "frame_forged"),
        (truncated, "frame_forged"),
        (repeated, "frame_forged"),
        (malformed, "frame_malformed"),
        (unknown_kind, "frame_malformed"),
        (empty, "frame_malformed"),
        (wrong_lane, "frame_malformed"),
        (crumbs, "frame_malformed"),
        (oversized, "oversized"),
        (vast, "oversized"),
        (oversized_frame, "oversized"),
        (text, "frame_malformed"),
        (flood, "flooding"),
        (heavy_flood, "flooding"),
        (ping_flood, "flooding"),
        (websocket_ping_flood, "flooding"),
        (forged_addresses, "message_malformed"),
        (nonsense_addresses, "frame_malformed"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_a_misdeed_ends_the_link_and_bans_the_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, misdeed: Misdeed, code: str
) -> None:
    """The link ends with its code, the log says so, the key is banned for its time; others are served on."""
    caplog.set_level(logging.INFO)
    async with running(tmp_path, 1, silent_s=4.0) as one:
        async with raw_peer(one, 66) as mallory, raw_peer(one, 2) as honest:
            with suppress(ConnectionError):
                await misdeed(mallory)
            await one.owner.until(lambda: one.owner.endings)
            assert one.owner.endings[0][0] == mallory.key
            assert (one.owner.last_ending.code, one.owner.last_ending.ban_s) == (code, BAN_SECONDS[code])
            (ban,) = one.manager.bans()
            assert (ban.key, ban.code) == (mallory.key, code)
            assert f"{code}:" in caplog.text
            assert f"banned for {BAN_SECONDS[code]} s" in caplog.text
            await honest.send_message(NOTE, b"still here")
            await one.owner.until(lambda: one.owner.messages)
        async with running(tmp_path, 66, bootstrap=(one.place,)) as again:
            await eventually(again.manager.dials)
            assert f"({code})" in again.manager.dials()[0].last_error


async def test_the_misbehaving_peer_is_told_why(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as one, raw_peer(one, 66) as mallory:
        await malformed(mallory)
        last = [frame async for frame in mallory.frames()][-1]
        assert isinstance(last, Close)
        assert (last.code, last.reason) == (
            "frame_malformed",
            "a frame is malformed: its type 255 is unknown",
        )


async def test_a_slow_message_is_not_waited_for(tmp_path: Path) -> None:
    """Frame by frame, each in time, but the message as a whole is not: the pings between do not help."""
    async with running(tmp_path, 1) as one, raw_peer(one, 66) as mallory:
        frames = message_frames(Lane.URGENT, RARE, bytes(100_000))
        await mallory.send_plain(next(frames))
        while not one.owner.endings:
            await mallory.send_plain(ping_frame(b"12345678"))
            await asyncio.sleep(0.1)
        assert (one.owner.last_ending.code, one.owner.last_ending.ban_s) == ("slow", BAN_SECONDS["slow"])


@pytest.mark.parametrize("dribble", [b"", b"\x82\xfe"])
async def test_a_peer_that_falls_silent_is_dropped(tmp_path: Path, dribble: bytes) -> None:
    """Also one that begins a WebSocket message and sends its header byte by byte."""
    async with running(tmp_path, 1, silent_s=0.6, keepalive_s=0.2) as one, raw_peer(one, 66) as mallory:
        transport = mallory.websocket._writer.transport
        for byte in dribble:
            transport.write(bytes((byte,)))
            await asyncio.sleep(0.1)
        await one.owner.until(lambda: one.owner.endings)
        assert one.owner.last_ending.code == "silent"
        pings = [frame async for frame in mallory.frames() if isinstance(frame, Ping)]
        assert len(pings) >= 2


async def test_a_peer_that_reads_nothing_is_dropped_and_costs_little(tmp_path: Path) -> None:
    """What waits for it stays within the outbox, and is given back."""
    async with (
        running(tmp_path, 1, outbox_bytes=2**22) as one,
        raw_peer(one, 66, receive_buffer=4096) as mallory,
    ):
        sent = 0
        while one.manager.send(mallory.key, BLOCK, os.urandom(2**20)):
            sent += 1
            assert one.manager.peers()[0].waiting_bytes <= 2**22
            await asyncio.sleep(0.01)
        assert sent < 40
        await one.owner.until(lambda: one.owner.endings)
        assert one.owner.last_ending.code == "slow_reader"
        assert one.manager._carrier._bounds.budget.used == 0


async def test_a_socket_that_takes_nothing_for_long_is_dropped(tmp_path: Path) -> None:
    """The peer sends, so it is not silent; it reads nothing, so nothing leaves."""
    async with (
        running(tmp_path, 1, silent_s=1.0, keepalive_s=0.4) as one,
        raw_peer(one, 66, receive_buffer=4096) as mallory,
    ):
        one.manager.send(mallory.key, BLOCK, bytes(MAX_MESSAGE_BYTES))
        one.manager.send(mallory.key, BLOCK, bytes(MAX_MESSAGE_BYTES))
        one.manager.send(mallory.key, BLOCK, bytes(MAX_MESSAGE_BYTES))
        while not one.owner.endings:
            await mallory.send_plain(ping_frame(b"12345678"))
            await asyncio.sleep(0.1)
        assert one.owner.last_ending.code == "slow_reader"


async def test_announced_bytes_cost_no_memory_before_they_come(tmp_path: Path) -> None:
    """Many peers that announce the largest message, and send its first chunk alone."""
    async with running(tmp_path, 1, max_inbound=40) as one, raw_peer(one, 100) as first:
        await _start(first, 1, BLOCK, MAX_MESSAGE_BYTES, bytes(CHUNK_BYTES))
        await first.send_message(NOTE, b"x")
        await one.owner.until(lambda: one.owner.messages)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            await call_many(one, 12)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 12 * MAX_MESSAGE_BYTES / 4


async def call_many(node: Node, number: int) -> None:
    async def announce_much(each: int) -> None:
        async with raw_peer(node, 200 + each) as peer:
            await _start(peer, 1, BLOCK, MAX_MESSAGE_BYTES, bytes(CHUNK_BYTES))
            await peer.send_message(NOTE, b"%d" % each)
            await node.owner.until(lambda: len(node.owner.messages) == number + 1)

    await asyncio.gather(*(announce_much(each) for each in range(number)))


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


async def test_the_event_loop_stays_free_under_a_flood_of_allowed_messages(tmp_path: Path) -> None:
    """While two peers send all they may, others on the loop get their turn after some frames of each."""
    async with (
        running(tmp_path, 1) as one,
        running(tmp_path, 2, bootstrap=(one.place,)) as two,
        running(tmp_path, 3, bootstrap=(one.place,)) as three,
    ):
        await linked(one, two, three)
        for node in (two, three):
            for _ in range(1000):
                node.manager.send(one.key, NOTE, bytes(500))
            node.manager.send(one.key, BLOCK, bytes(MAX_MESSAGE_BYTES))
        between_turns, seen = [], 0
        async with asyncio.timeout(PATIENCE_S):
            while seen < 2002:
                await asyncio.sleep(0)
                between_turns.append(len(one.owner.messages) - seen)
                seen = len(one.owner.messages)
        assert max(between_turns) <= 32


def test_every_misdeed_has_its_ban() -> None:
    misdeeds = {
        "frame_forged",
        "frame_malformed",
        "message_malformed",
        "oversized",
        "flooding",
        "slow",
        "silent",
    }
    assert misdeeds | {"slow_reader"} == set(BAN_SECONDS)


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
