"""Hostile peers and networks, on real sockets: the honest node refuses, bans, stays small and responsive."""

import asyncio
import logging
import os
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ledger_core.node.peers import BAN_SECONDS
from ledger_core.node.peers.announcement import announce, encode_announcements
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
from tests.node.peer_world import (
    BLOCK,
    NOTE,
    PATIENCE_S,
    RARE,
    Node,
    RawPeer,
    eventually,
    linked,
    raw_peer,
    running,
    seeded,
)

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
    async with running(tmp_path, 1) as one:
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
    async with running(tmp_path, 1, silent_s=0.6, keepalive_s=0.15) as one, raw_peer(one, 66) as mallory:
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
        running(tmp_path, 1, silent_s=1.0, keepalive_s=0.3) as one,
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
