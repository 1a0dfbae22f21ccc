"""Sealed frames, what is in them, and how much of it may come: without sockets."""

from collections import defaultdict
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_core.node.peers import KindLimit, Misbehaviour, PeerError
from ledger_core.node.peers.announcement import decode_announcements
from ledger_core.node.peers.assembler import Assembled, Assembler
from ledger_core.node.peers.cipher import TAG_BYTES, Opener, Sealer
from ledger_core.node.peers.frames import (
    CHUNK_BYTES,
    MAX_ANNOUNCEMENT_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_SEALED_FRAME_BYTES,
    Addresses,
    Close,
    Lane,
    More,
    Ping,
    Pong,
    Start,
    addresses_frame,
    close_frame,
    decode_frame,
    frame_count,
    message_frames,
    ping_frame,
    pong_frame,
)
from ledger_core.node.peers.limits import Allowance, Pace, TokenBucket
from ledger_core.node.peers.outbox import MAX_CONTROL_FRAMES, MAX_MESSAGES, Outbox, OutboxBudget
from tests.node.peer_world import BLOCK, LIMITS, NOTE, RARE

KEY = b"k" * 32


def code_of(error: pytest.ExceptionInfo[PeerError]) -> str:
    return error.value.code


class TestCipher:
    """The order, number and bytes of frames are sealed with them."""

    def test_frames_open_in_order(self) -> None:
        sealer, opener = Sealer(KEY), Opener(KEY)
        sealed = [sealer.seal(bytes([number]) * number) for number in range(20)]
        assert len(set(sealed)) == 20
        assert [opener.open(each) for each in sealed] == [bytes([number]) * number for number in range(20)]

    def test_keys_change_after_a_number_of_frames(self) -> None:
        """Both sides go on to the next key together; the frame before it does not open with it."""
        sealer, opener = Sealer(KEY, 3), Opener(KEY, 3)
        first = [sealer.seal(b"same") for _ in range(3)]
        second = [sealer.seal(b"same") for _ in range(3)]
        assert not set(first) & set(second)
        assert [opener.open(each) for each in first + second] == [b"same"] * 6
        with pytest.raises(Misbehaviour):
            opener.open(first[0])

    @pytest.mark.parametrize(("before", "wrong"), [([], 1), ([0], 0), ([0], 2)])
    def test_a_repeated_missing_or_early_frame_does_not_open(self, before: list[int], wrong: int) -> None:
        sealer, opener = Sealer(KEY), Opener(KEY)
        sealed = [sealer.seal(b"%d" % number) for number in range(3)]
        for number in before:
            opener.open(sealed[number])
        with pytest.raises(Misbehaviour) as error:
            opener.open(sealed[wrong])
        assert code_of(error) == "frame_forged"

    @given(st.binary(max_size=100))
    def test_no_bytes_break_it(self, data: bytes) -> None:
        with pytest.raises(Misbehaviour):
            Opener(KEY).open(data)


class TestFrames:
    """Frames decode to what they were made of, and nothing else decodes."""

    @given(st.binary(min_size=8, max_size=8))
    def test_tokens(self, token: bytes) -> None:
        assert decode_frame(ping_frame(token)) == Ping(token)
        assert decode_frame(pong_frame(token)) == Pong(token)

    def test_addresses_and_the_end(self) -> None:
        assert decode_frame(addresses_frame(b"abc")) == Addresses(b"abc")
        assert decode_frame(close_frame("code", "be\tcause")) == Close("code", "be?cause")

    @pytest.mark.parametrize("size", [1, 2, CHUNK_BYTES, CHUNK_BYTES + 1, MAX_MESSAGE_BYTES])
    def test_messages_come_together_again(self, size: int) -> None:
        payload = bytes(range(251)) * (size // 251 + 1)
        payload = payload[:size]
        frames = list(message_frames(Lane.BULK, 7, payload))
        assert len(frames) == frame_count(size)
        assert max(map(len, frames)) + TAG_BYTES <= MAX_SEALED_FRAME_BYTES
        assembler = Assembler()
        got = [assemble(assembler, frame) for frame in frames]
        assert got[-1] == Assembled(7, payload)
        assert got[:-1] == [None] * (len(frames) - 1)
        assert assembler.deadline() is None

    @pytest.mark.parametrize(
        "plaintext",
        [
            b"",
            b"\x00",
            b"\x63rest",
            b"\x01\x00\x01\x00\x00",
            b"\x01\x02\x01\x00\x00\x00\x01a",
            b"\x02",
            b"\x02\x00",
            b"\x02\x05abc",
            b"\x03short",
            b"\x04toolong12",
            b"\x05" + bytes(MAX_ANNOUNCEMENT_BYTES + 1),
            b"\x06\xff",
            b"\x06\x92\xa0\xa0",
        ],
        ids=lambda plaintext: f"{plaintext[:3].hex()}-{len(plaintext)}",
    )
    def test_malformed_frames_are_refused(self, plaintext: bytes) -> None:
        with pytest.raises(Misbehaviour) as error:
            decode_frame(plaintext)
        assert code_of(error) == "frame_malformed"

    @given(
        st.lists(
            st.binary(max_size=60)
            | st.builds(lambda a, b: bytes([a]) + b, st.integers(1, 6), st.binary(max_size=40)),
            max_size=8,
        )
    )
    def test_no_frames_break_the_reader(self, plaintexts: list[bytes]) -> None:
        """Decoder, assembler and allowance together: an exception of the family, or none."""
        assembler, allowance = Assembler(), Allowance(LIMITS, 0.0, 1.0)
        for number, plaintext in enumerate(plaintexts):
            try:
                frame = decode_frame(plaintext)
                if isinstance(frame, Start):
                    allowance.message(frame.kind, frame.total, float(number))
                    assembler.start(frame, 1.0)
                elif isinstance(frame, More):
                    assembler.more(frame)
                elif isinstance(frame, Addresses):
                    decode_announcements(frame.content)
            except Misbehaviour:
                return


def take(assembler: Assembler, frame: Start | More) -> Assembled | None:
    return assembler.start(frame, 5.0) if isinstance(frame, Start) else assembler.more(frame)


def assemble(assembler: Assembler, plaintext: bytes) -> Assembled | None:
    frame = decode_frame(plaintext)
    assert isinstance(frame, Start | More)
    return take(assembler, frame)


class TestAssembler:
    """Only whole chunks, in their order, one message per lane."""

    def test_both_lanes_may_be_under_way(self) -> None:
        assembler = Assembler()
        bulk = list(message_frames(Lane.BULK, 1, b"b" * (2 * CHUNK_BYTES)))
        urgent = list(message_frames(Lane.URGENT, 2, b"u" * (CHUNK_BYTES + 1)))
        assert assemble(assembler, bulk[0]) is None
        assert assembler.deadline() == 5.0
        assert assemble(assembler, urgent[0]) is None
        assert assemble(assembler, urgent[1]) == Assembled(2, b"u" * (CHUNK_BYTES + 1))
        assert assemble(assembler, bulk[1]) == Assembled(1, b"b" * (2 * CHUNK_BYTES))

    @pytest.mark.parametrize(
        "frames",
        [
            [More(Lane.URGENT, b"x")],
            [Start(Lane.URGENT, 1, CHUNK_BYTES + 9, bytes(CHUNK_BYTES)), Start(Lane.URGENT, 1, 1, b"x")],
            [Start(Lane.URGENT, 1, 9, b"short")],
            [Start(Lane.URGENT, 1, 2, b"longer")],
            [Start(Lane.URGENT, 1, CHUNK_BYTES + 9, bytes(CHUNK_BYTES)), More(Lane.URGENT, b"x")],
            [Start(Lane.URGENT, 1, CHUNK_BYTES + 1, bytes(CHUNK_BYTES)), More(Lane.URGENT, b"xy")],
            [Start(Lane.URGENT, 1, CHUNK_BYTES + 1, bytes(CHUNK_BYTES)), More(Lane.BULK, b"x")],
        ],
        ids=range(7),
    )
    def test_chunks_that_do_not_fit_are_refused(self, frames: list[Start | More]) -> None:
        """The last one, that is; those before it are fine."""
        assembler = Assembler()
        for frame in frames[:-1]:
            assert take(assembler, frame) is None
        with pytest.raises(Misbehaviour) as error:
            take(assembler, frames[-1])
        assert code_of(error) == "frame_malformed"


def limit(**changes: Any) -> KindLimit:
    usual: dict[str, Any] = {"name": "thing", "max_bytes": 10, "per_second": 2.0, "burst": 4}
    return KindLimit(**(usual | {"bytes_per_second": 10.0, "burst_bytes": 40} | changes))


class TestLimits:
    """Sizes, rates, and that whoever keeps the pace is never taken for a flood."""

    @pytest.mark.parametrize(
        "changes",
        [
            {"max_bytes": 0},
            {"max_bytes": MAX_MESSAGE_BYTES + 1, "burst_bytes": 2**30},
            {"burst_bytes": 9},
            {"burst": 0},
            {"per_second": 0.0},
            {"bytes_per_second": 0.0},
            {"max_seconds": 0.0},
        ],
    )
    def test_limits_that_allow_nothing_are_refused(self, changes: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="thing"):
            limit(**changes)

    def test_a_bucket_refills_up_to_its_capacity(self) -> None:
        bucket = TokenBucket(2.0, 4.0, 100.0)
        assert [bucket.take(1, 100.0) for _ in range(5)] == [True] * 4 + [False]
        assert bucket.wait(1, 100.0) == 0.5
        assert bucket.take(1, 100.5)
        assert not bucket.take(4.1, 1000.0)
        assert bucket.take(4, 1000.0)

    def test_credit_goes_beyond_the_capacity_once(self) -> None:
        bucket = TokenBucket(2.0, 4.0, 0.0)
        bucket.credit(5.0, 5.0)
        bucket.credit(5.0, 10.0)
        assert bucket.take(14, 10.0)
        assert not bucket.take(1, 10.0)
        bucket.credit(0.0, 100.0)
        assert not bucket.take(4.1, 100.0)

    def test_size_kind_and_emptiness_are_checked_before_the_message_is_there(self) -> None:
        allowance = Allowance({1: limit()}, 0.0, 0.0)
        assert allowance.message(1, 10, 0.0).name == "thing"
        for kind, size, code in ((1, 11, "oversized"), (2, 1, "frame_malformed"), (1, 0, "frame_malformed")):
            with pytest.raises(Misbehaviour) as error:
                allowance.message(kind, size, 0.0)
            assert code_of(error) == code

    def test_too_many_messages_or_bytes_are_a_flood(self) -> None:
        many, heavy = Allowance({1: limit()}, 0.0, 0.0), Allowance({1: limit(burst=1000)}, 0.0, 0.0)
        for allowance, size, fine in ((many, 1, 4), (heavy, 10, 4)):
            for _ in range(fine):
                allowance.message(1, size, 0.0)
            with pytest.raises(Misbehaviour) as error:
                allowance.message(1, size, 0.0)
            assert code_of(error) == "flooding"

    def test_too_many_pings_are_a_flood(self) -> None:
        allowance = Allowance({}, 0.0, 0.0)
        for _ in range(60):
            allowance.control(0.0)
        with pytest.raises(Misbehaviour) as error:
            allowance.control(0.0)
        assert code_of(error) == "flooding"

    def test_time_in_which_nothing_was_read_does_not_count_against_the_peer(self) -> None:
        allowance = Allowance({1: limit()}, 0.0, 0.0)
        for _ in range(4):
            allowance.message(1, 1, 0.0)
        allowance.credit(10.0, 10.0)
        for _ in range(20):
            allowance.message(1, 1, 10.0)
        with pytest.raises(Misbehaviour):
            allowance.message(1, 1, 10.0)

    @given(
        sizes=st.lists(st.integers(1, 10), min_size=1, max_size=60),
        pauses=st.lists(st.floats(0, 3), min_size=60, max_size=60),
        stall=st.tuples(st.floats(0, 60), st.floats(0, 10)),
    )
    def test_who_keeps_the_pace_is_never_a_flood(
        self, sizes: list[int], pauses: list[float], stall: tuple[float, float]
    ) -> None:
        """Whatever is sent by the pace arrives within the allowance, even after a stall of the network."""
        table = {1: limit()}
        pace, allowance = Pace(table, 0.0), Allowance(table, 0.0, 10.0)
        now = 0.0
        begin, length = stall
        for size, pause in zip(sizes, pauses, strict=False):
            now += pause
            while wait := pace.wait(1, size, now):
                now += wait
            pace.spend(1, size, now)
            arrival = max(now, begin + length) if begin <= now else now
            allowance.message(1, size, arrival)


def drain(outbox: Outbox, now: float = 0.0) -> tuple[list[Assembled], float]:
    """Let everything leave, waiting where the pace asks for it; give the messages and the time."""
    assembler, got = Assembler(), []
    while (frame := outbox.next_frame(now)) is not None:
        if isinstance(frame, float):
            now += frame
            continue
        message = assemble(assembler, frame)
        if message is not None:
            got.append(message)
    return got, now


class TestOutbox:
    """What waits is bounded, leaves whole, and in order within its kind."""

    def test_urgent_messages_overtake_bulky_ones(self) -> None:
        outbox = Outbox(LIMITS, 2**23, OutboxBudget(2**30), 0.0)
        outbox.put(BLOCK, bytes(MAX_MESSAGE_BYTES))
        first = outbox.next_frame(0.0)
        assert isinstance(first, bytes)
        outbox.put(NOTE, b"quick")
        following = [outbox.next_frame(0.0) for _ in range(3)]
        assert b"quick" in b"".join(each[-5:] for each in following if isinstance(each, bytes))

    def test_bulky_messages_are_not_starved(self) -> None:
        outbox = Outbox(LIMITS, 2**23, OutboxBudget(2**30), 0.0)
        outbox.put(BLOCK, bytes(10 * CHUNK_BYTES))
        for _ in range(500):
            outbox.put(NOTE, b"n")
        kinds = [outbox.next_frame(0.0) for _ in range(60)]
        bulky = sum(isinstance(each, bytes) and len(each) > 1000 for each in kinds)
        assert bulky == 10

    def test_what_waits_is_bounded_by_link_by_number_and_in_all(self) -> None:
        one = Outbox(LIMITS, 200, OutboxBudget(2**20), 0.0)
        assert one.put(NOTE, bytes(200))
        assert not one.put(NOTE, b"x")
        many = Outbox(LIMITS, 2**20, OutboxBudget(2**20), 0.0)
        assert all(many.put(NOTE, b"x") for _ in range(MAX_MESSAGES))
        assert not many.put(NOTE, b"x")

    def test_who_holds_most_is_dropped_when_all_hold_too_much(self) -> None:
        """Never the innocent one that asks for a little."""
        dropped: list[str] = []
        budget = OutboxBudget(250)
        one, two, three = (
            Outbox(LIMITS, 200, budget, 0.0, partial(dropped.append, name))
            for name in ("one", "two", "three")
        )
        assert one.put(NOTE, bytes(150))
        assert two.put(NOTE, bytes(90))
        assert three.put(NOTE, bytes(30))
        assert dropped == ["one"]
        assert (one.bytes, two.bytes, three.bytes, budget.used) == (0, 90, 30, 120)
        assert not Outbox(LIMITS, 1000, budget, 0.0).put(NOTE, bytes(251))
        assert dropped == ["one", "two", "three"]
        assert budget.used == 0

    def test_control_frames_go_first_and_are_bounded(self) -> None:
        outbox = Outbox(LIMITS, 200, OutboxBudget(200), 0.0)
        outbox.put(NOTE, b"x")
        assert all(outbox.put_control(b"c") for _ in range(MAX_CONTROL_FRAMES))
        assert not outbox.put_control(b"c")
        assert outbox.next_frame(0.0) == b"c"

    @pytest.mark.parametrize(("kind", "payload"), [(99, b"x"), (NOTE, b""), (NOTE, bytes(4097))])
    def test_what_the_limits_do_not_name_is_the_senders_mistake(self, kind: int, payload: bytes) -> None:
        with pytest.raises(ValueError, match="limits"):
            Outbox(LIMITS, 2**23, OutboxBudget(2**23), 0.0).put(kind, payload)

    def test_a_kind_that_must_wait_does_not_hold_up_another(self) -> None:
        outbox = Outbox(LIMITS, 2**23, OutboxBudget(2**23), 0.0)
        for _ in range(5):
            outbox.put(RARE, b"rare")
        outbox.put(NOTE, b"note")
        got = [outbox.next_frame(0.0) for _ in range(5)]
        assert sum(isinstance(each, bytes) for each in got) == 4
        assert got[4] == pytest.approx(0.5)
        assert any(isinstance(each, bytes) and each.endswith(b"note") for each in got)

    @given(st.lists(st.tuples(st.sampled_from((NOTE, BLOCK, RARE)), st.integers(1, 90_000)), max_size=25))
    def test_everything_arrives_whole_and_in_order_within_its_kind(self, plan: list[tuple[int, int]]) -> None:
        budget = OutboxBudget(2**30)
        outbox = Outbox(LIMITS, 2**26, budget, 0.0)
        put: dict[int, list[bytes]] = defaultdict(list)
        for number, (kind, size) in enumerate(plan):
            payload = number.to_bytes(2) * (min(size, LIMITS[kind].max_bytes) // 2) + b"."
            assert outbox.put(kind, payload[: LIMITS[kind].max_bytes])
            put[kind].append(payload[: LIMITS[kind].max_bytes])
        got: dict[int, list[bytes]] = defaultdict(list)
        for message in drain(outbox)[0]:
            got[message.kind].append(message.payload)
        assert got == put
        assert outbox.bytes == budget.used == 0
