"""Packing final blocks: whatever goes in comes out byte by byte, and damage is seen."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack
from msgspec.structs import replace

from ledger_core.chain.store.columns import Column, ColumnsError, Context, Reader, Writer, unpack
from ledger_core.chain.store.keybook import KeyBook
from ledger_core.chain.store.segment import Place, body_commitment, decode_segment, encode_segment
from ledger_core.chain.store.stored import StoredBlock
from ledger_core.records.block import (
    EMPTY_BODY,
    Block,
    BlockBody,
    Header,
    decode_header,
    encode_block_body,
    header_hash,
)
from ledger_core.records.codec import Cosignature, Envelope, encode_body
from ledger_core.records.merkle import EMPTY_ROOT
from tests.core import strategies
from tests.core.block_tree import BlockTree, tree_random
from tests.core.chains import grow
from tests.core.scenario import eventful_world
from tests.core.strategies import PROFILE
from tests.core.world import START, World

WORLD = World()


def place(
    book: KeyBook, hashes: Sequence[bytes] = (), parent: bytes = WORLD.chain_id, height: int = 0
) -> Place:
    return Place(WORLD.genesis, WORLD.chain_id, height, parent, Context(book, hashes))


def stored(block: Block) -> StoredBlock:
    return StoredBlock(block.header, block.signature, block.body)


@st.composite
def any_bodies(draw: st.DrawFn) -> bytes:
    """Bodies of real records, of any envelopes, and bytes that are no body at all."""
    choice = draw(st.integers(0, 3))
    if choice == 0:
        return draw(st.binary(max_size=200))
    if choice == 1:
        return EMPTY_BODY
    signatures = st.binary(min_size=64, max_size=64)
    real = st.builds(
        Envelope,
        strategies.bodies().map(encode_body),
        signatures,
        st.lists(strategies.cosignatures(), max_size=3).map(tuple),
    )
    of_any_form = strategies.envelopes() if choice == 2 else real
    records = draw(st.lists(of_any_form, max_size=4))
    votes = draw(st.lists(strategies.bundles(), max_size=3))
    return encode_block_body(BlockBody(tuple(records), tuple(votes)))


@st.composite
def any_blocks(draw: st.DrawFn) -> list[StoredBlock]:
    """Headers of any content, some of them right in what can be derived."""
    blocks = []
    parent = WORLD.chain_id
    for height in range(1, draw(st.integers(1, 4)) + 1):
        header = draw(strategies.headers())
        body = draw(any_bodies())
        if draw(st.booleans()):
            root, count = body_commitment(body, WORLD.prefix)
            header = replace(header, version=1, height=height, previous=parent, merkle_root=root, count=count)
        data = header.encode()
        parent = header_hash(data)
        blocks.append(StoredBlock(data, draw(st.binary(min_size=64, max_size=64)), body))
    return blocks


@PROFILE
@given(blocks=any_blocks(), parent_time=st.integers(0, 2**40), known=st.booleans())
def test_any_blocks_come_out_as_they_went_in(
    blocks: list[StoredBlock], parent_time: int, known: bool
) -> None:
    book = KeyBook()
    hashes = [decode_header(blocks[0].header).previous, bytes(32)] if known else []
    data = encode_segment(blocks, place(book, hashes), parent_time)
    assert decode_segment(data, place(book, hashes)) == blocks
    bare = [StoredBlock(block.header, block.signature, None) for block in blocks]
    assert decode_segment(encode_segment(bare, place(book), parent_time), place(book)) == bare


@PROFILE
@given(data=st.data())
def test_a_changed_byte_is_seen(data: st.DataObject) -> None:
    book = KeyBook()
    blocks = [stored(block) for block in SHORT.blocks]
    packed = bytearray(encode_segment(blocks, place(book), START))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ColumnsError):
        decode_segment(bytes(packed), place(book))


@PROFILE
@given(data=st.binary(max_size=300))
def test_bytes_that_are_no_segment_are_refused(data: bytes) -> None:
    with pytest.raises(ColumnsError):
        decode_segment(data, place(KeyBook()))


@pytest.mark.parametrize(
    "columns",
    [
        [],
        [[]],
        [[1, 1, 0]],
        [[1, 0, 0, [4, 1]], [5], [0], [0]],
        [["many", 0, 0, [4, 1]]],
        [[1, 0, 0, [4, -3]]],
        [[1, 0, [1, 2, 3], [4, 1]], [5], [0], [0]],
    ],
)
def test_columns_that_no_writer_made_are_refused(columns: list[list[object]]) -> None:
    writer = Writer(Context(KeyBook()))
    writer._columns = columns
    with pytest.raises(ColumnsError):
        decode_segment(writer.pack(), place(KeyBook()))


SHORT = grow(World(), 6)


def test_a_real_chain_is_packed_to_what_is_random_in_it() -> None:
    world = eventful_world()
    book = KeyBook()
    where = Place(world.genesis, world.chain_id, 0, world.chain_id, Context(book))
    blocks = [stored(block) for block in world.blocks]
    data = encode_segment(blocks, where, world.genesis.created)
    assert decode_segment(data, where) == blocks
    whole = sum(len(block.header) + 64 + len(block.body or b"") for block in blocks)
    signatures = sum(64 + 64 * _signatures(block) for block in world.blocks)
    assert len(data) - signatures < (whole - signatures) // 2


def _signatures(block: Block) -> int:
    body = msgpack.decode(block.body, type=BlockBody)
    single = sum(1 + len(envelope.cosignatures) for envelope in body.records)
    return single + sum(len(bundle.votes) // 66 for bundle in body.votes)


def test_an_empty_block_costs_little_more_than_its_signature() -> None:
    world = grow(World(), 64, records=False, votes=False)
    blocks = [stored(block) for block in world.blocks]
    data = encode_segment(blocks, place(KeyBook()), START)
    # 16 of the blocks are checkpoints: each carries the 32 bytes of a state hash.
    assert (len(data) - 16 * 32) / len(blocks) < 64 + 8


def test_segments_on_random_branches_need_only_what_is_below_them() -> None:
    tree = BlockTree(tree_random(7), 4)
    node = tree.root
    for _ in range(24):
        node = tree.grow(node)
    blocks: list[StoredBlock] = []
    while node.block is not None and node.parent is not None:
        blocks.insert(0, stored(node.block))
        node = node.parent
    world, book = tree.world, KeyBook()
    packed = []
    hashes: list[bytes] = [world.chain_id]
    time = world.genesis.created
    for first in range(0, 24, 2):
        part = blocks[first : first + 2]
        where = Place(world.genesis, world.chain_id, first, hashes[0], Context(book, tuple(hashes[:4])))
        packed.append((encode_segment(part, where, time), where, part))
        hashes.insert(0, header_hash(part[-1].header))
        time = decode_header(part[-1].header).time
    random.Random(1).shuffle(packed)
    for data, where, part in packed:
        assert decode_segment(data, where) == part


def test_what_a_failed_packing_learnt_is_forgotten() -> None:
    book = KeyBook()
    known = book.learn(0, bytes(16))
    body = encode_block_body(
        BlockBody((Envelope(b"\x93\x01\xc4\x01x\x00", bytes(64), (Cosignature(b"k" * 32, bytes(64)),)),))
    )
    header = Header(1, 1, WORLD.chain_id, EMPTY_ROOT, 0, bytes(32), START, 0, b"m" * 32, 0).encode()
    blocks = [StoredBlock(header, bytes(64), body)]
    data = encode_segment(blocks, place(book), START)
    assert decode_segment(data, place(book)) == blocks
    assert book.find(b"k" * 32) is None
    assert book.value(0, known) == bytes(16)


def test_key_book_forgets_the_newest_first() -> None:
    book = KeyBook([(0, b"a"), (1, b"a"), (0, b"b")])
    assert (book.learn(0, b"b"), book.learn(1, b"c"), len(book)) == (1, 1, 4)
    assert book.since(2) == [(0, b"b"), (1, b"c")]
    book.forget_after(1)
    assert book.find(b"a") == (0, 0)
    assert book.find(b"b") is None
    assert book.learn(1, b"d") == 0
    with pytest.raises(LookupError):
        book.value(0, 1)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=8)
    | st.binary(max_size=70)
    | st.sampled_from([bytes(16), b"k" * 32, b"h" * 32, bytes(64), bytes(8)]),
    lambda inner: st.lists(inner, max_size=40).map(tuple),
    max_leaves=60,
)


@PROFILE
@given(values=st.lists(VALUES, max_size=8))
def test_any_values_come_out_of_columns(values: list[object]) -> None:
    book = KeyBook([(1, b"k" * 32)])
    context = Context(book, [b"h" * 32])
    writer = Writer(context)
    for value in values:
        writer.put(writer.root, value)
    reader = Reader(writer.pack(), context)
    assert [reader.take(reader.root) for _ in values] == values


@pytest.mark.parametrize("value", [1.5, {"a": 1}, object()])
def test_columns_take_only_what_records_are_made_of(value: object) -> None:
    writer = Writer(Context(KeyBook()))
    with pytest.raises(ColumnsError, match="no place"):
        writer.put(writer.root, value)


def test_columns_refuse_what_is_nested_too_deeply() -> None:
    nested: object = ()
    for _ in range(40):
        nested = (nested, 1)
    writer = Writer(Context(KeyBook()))
    with pytest.raises(ColumnsError, match="deeply"):
        writer.put(writer.root, nested)


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        b"\x80",
        b"\x91\x01",
        b"\x92\x01\x02",
        msgpack.encode(["tag", bytes(32)]),
        msgpack.encode([-1, bytes(32)]),
        msgpack.encode([1, bytes(31)]),
        b"\x92\xcc\x01" + msgpack.encode(bytes(32)),
        b"\x91" * 4000,
    ],
)
def test_only_canonical_tagged_structs_are_packed(data: bytes) -> None:
    writer = Writer(Context(KeyBook()))
    with pytest.raises(ColumnsError):
        writer.put_packed(writer.root, data)


@pytest.mark.parametrize("indexes", [[0], [3, 7, 300], [7, 3], [5, 5]])
def test_votes_in_any_order(indexes: list[int]) -> None:
    votes = b"".join(index.to_bytes(2) + bytes([index % 251]) * 64 for index in indexes)
    context = Context(KeyBook())
    writer = Writer(context)
    writer.put_votes(writer.root, votes)
    reader = Reader(writer.pack(), context)
    assert reader.take_votes(reader.root) == votes


@pytest.mark.parametrize("votes", [b"", bytes(65), bytes(67)])
def test_votes_of_a_wrong_length_are_refused(votes: bytes) -> None:
    writer = Writer(Context(KeyBook()))
    with pytest.raises(ColumnsError, match="whole number"):
        writer.put_votes(writer.root, votes)


def test_a_missing_dictionary_and_cut_off_bytes_are_named() -> None:
    writer = Writer(Context(KeyBook()))
    writer.put_apart(writer.root, bytes(64))
    data = writer.pack()
    assert isinstance(writer.root, Column)
    with pytest.raises(ColumnsError, match="checksum"):
        unpack(data[:-1], [])
    reader = Reader(data, Context(KeyBook()))
    reader._data = data[:-1]
    with pytest.raises(ColumnsError, match="missing at the end"):
        reader.take(reader.root)


def test_times_far_apart_come_out_as_they_went_in() -> None:
    """No valid chain has them; what follows from such a time does not fit into a header."""
    first = Header(0, 0, bytes(32), bytes(32), 0, bytes(32), (1 << 60) + 1, 0, bytes(32), 0)
    blocks = [StoredBlock(header.encode(), bytes(64), None) for header in (first, replace(first, time=1))]
    book = KeyBook()
    assert decode_segment(encode_segment(blocks, place(book), 0), place(book)) == blocks
