"""Bytes of headers, blocks and bodies, and the Merkle tree over a body."""

import struct
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger_core.records.block import (
    EMPTY_BODY,
    HEADER_BYTES,
    NONCE_OFFSET,
    Block,
    BlockBody,
    Header,
    decode_block,
    decode_block_body,
    decode_header,
    encode_block,
    encode_block_body,
    record_leaf,
)
from ledger_core.records.codec import record_prefix
from ledger_core.records.merkle import EMPTY_ROOT, leaf_hash, merkle_branch, merkle_root, root_from_branch
from ledger_core.records.votes import VOTE_BYTES
from tests.core.actions import street, transfer
from tests.core.attempts import attempt, code_of
from tests.core.strategies import PROFILE, block_bodies, headers


@PROFILE
@given(headers())
def test_header_round_trip(header: Header) -> None:
    data = header.encode()
    assert len(data) == HEADER_BYTES == 158
    assert decode_header(data) == header
    assert data[NONCE_OFFSET:] == header.nonce.to_bytes(8)


@PROFILE
@given(headers(), st.integers(0, HEADER_BYTES * 8 - 1))
def test_flipped_bit_of_a_header_changes_a_field_and_the_hash(header: Header, position: int) -> None:
    data = bytearray(header.encode())
    data[position // 8] ^= 1 << position % 8
    other = decode_header(bytes(data))
    assert other != header
    assert sha256(bytes(data)).digest() != sha256(header.encode()).digest()


@pytest.mark.parametrize("size", [0, HEADER_BYTES - 1, HEADER_BYTES + 1])
def test_header_of_another_length(size: int) -> None:
    assert code_of(decode_header, bytes(size)) == "header_malformed"


@PROFILE
@given(block_bodies())
def test_body_round_trip(body: BlockBody) -> None:
    data = encode_block_body(body)
    assert decode_block_body(data) == body


@PROFILE
@given(headers(), block_bodies(), st.binary(min_size=64, max_size=64))
def test_block_round_trip(header: Header, body: BlockBody, signature: bytes) -> None:
    block = Block(header.encode(), signature, encode_block_body(body))
    assert decode_block(encode_block(block)) == block
    assert block.hash == sha256(block.header).digest()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "block_malformed"),
        (b"\xc0", "block_malformed"),
        (b"\x90", "block_not_canonical"),
        (b"\x91\x90", "block_not_canonical"),
        (b"\x92\x90\x90\x00", "block_malformed"),
        (b"\x93\x90\x90\x90", "block_malformed"),
        (b"\x92\xdc\x00\x00\x90", "block_not_canonical"),
        (b"\x92\x90\x91\x96\x00\x00\xc4\x00\x00\xc4\x00\xc4\x00", "block_malformed"),
        (b"\x92" + b"\x91" * 10_000, "block_malformed"),
    ],
)
def test_other_bodies_are_refused(data: bytes, code: str) -> None:
    assert code_of(decode_block_body, data) == code


def test_empty_body_is_two_empty_lists() -> None:
    assert EMPTY_BODY == b"\x92\x90\x90"
    assert decode_block_body(EMPTY_BODY) == BlockBody()


@pytest.mark.parametrize("extra", [-1, 1, VOTE_BYTES - 1])
def test_votes_come_in_whole_pieces(extra: int) -> None:
    head = b"\x92\x90\x91\x96\x00\x00" + b"\xc4\x20" + bytes(32) + b"\x00" + b"\xc4\x20" + bytes(32)
    size = VOTE_BYTES * 2 + extra
    assert code_of(decode_block_body, head + b"\xc4" + bytes([size]) + bytes(size)) == "block_malformed"
    whole = VOTE_BYTES * 2
    assert code_of(decode_block_body, head + b"\xc4" + bytes([whole]) + bytes(whole)) == ""


def test_damaged_block_bytes() -> None:
    world = street()
    data = encode_block(world.block(transfer(world, "anna", "bert", 5)))
    assert code_of(decode_block, data[:-1]) == "block_malformed"
    assert code_of(decode_block, data + b"\0") == "block_malformed"
    assert code_of(decode_block, data.replace(b"\xc4\x9e", b"\xc5\x00\x9e", 1)) == "block_not_canonical"
    assert code_of(decode_block, b"\x93" + b"\x91" * 9_000) == "block_malformed"
    for position in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        other = attempt(decode_block, bytes(flipped))
        assert isinstance(other, (Block, Exception))
        assert other != decode_block(data)


def slow_root(leaves: list[bytes]) -> bytes:
    """RFC 6962's definition: split at the largest power of two below the count."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + slow_root(leaves[:split]) + slow_root(leaves[split:])).digest()


@pytest.mark.parametrize("count", [*range(18), 31, 33])
def test_merkle_root_and_branches(count: int) -> None:
    leaves = [leaf_hash(struct.pack(">I", number)) for number in range(count)]
    root = merkle_root(leaves)
    assert root == slow_root(leaves)
    for index in range(count):
        branch = merkle_branch(leaves, index)
        assert root_from_branch(leaves[index], index, count, branch) == root
        for wrong in range(count):
            if wrong != index:
                assert root_from_branch(leaves[index], wrong, count, branch) != root
        assert root_from_branch(leaves[index], index, count, [*branch, root]) is None
        if branch:
            assert root_from_branch(leaves[index], index, count, branch[:-1]) is None


def test_merkle_tree_tells_shapes_apart() -> None:
    """Neither a doubled last leaf nor an inner node passes for another tree (CVE-2012-2459)."""
    leaves = [leaf_hash(bytes([number])) for number in range(3)]
    assert merkle_root(leaves) != merkle_root([*leaves, leaves[-1]])
    inner = sha256(b"\x01" + leaves[0] + leaves[1]).digest()
    assert merkle_root(leaves) == merkle_root([inner, leaves[2]])
    assert leaf_hash(leaves[0] + leaves[1]) != inner
    assert merkle_root([]) == EMPTY_ROOT
    with pytest.raises(IndexError):
        merkle_branch(leaves, 3)
    assert root_from_branch(leaves[0], 3, 3, []) is None


def test_leaf_covers_id_and_all_signatures() -> None:
    world = street()
    record = transfer(world, "anna", "bert", 5)
    cosigned = world.sign(record.body, world["anna"].key, world["bert"].key)
    assert cosigned.id == record.id
    stripped = replace(cosigned, envelope=replace(cosigned.envelope, cosignatures=()))
    other = world.opened(replace(record.envelope, signature=bytes(64)))
    leaves = {record_leaf(entry) for entry in (record, cosigned, other)}
    assert len(leaves) == 3
    assert record_leaf(stripped) == record_leaf(record)
    assert record_prefix(world.chain_id).endswith(world.chain_id)
