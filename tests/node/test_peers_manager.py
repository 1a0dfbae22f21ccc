"""Nodes that find, link and keep each other, on real sockets."""

import asyncio
import logging
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ledger_core.errors import LedgerError
from ledger_core.node.peers import BAN_SECONDS, Bearer, parse_location
from ledger_core.node.peers.announcement import announce
from ledger_core.node.peers.frames import MAX_MESSAGE_BYTES, Start
from ledger_core.node.peers.handshake import RemoteNode
from ledger_core.records.codec import invite
from tests.node.peer_world import (
    BLOCK,
    CHAIN_ID,
    NOTE,
    RARE,
    Everybody,
    Members,
    Node,
    Owner,
    eventually,
    free_ports,
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


async def _first_message(node: Node) -> bytes:
    """Link node 2 by hand, and give the first message that it gets."""
    async with raw_peer(node, 2) as peer:
        async for frame in peer.frames():
            if isinstance(frame, Start):
                return frame.chunk
    return b""


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

    async def test_nothing_meant_for_a_replaced_link_goes_out_on_the_next(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The owner still prepares its greeting for the first link when the second takes its place."""
        async with running(tmp_path, 1) as one:
            greeting, prepared = asyncio.Event(), asyncio.Event()
            numbers = iter((b"first", b"second"))

            async def joined(remote: RemoteNode, *, inbound: bool) -> None:
                payload = next(numbers)
                one.owner.remotes[remote.key] = remote
                greeting.set()
                await prepared.wait()
                one.manager.send(remote.key, NOTE, payload)

            monkeypatch.setattr(one.owner, "joined", joined)
            first = asyncio.create_task(_first_message(one))
            await greeting.wait()
            before = one.manager._registry.find(seeded(2).public_key)
            second = asyncio.create_task(_first_message(one))
            await eventually(lambda: one.manager._registry.find(seeded(2).public_key) is not before)
            prepared.set()
            assert await second == b"second"
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

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

    async def test_a_node_announces_itself_anew_from_time_to_time(self, tmp_path: Path) -> None:
        """So that others know that it is still there."""
        place = "192.168.1.7:99"
        async with (
            running(tmp_path, 1, advertise=(place,), gossip_every_s=0.05, announce_every_s=1.0) as one,
            running(tmp_path, 2, bootstrap=(one.place,), outbound_target=0) as two,
        ):
            await linked(one, two)

            def sequence() -> int:
                return max((each.sequence for each in two.manager.book.sample(9, Random(1))), default=0)

            await eventually(sequence)
            first = sequence()
            await eventually(lambda: sequence() > first)

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

    async def test_a_node_that_is_revoked_during_the_handshake_is_refused_by_the_last_word(
        self, tmp_path: Path
    ) -> None:
        """The side that dialled asks again when the handshake is done."""
        members = Members(seeded(1).public_key)
        admit, asked = members.admit, [0]

        def admit_once(node_key: bytes, invitation: Any) -> None:
            asked[0] += 1
            if asked[0] == 2:
                members.revoked.add(node_key)
            admit(node_key, invitation)

        members.__dict__["admit"] = admit_once
        async with running(tmp_path, 1) as one, running(tmp_path, 2, members, bootstrap=(one.place,)) as two:
            await one.owner.until(lambda: one.owner.endings)
            assert (one.owner.last_ending.code, one.owner.last_ending.by_peer) == ("revoked", True)
            assert two.owner.joined_keys == []

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
