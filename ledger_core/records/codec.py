"""Canonical bytes, ids and signatures of records.

A record travels as an envelope: the body's canonical MessagePack bytes and the signatures over them. What is
signed and hashed is a domain tag, the chain id and those bytes, so that a record of one community means
nothing in another and a signature can't change an id.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from hashlib import sha256
from itertools import pairwise
from operator import or_
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta, Struct, ValidationError

from ledger_core.errors import RecordError
from ledger_core.keys import Signer, verify
from ledger_core.records.acceptances import Acceptance, Confirmation, Rejection
from ledger_core.records.assets import Asset
from ledger_core.records.body import Body
from ledger_core.records.members import Invitation, Member
from ledger_core.records.money import Transfer
from ledger_core.records.offers import Offer, Withdrawal
from ledger_core.records.readings import Reading
from ledger_core.records.trades import Score, Termination
from ledger_core.records.types import Key, Signature
from ledger_core.records.votes import Evidence, Vote

RECORD_DOMAIN = b"energy-ledger/record/1\0"
INVITATION_DOMAIN = b"energy-ledger/invitation/1\0"

MAX_RECORD_BYTES = 16 * 1024
"""No community can allow larger envelopes; its own limit may be lower."""

MAX_COSIGNATURES = 4

_encoder = msgspec.msgpack.Encoder()
_kinds: list[type[Body]] = [
    Member,
    Asset,
    Offer,
    Withdrawal,
    Acceptance,
    Confirmation,
    Rejection,
    Termination,
    Reading,
    Transfer,
    Score,
    Vote,
    Evidence,
]
_decode_body: Callable[[bytes], Body]


class Cosignature(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A further member's signature over the same bytes."""

    key: Key
    signature: Signature


class Envelope(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A record on the wire: body bytes, the author's signature, co-signatures ascending by key."""

    body: Annotated[bytes, Meta(max_length=MAX_RECORD_BYTES)]
    signature: Signature
    cosignatures: Annotated[tuple[Cosignature, ...], Meta(max_length=MAX_COSIGNATURES)] = ()


class Record(Struct, frozen=True, gc=False):
    """An envelope with its decoded body and its id."""

    id: bytes
    body: Body
    envelope: Envelope

    @property
    def signers(self) -> tuple[bytes, ...]:
        """Keys of the author and of all who co-signed."""
        return (self.body.author, *(co.key for co in self.envelope.cosignatures))


_envelope_decoder = msgspec.msgpack.Decoder(Envelope)


def kinds() -> tuple[type[Body], ...]:
    """Return every record kind known here, in the order of registration."""
    return tuple(_kinds)


def register_kind(kind: type[Body]) -> type[Body]:
    """Make a further record kind known to the decoder; its number must be new.

    Usable as a class decorator by the module that brings the kind and its rule.
    """
    if kind not in _kinds:
        number = kind.__struct_config__.tag
        if any(other.__struct_config__.tag == number for other in _kinds):
            raise ValueError(f"record kind number {number} is taken")
        _kinds.append(kind)
        _rebuild_decoder()
    return kind


def _rebuild_decoder() -> None:
    global _decode_body  # noqa: PLW0603 - the one decoder grows with the registered kinds
    union = reduce(or_, cast("list[Any]", _kinds))
    _decode_body = cast("Callable[[bytes], Body]", msgspec.msgpack.Decoder(union).decode)


_rebuild_decoder()

encode_body: Callable[[Body], bytes] = _encoder.encode
"""Return a body's canonical bytes."""


def decode_body(data: bytes) -> Body:
    """Return the body in canonical bytes.

    Raises RecordError `record_malformed` (what and where) or `record_not_canonical` (the bytes do not
    re-encode to themselves).
    """
    try:
        body = _decode_body(data)
    except (ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordError("record_malformed", f"not a record body: {error}") from error
    if _encoder.encode(body) != data:
        raise RecordError(
            "record_not_canonical",
            f"the {body.KIND} does not re-encode to the same bytes; encode it in the shortest form",
            kind=body.KIND,
        )
    return body


def record_prefix(chain_id: bytes) -> bytes:
    """Return what stands before a body's bytes in everything signed or hashed for a chain."""
    return RECORD_DOMAIN + chain_id


def record_message(chain_id: bytes, body: bytes) -> bytes:
    """Return the bytes that the author and the co-signers sign; the record id is their SHA-256."""
    return RECORD_DOMAIN + chain_id + body


def record_id(chain_id: bytes, body: bytes) -> bytes:
    """Return the id of a record on a chain."""
    return sha256(RECORD_DOMAIN + chain_id + body).digest()


def open_envelope(envelope: Envelope, prefix: bytes) -> Record:
    """Decode an envelope's body and give it its id; `prefix` comes from `record_prefix`.

    Signatures are not verified here. Raises RecordError as `decode_body`, and `cosignatures_unordered`.
    """
    data = envelope.body
    body = decode_body(data)
    if envelope.cosignatures:
        keys = [co.key for co in envelope.cosignatures]
        if any(a >= b for a, b in pairwise(keys)) or body.author in keys:
            raise RecordError(
                "cosignatures_unordered",
                "co-signatures must be ascending by key, once each, without the author",
            )
    return Record(sha256(prefix + data).digest(), body, envelope)


def encode_envelope(envelope: Envelope) -> bytes:
    """Return an envelope's canonical bytes."""
    return _encoder.encode(envelope)


def decode_envelope(data: bytes, max_bytes: int = MAX_RECORD_BYTES) -> Envelope:
    """Return the envelope in canonical bytes; raises RecordError `record_too_large` and as `decode_body`."""
    if len(data) > max_bytes:
        raise RecordError(
            "record_too_large",
            f"the record has {len(data)} bytes; at most {max_bytes} are allowed",
            size=len(data),
            limit=max_bytes,
        )
    try:
        envelope = _envelope_decoder.decode(data)
    except (ValidationError, msgspec.DecodeError) as error:
        raise RecordError("record_malformed", f"not a record envelope: {error}") from error
    if _encoder.encode(envelope) != data:
        raise RecordError("record_not_canonical", "the envelope does not re-encode to the same bytes")
    return envelope


def sign_record(body: Body, chain_id: bytes, signer: Signer, cosigners: Sequence[Signer] = ()) -> Envelope:
    """Sign a body as its author (and co-signers) for one chain.

    Raises RecordError `wrong_signer` when the signer is not the author, `record_malformed` when a field is
    out of its bounds.
    """
    if signer.public_key != body.author:
        raise RecordError("wrong_signer", "the signer's key is not the record's author")
    data = encode_body(body)
    decode_body(data)
    message = record_message(chain_id, data)
    extra = sorted((Cosignature(co.public_key, co.sign(message)) for co in cosigners), key=lambda co: co.key)
    return Envelope(data, signer.sign(message), tuple(extra))


def verify_envelope(record: Record, chain_id: bytes) -> None:
    """Verify every signature of a record; raises RecordError `signature_invalid` naming whose."""
    message = record_message(chain_id, record.envelope.body)
    if not verify(record.body.author, message, record.envelope.signature):
        raise RecordError("signature_invalid", "the author's signature is not valid", key=record.body.author)
    for co in record.envelope.cosignatures:
        if not verify(co.key, message, co.signature):
            raise RecordError("signature_invalid", "a co-signature is not valid", key=co.key)


def invitation_message(chain_id: bytes, authority: bytes, key: bytes, roles: int, expires: int) -> bytes:
    """Return the bytes that an authority signs to invite the holder of a one-time key."""
    return INVITATION_DOMAIN + chain_id + _encoder.encode((authority, key, roles, expires))


def invite(chain_id: bytes, authority: Signer, key: bytes, roles: int, expires: int) -> Invitation:
    """Make a one-time invitation for the holder of the secret of `key`."""
    message = invitation_message(chain_id, authority.public_key, key, roles, expires)
    return Invitation(authority.public_key, key, roles, expires, authority.sign(message))
