"""The handshake on real sockets, with somebody on the way or in a node's place."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, WSMsgType, web
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ledger_core.node.peers import Bearer, LocalNode
from ledger_core.node.peers.announcement import announce
from ledger_core.node.peers.cipher import Opener
from ledger_core.node.peers.handshake import Initiator, Responder
from tests.node.peer_relay import Impostor, Relay
from tests.node.peer_world import (
    CHAIN_ID,
    PATIENCE_S,
    Node,
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
