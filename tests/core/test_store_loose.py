"""Segments that a sync stores as they come, and their packing afterwards: the same as packed at once."""

import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_core.chain.chain import Chain
from ledger_core.chain.rebuild import rebuild
from ledger_core.chain.recovery import verify_store
from ledger_core.chain.store import schema, shared, store, transaction
from ledger_core.chain.store.columns import ColumnsError
from ledger_core.chain.store.loose import decode_loose, encode_loose, is_loose
from ledger_core.chain.store.opening import open_store
from ledger_core.chain.store.salvage import open_damaged
from ledger_core.chain.store.store import SqliteStore
from ledger_core.chain.store.stored import StoredBlock
from ledger_core.errors import ChainError
from tests.core.chains import LATER, assert_holds, database, fill, grow, pay, state_hash, verifier
from tests.core.world import World

BLOCKS = 120


@pytest.fixture(scope="module")
def world() -> World:
    return grow(World(), BLOCKS)


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "LOOSE_BLOCKS", 8)
    monkeypatch.setattr(store, "_PACKED_AT_ONCE", 3)


def synced(
    directory: Path, world: World, *, pack_later: bool, first: int = 0, last: int = BLOCKS
) -> SqliteStore:
    """A store that took some of the blocks in one commit."""
    made = open_store(directory, world.genesis)
    made.pack_later = pack_later
    Chain.open(made, verifier()).add_blocks(world.blocks[first:last], LATER)
    return made


def segments(directory: Path) -> list[tuple[int, bytes, bytes]]:
    with closing(sqlite3.connect(database(directory))) as connection:
        return connection.execute("SELECT first, parent, data FROM segments ORDER BY first").fetchall()


def loose_firsts(directory: Path) -> list[int]:
    with closing(sqlite3.connect(database(directory))) as connection:
        return [row[0] for row in connection.execute("SELECT first FROM loose ORDER BY first")]


def pack_all(packed: SqliteStore) -> int:
    """Pack to the end; returns in how many pieces."""
    pieces = 1
    while packed.pack_some():
        pieces += 1
    return pieces


def test_packed_later_is_packed_alike(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "TRAINED_AT", (20,))
    synced(tmp_path / "at once", world, pack_later=False).close()
    with synced(tmp_path / "later", world, pack_later=True) as late:
        rows = segments(tmp_path / "later")
        assert (
            loose_firsts(tmp_path / "later")
            == [first for first, _, _ in rows]
            == list(range(1, len(rows) * 4, 4))
        )
        assert all(is_loose(data) for _, _, data in rows)
        assert_holds(late, world.blocks)
        # As often as it takes, and once to see that nothing is left.
        assert pack_all(late) == -(-len(rows) // 3)
        assert not late.pack_some()
        assert_holds(late, world.blocks)
    assert loose_firsts(tmp_path / "later") == []
    assert segments(tmp_path / "later") == segments(tmp_path / "at once")
    with open_store(tmp_path / "later") as again:
        assert_holds(again, world.blocks)
        assert state_hash(again) == world.state.hash()
        with verifier() as checker:
            verify_store(again, checker)


def test_few_blocks_are_packed_at_once(world: World, tmp_path: Path) -> None:
    with open_store(tmp_path, world.genesis) as made:
        made.pack_later = True
        fill(made, world.blocks[:40])
        assert loose_firsts(tmp_path) == []
        assert not any(is_loose(data) for _, _, data in segments(tmp_path))


def test_the_node_goes_on_above_what_is_still_loose(world: World, tmp_path: Path) -> None:
    with synced(tmp_path, world, pack_later=True, last=60) as made:
        left = loose_firsts(tmp_path)
        assert left
        assert made.pack_some()
        assert loose_firsts(tmp_path) == left[3:]
        chain = Chain.open(made, verifier())
        for block in world.blocks[60:]:
            chain.add_block(block, LATER)
        assert loose_firsts(tmp_path) == left[3:]
        assert_holds(made, world.blocks)
    with open_store(tmp_path) as made:
        assert_holds(made, world.blocks)
        pack_all(made)
        assert_holds(made, world.blocks)


def test_bodies_go_from_loose_segments_as_well(world: World, tmp_path: Path) -> None:
    with synced(tmp_path, world, pack_later=True) as made:
        pruned = made.prune(60)
        assert 0 < pruned < 60
        assert_holds(made, world.blocks, pruned)
        assert loose_firsts(tmp_path)[0] == pruned + 1
        pack_all(made)
        assert_holds(made, world.blocks, pruned)
    with open_store(tmp_path) as made:
        assert_holds(made, world.blocks, pruned)
        assert state_hash(made) == world.state.hash()


def test_a_failed_packing_leaves_what_was_there(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with synced(tmp_path, world, pack_later=True) as made:
        rows, numbers = segments(tmp_path), len(made._archive._book)
        with monkeypatch.context() as patched:
            patched.setattr(made, "_on_stage", fail_at("before commit"))
            with pytest.raises(ChainError, match="before commit"):
                made.pack_some()
        assert (segments(tmp_path), len(made._archive._book)) == (rows, numbers)
        pack_all(made)
        assert_holds(made, world.blocks)


def fail_at(name: str) -> transaction.StageHook:
    def hook(stage: str) -> None:
        if stage == name:
            raise OSError(stage)

    return hook


def test_a_damaged_loose_segment_is_named(world: World, tmp_path: Path) -> None:
    synced(tmp_path, world, pack_later=True).close()
    with closing(sqlite3.connect(database(tmp_path), autocommit=True)) as connection:
        data = bytearray(connection.execute("SELECT data FROM segments WHERE first = 9").fetchone()[0])
        data[300] ^= 1
        connection.execute("UPDATE segments SET data = ? WHERE first = 9", (bytes(data),))
    with open_store(tmp_path) as made:
        assert made.block_at(8) == world.blocks[7]
        with pytest.raises(
            ChainError, match="the segment from block 9 is not readable: the checksum is wrong"
        ):
            made.block_at(9)
        with pytest.raises(ChainError, match="from block 9"):
            pack_all(made)
        assert made.block_at(8) == world.blocks[7]


def test_loose_segments_are_saved_from_a_damaged_database(world: World, tmp_path: Path) -> None:
    synced(tmp_path, world, pack_later=True).close()
    with open_damaged(database(tmp_path), None, tmp_path) as found:
        saved = dict(found.segments())
    assert list(saved) == loose_firsts(tmp_path)
    assert saved[9] == [
        StoredBlock(block.header, block.signature, block.body) for block in world.blocks[8:12]
    ]
    with verifier() as checker:
        report = rebuild(tmp_path, checker, LATER)
    assert report.height == BLOCKS
    assert loose_firsts(tmp_path) == []
    with open_store(tmp_path) as made:
        assert_holds(made, world.blocks)


def test_a_database_from_before_loose_segments_gets_them(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        first = open_store(tmp_path, world.genesis)
        fill(first, world.blocks[:20])
        first.close()
    with synced(tmp_path, world, pack_later=True, first=20) as made:
        assert loose_firsts(tmp_path)
        assert_holds(made, world.blocks)
        pack_all(made)
        assert_holds(made, world.blocks)


def test_a_dictionary_is_not_made_of_loose_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "TRAINED_AT", (20,))
    made = grow(World(), 20)
    while made.state.tip.final < 180:
        height = made.state.tip.height
        records = [pay(made, height * 10 + number) for number in range(4)]
        votes = made.votes(height - 5, height - 1) if height % 4 == 1 else ()
        made.mine(*records, bundles=votes)
    with open_store(tmp_path, made.genesis) as late:
        late.pack_later = True
        chain = Chain.open(late, verifier())
        chain.add_blocks(made.blocks[:150], LATER)
        # Packed at once, high above the loose ones: too few to learn from, and no reason to fail.
        for block in made.blocks[150:]:
            chain.add_block(block, LATER)
        pack_all(late)
        assert_holds(late, made.blocks)
    with closing(sqlite3.connect(database(tmp_path))) as connection:
        assert connection.execute("SELECT count(*) FROM dictionaries").fetchone()[0] == 1
        used = {row[0][0] for row in connection.execute("SELECT substr(data, 5, 1) FROM segments")}
    assert used == {0, 1}


ANY_BLOCKS = st.lists(
    st.builds(
        StoredBlock, st.binary(max_size=200), st.binary(max_size=70), st.none() | st.binary(max_size=99)
    ),
    max_size=9,
)


@given(ANY_BLOCKS)
def test_whatever_goes_in_comes_out(blocks: list[StoredBlock]) -> None:
    data = encode_loose(blocks)
    assert is_loose(data)
    assert decode_loose(data) == blocks


@given(ANY_BLOCKS, st.data())
def test_every_changed_byte_is_seen(blocks: list[StoredBlock], data: st.DataObject) -> None:
    good = encode_loose(blocks)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + bytes((good[at] ^ data.draw(st.integers(1, 255)),)) + good[at + 1 :]
    with pytest.raises(ColumnsError):
        decode_loose(bad)
    with pytest.raises(ColumnsError):
        decode_loose(good[: data.draw(st.integers(0, len(good) - 1))])


def test_a_good_checksum_over_no_blocks() -> None:
    for content in (b"\xff", b"\xff\x01", b"\xff\x91\x93\xc0\xc0\xc0", b"\xff\x90\x00"):
        data = zlib.crc32(content).to_bytes(4) + content
        assert is_loose(data)
        with pytest.raises(ColumnsError, match="not a list of blocks"):
            decode_loose(data)
