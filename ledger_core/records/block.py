"""Blocks: a fixed binary header, the miner's signature over its hash, and a body of records and votes."""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, ValidationError

from ledger_core.errors import RecordError
from ledger_core.records.codec import Envelope, Record, open_envelope
from ledger_core.records.merkle import leaf_hash, merkle_root
from ledger_core.records.types import Signature
from ledger_core.records.votes import VOTE_BYTES, VoteBundle

HEADER_VERSION = 1
_HEADER = struct.Struct(">H I 32s 32s I 32s Q I 32s Q")
HEADER_BYTES = _HEADER.size
NONCE_OFFSET = HEADER_BYTES - 8
NO_STATE_HASH = bytes(32)
MINER_DOMAIN = b"energy-ledger/block/1\0"

MAX_BLOCK_BYTES = 1024 * 1024
"""No community can allow larger bodies; its own limit may be lower."""

_encoder = msgspec.msgpack.Encoder()


class Header(Struct, frozen=True, gc=False):
    """A block's header: 158 bytes, big-endian, the nonce last so that a miner hashes a midstate."""

    version: int
    height: int
    previous: bytes
    merkle_root: bytes
    count: int
    """Leaves under the Merkle root: records, then vote bundles."""
    state_hash: bytes
    """At checkpoints the hash of the state before the block, else zero."""
    time: int
    target: int
    """Compact form of the highest hash that meets the work (as Bitcoin's nBits)."""
    miner: bytes
    """Key of the mining node."""
    nonce: int

    def encode(self) -> bytes:
        """Return the header's fixed bytes."""
        return _HEADER.pack(
            self.version,
            self.height,
            self.previous,
            self.merkle_root,
            self.count,
            self.state_hash,
            self.time,
            self.target,
            self.miner,
            self.nonce,
        )


def decode_header(data: bytes) -> Header:
    """Return the header in its fixed bytes; raises RecordError `header_malformed`."""
    if len(data) != HEADER_BYTES:
        raise RecordError(
            "header_malformed", f"a header has {HEADER_BYTES} bytes, not {len(data)}", size=len(data)
        )
    return Header(*_HEADER.unpack(data))


def header_hash(data: bytes) -> bytes:
    """Return the block hash: SHA-256 of the header's bytes."""
    return sha256(data).digest()


def miner_message(block_hash: bytes) -> bytes:
    """Return what a miner signs for its block."""
    return MINER_DOMAIN + block_hash


class BlockBody(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """What a block carries: records in order, then the votes of each link together."""

    records: tuple[Envelope, ...] = ()
    votes: tuple[VoteBundle, ...] = ()


class Block(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A block on the wire."""

    header: Annotated[bytes, Meta(min_length=HEADER_BYTES, max_length=HEADER_BYTES)]
    signature: Signature
    body: Annotated[bytes, Meta(max_length=MAX_BLOCK_BYTES)]

    @property
    def hash(self) -> bytes:
        """The block's hash."""
        return sha256(self.header).digest()


_EMPTY = BlockBody()
EMPTY_BODY = _encoder.encode(_EMPTY)
_body_decoder = msgspec.msgpack.Decoder(BlockBody)
_block_decoder = msgspec.msgpack.Decoder(Block)


def encode_block_body(body: BlockBody) -> bytes:
    """Return a block body's canonical bytes."""
    return _encoder.encode(body)


def decode_block_body(data: bytes) -> BlockBody:
    """Return the body in canonical bytes; raises RecordError `block_malformed` or `block_not_canonical`."""
    if data == EMPTY_BODY:
        return _EMPTY
    try:
        body = _body_decoder.decode(data)
    except (ValidationError, msgspec.DecodeError) as error:
        raise RecordError("block_malformed", f"not a block body: {error}") from error
    if _encoder.encode(body) != data:
        raise RecordError("block_not_canonical", "the block body does not re-encode to the same bytes")
    for bundle in body.votes:
        if len(bundle.votes) % VOTE_BYTES:
            raise RecordError("block_malformed", f"a vote bundle is not a multiple of {VOTE_BYTES} bytes")
    return body


def encode_block(block: Block) -> bytes:
    """Return a block's canonical bytes."""
    return _encoder.encode(block)


def decode_block(data: bytes) -> Block:
    """Return the block in canonical bytes; raises RecordError `block_malformed` or `block_not_canonical`."""
    try:
        block = _block_decoder.decode(data)
    except (ValidationError, msgspec.DecodeError) as error:
        raise RecordError("block_malformed", f"not a block: {error}") from error
    if _encoder.encode(block) != data:
        raise RecordError("block_not_canonical", "the block does not re-encode to the same bytes")
    return block


def record_leaf(record: Record) -> bytes:
    """Return a record's Merkle leaf: over its id and all its signatures."""
    envelope = record.envelope
    data = record.id + envelope.signature
    for co in envelope.cosignatures:
        data += co.key + co.signature
    return leaf_hash(data)


def bundle_leaf(bundle: VoteBundle) -> bytes:
    """Return the Merkle leaf of the votes of one link."""
    return leaf_hash(_encoder.encode(bundle))


def open_records(body: BlockBody, prefix: bytes) -> list[Record]:
    """Decode every record of a body; `prefix` comes from `record_prefix`."""
    return [open_envelope(envelope, prefix) for envelope in body.records]


def body_leaves(records: list[Record], bundles: tuple[VoteBundle, ...]) -> list[bytes]:
    """Return the Merkle leaves of a body: records first, then vote bundles."""
    leaves = [record_leaf(record) for record in records]
    leaves += [bundle_leaf(bundle) for bundle in bundles]
    return leaves


def body_root(records: list[Record], bundles: tuple[VoteBundle, ...]) -> bytes:
    """Return the Merkle root of a body."""
    return merkle_root(body_leaves(records, bundles))
