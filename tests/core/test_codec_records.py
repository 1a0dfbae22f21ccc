"""Canonical bytes of records: round trips, flipped bits, other encodings of the same, sizes, extremes."""

import struct
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from ledger_core.errors import RecordError
from ledger_core.keys import verify
from ledger_core.records.body import Body
from ledger_core.records.codec import (
    MAX_COSIGNATURES,
    MAX_RECORD_BYTES,
    Cosignature,
    Envelope,
    decode_body,
    decode_envelope,
    encode_body,
    encode_envelope,
    invitation_message,
    kinds,
    open_envelope,
    record_id,
    record_message,
    record_prefix,
    register_kind,
    sign_record,
    verify_envelope,
)
from tests.core.attempts import attempt, code_of
from tests.core.samples import AUTHOR, BEARER, CHAIN_ID, OTHER, author_of, digest, samples
from tests.core.strategies import PROFILE, bodies, envelopes
from tests.core.world import signer

KINDS = [kind.KIND for kind in kinds()]
PREFIX = record_prefix(CHAIN_ID)
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
WITNESS = signer("witness")


def signed(kind: str) -> Envelope:
    body = samples()[kind]
    return sign_record(body, CHAIN_ID, author_of(body), (BEARER, WITNESS))


def problem(envelope: Envelope, chain_id: bytes = CHAIN_ID) -> str:
    """The code that opening and verifying an envelope gives; "" where it is good."""
    record = attempt(open_envelope, envelope, record_prefix(chain_id))
    if isinstance(record, Exception):
        return record.code
    return code_of(verify_envelope, record, chain_id)


@PROFILE
@given(bodies())
def test_body_round_trip(body: Body) -> None:
    data = encode_body(body)
    assert decode_body(data) == body
    assert encode_body(decode_body(data)) == data


@EVERY_KIND
def test_every_kind_round_trips(kind: str) -> None:
    envelope = signed(kind)
    record = open_envelope(decode_envelope(encode_envelope(envelope)), PREFIX)
    assert record.body == samples()[kind]
    assert record.id == record_id(CHAIN_ID, envelope.body)
    assert record.signers == (record.body.author, *sorted([BEARER.public_key, WITNESS.public_key]))
    verify_envelope(record, CHAIN_ID)


@PROFILE
@given(envelopes())
def test_envelope_round_trip(envelope: Envelope) -> None:
    assert decode_envelope(encode_envelope(envelope)) == envelope


@EVERY_KIND
def test_every_flipped_bit_of_a_body_is_seen(kind: str) -> None:
    """Refused as bytes, or another id whose signature is not valid: never the same record."""
    envelope = signed(kind)
    data, known = envelope.body, record_id(CHAIN_ID, envelope.body)
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        body = attempt(decode_body, bytes(flipped))
        if isinstance(body, RecordError):
            assert body.code in {"record_malformed", "record_not_canonical"}
            continue
        assert isinstance(body, Body)
        message = record_message(CHAIN_ID, bytes(flipped))
        assert record_id(CHAIN_ID, bytes(flipped)) != known
        if position % 16 == 0:
            assert not verify(body.author, message, envelope.signature)


@EVERY_KIND
def test_every_flipped_byte_of_an_envelope_is_seen(kind: str) -> None:
    data = encode_envelope(signed(kind))
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        envelope = attempt(decode_envelope, bytes(flipped))
        if isinstance(envelope, Envelope):
            assert problem(envelope)
        else:
            assert envelope.code in {"record_malformed", "record_not_canonical"}


def opened(data: bytes) -> tuple[int, bytes]:
    """The number of fields that a body's array announces, and what follows."""
    if data[0] == 0xDC:
        return int.from_bytes(data[1:3]), data[3:]
    assert data[0] & 0xF0 == 0x90
    return data[0] & 0x0F, data[1:]


def array(count: int, rest: bytes) -> bytes:
    """A body with the shortest announcement of its fields."""
    return (bytes([0x90 + count]) if count < 16 else b"\xdc" + struct.pack(">H", count)) + rest


@EVERY_KIND
def test_longer_integers_are_not_canonical(kind: str) -> None:
    """A kind's number, or what may be any other small number, written longer than needed."""
    count, rest = opened(signed(kind).body)
    assert rest[0] < 0x80
    for wide in (bytes([0xCC, rest[0]]), b"\xcd\0" + rest[:1], b"\xd3" + bytes(7) + rest[:1]):
        assert code_of(decode_body, array(count, wide + rest[1:])) == "record_not_canonical"
    for offset, byte in enumerate(rest):
        if byte < 0x80:
            other = array(count, rest[:offset] + bytes([0xCC, byte]) + rest[offset + 1 :])
            assert code_of(decode_body, other) in {"record_not_canonical", "record_malformed"}


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("record_not_canonical", lambda count, rest: b"\xdd" + struct.pack(">I", count) + rest),
        (
            "record_not_canonical",
            lambda count, rest: array(count, rest.replace(b"\xc4\x20", b"\xc5\0\x20", 1)),
        ),
        (
            "record_not_canonical",
            lambda count, rest: array(count, rest.replace(b"\xc4\x20", b"\xc6\0\0\0\x20", 1)),
        ),
        ("record_malformed", lambda count, rest: array(count, rest.replace(b"\xc4\x20", b"\xd9\x20", 1))),
        ("record_malformed", lambda count, rest: array(count + 1, rest + b"\xc0")),
        ("record_malformed", lambda count, rest: array(count + 1, rest)),
        ("record_malformed", lambda count, rest: array(count - 1, rest)),
        ("record_malformed", lambda count, rest: array(count, rest + b"\xc0")),
        ("record_malformed", lambda count, rest: array(count, rest[:-1])),
        ("record_malformed", lambda count, rest: array(count, b"\x7f" + rest[1:])),
        ("record_malformed", lambda count, rest: array(count, b"\xa16" + rest[1:])),
        ("record_malformed", lambda count, rest: array(count, rest[1:])),
    ],
)
def test_other_encodings_are_refused(code: str, change: Callable[[int, bytes], bytes]) -> None:
    for body in samples().values():
        assert code_of(decode_body, change(*opened(encode_body(body)))) == code


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\xc1", b"\x90", b"\x91" * 16_000, b"\x93\x01" + b"\x81" * 9_000]
)
def test_other_bytes_are_no_body(data: bytes) -> None:
    assert code_of(decode_body, data) == "record_malformed"


def test_text_for_bytes_bytes_for_text_and_floats_for_numbers() -> None:
    data = encode_body(samples()["transfer"])
    assert code_of(decode_body, data.replace(b"\xa3pay", b"\xc4\x03pay")) == "record_malformed"
    assert code_of(decode_body, data.replace(b"\xa3pay", b"\xd9\x03pay")) == "record_not_canonical"
    assert code_of(decode_body, data.replace(b"\xa3pay", b"\xa3\xff\xffy")) == "record_malformed"
    assert code_of(decode_body, data.replace(b"\xa3pay", b"\xa3Pay")) == "record_malformed"
    amount = msgspec.msgpack.encode(2_500_000)
    assert data.count(amount) == 1
    for other in (b"\xcb" + struct.pack(">d", 2_500_000.0), b"\xc3", b"\xd3" + struct.pack(">q", 2_500_000)):
        assert code_of(decode_body, data.replace(amount, other)).startswith("record_")


def fields_with_bounds() -> list[tuple[str, str, int, int]]:
    """Kind, field, and both bounds of every whole number in a record."""
    found = []
    for kind in kinds():
        described = inspect.type_info(kind)
        assert isinstance(described, inspect.StructType)
        for field in described.fields:
            if isinstance(field.type, inspect.IntType):
                low, high = field.type.ge, field.type.le
                assert low is not None, f"{kind.KIND}.{field.name} has no lower bound"
                assert high is not None, f"{kind.KIND}.{field.name} has no upper bound"
                found.append((kind.KIND, field.name, int(low), int(high)))
    return found


def test_integer_extremes() -> None:
    for kind, field, low, high in fields_with_bounds():
        body = samples()[kind]
        for value in (low, high):
            other = msgspec.structs.replace(body, **{field: value})
            assert decode_body(encode_body(other)) == other
        for value in (low - 1, high + 1, -(2**63), 2**64 - 1):
            other = msgspec.structs.replace(body, **{field: value})
            assert code_of(decode_body, encode_body(other)) == "record_malformed", (kind, field)
            assert code_of(sign_record, other, CHAIN_ID, author_of(body)) == "record_malformed"


@EVERY_KIND
def test_byte_strings_have_one_length(kind: str) -> None:
    body = samples()[kind]
    for field in body.__struct_fields__:
        value = getattr(body, field)
        for other in (value[:-1], value + b"\0", b"") if isinstance(value, bytes) else ():
            data = encode_body(msgspec.structs.replace(body, **{field: other}))
            assert code_of(decode_body, data) == "record_malformed", field


@pytest.mark.parametrize(
    ("kind", "field", "count"), [("offer", "audience", 65), ("asset", "curve", 193), ("reading", "rows", 193)]
)
def test_lists_are_bounded(kind: str, field: str, count: int) -> None:
    body = samples()[kind]
    item = getattr(body, field)[0]
    fits = msgspec.structs.replace(body, **{field: (item,) * (count - 1)})
    assert decode_body(encode_body(fits)) == fits
    over = msgspec.structs.replace(body, **{field: (item,) * count})
    assert code_of(decode_body, encode_body(over)) == "record_malformed"


def test_empty_lists_where_one_item_is_needed() -> None:
    for kind, field in (("offer", "audience"), ("reading", "rows")):
        body = msgspec.structs.replace(samples()[kind], **{field: ()})
        assert code_of(decode_body, encode_body(body)) == "record_malformed"


def test_oversize_envelope() -> None:
    data = encode_envelope(signed("offer"))
    error = attempt(decode_envelope, data, len(data) - 1)
    assert isinstance(error, RecordError)
    assert (error.code, error.details) == ("record_too_large", {"size": len(data), "limit": len(data) - 1})
    assert decode_envelope(data, len(data)) == signed("offer")
    huge = encode_envelope(Envelope(bytes(MAX_RECORD_BYTES + 1), bytes(64)))
    assert code_of(decode_envelope, huge) == "record_too_large"
    assert code_of(decode_envelope, huge, len(huge)) == "record_malformed"


@EVERY_KIND
def test_a_signature_holds_for_one_chain_only(kind: str) -> None:
    envelope = signed(kind)
    assert problem(envelope) == ""
    assert problem(envelope, digest("another community")) == "signature_invalid"
    here = open_envelope(envelope, PREFIX).id
    assert here != open_envelope(envelope, record_prefix(digest("another community"))).id


@EVERY_KIND
def test_forged_swapped_and_borrowed_signatures(kind: str) -> None:
    envelope = signed(kind)
    first, second = envelope.cosignatures
    other_kind = signed(KINDS[KINDS.index(kind) - 1])
    swapped = (
        Cosignature(first.key, second.signature),
        Cosignature(second.key, first.signature),
    )
    bad = [
        msgspec.structs.replace(envelope, signature=bytes(64)),
        msgspec.structs.replace(envelope, signature=first.signature),
        msgspec.structs.replace(envelope, signature=other_kind.signature),
        msgspec.structs.replace(envelope, cosignatures=swapped),
        msgspec.structs.replace(envelope, cosignatures=(Cosignature(first.key, bytes(64)), second)),
        msgspec.structs.replace(envelope, body=other_kind.body),
    ]
    assert [problem(other) for other in bad] == ["signature_invalid"] * len(bad)


def test_signature_with_a_large_scalar_is_refused() -> None:
    """S + L is the same point for a careless verifier: a second signature for the same bytes."""
    envelope = signed("offer")
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(envelope.signature[32:], "little") + order
    other = envelope.signature[:32] + scalar.to_bytes(32, "little")
    assert problem(msgspec.structs.replace(envelope, signature=other)) == "signature_invalid"


def test_cosignatures_ascend_once_each_without_the_author() -> None:
    envelope = signed("offer")
    first, second = envelope.cosignatures
    message = record_message(CHAIN_ID, envelope.body)
    author = Cosignature(AUTHOR.public_key, AUTHOR.sign(message))
    for wrong in (
        (second, first),
        (first, first),
        tuple(sorted((author, first), key=lambda co: co.key)),
        (author,),
    ):
        assert problem(msgspec.structs.replace(envelope, cosignatures=wrong)) == "cosignatures_unordered"


def test_stripped_cosignature_leaves_the_id_and_the_signers_behind() -> None:
    """Signatures are outside the id: what is stripped shows in the signers, and in the Merkle leaf."""
    envelope = signed("termination")
    stripped = msgspec.structs.replace(envelope, cosignatures=())
    assert problem(stripped) == ""
    assert open_envelope(stripped, PREFIX).id == open_envelope(envelope, PREFIX).id
    assert open_envelope(stripped, PREFIX).signers == (AUTHOR.public_key,)


def test_more_cosignatures_than_allowed() -> None:
    witnesses = [signer(f"witness {number}") for number in range(MAX_COSIGNATURES + 1)]
    envelope = sign_record(samples()["offer"], CHAIN_ID, AUTHOR, witnesses)
    assert code_of(decode_envelope, encode_envelope(envelope)) == "record_malformed"


def test_only_its_author_signs_a_body() -> None:
    assert code_of(sign_record, samples()["offer"], CHAIN_ID, OTHER) == "wrong_signer"


def test_signed_messages_of_different_things_never_meet() -> None:
    """Domain tags: no record's message is an invitation's, and none of another chain's."""
    offer = record_message(CHAIN_ID, encode_body(samples()["offer"]))
    ticket = invitation_message(CHAIN_ID, OTHER.public_key, BEARER.public_key, 3, 5)
    assert not offer.startswith(ticket[:20])
    assert offer[: -len(encode_body(samples()["offer"]))] == PREFIX


def test_number_of_a_kind_is_taken_once() -> None:
    class Impostor(Body, frozen=True, tag=3):
        KIND = "impostor"

    with pytest.raises(ValueError, match="number 3 is taken"):
        register_kind(Impostor)
    assert register_kind(kinds()[0]) is kinds()[0]


@PROFILE
@given(st.binary(max_size=200))
def test_any_bytes_give_a_body_or_the_codecs_own_error(data: bytes) -> None:
    for decode in (decode_body, decode_envelope):
        result: Any = attempt(decode, data)
        assert isinstance(result, (Body, Envelope, RecordError))
