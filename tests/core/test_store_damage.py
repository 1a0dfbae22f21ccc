"""Damage of the rarer kinds: each is named, none ends in anything but a ChainError."""

import fcntl
import shutil
import sqlite3
from collections.abc import Iterator
from compression.zstd import ZstdDict, ZstdError, compress
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from ledger_core.chain import chain as chain_module
from ledger_core.chain.chain import Chain
from ledger_core.chain.recovery import quick_check, verify_store
from ledger_core.chain.store import archive, files, salvage, schema, shared
from ledger_core.chain.store.columns import ColumnsError, Context, Writer, unpack
from ledger_core.chain.store.compression import RowError, blob
from ledger_core.chain.store.head import Head
from ledger_core.chain.store.keybook import KeyBook
from ledger_core.chain.store.opening import open_store
from ledger_core.chain.store.pruning import lowest_start
from ledger_core.chain.store.salvage import open_damaged
from ledger_core.chain.store.segment import Place, decode_segment, encode_segment
from ledger_core.chain.store.shared import load_dictionary, train
from ledger_core.chain.store.stored import StoredBlock
from ledger_core.chain.verify import Verifier
from ledger_core.errors import ChainError
from ledger_core.records.block import decode_header
from tests.core.chains import LATER, assert_holds, database, fill, grow, verifier
from tests.core.test_recovery import rebuilt
from tests.core.world import START, World


@pytest.fixture
def checker() -> Iterator[Verifier]:
    with verifier() as made:
        yield made


@pytest.fixture(scope="module")
def world() -> World:
    return grow(World(), 30)


@pytest.fixture
def home(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(chain_module, "SNAPSHOT_EVERY", 1)
    directory = tmp_path / "home"
    with open_store(directory, world.genesis) as store:
        assert fill(store, world.blocks).final_height == 24
    return directory


def change(directory: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database(directory), autocommit=True)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE recent SET height = 25 WHERE height = 24", "block 25"),
        ("DELETE FROM segments WHERE first = 1", "segment (of|from) block"),
        ("UPDATE undos SET data = x'00'", "can't be read"),
        ("UPDATE chain SET pruned = 27", "do not fit"),
        ("UPDATE chain SET tip_hash = (SELECT hash FROM recent WHERE height = 29)", "block 30 is missing"),
    ],
)
def test_the_quick_check_names_it(home: Path, statement: str, why: str) -> None:
    change(home, statement)
    with open_store(home) as store, pytest.raises(ChainError, match=why) as refusal:
        quick_check(store)
    assert refusal.value.code == "store_damaged"


def test_a_final_block_beside_the_branch(home: Path, world: World) -> None:
    with open_store(home) as store:
        store._head = replace(store.head(), final=(26, bytes(32)))
        with pytest.raises(ChainError, match="final block 26 is not on the active branch"):
            quick_check(store)


def test_a_first_block_on_another_genesis(tmp_path: Path) -> None:
    empty = grow(World(), 5, records=False, votes=False)
    with open_store(tmp_path / "empty", empty.genesis) as store:
        fill(store, empty.blocks)
        quick_check(store)
        store._genesis = World(name="Other street").genesis
        with pytest.raises(ChainError, match="does not follow the genesis"):
            quick_check(store)


def test_a_head_that_claims_less_than_the_blocks_made(
    home: Path, world: World, checker: Verifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ledger_core.chain import recovery

    monkeypatch.setattr(recovery, "quick_check", lambda _store: None)
    with open_store(home) as store:
        whole = store.head()
        lower = Head(whole.tip, (8, world.blocks[7].hash), 0)
        monkeypatch.setattr(type(store), "head", lambda _self: lower)
        monkeypatch.setattr(type(store), "undo", lambda _self, _hash: b"")
        monkeypatch.setattr(recovery._WholeCheck, "_check_undo", lambda *_: None)
        with pytest.raises(ChainError, match="blocks make 24 final, not only 8"):
            verify_store(store, checker)
        wrong_tip = Head((30, bytes(32)), whole.final, 0)
        monkeypatch.setattr(type(store), "head", lambda _self: wrong_tip)
        with pytest.raises(ChainError, match="do not lead to the tip"):
            verify_store(store, checker)
        beyond = Head((31, bytes(32)), whole.final, 0)
        monkeypatch.setattr(type(store), "head", lambda _self: beyond)
        with pytest.raises(ChainError, match="block 31 is missing"):
            verify_store(store, checker)


def test_a_head_that_disappears_while_the_store_is_open(home: Path) -> None:
    with open_store(home, writable=False) as store:
        change(home, "DELETE FROM chain")
        with pytest.raises(ChainError, match="row with the tip is missing"):
            store.tip()


def test_a_pruned_store_keeps_only_good_snapshots_in_mind(
    home: Path, world: World, checker: Verifier
) -> None:
    with open_store(home) as store:
        assert store.prune(17) == 16
        # One that lies below what was pruned is of no use.
        store._database.writer().execute("UPDATE snapshots SET height = 3 WHERE height = 19")
        assert verify_store(store, checker).snapshots == 2
        assert lowest_start(store) == 23


def test_a_segment_that_is_too_short(home: Path) -> None:
    change(home, "DELETE FROM segments WHERE first > 20")
    with open_store(home) as store:
        store._archive._cache[21] = archive.Segment(21, [])
        with pytest.raises(ChainError, match=r"does not fit|is missing"):
            store.block_at(22)


def test_a_segment_that_ends_before_the_height(home: Path) -> None:
    with open_store(home) as store:
        first = store._archive
        with store._database.reading() as connection:
            part = first.segment_at(connection, 21)
            first.forget(21)
            first.forget(21)
            first._keep(archive.Segment(21, part.blocks[:2]))
            with pytest.raises(ChainError, match="segment of block 24 is missing"):
                first.segment_at(connection, 24)


def test_blocks_that_can_not_be_packed_are_refused(home: Path, world: World) -> None:
    place = Place(world.genesis, world.chain_id, 0, world.chain_id, Context(KeyBook()))
    block = world.blocks[0]
    mixed = [
        StoredBlock(block.header, block.signature, block.body),
        StoredBlock(block.header, bytes(64), None),
    ]
    with pytest.raises(ColumnsError, match="can't be packed"):
        encode_segment(mixed, place, START)
    short = [StoredBlock(b"short", bytes(64), b"")]
    with pytest.raises(ColumnsError, match="can't be packed"):
        encode_segment(short, place, START)
    with open_store(home) as store, pytest.raises(ChainError, match="can't be packed") as refusal:
        store._archive._encode(short, place, START)
    assert refusal.value.code == "archive_refused"


def test_a_header_with_an_absurd_time(world: World) -> None:
    place = Place(world.genesis, world.chain_id, 0, world.chain_id, Context(KeyBook()))
    blocks = []
    for time in (2**64 - 1, 0, START):
        header = replace(decode_header(world.blocks[0].header), time=time)
        blocks.append(StoredBlock(header.encode(), bytes(64), world.blocks[0].body))
    assert decode_segment(encode_segment(blocks, place, START), place) == blocks


def test_a_packing_that_does_not_come_back_is_done_plainly(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = KeyBook()
    place = Place(world.genesis, world.chain_id, 0, world.chain_id, Context(book))
    blocks = [StoredBlock(block.header, block.signature, block.body) for block in world.blocks[:4]]
    tight = encode_segment(blocks, place, START)
    honest = Writer.put_packed
    monkeypatch.setattr(
        Writer, "put_packed", lambda self, column, data: honest(self, column, data[:-1] + b"\x00")
    )
    other = KeyBook()
    place = Place(world.genesis, world.chain_id, 0, world.chain_id, Context(other))
    plain = encode_segment(blocks, place, START)
    assert len(plain) > len(tight)
    assert decode_segment(plain, place) == blocks


def test_compressed_parts_that_are_not_readable() -> None:
    def sealed(number: int, packed: bytes) -> bytes:
        import zlib

        content = number.to_bytes(1) + len(packed).to_bytes(4) + packed
        return zlib.crc32(content).to_bytes(4) + content

    for data, why in (
        (sealed(1, compress(b"\x90")), "dictionary 1 is missing"),
        (sealed(0, b"not compressed"), "not readable"),
        (sealed(0, compress(b"\x90" * 1000)[:-4]), "incomplete"),
    ):
        with pytest.raises(ColumnsError, match=why):
            unpack(data, [])


def test_dictionaries_and_samples_that_are_not_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RowError, match="dictionary that is not readable"):
        load_dictionary(b"no")
    with pytest.raises(RowError, match="int where bytes should be"):
        blob(5)
    with closing(sqlite3.connect(":memory:", autocommit=True)) as connection:
        schema.migrate(connection, 0)
        book = KeyBook()
        for number in range(20):
            writer = Writer(Context(book))
            writer.put(writer.root, number)
            assert number >= 16 or train(connection, book, 99) is None
            connection.execute("INSERT INTO segments VALUES (?, x'00', ?)", (number, writer.pack()))
        assert train(connection, book, 99) is not None

        def refuse(_samples: object, _size: int) -> None:
            raise ZstdError("src size is incorrect")

        monkeypatch.setattr(shared, "train_dict", refuse)
        assert train(connection, book, 99) is None
        connection.execute("INSERT INTO segments VALUES (99, x'00', x'00')")
        with pytest.raises(RowError, match="segment that is not readable"):
            train(connection, book, 99)


def test_a_store_without_a_dictionary_goes_on(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "TRAINED_AT", (2,))
    monkeypatch.setattr(shared, "train", lambda *_: None)
    with open_store(tmp_path, world.genesis) as store:
        fill(store, world.blocks)
        assert_holds(store, world.blocks)


def test_dictionaries_are_saved_from_their_copies(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "TRAINED_AT", (2,))
    monkeypatch.setattr(shared, "train", lambda *_: ZstdDict(b"transfer author voted " * 8, is_raw=True))
    monkeypatch.setattr(shared, "load_dictionary", lambda data: ZstdDict(data, is_raw=True))
    home = tmp_path / "home"
    with open_store(home, world.genesis) as store:
        fill(store, world.blocks)
    change(home, "UPDATE dictionaries SET value = x'00'")
    with pytest.raises(ChainError, match="checksum"):
        open_store(home)
    assert rebuilt(home).lost == 0
    with open_store(home) as store:
        assert_holds(store, world.blocks)
    change(home, "UPDATE dictionaries SET value = x'00'", "UPDATE dictionaries_again SET value = x'00'")
    report = rebuilt(home)
    assert 4 <= report.height < 24


def test_rows_of_the_wrong_kind_are_passed_over(home: Path, world: World) -> None:
    """A damaged page may give a number where bytes were written; SQLite itself refuses to write that."""
    copied = home.parent / "loose.db"
    with closing(sqlite3.connect(copied, autocommit=True)) as connection:
        connection.execute("ATTACH ? AS old", (str(database(home)),))
        for table in ("chain", "recent", "bodies", "segments", "keys", "keys_again", "snapshots"):
            connection.execute(f"CREATE TABLE {table} AS SELECT * FROM old.{table}")
        connection.execute("UPDATE segments SET data = 7 WHERE first = 13")
        connection.execute("UPDATE snapshots SET data = 7")
        connection.execute("UPDATE recent SET header = 7 WHERE height = 27")
        connection.execute("UPDATE chain SET tip_height = 'x', genesis = 7")
        connection.execute("INSERT INTO keys VALUES (NULL, x'00')")
    with open_damaged(copied, world.genesis, home) as found:
        assert found.tip_height is None
        assert found.genesis == world.genesis
        assert [first for first, _ in found.segments()] == [1, 5, 9, 17, 21]
        assert [first for first, _ in found.segments(14)] == [17, 21]
        assert [decode_header(block.header).height for block in found.recent()] == [25, 26, 28, 29, 30]
        assert found.snapshots() == []
    with open_damaged(copied, None, home) as found:
        assert found.genesis is None
        assert list(found.segments()) == []


def test_a_segment_without_its_parents(home: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_value: object) -> bytes:
        raise RowError("a parent")

    with open_damaged(database(home), None, home) as found:
        monkeypatch.setattr(salvage, "blob", fail)
        # The votes in later segments name hashes that are not readable now: those are passed over.
        assert next(first for first, _ in found.segments()) == 1


def test_what_is_no_database_at_all_gives_nothing(
    home: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    database(home).write_bytes(b"x" * 50_000)
    monkeypatch.setattr(salvage, "_renew_table_list", lambda *_args, **_options: None)
    with open_damaged(database(home), world.genesis, home) as found:
        assert not [*found.segments(), *found.recent(), *found.snapshots()]
        assert (found.tip_height, found.genesis) == (None, world.genesis)


def test_a_closed_store_gives_its_readers_back(home: Path) -> None:
    store = open_store(home)
    with store._database.reading() as connection:
        store.close()
        store.close()
        assert connection.execute("SELECT count(*) FROM chain").fetchone()[0] == 1
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_a_lock_that_the_system_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir())) if descriptors.exists() else 0
    with pytest.raises(ChainError, match="no locks available") as refusal:
        open_store(tmp_path, World().genesis)
    assert refusal.value.code == "store_unreachable"
    if before:
        assert len(list(descriptors.iterdir())) == before


def test_the_first_page_of_every_new_database_is_alike(tmp_path: Path) -> None:
    """What a rebuild without the list of tables relies on."""
    roots = []
    for name in ("One street", "Another street"):
        with open_store(tmp_path / name, World(name=name).genesis) as store:
            grown = grow(World(name=name), 20)
            Chain.open(store, verifier()).add_blocks(grown.blocks, LATER)
            with store._database.reading() as connection:
                roots.append(connection.execute("SELECT name, rootpage FROM sqlite_schema").fetchall())
    assert roots[0] == roots[1]


def test_an_old_database_next_to_a_new_one_of_the_same_second(home: Path) -> None:
    shutil.copy(database(home), home / f"{files.DAMAGED}{files.timestamp(1_900_000_000)}")
    aside = rebuilt(home).kept_aside
    assert aside is not None
    assert aside.name == f"{files.DAMAGED}{files.timestamp(1_900_000_001)}"


def test_a_lost_segment_row_costs_only_itself(home: Path, world: World) -> None:
    change(home, "DELETE FROM segments WHERE first = 9")
    with open_damaged(database(home), None, home) as found:
        segments = dict(found.segments())
    assert list(segments) == [1, 5, 13, 17, 21]
    for first in (1, 5, 17, 21):
        wanted = world.blocks[first - 1 : first + 3]
        assert segments[first] == [StoredBlock(block.header, block.signature, block.body) for block in wanted]
    # The votes in the next one name the hash that went with the row: the chain will refuse that block.
    assert segments[13][0].header == world.blocks[12].header
    assert segments[13][1].body != world.blocks[13].body
