"""A segment of the archive: the blocks of one checkpoint interval in as few bytes as they fit into.

Of a header only what the rest does not give is kept: the times, the nonces, the miners, and the state hash of
the checkpoint. Version, height, previous hash, target, and (while the bodies are there) the Merkle root and
the count follow from the chain; where a header says otherwise, the difference is kept.
"""

import struct
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct

from ledger_core.chain.store.columns import COSIGNERS, MINERS, Column, ColumnsError, Context, Reader, Writer
from ledger_core.chain.store.loose import decode_loose, is_loose
from ledger_core.chain.store.stored import StoredBlock
from ledger_core.community import Genesis
from ledger_core.errors import LedgerError
from ledger_core.records.block import (
    EMPTY_BODY,
    HEADER_VERSION,
    NO_STATE_HASH,
    BlockBody,
    Header,
    bundle_leaf,
    decode_block_body,
    decode_header,
    encode_block_body,
    header_hash,
)
from ledger_core.records.codec import Cosignature, Envelope, record_prefix
from ledger_core.records.merkle import EMPTY_ROOT, leaf_hash, merkle_root
from ledger_core.records.votes import VoteBundle
from ledger_core.rules.difficulty import next_target

_FIELDS = Header.__struct_fields__
_DERIVED = [_FIELDS.index(name) for name in _FIELDS if name not in {"miner", "nonce"}]
_STATE_HASH = _FIELDS.index("state_hash")
_LONGEST_STEP = 1 << 60
"""A block that is further from the one below, in seconds, has its time written out."""

_UNFIT = (LedgerError, msgspec.MsgspecError, struct.error, ValueError, OverflowError)
"""What values raise that have no place in a segment, or are not what follows from the chain."""
_DAMAGE = (*_UNFIT, LookupError, TypeError)

SIGNATURE_BYTES = 64


class Place(Struct, frozen=True):
    """Where a segment stands in the chain."""

    genesis: Genesis
    chain_id: bytes
    parent_height: int
    parent_hash: bytes
    context: Context


def encode_segment(blocks: Sequence[StoredBlock], place: Place, parent_time: int) -> bytes:
    """Return the bytes of blocks that follow each other; all with their bodies or all without.

    `parent_time` is the time of the block below them (of the genesis below block 1). What comes out is read
    back and compared before it is returned. Bodies that are not made of records are kept whole.
    """
    last_error: Exception | None = None
    # Nearly every header follows from the chain, as the comparison below shows: it is not asked before.
    for trusting, whole in ((True, False), (False, False), (False, True)):
        known = len(place.context.book)
        try:
            data = _Encoder(place, trusting=trusting, whole=whole).encode(blocks, parent_time)
            if decode_segment(data, place) == list(blocks):
                return data
        except _UNFIT as error:
            last_error = error
        place.context.book.forget_after(known)
    raise ColumnsError("the blocks can't be packed") from last_error


def decode_segment(data: bytes, place: Place) -> list[StoredBlock]:
    """Return the blocks of a segment, packed or loose; raises ColumnsError where the bytes are damaged."""
    if is_loose(data):
        return decode_loose(data)
    try:
        return _Decoder(data, place).decode()
    except ColumnsError:
        raise
    except _DAMAGE as error:
        raise ColumnsError(f"not a segment: {error}") from error


class _Encoder:
    """Writes a segment; `trusting`: of the headers only what never follows; `whole`: bodies as they are."""

    def __init__(self, place: Place, *, trusting: bool, whole: bool) -> None:
        self._place = place
        self._trusting = trusting
        self._whole = whole
        self._prefix = record_prefix(place.chain_id)
        self._writer = Writer(place.context)

    def encode(self, blocks: Sequence[StoredBlock], parent_time: int) -> bytes:
        writer = self._writer
        root = writer.root
        with_bodies = blocks[0].body is not None
        headers = [decode_header(block.header) for block in blocks]
        writer.put_plain(root, len(blocks))
        writer.put_plain(root, int(with_bodies))
        writer.put_plain(root, parent_time)
        nonces = b"".join(_varint(header.nonce) for header in headers)
        writer.put_apart(root, nonces)
        guess = _Guess(self._place, parent_time)
        for block, header in zip(blocks, headers, strict=True):
            writer.put_fixed(block.signature)
            if block.body is not None:
                self._put_body(writer.child(root, "body"), block.body)
            self._put_header(header, guess, block.body)
            guess.advance(header.time, header_hash(block.header))
        return writer.pack()

    def _put_header(self, header: Header, guess: _Guess, body: bytes | None) -> None:
        writer, root = self._writer, self._writer.root
        step = header.time - guess.time
        if abs(step) > _LONGEST_STEP:
            step = 0
        writer.put_plain(writer.child(root, "time"), step)
        writer.put_key(writer.child(root, "miner"), MINERS, header.miner)
        differences = self._differences(header, guess, guess.time + step, body)
        column = writer.child(root, "differences")
        writer.put_plain(column, len(differences))
        for position, value in differences:
            writer.put_plain(writer.child(column, "position"), position)
            writer.put(writer.child(column, _FIELDS[position]), value)

    def _differences(
        self, header: Header, guess: _Guess, time: int, body: bytes | None
    ) -> list[tuple[int, Any]]:
        """Return the header's fields, by position, that don't follow from the chain."""
        if self._trusting:
            has_state = header.state_hash != NO_STATE_HASH
            return [(_STATE_HASH, header.state_hash)] if has_state else []
        commitment = (EMPTY_ROOT, 0) if body is None else body_commitment(body, self._prefix)
        wanted = guess.header(time, header.miner, header.nonce, commitment)
        return [
            (position, getattr(header, _FIELDS[position]))
            for position in _DERIVED
            if getattr(header, _FIELDS[position]) != getattr(wanted, _FIELDS[position])
        ]

    def _put_body(self, column: Column, data: bytes) -> None:
        writer = self._writer
        if self._whole:
            writer.put_apart(column, data)
            return
        body = decode_block_body(data)
        writer.put_plain(column, len(body.records))
        writer.put_plain(writer.child(column, "bundles"), len(body.votes))
        for envelope in body.records:
            self._put_envelope(writer.child(column, "envelope"), envelope)
        for bundle in body.votes:
            self._put_bundle(writer.child(column, "bundle"), bundle)

    def _put_envelope(self, column: Column, envelope: Envelope) -> None:
        writer = self._writer
        writer.put_packed(column, envelope.body)
        writer.put_fixed(envelope.signature)
        writer.put_plain(writer.child(column, "cosignatures"), len(envelope.cosignatures))
        for co in envelope.cosignatures:
            writer.put_key(writer.child(column, "cosigner"), COSIGNERS, co.key)
            writer.put_fixed(co.signature)

    def _put_bundle(self, column: Column, bundle: VoteBundle) -> None:
        writer = self._writer
        for name in VoteBundle.__struct_fields__[:-1]:
            writer.put(writer.child(column, name), getattr(bundle, name))
        writer.put_votes(writer.child(column, "votes"), bundle.votes)


class _Decoder:
    def __init__(self, data: bytes, place: Place) -> None:
        self._place = place
        self._prefix = record_prefix(place.chain_id)
        self._reader = Reader(data, place.context)

    def decode(self) -> list[StoredBlock]:
        reader = self._reader
        root = reader.root
        count, with_bodies, parent_time = (reader.take_plain(root) for _ in range(3))
        nonces = _varints(reader.take(root))
        guess = _Guess(self._place, parent_time)
        blocks = []
        for position in range(count):
            signature = reader.take_fixed(SIGNATURE_BYTES)
            body, commitment = None, (EMPTY_ROOT, 0)
            if with_bodies:
                body, commitment = self._take_body(reader.child(root, "body"))
            header = self._take_header(guess, nonces[position], commitment)
            blocks.append(StoredBlock(header, signature, body))
        return blocks

    def _take_header(self, guess: _Guess, nonce: int, commitment: tuple[bytes, int]) -> bytes:
        reader, root = self._reader, self._reader.root
        time = guess.time + reader.take_plain(reader.child(root, "time"))
        miner = reader.take_key(reader.child(root, "miner"), MINERS)
        header = guess.header(time, miner, nonce, commitment)
        column = reader.child(root, "differences")
        differences: dict[str, Any] = {}
        for _ in range(reader.take_plain(column)):
            name = _FIELDS[reader.take_plain(reader.child(column, "position"))]
            differences[name] = reader.take(reader.child(column, name))
        if differences:
            header = msgspec.structs.replace(header, **differences)
        data = header.encode()
        guess.advance(header.time, header_hash(data))
        return data

    def _take_body(self, column: Column) -> tuple[bytes, tuple[bytes, int]]:
        """Return a body, and its Merkle root and count."""
        reader = self._reader
        records = reader.take_plain(column)
        if type(records) is not int:
            whole = reader.take_fixed(records[-1])
            return whole, body_commitment(whole, self._prefix)
        bundles = reader.take_plain(reader.child(column, "bundles"))
        if not records and not bundles:
            return EMPTY_BODY, (EMPTY_ROOT, 0)
        body = BlockBody(
            tuple([self._take_envelope(reader.child(column, "envelope")) for _ in range(records)]),
            tuple([self._take_bundle(reader.child(column, "bundle")) for _ in range(bundles)]),
        )
        return encode_block_body(body), _commitment(body, self._prefix)

    def _take_envelope(self, column: Column) -> Envelope:
        reader = self._reader
        body = reader.take_packed(column)
        signature = reader.take_fixed(SIGNATURE_BYTES)
        cosignatures = tuple(
            [
                Cosignature(
                    reader.take_key(reader.child(column, "cosigner"), COSIGNERS),
                    reader.take_fixed(SIGNATURE_BYTES),
                )
                for _ in range(reader.take_plain(reader.child(column, "cosignatures")))
            ]
        )
        return Envelope(body, signature, cosignatures)

    def _take_bundle(self, column: Column) -> VoteBundle:
        reader = self._reader
        link = [reader.take(reader.child(column, name)) for name in VoteBundle.__struct_fields__[:-1]]
        return VoteBundle(*[*link, reader.take_votes(reader.child(column, "votes"))])


class _Guess:
    """What a header holds as the chain below it and its body say."""

    def __init__(self, place: Place, parent_time: int) -> None:
        self._genesis = place.genesis
        self._height = place.parent_height
        self._hash = place.parent_hash
        self.time = parent_time

    def advance(self, time: int, block_hash: bytes) -> None:
        self._height += 1
        self._hash = block_hash
        self.time = time

    def header(self, time: int, miner: bytes, nonce: int, commitment: tuple[bytes, int]) -> Header:
        target = next_target(self._genesis.parameters, self._genesis.created, self._height, self.time)
        return Header(
            HEADER_VERSION,
            self._height + 1,
            self._hash,
            *commitment,
            NO_STATE_HASH,
            time,
            target,
            miner,
            nonce,
        )


def body_commitment(data: bytes, prefix: bytes) -> tuple[bytes, int]:
    """Return the Merkle root and the count of a body without looking into its records.

    The same as `body_root` for every body that the rules take. For bytes that are no body, the empty root.
    """
    if data == EMPTY_BODY:
        return EMPTY_ROOT, 0
    try:
        body = decode_block_body(data)
    except LedgerError:
        return EMPTY_ROOT, 0
    return _commitment(body, prefix)


def _commitment(body: BlockBody, prefix: bytes) -> tuple[bytes, int]:
    leaves = [_envelope_leaf(envelope, prefix) for envelope in body.records]
    leaves += [bundle_leaf(bundle) for bundle in body.votes]
    return merkle_root(leaves), len(leaves)


def _envelope_leaf(envelope: Envelope, prefix: bytes) -> bytes:
    data = sha256(prefix + envelope.body).digest() + envelope.signature
    for co in envelope.cosignatures:
        data += co.key + co.signature
    return leaf_hash(data)


def _varint(value: int) -> bytes:
    """Return a number in groups of seven bits, lowest first; all but the last with the high bit set."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _varints(data: bytes) -> list[int]:
    numbers, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(value)
            value = shift = 0
    return numbers
