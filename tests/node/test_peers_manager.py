"""Nodes that find, link and keep each other, on real sockets."""

import asyncio
import logging
import socket
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web

from ledger_core.errors import LedgerError
from ledger_core.node.peers import BAN_SECONDS, Bearer, PeerError, PeerManager, PeerSettings, parse_location
from ledger_core.node.peers.announcement import announce
from ledger_core.node.peers.frames import MAX_MESSAGE_BYTES
from ledger_core.node.peers.handshake import RemoteNode
from ledger_core.records.codec import invite
from tests.node.peer_world import (
    BLOCK,
    CHAIN_ID,
    LIMITS,
    NOTE,
    RARE,
    Everybody,
    Members,
    Owner,
    eventually,
    linked,
    local_node,
    raw_peer,
    running,
    seeded,
)


async def test_two_nodes_link_and_carry_messages_both_ways(tmp_path: Path) -> None:
    """A note and the largest message there may be, in both directions; then nothing is left running."""
    async with running(tmp_path, 1) as one, running(tmp_path, 2, bootstrap=(one.place,)) as two:
        await linked(one, two)
        big = bytes(range(256)) * (MAX_MESSAGE_BYTES // 256)
        assert one.manager.send(two.key, NOTE, b"hello")
        assert two.manager.send(one.key, NOTE, b"good day")
        assert two.manager.send(one.key, BLOCK, big)
        await one.owner.until(lambda: len(one.owner.messages) == 2)
        await two.owner.until(lambda: two.owner.messages)
        assert two.owner.messages == [(one.key, NOTE, b"hello")]
        assert sorted(one.owner.messages) == [(two.key, NOTE, b"good day"), (two.key, BLOCK, big)]
        assert not one.manager.send(seeded(9).public_key, NOTE, b"nobody")
        with pytest.raises(ValueError, match="limits"):
            one.manager.send(two.key, 77, b"unknown kind")
    assert one.owner.codes() == two.owner.codes() == ["shutdown"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_status_tells_what_there_is(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as one, running(tmp_path, 2, bootstrap=(one.place, "127.0.0.1:1")) as two:
        await linked(one, two)
        two.manager.send(one.key, NOTE, b"x")
        await one.owner.until(lambda: one.owner.messages)
        (peer,) = one.manager.peers()
        assert (peer.remote, peer.inbound) == (RemoteNode(two.key, 1, "energy-ledger/test"), True)
        assert peer.traffic.messages_in == 1
        assert peer.traffic.bytes_in > 0
        (other,) = two.manager.peers()
        assert (other.inbound, other.address) == (False, one.url)
        await eventually(lambda: two.manager.peers()[0].traffic.round_trip_s is not None)
        await eventually(two.manager.dials)
        (dial,) = two.manager.dials()
        assert (dial.key, dial.location) == (None, "ws://127.0.0.1:1/peer")
        assert dial.failures > 0
        assert "unreachable" in dial.last_error


class TestOneLinkPerKey:
    """However many dials cross."""

    async def test_dials_that_cross_leave_one_link(self, tmp_path: Path) -> None:
        """Each knows the other's address before both start."""
        places = [f"127.0.0.1:{port}" for port in free_ports(2)]
        ports = [int(place.rpartition(":")[2]) for place in places]
        async with (
            running(tmp_path, 1, listen_port=ports[0], bootstrap=(places[1],)) as one,
            running(tmp_path, 2, listen_port=ports[1], bootstrap=(places[0],)) as two,
        ):
            await linked(one, two)
            # However it began, it comes to rest: both sides agree on one link, and it carries messages.
            for number in range(20):
                await linked(one, two)
                payload = b"%d" % number
                one.manager.send(two.key, NOTE, payload)
                await asyncio.sleep(0.02)
            await two.owner.until(lambda: two.owner.messages and two.owner.messages[-1][2] == b"19")
            assert [peer.inbound for peer in one.manager.peers()] == [
                not peer.inbound for peer in two.manager.peers()
            ]
            assert len(one.owner.joined_keys) <= 3

    async def test_a_node_that_dials_anew_takes_the_place_of_its_earlier_link(self, tmp_path: Path) -> None:
        """As after a crash that the other side has not noticed: `left` comes before `joined`."""
        async with running(tmp_path, 1) as one, raw_peer(one, 2) as first:
            async with raw_peer(one, 2) as second:
                await one.owner.until(lambda: len(one.owner.joined_keys) == 2)
                assert one.owner.codes() == ["replaced"]
                assert len(one.manager.peers()) == 1
                await second.send_message(NOTE, b"it is me")
                await one.owner.until(lambda: one.owner.messages)
            codes = [frame async for frame in first.frames()][-1]
            assert codes.code == "replaced"  # type: ignore[union-attr]

    async def test_a_linked_node_is_not_dialled(self, tmp_path: Path) -> None:
        """Its address becomes known by gossip; the link that it dialled stays."""
        (port,) = free_ports(1)
        async with (
            running(tmp_path, 1) as one,
            running(
                tmp_path, 2, bootstrap=(one.place,), listen_port=port, advertise=(f"127.0.0.1:{port}",)
            ) as two,
        ):
            await linked(one, two)
            await eventually(lambda: one.manager.book.locations(two.key))
            one.manager.add_location(two.place)
            await eventually(one.manager.dials)
            assert "this node refuses" in one.manager.dials()[0].last_error
            assert "duplicate" in one.manager.dials()[0].last_error
            assert one.owner.endings == two.owner.endings == []


def free_ports(number: int) -> list[int]:
    """Give ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


async def test_a_lost_node_is_dialled_again(tmp_path: Path) -> None:
    """With a waiting time in between, and at the same place."""
    async with running(tmp_path, 1) as one:
        port = one.manager.port
        async with running(tmp_path, 2, bootstrap=(one.place,)) as two:
            await linked(one, two)
            await one.manager.close()
            await two.owner.until(lambda: not two.owner.knows(one.key))
            await eventually(lambda: two.manager.dials() and two.manager.dials()[0].failures > 1)
            async with running(tmp_path, 1, listen_port=port) as again:
                await linked(again, two)


class TestGossip:
    """Where nodes are gets around."""

    async def test_nodes_find_each_other_through_one_they_know(self, tmp_path: Path) -> None:
        """Three nodes know the first one's address alone; in the end each is linked with all."""
        ports = free_ports(3)
        places = [f"127.0.0.1:{port}" for port in ports]
        async with (
            running(tmp_path, 1, listen_port=ports[0], advertise=(places[0],)) as one,
            running(tmp_path, 2, listen_port=ports[1], advertise=(places[1],), bootstrap=(places[0],)) as two,
            running(
                tmp_path, 3, listen_port=ports[2], advertise=(places[2],), bootstrap=(places[0],)
            ) as three,
        ):
            await linked(one, two, three)
            await linked(two, three)

    async def test_a_node_without_an_address_takes_part_through_those_that_have_one(
        self, tmp_path: Path
    ) -> None:
        """It listens nowhere; it is reached over the links that it dialled, to nodes that it heard of."""
        ports = free_ports(2)
        places = [f"127.0.0.1:{port}" for port in ports]
        async with (
            running(tmp_path, 1, listen_port=ports[0], advertise=(places[0],)) as one,
            running(tmp_path, 2, listen_port=ports[1], advertise=(places[1],), bootstrap=(places[0],)) as two,
            running(tmp_path, 3, listen_host=None, bootstrap=(places[0],)) as hidden,
        ):
            await linked(hidden, one, two)
            assert hidden.manager.port == 0
            assert all(not peer.inbound for peer in hidden.manager.peers())
            one.manager.send(hidden.key, NOTE, b"can you hear me")
            await hidden.owner.until(lambda: hidden.owner.messages)
            assert one.manager.book.locations(hidden.key) == ()

    async def test_a_changed_address_gets_around_and_comes_back_after_a_restart(self, tmp_path: Path) -> None:
        async with (
            running(tmp_path, 1, outbound_target=0) as one,
            running(tmp_path, 2, bootstrap=(one.place,)) as two,
            running(tmp_path, 3, bootstrap=(one.place,), outbound_target=0) as three,
        ):
            await linked(one, two, three)
            two.manager.advertise([parse_location("192.168.1.7:99")])
            for node in (one, three):
                await eventually(lambda node=node: node.manager.book.locations(two.key))  # type: ignore[misc]
        async with running(tmp_path, 3, outbound_target=0) as three:
            assert three.manager.book.locations(two.key) == (parse_location("192.168.1.7:99"),)

    async def test_samples_are_told_now_and_then(self, tmp_path: Path) -> None:
        """What is learned later reaches those that were linked before; strangers' addresses do not."""
        members = Members(seeded(1).public_key, seeded(2).public_key, seeded(3).public_key)
        async with (
            running(tmp_path, 1, members, gossip_every_s=0.05, announce_every_s=1.0) as one,
            running(tmp_path, 2, members, bootstrap=(one.place,), outbound_target=0) as two,
        ):
            await linked(one, two)
            for number in (3, 4):
                one.manager.book.learn(
                    announce(seeded(number), CHAIN_ID, 5, ["ws://10.0.0.1:1/peer"]), 1_800_000_000
                )
            await eventually(lambda: two.manager.book.locations(seeded(3).public_key))
            assert not two.manager.book.locations(seeded(4).public_key)
            await eventually(lambda: not one.manager.book.locations(seeded(4).public_key))


class TestAdmission:
    """The policy decides; both sides are told, and say so in their logs."""

    @pytest.mark.parametrize(
        ("refused", "code", "why"),
        [
            ("stranger", "stranger", "belongs to no member"),
            ("revoked", "revoked", "roles were revoked"),
            ("foreign", "wrong_chain", "genesis must be the same"),
            ("outdated", "protocol_version", "update the older one"),
        ],
    )
    async def test_who_may_not_in_is_told_why_on_both_sides(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, refused: str, code: str, why: str
    ) -> None:
        caplog.set_level(logging.INFO)
        members = Members(seeded(1).public_key, seeded(2).public_key)
        local = local_node(seeded(2))
        match refused:
            case "stranger":
                members.keys.discard(seeded(2).public_key)
            case "revoked":
                members.revoked.add(seeded(2).public_key)
            case "foreign":
                local = local_node(seeded(2), b"\xee" * 32)
            case _:
                local = type(local)(local.signer, CHAIN_ID, local.software, versions=(7, 9))
        async with (
            running(tmp_path, 1, members) as one,
            running(tmp_path, 2, Everybody(), local=local, bootstrap=(one.place,)) as two,
        ):
            await eventually(two.manager.dials)
            assert f"refuses this node: {code}" in two.manager.dials()[0].last_error
            assert one.owner.joined_keys == two.owner.joined_keys == []
        lines = [record.getMessage() for record in caplog.records if f"{code}:" in record.getMessage()]
        assert any(line.startswith("this node refuses") and why in line for line in lines)
        assert any("refuses this node" in line and why in line for line in lines)

    async def test_the_side_that_dials_asks_its_policy_too(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        async with (
            running(tmp_path, 1) as one,
            running(tmp_path, 2, Members(), bootstrap=(one.place,)) as two,
        ):
            await eventually(two.manager.dials)
            assert "this node refuses" in two.manager.dials()[0].last_error
            await eventually(lambda: "refuses this node: stranger" in caplog.text)

    async def test_an_invitation_lets_a_newcomer_in(self, tmp_path: Path) -> None:
        once = seeded(50)
        invitation = invite(CHAIN_ID, seeded(51), once.public_key, 3, 2_000_000_000)
        members = Members(seeded(1).public_key)
        members.invitations.add(once.public_key)
        bearer = Bearer(invitation, once)
        async with (
            running(tmp_path, 1, members, max_guests=1) as one,
            running(tmp_path, 2, bearer=bearer, bootstrap=(one.place,)) as two,
        ):
            await linked(one, two)
            assert one.owner.remotes[two.key].invitation == invitation
            async with running(tmp_path, 3, bearer=bearer, bootstrap=(one.place,)) as three:
                await eventually(three.manager.dials)
                assert "full" in three.manager.dials()[0].last_error
            # The newcomer has joined: the invitation is used, the link stays, the next one is a member's.
            members.keys.add(two.key)
            members.invitations.clear()
            one.manager.recheck()
            two.manager.show_invitation(None)
            assert one.owner.endings == []
            one.manager.drop(two.key, "test", "to see it come back")
            await one.owner.until(lambda: len(one.owner.joined_keys) == 2)
            assert one.owner.remotes[two.key].invitation is None

    async def test_who_is_revoked_is_dropped(self, tmp_path: Path) -> None:
        members = Members(seeded(1).public_key, seeded(2).public_key)
        async with running(tmp_path, 1, members) as one, running(tmp_path, 2, bootstrap=(one.place,)) as two:
            await linked(one, two)
            members.revoked.add(two.key)
            one.manager.recheck()
            await two.owner.until(lambda: two.owner.endings)
            assert (two.owner.last_ending.code, two.owner.last_ending.by_peer) == ("revoked", True)
            await one.owner.until(lambda: one.owner.endings)
            assert one.owner.codes() == ["revoked"]

    async def test_places_for_callers_are_bounded(self, tmp_path: Path) -> None:
        async with (
            running(tmp_path, 1, max_inbound=1) as one,
            running(tmp_path, 2, bootstrap=(one.place,)) as two,
        ):
            await linked(one, two)
            async with running(tmp_path, 3, bootstrap=(one.place,)) as three:
                await eventually(three.manager.dials)
                assert "full: all places" in three.manager.dials()[0].last_error


class TestDropsAndBans:
    """The owner may drop and ban; bans outlive the process."""

    async def test_a_dropped_peer_is_told_why_and_may_come_back(self, tmp_path: Path) -> None:
        async with running(tmp_path, 1) as one, running(tmp_path, 2, bootstrap=(one.place,)) as two:
            await linked(one, two)
            one.manager.drop(two.key, "useless", "it knows nothing")
            await two.owner.until(lambda: two.owner.endings)
            assert (two.owner.last_ending.code, two.owner.last_ending.reason) == (
                "useless",
                "it knows nothing",
            )
            await two.owner.until(lambda: len(two.owner.joined_keys) == 2)

    async def test_a_ban_outlives_a_restart_and_ends(self, tmp_path: Path) -> None:
        now = [1_800_000_000.0]
        async with (
            running(tmp_path, 1, clock=lambda: now[0]) as one,
            running(tmp_path, 2, bootstrap=(one.place,)) as two,
        ):
            await linked(one, two)
            one.manager.drop(two.key, "liar", "it made up work", ban_s=600)
            one.manager.drop(seeded(3).public_key, "liar", "not even linked", ban_s=30)
            await eventually(lambda: two.manager.dials() and "banned" in two.manager.dials()[0].last_error)
        now[0] += 100
        async with running(tmp_path, 1, clock=lambda: now[0]) as one:
            assert [(ban.key, ban.code) for ban in one.manager.bans()] == [(two.key, "liar")]
            async with running(tmp_path, 2, bootstrap=(one.place,)) as two:
                await eventually(two.manager.dials)
                assert "banned for another 500 s (liar)" in two.manager.dials()[0].last_error
                now[0] += 500
                await linked(one, two)
                assert not one.manager.lift_ban(seeded(3).public_key)
                assert one.manager.lift_ban(two.key)

    async def test_a_message_that_the_owner_refuses_is_misbehaviour(self, tmp_path: Path) -> None:
        async def refuse(_key: bytes, _kind: int, _payload: bytes) -> None:
            raise LedgerError("message_not_canonical", "the message does not re-encode to the same bytes")

        async with running(tmp_path, 1) as one, running(tmp_path, 2, bootstrap=(one.place,)) as two:
            await linked(one, two)
            one.owner.handler = refuse
            two.manager.send(one.key, NOTE, b"?")
            await one.owner.until(lambda: one.owner.endings)
            assert one.owner.last_ending.code == "message_malformed"
            assert one.owner.last_ending.ban_s == BAN_SECONDS["message_malformed"]
            assert one.owner.messages == []

    async def test_the_owners_own_mistake_ends_the_link_without_a_ban(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def fail(_key: bytes, _kind: int, _payload: bytes) -> None:
            raise RuntimeError("a bug")

        async with running(tmp_path, 1) as one, running(tmp_path, 2, bootstrap=(one.place,)) as two:
            await linked(one, two)
            one.owner.handler = fail
            two.manager.send(one.key, NOTE, b"?")
            await one.owner.until(lambda: one.owner.endings)
            assert one.owner.last_ending.code == "internal_error"
            assert one.manager.bans() == []
            assert "a bug" in caplog.text
            one.owner.handler = None
            await one.owner.until(lambda: len(one.owner.joined_keys) == 2)

    @pytest.mark.parametrize("side", [1, 2])
    async def test_an_owner_that_fails_at_the_start_ends_the_link(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, side: int
    ) -> None:
        """On either side; nothing is left of it, and the next try may do better."""
        failures = [0]

        async def fail_once(self: Owner, remote: RemoteNode, *, inbound: bool) -> None:
            if not failures[0]:
                failures[0] += 1
                raise RuntimeError("not ready")
            self.joined_keys.append(remote.key)
            self.remotes[remote.key] = remote
            self._changed.set()

        async with running(tmp_path, 1) as one, running(tmp_path, 2) as two:
            owner = (one, two)[side - 1].owner
            owner.__dict__["joined"] = fail_once.__get__(owner)
            two.manager.add_location(one.place)
            await eventually(lambda: failures[0])
            await linked(one, two)
            assert "not ready" in caplog.text


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


async def test_the_pace_is_kept_so_that_nobody_is_taken_for_a_flood(tmp_path: Path) -> None:
    """More than the limits allow at once is queued: it leaves later, and other kinds do not wait for it."""
    async with running(tmp_path, 1) as one, running(tmp_path, 2, bootstrap=(one.place,)) as two:
        await linked(one, two)
        for number in range(4):
            assert two.manager.send(one.key, RARE, b"rare %d" % number)
        for number in range(600):
            assert two.manager.send(one.key, NOTE, b"%d" % number)
        await one.owner.until(lambda: len(one.owner.messages) == 604)
        notes = [payload for _, kind, payload in one.owner.messages if kind == NOTE]
        assert notes == [b"%d" % number for number in range(600)]
        assert one.owner.endings == []


async def test_a_busy_owner_holds_its_peers_back(tmp_path: Path) -> None:
    """While a message is worked on, no further one is taken in; afterwards all arrive."""
    gate = asyncio.Event()

    async def wait(_key: bytes, _kind: int, _payload: bytes) -> None:
        await gate.wait()

    async with running(tmp_path, 1) as one, running(tmp_path, 2, bootstrap=(one.place,)) as two:
        await linked(one, two)
        one.owner.handler = wait
        for _ in range(3):
            two.manager.send(one.key, BLOCK, bytes(MAX_MESSAGE_BYTES))
        await eventually(lambda: one.manager.peers()[0].traffic.messages_in == 1)
        await eventually(lambda: two.manager.peers()[0].waiting_bytes > 0)
        before = one.manager.peers()[0].traffic.bytes_in
        await asyncio.sleep(0.2)
        assert one.manager.peers()[0].traffic.bytes_in == before
        gate.set()
        await one.owner.until(lambda: len(one.owner.messages) == 3)


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
