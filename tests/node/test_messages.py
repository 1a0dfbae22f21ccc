"""Messages: golden bytes, round trips, bounds, and refusals that name the place."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import msgpack
from msgspec.structs import fields, replace

from ledger_core.errors import RecordError
from ledger_core.node import messages
from ledger_core.node.messages import (
    KINDS,
    MAX_IDS,
    MAX_MESSAGE_BYTES,
    BlockRef,
    Bodies,
    Body,
    Compact,
    CompactBundle,
    GetBodies,
    GetCompact,
    GetHeaders,
    GetParts,
    GetRecords,
    GetSnapshotPart,
    GetSnapshots,
    GetVotes,
    Headers,
    Hello,
    Inventory,
    LinkVoters,
    Message,
    NewBlock,
    Parts,
    Ping,
    Pong,
    Records,
    SealedHeader,
    SnapshotOffer,
    SnapshotPart,
    Snapshots,
    Status,
    Votes,
    VoteSummary,
    bits_of,
    decode_message,
    encode_message,
    voters_of,
)
from ledger_core.records.block import MAX_BLOCK_BYTES
from ledger_core.records.codec import Envelope
from ledger_core.records.votes import VoteBundle
from tests.core import golden

HASH = bytes(range(32))
OTHER = bytes(range(32, 64))
SIGNATURE = bytes(range(64))
ENVELOPE = Envelope(b"\x93body", SIGNATURE)
REF = BlockRef(60, HASH)
STATUS = Status(1_800_000_000, REF, 30, BlockRef(0, OTHER))
SEALED = SealedHeader(bytes(158), SIGNATURE)
LINK = LinkVoters(BlockRef(30, OTHER), REF, b"\x05")
BUNDLE = VoteBundle(1_800_000_000, 30, OTHER, 60, HASH, b"\0\1" + SIGNATURE)

SAMPLES: tuple[Message, ...] = (
    Hello(STATUS, 1, "energy-ledger 1"),
    Ping(7, STATUS),
    Pong(7, STATUS),
    NewBlock(SEALED, 30, 0),
    GetHeaders((REF, BlockRef(0, OTHER)), 2000),
    Headers((SEALED,)),
    GetBodies((REF,)),
    Bodies((Body(HASH, b"\x92\x90\x90"), Body(OTHER, None))),
    GetCompact(REF),
    Compact(HASH, bytes(16), (CompactBundle(1_800_000_000, BlockRef(30, OTHER), REF, b"\x05"),)),
    GetParts(REF, (0, 3), (b"\x04",)),
    Parts(HASH, (ENVELOPE,), (SIGNATURE,)),
    Inventory((HASH, OTHER)),
    GetRecords((HASH,)),
    Records((ENVELOPE,)),
    VoteSummary((LINK,)),
    GetVotes((LINK,)),
    Votes((BUNDLE,)),
    GetSnapshots(),
    Snapshots((SnapshotOffer(REF, OTHER, 70_000),)),
    GetSnapshotPart(REF, 1),
    SnapshotPart(HASH, 1, b"part"),
)


def name_of(message: Message) -> str:
    return type(message).__name__


def test_every_kind_has_a_sample_and_a_number_of_its_own() -> None:
    assert tuple(type(sample) for sample in SAMPLES) == KINDS
    tags = [kind.__struct_config__.tag for kind in KINDS]
    assert tags == list(range(1, len(KINDS) + 1))


def test_the_bytes_on_the_wire_stay_what_they_are() -> None:
    golden.check("messages", {name_of(sample): encode_message(sample) for sample in SAMPLES})


@pytest.mark.parametrize("sample", SAMPLES, ids=name_of)
def test_round_trip(sample: Message) -> None:
    assert decode_message(encode_message(sample)) == sample


@pytest.mark.parametrize("sample", SAMPLES, ids=name_of)
def test_another_number_of_fields_is_refused(sample: Message) -> None:
    parts = msgpack.decode(encode_message(sample))
    wrong = [[*parts, None]] + ([parts[:-1]] if len(parts) > 1 else [])
    for changed in wrong:
        with pytest.raises(RecordError) as refusal:
            decode_message(msgpack.encode(changed))
        assert refusal.value.code == "message_malformed"


@pytest.mark.parametrize(
    "message",
    [
        Inventory(()),
        Inventory((HASH,) * (MAX_IDS + 1)),
        Inventory((HASH[:-1],)),
        GetHeaders((), 10),
        GetHeaders((REF,), 0),
        GetHeaders((REF,), messages.MAX_HEADERS + 1),
        NewBlock(SealedHeader(bytes(157), SIGNATURE), 0, 0),
        NewBlock(SealedHeader(bytes(158), SIGNATURE[:-1]), 0, 0),
        NewBlock(SEALED, -1, 0),
        Bodies((Body(HASH, bytes(MAX_BLOCK_BYTES + 1)),)),
        Snapshots((SnapshotOffer(REF, OTHER, messages.MAX_SNAPSHOT_BYTES + 1),)),
        GetSnapshotPart(REF, 10**6),
        Hello(STATUS, 1, "x" * 300),
        VoteSummary((replace(LINK, voters=bytes(messages.MAX_VOTER_BYTES + 1)),)),
    ],
    ids=name_of,
)
def test_bounds_hold(message: Message) -> None:
    with pytest.raises(RecordError) as refusal:
        decode_message(encode_message(message))
    assert refusal.value.code == "message_malformed"
    assert "$" in refusal.value.message


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "message_malformed"),
        (b"\x91\x63", "message_malformed"),
        (b"\x90", "message_malformed"),
        (b"\xc1", "message_malformed"),
        (b"\x91\xcc\x13", "message_not_canonical"),
        (b"\x91\x13\0", "message_malformed"),
        (bytes(MAX_MESSAGE_BYTES + 1), "message_too_large"),
    ],
)
def test_other_bytes_are_refused(data: bytes, code: str) -> None:
    with pytest.raises(RecordError) as refusal:
        decode_message(data)
    assert refusal.value.code == code


def test_the_sender_cannot_make_a_message_that_no_frame_takes() -> None:
    part = Body(HASH, bytes(MAX_BLOCK_BYTES))
    with pytest.raises(ValueError, match="Bodies of"):
        encode_message(Bodies((part, part, part)))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(sample=st.sampled_from(SAMPLES), place=st.integers(0, 10**6), value=st.integers(0, 255))
def test_changed_bytes_are_refused_or_mean_what_they_say(sample: Message, place: int, value: int) -> None:
    data = bytearray(encode_message(sample))
    data[place % len(data)] = value
    try:
        message = decode_message(bytes(data))
    except RecordError:
        return
    assert encode_message(message) == bytes(data)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_mean_what_they_say(data: bytes) -> None:
    try:
        message = decode_message(data)
    except RecordError:
        return
    assert encode_message(message) == data


@given(st.integers(0, 2**200))
def test_voters_are_bits(bits: int) -> None:
    assert bits_of(voters_of(bits)) == bits


def test_every_field_is_documented_by_its_type() -> None:
    for kind in KINDS:
        assert kind.__doc__
        assert all(field.type is not None for field in fields(kind))
