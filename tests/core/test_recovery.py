"""Finding damage, and making a chain whole again from what is left of it."""

import random
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from ledger_core.chain import chain as chain_module
from ledger_core.chain import recovery
from ledger_core.chain.chain import Chain
from ledger_core.chain.model import Commit, Connected, SnapshotInfo
from ledger_core.chain.rebuild import RebuildReport, rebuild
from ledger_core.chain.recovery import HeaderChain, quick_check, verify_store
from ledger_core.chain.store import files, pruning
from ledger_core.chain.store.blockfile import BlockFile, is_block_file, write_blocks
from ledger_core.chain.store.opening import open_store
from ledger_core.chain.store.store import SqliteStore
from ledger_core.chain.verify import Verifier
from ledger_core.errors import ChainError, LedgerError, RuleError
from ledger_core.records.block import Block, decode_header, header_hash
from tests.core.chains import (
    LATER,
    assert_holds,
    database,
    fill,
    flip,
    grow,
    pay,
    state_hash,
    twin,
    verifier,
)
from tests.core.world import World

NOW = 1_900_000_000


@pytest.fixture
def checker() -> Iterator[Verifier]:
    with verifier() as made:
        yield made


@pytest.fixture(autouse=True)
def _frequent_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "SNAPSHOT_EVERY", 1)


@pytest.fixture(scope="module")
def world() -> World:
    return grow(World(), 46)


@pytest.fixture(scope="module")
def made(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a chain of 46 blocks, 40 of them final, and a side branch."""
    directory = tmp_path_factory.mktemp("made")
    other = grow(twin(world, 44), 1, step=31)
    with pytest.MonkeyPatch.context() as patch, open_store(directory, world.genesis) as store:
        patch.setattr(chain_module, "SNAPSHOT_EVERY", 1)
        chain = fill(store, [*world.blocks, other.blocks[-1]])
        assert (chain.final_height, chain.height, len(list(store.recent()))) == (40, 46, 8)
    return directory


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """A copy of that directory."""
    return Path(shutil.copytree(made, tmp_path / "home"))


@pytest.fixture
def pruned(home: Path) -> Path:
    """The same with the bodies up to height 32 pruned."""
    with open_store(home) as store:
        assert store.prune(100) == 32
    return home


def change(directory: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database(directory), autocommit=True)) as connection:
        for statement in statements:
            connection.execute(statement)


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(ChainError) as refusal:
        action()
    return refusal.value.code


# Finding damage


def test_a_good_store_passes_and_is_counted(home: Path, world: World, checker: Verifier) -> None:
    told: list[tuple[int, int]] = []
    with open_store(home) as store:
        quick_check(store)
        quick_check(store, 3)
        report = verify_store(store, checker, lambda done, total: told.append((done, total)))
    assert (report.height, report.hash, report.final_height) == (46, world.blocks[-1].hash, 40)
    assert (report.blocks, report.headers, report.side_blocks, report.snapshots) == (46, 0, 1, 3)
    assert report.state_hash == world.state.hash()
    assert told[-1] == (46, 46)


def test_a_pruned_store_passes(pruned: Path, world: World, checker: Verifier) -> None:
    with open_store(pruned) as store:
        quick_check(store)
        report = verify_store(store, checker)
    assert (report.headers, report.blocks, report.snapshots) == (35, 11, 3)
    assert report.state_hash == world.state.hash()


CHANGES = {
    "UPDATE chain SET tip_height = 30": "do not fit",
    "UPDATE chain SET tip_hash = x'00'": "block 46 is missing",
    "UPDATE chain SET tip_height = 47": "block 47 is missing",
    "UPDATE chain SET final_height = 41": "segment of block 41 is missing|does not fit the next one",
    "UPDATE chain SET final_hash = x'00'": "does not fit the next one",
    "DELETE FROM recent WHERE height = 43": "block 43 is missing",
    "DELETE FROM bodies WHERE id IN (SELECT id FROM recent WHERE height = 43)": "body of block 43 is missing",
    "DELETE FROM undos WHERE id IN (SELECT id FROM recent WHERE height = 43)": "no undo data",
    "UPDATE recent SET signature = zeroblob(64) WHERE height = 42": "signature of block 42 is not valid",
    "UPDATE recent SET header = zeroblob(158) WHERE height = 42": "not of its hash",
    "UPDATE bodies SET data = x'28b52ffd' WHERE id = (SELECT id FROM recent WHERE height = 42)": "incomplete",
    "UPDATE bodies SET data = x'00' WHERE id = (SELECT id FROM recent WHERE height = 42)": "can't be read",
    "UPDATE bodies SET data = (SELECT b.data FROM bodies b JOIN recent r ON r.id = b.id WHERE r.height = 45) "
    "WHERE id IN (SELECT id FROM recent WHERE height = 42)": "not the one that its header commits to",
    "DELETE FROM segments WHERE first = 37": "does not fit the next one",
    "UPDATE segments SET data = x'00' WHERE first = 37": "not readable",
    "UPDATE segments SET parent = zeroblob(32) WHERE first = 37": "does not fit the next one",
}


@pytest.mark.parametrize("statement", CHANGES)
def test_damage_near_the_tip_is_found_at_the_start(home: Path, statement: str, checker: Verifier) -> None:
    change(home, statement)
    with open_store(home) as store:
        for check in (quick_check, lambda each: verify_store(each, checker)):
            with pytest.raises(ChainError, match=CHANGES[statement]) as refusal:
                check(store)
            assert refusal.value.code == "store_damaged"
            assert f"energy-ledger chain rebuild --data {home}" in refusal.value.message


DEEP_CHANGES = {
    "DELETE FROM segments WHERE first = 5": "does not fit the next one",
    "UPDATE segments SET data = x'00' WHERE first = 5": "from block 5 is not readable",
    "UPDATE snapshots SET data = x'00' WHERE height = 39": "can't be read",
    "UPDATE snapshots SET state_hash = zeroblob(32) WHERE height = 39": "not the state after",
    "UPDATE snapshots SET data = (SELECT data FROM snapshots WHERE height = 35) WHERE height = 39": "not the "
    "state",
    "UPDATE undos SET data = (SELECT data FROM undos WHERE id = (SELECT id FROM recent WHERE height = 42)) "
    "WHERE id = (SELECT id FROM recent WHERE height = 43)": "undo data of block .* not right",
    "DELETE FROM bodies WHERE id IN (SELECT id FROM recent WHERE active = 0)": "body of block 45 is missing",
    "DROP INDEX recent_by_hash": "",
    "CREATE TABLE stranger (id)": "",
}


@pytest.mark.parametrize("statement", DEEP_CHANGES)
def test_damage_anywhere_is_found_by_the_whole_check(
    home: Path, statement: str, checker: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(home, statement)
    with open_store(home) as store:
        quick_check(store, 4)
        if not DEEP_CHANGES[statement]:
            verify_store(store, checker)
            return
        with pytest.raises(ChainError, match=DEEP_CHANGES[statement]) as refusal:
            verify_store(store, checker)
        assert refusal.value.code == "store_damaged"


def test_what_sqlite_finds_is_told(home: Path, checker: Verifier) -> None:
    with closing(sqlite3.connect(database(home), autocommit=True)) as connection:
        root = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'recent_by_height'"
        ).fetchone()[0]
    with database(home).open("r+b") as file:
        file.seek((root - 1) * 1024 + 1000)
        file.write(bytes(24))
    with open_store(home) as store:
        with pytest.raises(ChainError, match="recent_by_height") as refusal:
            verify_store(store, checker)
        assert refusal.value.code == "store_damaged"
        assert store.integrity()


def store_of(blocks: list[Block], world: World, directory: Path, final: int = 0) -> SqliteStore:
    """A store that holds blocks which no rule has seen."""
    store = open_store(directory, world.genesis)
    store.commit(
        Commit(
            added=[(block, number) for number, block in enumerate(blocks)],
            connected=[Connected(block.hash, b"") for block in blocks],
            final=(final, blocks[final - 1].hash) if final else None,
        )
    )
    return store


def test_a_block_that_breaks_a_rule_is_found(tmp_path: Path, checker: Verifier) -> None:
    world = grow(World(), 9)
    forged = twin(world, 8)
    forged.state.parameters = replace(forged.state.parameters, credit_limit=10**12)
    forged.mine(pay(forged, 10**11))
    with (
        store_of(forged.blocks, world, tmp_path / "rule", final=8) as store,
        pytest.raises(ChainError, match=r"block 9 is not valid: .*are needed"),
    ):
        verify_store(store, checker)
    last = world.blocks[-1]
    unsigned = [*world.blocks[:-1], Block(last.header, bytes(64), last.body)]
    with (
        store_of(unsigned, world, tmp_path / "signature") as store,
        pytest.raises(ChainError, match="signature of block 9"),
    ):
        verify_store(store, checker)


def test_final_blocks_that_no_vote_made_final_are_no_damage_but_unknown_ones_are(
    home: Path, tmp_path: Path, checker: Verifier
) -> None:
    world = grow(World(), 14)
    assert world.state.tip.final == 8
    with store_of(world.blocks, world, tmp_path / "low", final=4) as store:
        change(tmp_path / "low", "DELETE FROM undos")
        with pytest.raises(ChainError, match="no undo data"):
            quick_check(store)


def test_a_header_chain_refuses_what_does_not_follow(world: World) -> None:
    headers = HeaderChain(world.genesis)
    first, second = world.blocks[:2]
    headers.take(first.header, first.signature)
    with pytest.raises(RuleError) as refusal:
        headers.take(first.header, first.signature)
    assert refusal.value.code == "header_previous"
    with pytest.raises(RuleError) as refusal:
        headers.take(second.header, first.signature)
    assert refusal.value.code == "signature_invalid"
    headers.take(second.header, second.signature)
    assert headers.height == 2


def test_a_bad_header_below_the_pruned_bodies_is_found(
    tmp_path: Path, checker: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = grow(World(), 26)
    source = open_store(tmp_path / "source", world.genesis)
    fill(source, world.blocks)
    info = next(info for info in source.snapshots() if info.height == 19)
    headers = [(block.header, block.signature) for block in world.blocks[:16]]
    headers[7] = (headers[7][0], bytes(64))
    with open_store(tmp_path / "store", world.genesis) as store:
        store.install(headers, world.blocks[16:20], (info, source.snapshot(info.hash)))
        with pytest.raises(ChainError, match="signature of block 8"):
            verify_store(store, checker)
        # Deeper than the quick check looks.
        monkeypatch.setattr(recovery, "quick_check", lambda _store: None)
        with pytest.raises(ChainError, match="header 8 is not valid"):
            verify_store(store, checker)
        store._database.writer().execute("UPDATE snapshots SET data = x'00'")
        with pytest.raises(ChainError, match="no snapshot above is good"):
            verify_store(store, checker)
    source.close()


# Rebuilding


def rebuilt(directory: Path, **options: object) -> RebuildReport:
    with verifier() as checker:
        return rebuild(directory, checker, NOW, **options)  # type: ignore[arg-type]


def assert_whole(directory: Path, world: World, pruned: int = 0) -> None:
    with open_store(directory) as store, verifier() as checker:
        assert_holds(store, world.blocks, pruned)
        report = verify_store(store, checker)
        assert report.state_hash == world.state.hash()
        assert Chain.open(store, checker).state.hash() == world.state.hash()
    assert not list(directory.glob(f"{files.BUILDING}*"))


def test_a_good_store_is_rebuilt_as_it_was(home: Path, world: World) -> None:
    before = database(home).read_bytes()
    told: list[tuple[int, int]] = []
    report = rebuilt(home, progress=lambda done, total: told.append((done, total)))
    assert (report.height, report.hash, report.final_height) == (46, world.blocks[-1].hash, 40)
    assert (report.pruned, report.old_height, report.lost, report.notes) == (0, 46, 0, ())
    assert report.kept_aside == home / "chain.db.damaged-20300317T174640Z"
    assert report.kept_aside.read_bytes() == before
    assert told[-1] == (46, 46)
    assert_whole(home, world)
    with open_store(home) as store:
        assert sum(not row.active for row in store.recent()) == 1
    again = rebuilt(home)
    assert again.kept_aside == home / "chain.db.damaged-20300317T174641Z"


def test_a_pruned_store_is_rebuilt_from_its_snapshot(pruned: Path, world: World) -> None:
    report = rebuilt(pruned)
    assert (report.height, report.lost, report.pruned) == (46, 0, 32)
    assert_whole(pruned, world, 32)


@pytest.mark.parametrize("compacted", [False, True])
def test_a_database_without_its_first_page_is_rebuilt(home: Path, world: World, *, compacted: bool) -> None:
    if compacted:
        with open_store(home) as store:
            store.compact()
    with database(home).open("r+b") as file:
        file.write(bytes(1024))
    assert code_of(lambda: open_store(home)) == "store_damaged"
    report = rebuilt(home)
    assert (report.height, report.lost) == (46, 0)
    assert_whole(home, world)


def test_a_damaged_key_is_taken_from_its_copy(home: Path, world: World) -> None:
    change(
        home,
        "UPDATE keys SET value = zeroblob(44) WHERE number = 0",
        "DELETE FROM keys_again WHERE number = 1",
    )
    assert code_of(lambda: open_store(home)) == "store_damaged"
    assert rebuilt(home).lost == 0
    assert_whole(home, world)


def test_a_damaged_segment_costs_what_stands_above_it(home: Path, world: World) -> None:
    change(home, "UPDATE segments SET data = x'00' WHERE first = 21")
    report = rebuilt(home)
    assert (report.height, report.lost, report.final_height) == (20, 26, 12)
    assert any("blocks 21 to 24 are not readable" in note for note in report.notes)
    with open_store(home) as store:
        chain = fill(store, world.blocks[20:])
        assert chain.state.hash() == world.state.hash()
    assert_whole(home, world)


def test_an_exported_file_fills_a_gap(home: Path, world: World, tmp_path: Path) -> None:
    export = tmp_path / "neighbour.blocks"
    with export.open("wb") as file:
        assert write_blocks(file, world.genesis, world.blocks[:30]) == 30
    change(home, "UPDATE segments SET data = x'00' WHERE first IN (5, 21)")
    report = rebuilt(home, imports=[export])
    assert (report.height, report.lost) == (46, 0)
    assert_whole(home, world)


def test_the_database_kept_aside_fills_a_gap(home: Path, world: World, tmp_path: Path) -> None:
    change(home, "UPDATE segments SET data = x'00' WHERE first = 21")
    aside = rebuilt(home).kept_aside
    assert aside is not None
    export = tmp_path / "neighbour.blocks"
    with export.open("wb") as file:
        write_blocks(file, world.genesis, world.blocks[20:24])
    report = rebuilt(home, imports=[export, aside])
    assert report.height == 46
    assert_whole(home, world)


def test_a_lost_database_comes_back_from_a_file(world: World, tmp_path: Path) -> None:
    export = tmp_path / "all.blocks"
    with export.open("wb") as file:
        write_blocks(file, world.genesis, world.blocks)
    home = tmp_path / "home"
    home.mkdir()
    report = rebuilt(home, imports=[export])
    assert (report.height, report.old_height, report.lost, report.kept_aside) == (46, None, None, None)
    assert_whole(home, world)


def test_blocks_in_the_log_are_saved(home: Path, world: World, tmp_path: Path) -> None:
    with open_store(home) as store:
        longer = grow(twin(world), 3)
        fill(store, longer.blocks[46:])
        copied = Path(shutil.copytree(home, tmp_path / "copied"))
    assert files.log_size(database(copied)) > 0
    report = rebuilt(copied)
    assert (report.height, report.lost) == (49, 0)
    assert_whole(copied, longer)
    assert report.kept_aside is not None
    assert files.log_size(report.kept_aside) > 0


@pytest.mark.parametrize("percent", [30, 60, 95])
def test_a_truncated_database_gives_what_is_left(home: Path, world: World, percent: int) -> None:
    size = database(home).stat().st_size
    with database(home).open("r+b") as file:
        file.truncate(size * percent // 100)
    with pytest.raises(ChainError, match="chain rebuild"), open_store(home) as store:
        quick_check(store)
    report = rebuilt(home)
    assert report.kept_aside is not None
    assert report.old_height == 46
    assert report.height > 20 or percent < 95
    with open_store(home) as store:
        for height in range(1, min(report.height, 44) + 1):
            assert store.block_at(height) == world.blocks[height - 1]


def test_an_empty_file_needs_the_genesis(home: Path, world: World) -> None:
    database(home).write_bytes(b"")
    assert code_of(lambda: rebuilt(home)) == "genesis_needed"
    assert database(home).exists()
    report = rebuilt(home, genesis=world.genesis)
    assert (report.height, report.old_height, report.lost) == (0, None, None)
    with open_store(home) as store:
        fill(store, world.blocks)
    assert_whole(home, world)


def test_the_genesis_is_found_in_a_snapshot(home: Path, world: World) -> None:
    change(home, "DELETE FROM chain")
    report = rebuilt(home)
    assert (report.height, report.old_height) == (46, None)
    assert_whole(home, world)


def test_sources_of_another_community_are_refused(home: Path, world: World, tmp_path: Path) -> None:
    stranger = World(name="Other street")
    export = tmp_path / "other.blocks"
    with export.open("wb") as file:
        write_blocks(file, stranger.genesis, [])
    before = database(home).read_bytes()
    assert code_of(lambda: rebuilt(home, imports=[export])) == "other_community"
    assert code_of(lambda: rebuilt(home, genesis=stranger.genesis)) == "other_community"
    assert database(home).read_bytes() == before
    assert not list(home.glob(f"{files.BUILDING}*"))


def test_there_must_be_something_to_rebuild(tmp_path: Path, world: World) -> None:
    assert code_of(lambda: rebuilt(tmp_path / "missing")) == "store_missing"
    assert code_of(lambda: rebuilt(tmp_path)) == "store_missing"
    assert code_of(lambda: rebuilt(tmp_path, imports=[tmp_path / "missing"])) == "store_unreachable"
    with open_store(tmp_path / "held", world.genesis):
        assert code_of(lambda: rebuilt(tmp_path / "held")) == "store_in_use"


def test_a_block_that_breaks_a_rule_is_not_saved(tmp_path: Path) -> None:
    world = grow(World(), 6)
    forged = twin(world, 4)
    forged.state.parameters = replace(forged.state.parameters, credit_limit=10**12)
    forged.mine(pay(forged, 10**11))
    forged.mine()
    export = tmp_path / "forged.blocks"
    with export.open("wb") as file:
        write_blocks(file, world.genesis, forged.blocks)
    home = tmp_path / "home"
    home.mkdir()
    report = rebuilt(home, imports=[export])
    assert report.height == 4
    assert any("block 5 is refused: " in note for note in report.notes)


def test_pruned_and_without_a_good_snapshot_nothing_can_begin(pruned: Path, world: World) -> None:
    change(pruned, "DELETE FROM snapshots")
    with open_store(pruned) as store:
        assert code_of(lambda: state_hash(store)) == "block_missing"


def test_a_rebuild_of_headers_alone_begins_anew(pruned: Path, world: World) -> None:
    change(pruned, "UPDATE snapshots SET data = x'00'")
    report = rebuilt(pruned)
    assert (report.height, report.lost) == (0, 46)
    with open_store(pruned) as store:
        fill(store, world.blocks)
    assert_whole(pruned, world)


def test_a_forged_header_below_a_snapshot_is_refused(pruned: Path, world: World, tmp_path: Path) -> None:
    with open_store(pruned) as store:
        sealed = store.sealed_headers(1, 36)
        info = store.snapshots()[-1]
        data = store.snapshot(info.hash)
        blocks = [block for height in range(33, 37) if (block := store.block_at(height))]
    sealed[4] = (sealed[4][0], bytes(64))
    with open_store(tmp_path / "forged", world.genesis) as store:
        store.install(sealed[:32], blocks, (info, data))
    report = rebuilt(tmp_path / "forged")
    assert report.height == 0
    assert any("header 5 is refused" in note for note in report.notes)


def test_any_flipped_byte_is_found_or_harmless_and_repaired(
    made: Path, world: World, tmp_path: Path, checker: Verifier
) -> None:
    size = database(made).stat().st_size
    chance = random.Random(11)
    offsets = [0, 16, 18, 20, 21, 24, 28, 32, 40, 44, 52, 56, 60, 68, 92, 100, 101, 103, 105, 107]
    offsets += [chance.randrange(100, size) for _ in range(30)]
    errors: list[ChainError] = []
    saved = 0
    for number, offset in enumerate(offsets):
        home = Path(shutil.copytree(made, tmp_path / str(number)))
        flip(database(home), offset, chance.choice((0xFF, 1, 0x80)))
        try:
            with open_store(home) as store:
                verify_store(store, checker)
                assert state_hash(store) == world.state.hash()
        except ChainError as error:
            errors.append(error)
        report = rebuild(home, checker, NOW, genesis=world.genesis)
        saved += report.height
        with open_store(home) as store:
            verify_store(store, checker)
            # The last two blocks have a rival that may be what is left.
            for height in range(1, min(report.height, 44) + 1):
                assert store.block_at(height) == world.blocks[height - 1]
            chain = fill(store, world.blocks[report.final_height :])
            assert chain.state.hash() == world.state.hash()
        shutil.rmtree(home)
    assert len(errors) > len(offsets) // 3
    assert saved > 46 * len(offsets) // 2
    for each in errors:
        remedy = (
            "update Energy Ledger" if each.code == "store_newer" else "chain rebuild|another data directory"
        )
        assert re.search(remedy, each.message)


# Pruning


def test_pruning_keeps_headers_and_the_start(
    home: Path, world: World, checker: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_SEGMENTS_AT_ONCE", 4)
    told: list[tuple[int, int]] = []
    with open_store(home) as store:
        assert [info.height for info in store.snapshots()] == [43, 39, 35]
        assert store.prune(10) == 8
        assert store.prune(9) == 8
        assert store.prune(1) == 8
        assert_holds(store, world.blocks, 8)
        assert store.prune(1000, lambda done, total: told.append((done, total))) == 32
        assert_holds(store, world.blocks, 32)
        assert [info.height for info in store.snapshots()] == [43, 39, 35]
        assert told == [(16, 27), (24, 27)]
        before = store.usage()
        store.compact()
        after = store.usage()
        assert after.free < before.free
        assert after.database < before.database
    with open_store(home) as store:
        assert_holds(store, world.blocks, 32)
        longer = grow(twin(world), 12)
        chain = fill(store, longer.blocks[46:])
        assert chain.state.hash() == longer.state.hash()
        assert_holds(store, longer.blocks, 32)
        verify_store(store, checker)


def test_pruning_is_refused_without_a_good_snapshot(home: Path) -> None:
    change(
        home,
        "UPDATE snapshots SET state_hash = zeroblob(32) WHERE height = 35",
        "UPDATE snapshots SET data = x'00' WHERE height = 39",
    )
    with open_store(home) as store:
        assert code_of(lambda: store.prune(20)) == "prune_refused"
        assert store.head().pruned == 0


def test_one_good_snapshot_is_enough_to_prune(home: Path, world: World) -> None:
    change(
        home, "UPDATE snapshots SET data = (SELECT data FROM snapshots WHERE height = 39) WHERE height = 35"
    )
    with open_store(home) as store:
        assert store.prune(100) == 36
        assert state_hash(store) == world.state.hash()
    change(home, "UPDATE snapshots SET hash = zeroblob(32), height = 31 WHERE height = 35")
    with open_store(home) as store:
        assert store.prune(100) == 36


# Beginning at a snapshot


def test_a_store_can_begin_at_a_snapshot(home: Path, world: World, tmp_path: Path, checker: Verifier) -> None:
    with open_store(home) as source:
        info = source.snapshots()[1]
        parts = (source.sealed_headers(1, 36), world.blocks[36:40], (info, source.snapshot(info.hash)))
    with open_store(tmp_path / "new", world.genesis) as store:
        store.install(*parts)
        assert (store.tip(), store.final(), store.head().pruned) == ((40, world.blocks[39].hash),) * 2 + (36,)
        chain = fill(store, world.blocks[40:])
        assert chain.state.hash() == world.state.hash()
        assert_holds(store, world.blocks, 36)
        verify_store(store, checker)
        assert code_of(lambda: store.install(*parts)) == "commit_inconsistent"
        assert store.prune(30) == 36


def test_parts_that_do_not_fit_are_refused(home: Path, world: World, tmp_path: Path) -> None:
    with open_store(home) as source:
        info = source.snapshots()[1]
        data = source.snapshot(info.hash)
        headers = source.sealed_headers(1, 36)
    blocks = world.blocks[36:40]
    state = (info, data)
    outside = (SnapshotInfo(3, info.hash, info.state_hash), data)
    unfit: dict[str, Callable[[SqliteStore], None]] = {
        "there are no blocks": lambda store: store.install(headers, [], state),
        "does not follow": lambda store: store.install(headers[:20] + headers[21:], blocks, state),
        "block 37 does not follow": lambda store: store.install(headers, blocks[1:], state),
        "no checkpoint": lambda store: store.install(headers, blocks[:2], state),
        "outside": lambda store: store.install(headers, blocks, outside),
    }
    with open_store(tmp_path / "new", world.genesis) as store:
        for why, install in unfit.items():
            with pytest.raises(ChainError, match=why) as refusal:
                install(store)
            assert refusal.value.code == "commit_inconsistent"
            assert store.tip() == (0, world.chain_id)
        store.install(headers, blocks, state)
        assert store.tip()[0] == 40


# Files of blocks


def test_blocks_go_through_a_file(world: World, tmp_path: Path) -> None:
    path = tmp_path / "chain.blocks"
    with path.open("wb") as file:
        assert write_blocks(file, world.genesis, world.blocks) == 46
    assert is_block_file(path)
    assert path.read_bytes().startswith(b"energy-ledger-blocks 1 ")
    found = BlockFile(path)
    assert found.genesis == world.genesis
    assert list(found.blocks()) == world.blocks


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "does not begin"),
        (b"SQLite format 3\0", "does not begin"),
        (b"energy-ledger-blocks\n", "not version 1"),
        (b"energy-ledger-blocks 2 00\n", "not version 1"),
        (b"energy-ledger-blocks 1 00\n", "genesis is not readable"),
        (b"energy-ledger-blocks 1 xy\n", "genesis is not readable"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ChainError, match=why) as refusal:
        BlockFile(path)
    assert refusal.value.code == "block_file_invalid"
    assert str(path) in refusal.value.message


def test_a_damaged_file_gives_the_blocks_before_the_damage(world: World, tmp_path: Path) -> None:
    path = tmp_path / "chain.blocks"
    with path.open("wb") as file:
        write_blocks(file, world.genesis, world.blocks[:3])
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    first = 4 + int.from_bytes(whole[start : start + 4])
    harms: dict[str, bytes] = {
        "ends too early": whole[:-36],
        "checksum": whole[:-1],
        "no length": whole[: start + first] + b"\xff" * 8,
        "after block 1 .*not a block": whole[: start + first + 4] + b"\xc1" + whole[start + first + 5 :],
        "checksum at the end": whole + b"more",
    }
    for why, content in harms.items():
        path.write_bytes(content)
        taken: list[Block] = []
        with pytest.raises(ChainError, match=why) as refusal:
            taken.extend(BlockFile(path).blocks())
        assert refusal.value.code == "block_file_damaged"
        assert taken == world.blocks[: len(taken)]


def test_a_damaged_export_is_named_in_the_report(world: World, tmp_path: Path) -> None:
    export = tmp_path / "short.blocks"
    with export.open("wb") as file:
        write_blocks(file, world.genesis, world.blocks)
    export.write_bytes(export.read_bytes()[:-100])
    home = tmp_path / "home"
    home.mkdir()
    report = rebuilt(home, imports=[export])
    assert report.height == 45
    assert any("ends too early" in note or "not a block" in note for note in report.notes)
    later = tmp_path / "later.blocks"
    with later.open("wb") as file:
        write_blocks(file, world.genesis, world.blocks[10:])
    other = tmp_path / "other"
    other.mkdir()
    report = rebuilt(other, imports=[later])
    assert (report.height, report.notes) == (0, (f"{later}: block 1 is not in the file",))


def test_headers_of_blocks_are_what_they_hash_to(world: World) -> None:
    """What the tests above rely on."""
    for height, block in enumerate(world.blocks, 1):
        assert decode_header(block.header).height == height
        assert header_hash(block.header) == block.hash
    assert isinstance(RuleError("a", "b"), LedgerError)
    assert LATER > NOW
