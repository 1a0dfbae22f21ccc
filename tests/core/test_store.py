"""The store keeps what a chain gives it: compared with the plain store in memory, and across restarts."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger_core.chain.chain import Chain
from ledger_core.chain.model import Commit, Connected, SnapshotInfo
from ledger_core.chain.recovery import quick_check, verify_store
from ledger_core.chain.store import archive, shared
from ledger_core.chain.store.opening import open_store
from ledger_core.chain.store.store import SqliteStore
from ledger_core.chain.verify import Verifier
from ledger_core.community import Genesis
from ledger_core.errors import ChainError, RuleError
from ledger_core.records.block import Block, decode_header
from tests.core.block_tree import BlockTree, tree_random
from tests.core.chains import LATER, assert_holds, fill, grow, pay, state_hash, twin, verifier
from tests.core.memory_store import MemoryStore
from tests.core.scenario import eventful_world
from tests.core.world import TEST_PARAMETERS, World


@pytest.fixture
def checker() -> Iterator[Verifier]:
    with verifier() as made:
        yield made


@pytest.fixture(autouse=True)
def _close_stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close what a failed test left open: it would be held against the tests after it."""
    opened: list[SqliteStore] = []
    honest = SqliteStore.__init__

    def remember(self: SqliteStore, *arguments: Any, **options: Any) -> None:
        honest(self, *arguments, **options)
        opened.append(self)

    monkeypatch.setattr(SqliteStore, "__init__", remember)
    yield
    for store in opened:
        store.close()


class BothStores(MemoryStore):
    """Hands every commit to two stores and compares all that they can be asked."""

    def __init__(self, genesis: Genesis, store: SqliteStore) -> None:
        super().__init__(genesis)
        self.store = store

    def commit(self, commit: Commit) -> None:
        super().commit(commit)
        self.store.commit(commit)
        self.compare()

    def compare(self) -> None:
        store = self.store
        assert store.tip() == self.tip()
        assert store.final() == self.final()
        mine, its = list(self.recent()), list(store.recent())
        assert its == mine
        for row in its:
            assert store.block(row.hash) == self.block(row.hash)
            if row.active and row.hash != self.final()[1]:
                assert store.undo(row.hash) == self.undo(row.hash)
        for height in range(self.tip()[0] + 2):
            assert store.block_at(height) == self.block_at(height)
            assert store.header_at(height) == self.header_at(height)
        kept = store.snapshots()
        final = self.final()[0]
        assert [info for info in kept if info.height <= final] == [
            info for info in self.snapshots() if info.height <= final and self._on_branch(info)
        ][:2]
        for info in kept:
            assert store.snapshot(info.hash) == self.snapshot(info.hash)

    def _on_branch(self, info: SnapshotInfo) -> bool:
        return self._active[info.height] == info.hash


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32), homes=st.integers(3, 4), size=st.integers(10, 50))
def test_a_random_tree_is_kept_as_in_memory(
    checker: Verifier, tmp_path_factory: pytest.TempPathFactory, seed: int, homes: int, size: int
) -> None:
    tree = BlockTree(tree_random(seed), homes)
    for _ in range(size):
        recent = tree.nodes[-3:] if tree.random.random() < 0.8 else tree.nodes
        tree.grow(tree.random.choice(recent))
    directory = tmp_path_factory.mktemp("tree")
    store = open_store(directory, tree.world.genesis)
    chain = Chain.open(BothStores(tree.world.genesis, store), checker)
    blocks = [node.block for node in tree.nodes if node.block is not None]
    for block in blocks:
        with contextlib.suppress(RuleError):
            # Below a final block that a branch seen later made final.
            chain.add_block(block, LATER)
    quick_check(store)
    store.close()
    again = open_store(directory)
    assert again.tip() == (chain.height, chain.tip_hash)
    restarted = Chain.open(again, checker)
    assert restarted.state.hash() == chain.state.hash()
    assert len(restarted.index) == len(chain.index)
    report = verify_store(again, checker)
    assert (report.height, report.state_hash) == (chain.height, chain.state.hash())
    again.close()


def test_an_eventful_chain_one_by_one_and_in_batches(tmp_path: Path, checker: Verifier) -> None:
    world = grow(eventful_world(), 30, records=False)
    single = open_store(tmp_path / "single", world.genesis)
    fill(single, world.blocks)
    batched = open_store(tmp_path / "batched", world.genesis)
    batched.set_durable(durable=False)
    chain = Chain.open(batched, checker)
    assert chain.add_blocks(world.blocks, LATER) == len(world.blocks)
    batched.set_durable(durable=True)
    assert chain.final_height >= 16
    for store in (single, batched):
        assert_holds(store, world.blocks)
        assert state_hash(store) == world.state.hash()
        assert verify_store(store, checker).blocks == len(world.blocks)
        store.close()


def test_a_new_store_stands_at_the_genesis(tmp_path: Path) -> None:
    world = World()
    store = open_store(tmp_path, world.genesis)
    assert store.genesis == world.genesis
    assert store.tip() == store.final() == (0, world.chain_id)
    assert list(store.recent()) == []
    assert store.snapshots() == []
    assert [store.block_at(height) for height in (-1, 0, 1)] == [None] * 3
    assert store.header_at(0) is None
    assert store.block(world.chain_id) is None
    assert store.sealed_headers(0, 5) == []
    assert state_hash(store) == world.state.hash()
    store.close()


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    store = open_store(tmp_path, World().genesis)
    with pytest.raises(ChainError) as refusal:
        store.undo(bytes(32))
    assert refusal.value.code == "undo_missing"
    with pytest.raises(ChainError) as refusal:
        store.snapshot(bytes(32))
    assert refusal.value.code == "snapshot_missing"
    store.close()
    with pytest.raises(ChainError) as refusal:
        store.block_at(1)
    assert refusal.value.code == "store_closed"
    with pytest.raises(ChainError) as refusal:
        store.commit(Commit())
    assert refusal.value.code == "store_closed"


def test_headers_are_given_in_ranges_across_the_archive(tmp_path: Path) -> None:
    world = grow(World(), 30)
    store = open_store(tmp_path, world.genesis)
    fill(store, world.blocks)
    sealed = [(block.header, block.signature) for block in world.blocks]
    assert 0 < store.final()[0] < 29
    for first in range(1, 31):
        for count in (1, 3, 10, 100):
            assert store.sealed_headers(first, count) == sealed[first - 1 : first - 1 + count]
    assert store.sealed_headers(31, 1) == store.sealed_headers(-3, 2) == []
    store.close()


def commit_of(*blocks: Block, arrival: int = 1, undo: bytes = b"undo") -> Commit:
    added = [(block, arrival + number) for number, block in enumerate(blocks)]
    return Commit(added=added, connected=[Connected(block.hash, undo) for block in blocks])


def test_commits_that_do_not_fit_change_nothing(tmp_path: Path) -> None:
    world = grow(World(), 8, votes=False)
    blocks = world.blocks
    store = open_store(tmp_path, world.genesis)
    store.commit(commit_of(*blocks[:5]))
    store.commit(Commit(final=(4, blocks[3].hash)))
    unfit = {
        "in the store already": Commit(added=[(blocks[4], 9)]),
        "is not in the store": Commit(connected=[Connected(blocks[5].hash, b"")]),
        "does not follow the tip": commit_of(blocks[6], arrival=9),
        "only the tip": Commit(disconnected=[blocks[3].hash]),
        "a final block": Commit(disconnected=[blocks[4].hash, blocks[3].hash]),
        "goes down": Commit(final=(2, blocks[1].hash)),
        "not on the active": Commit(final=(8, blocks[7].hash)),
        "above the tip": Commit(snapshot=(SnapshotInfo(9, bytes(32), bytes(32)), b"")),
    }
    for why, commit in unfit.items():
        with pytest.raises(ChainError, match=why) as refusal:
            store.commit(commit)
        assert refusal.value.code == "commit_inconsistent"
        assert_holds(store, blocks[:5])
        assert store.final() == (4, blocks[3].hash)
    wrong_final = Commit(final=(5, bytes(32)))
    with pytest.raises(ChainError, match="not on the active"):
        store.commit(wrong_final)
    assert [row.hash for row in store.recent()] == [blocks[3].hash, blocks[4].hash]
    store.commit(commit_of(*blocks[5:], arrival=9))
    assert_holds(store, blocks)
    store.close()


def test_a_branch_is_taken_back_and_another_joined(tmp_path: Path) -> None:
    world = grow(World(), 6)
    other = twin(world, 4)
    grow(other, 4, step=31, votes=False)
    store = open_store(tmp_path, world.genesis)
    chain = fill(store, world.blocks)
    for block in other.blocks[4:]:
        chain.add_block(block, LATER)
    # More work does not beat the justified checkpoint of the first branch.
    assert_holds(store, world.blocks)
    side = [row for row in store.recent() if not row.active]
    assert [row.hash for row in side] == [block.hash for block in other.blocks[4:]]
    with pytest.raises(ChainError) as refusal:
        store.undo(side[0].hash)
    assert refusal.value.code == "undo_missing"
    grow(world, 8)
    for block in world.blocks[6:]:
        chain.add_block(block, LATER)
    assert chain.final_height >= 8
    assert all(row.active for row in store.recent())
    assert store.block(side[0].hash) is None
    store.close()


def test_a_refused_block_on_a_side_branch_is_remembered(tmp_path: Path) -> None:
    world = grow(World(), 2, votes=False)
    bad = twin(world, 1)
    grow(bad, 1, step=31)
    bad.state.parameters = replace(bad.state.parameters, credit_limit=10**12)
    store = open_store(tmp_path, world.genesis)
    chain = fill(store, [*world.blocks, bad.blocks[1]])
    bad.mine(pay(bad, 10**11))
    with pytest.raises(RuleError):
        chain.add_block(bad.blocks[2], LATER)
    assert_holds(store, world.blocks)
    recent = {row.hash: row for row in store.recent()}
    assert not recent[bad.blocks[1].hash].invalid
    store.commit(Commit(invalid=[bad.blocks[1].hash]))
    assert {row.hash for row in store.recent() if row.invalid} == {bad.blocks[1].hash}
    store.commit(Commit(dropped=[bad.blocks[1].hash]))
    assert all(not row.invalid for row in store.recent())
    store.close()


def test_snapshots_of_other_branches_and_old_ones_go(tmp_path: Path) -> None:
    world = grow(World(), 8, votes=False)
    other = twin(world, 4)
    grow(other, 2, step=31, votes=False)
    store = open_store(tmp_path, world.genesis)
    blocks = world.blocks
    store.commit(commit_of(*blocks[:6]))
    side = other.blocks[4:6]
    store.commit(Commit(added=[(block, 20 + number) for number, block in enumerate(side)]))

    def keep(height: int, block_hash: bytes) -> None:
        store.commit(Commit(snapshot=(SnapshotInfo(height, block_hash, bytes(32)), b"state %d" % height)))

    for height in (1, 2, 3, 4, 6):
        keep(height, blocks[height - 1].hash)
    keep(5, side[0].hash)
    keep(5, side[0].hash)
    assert [info.height for info in store.snapshots()] == [6, 5, 4, 3, 2, 1]
    assert store.snapshot(side[0].hash) == b"state 5"
    store.commit(Commit(disconnected=[blocks[5].hash]))
    assert [info.height for info in store.snapshots()] == [5, 4, 3, 2, 1]
    store.commit(Commit(connected=[Connected(blocks[5].hash, b"undo")]))
    store.commit(replace(commit_of(*blocks[6:], arrival=40), final=(8, blocks[7].hash)))
    assert [info.height for info in store.snapshots()] == [4, 3]
    assert [row.hash for row in store.recent()] == [blocks[7].hash]
    store.close()


def test_long_intervals_are_cut_into_several_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checker: Verifier
) -> None:
    monkeypatch.setattr(archive, "MAX_SEGMENT_BLOCKS", 3)
    monkeypatch.setattr(archive, "CACHE_BYTES", 4000)
    world = grow(World(), 30)
    store = open_store(tmp_path, world.genesis)
    fill(store, world.blocks)
    assert_holds(store, world.blocks)
    verify_store(store, checker)
    with sqlite3.connect(tmp_path / "chain.db") as connection:
        firsts = [row[0] for row in connection.execute("SELECT first FROM segments")]
    connection.close()
    assert firsts[:4] == [1, 4, 5, 8]
    store.close()


def test_a_dictionary_is_made_once_there_is_enough_to_learn_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "TRAINED_AT", (20, 40))
    world = grow(World(), 20)
    # Trained dictionaries need samples of some size.
    while world.state.tip.final < 180:
        height = world.state.tip.height
        records = [pay(world, height * 10 + number) for number in range(4)]
        votes = world.votes(height - 5, height - 1) if height % 4 == 1 else ()
        world.mine(*records, bundles=votes)
    store = open_store(tmp_path, world.genesis)
    chain = Chain.open(store, verifier())
    chain.add_blocks(world.blocks[:150], LATER)
    chain.add_blocks(world.blocks[150:], LATER)
    assert_holds(store, world.blocks)
    store.close()
    store = open_store(tmp_path)
    assert_holds(store, world.blocks)
    assert state_hash(store) == world.state.hash()
    store.close()
    with sqlite3.connect(tmp_path / "chain.db") as connection:
        rows = connection.execute("SELECT first, substr(data, 5, 1) FROM segments ORDER BY first").fetchall()
        count = connection.execute("SELECT count(*) FROM dictionaries").fetchone()[0]
    connection.close()
    used = [row[1][0] for row in rows]
    assert count == 2
    assert used == sorted(used)
    assert (used[0], used[-1]) == (0, 2)


def test_reading_from_many_threads_while_one_writes(tmp_path: Path) -> None:
    world = grow(World(), 60)
    store = open_store(tmp_path, world.genesis)
    chain = fill(store, world.blocks[:20])
    faults: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                tip = store.tip()[0]
                for height in range(max(tip - 12, 1), tip + 1):
                    assert store.block_at(height) == world.blocks[height - 1]
                assert len(store.sealed_headers(1, 12)) == 12
                assert list(store.recent())
        except BaseException as fault:  # noqa: BLE001 - shown by the test
            faults.append(fault)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for block in world.blocks[20:]:
        chain.add_block(block, LATER)
    done.set()
    for thread in threads:
        thread.join()
    assert faults == []
    assert_holds(store, world.blocks)
    store.close()


def test_readers_can_not_write_and_see_what_a_node_does(tmp_path: Path) -> None:
    world = grow(World(), 40)
    store = open_store(tmp_path, world.genesis)
    chain = fill(store, world.blocks[:12])
    reader = open_store(tmp_path, writable=False)
    assert_holds(reader, world.blocks[:12])
    for block in world.blocks[12:]:
        chain.add_block(block, LATER)
    assert reader.head() == store.head()
    assert_holds(reader, world.blocks)
    assert state_hash(reader) == world.state.hash()
    for change in (
        lambda: reader.commit(Commit()),
        lambda: reader.prune(10),
        lambda: reader.set_durable(durable=True),
        reader.compact,
    ):
        with pytest.raises(ChainError) as refusal:
            change()
        assert refusal.value.code == "store_read_only"
    with reader._database.reading() as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM recent")
    reader.close()
    with store._database.reading() as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM recent")
    assert_holds(store, world.blocks)
    store.close()


def test_recent_blocks_come_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ledger_core.chain.store import recent

    monkeypatch.setattr(recent, "_PAGE", 7)
    world = grow(World(), 30, votes=False)
    store = open_store(tmp_path, world.genesis)
    fill(store, world.blocks)
    rows = list(store.recent())
    assert [row.hash for row in rows] == [block.hash for block in world.blocks]
    assert [row.arrival for row in rows] == sorted(row.arrival for row in rows)
    store.close()


def test_settings_of_the_database(tmp_path: Path) -> None:
    store = open_store(tmp_path, World().genesis)
    writer = store._database.writer()

    def pragma(name: str) -> object:
        return writer.execute(f"PRAGMA {name}").fetchone()[0]

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2
    store.set_durable(durable=False)
    assert pragma("synchronous") == 1
    store.set_durable(durable=True)
    assert pragma("synchronous") == 2
    assert pragma("application_id") == 0x454C4331
    assert pragma("page_size") == 1024
    assert pragma("journal_size_limit") == 4 * 1024 * 1024
    strict = writer.execute("SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND strict = 0")
    assert strict.fetchone()[0] == 1  # SQLite's own list of tables
    assert store.usage().database > 0
    store.close()


def test_a_small_interval_and_a_large_one(tmp_path: Path, checker: Verifier) -> None:
    for interval in (2, 100):
        world = World(parameters=replace(TEST_PARAMETERS, checkpoint_interval=interval))
        for _ in range(3):
            world.mine()
        while world.state.tip.final == 0:
            height = world.state.tip.height
            target = height - height % interval
            wanted = height % interval == 1 and target > 0
            world.mine(bundles=world.votes(target - interval, target) if wanted else ())
        store = open_store(tmp_path / str(interval), world.genesis)
        chain = fill(store, world.blocks)
        assert chain.final_height == interval
        assert_holds(store, world.blocks)
        assert decode_header(store.header_at(interval) or b"").height == interval
        verify_store(store, checker)
        store.close()
