"""Opening a data directory: locks, other databases, other versions, permissions, a full disk."""

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import product
from pathlib import Path

import pytest

from ledger_core.chain.store import faults, files, schema
from ledger_core.chain.store.opening import open_store
from ledger_core.errors import ChainError
from tests.core.chains import LATER, assert_holds, database, fill, grow, state_hash
from tests.core.world import World

ROOT = Path(__file__).parents[2]


def refused(action: Callable[[], object]) -> ChainError:
    with pytest.raises(ChainError) as refusal:
        action()
    return refusal.value


def edit(path: Path, *statements: str) -> None:
    """Change a database as another program would."""
    with closing(sqlite3.connect(path, autocommit=True)) as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_second_process_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    world = World()
    with open_store(tmp_path, world.genesis):
        script = (
            "import sys\nfrom pathlib import Path\n"
            "from ledger_core.chain.store.opening import open_store\n"
            "from ledger_core.errors import ChainError\n"
            "try:\n    open_store(Path(sys.argv[1]))\n"
            "except ChainError as error:\n    print(error.code, error.message)\n"
        )
        command = [sys.executable, "-c", script, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
        assert done.stdout.startswith(f"store_in_use {tmp_path} is in use")
        assert f"process {os.getpid()}" in done.stdout
        assert "another data directory" in done.stdout
        again = refused(lambda: open_store(tmp_path))
        assert again.code == "store_in_use"
    open_store(tmp_path).close()


def test_an_unreadable_lock_file_names_no_process(tmp_path: Path) -> None:
    with open_store(tmp_path, World().genesis):
        (tmp_path / files.LOCK).write_text("somebody\n")
        assert "process" not in refused(lambda: open_store(tmp_path)).message


def test_no_chain_is_made_without_a_genesis(tmp_path: Path) -> None:
    for directory, writable in product((tmp_path, tmp_path / "missing"), (True, False)):
        refusal = refused(partial(open_store, directory, writable=writable))
        assert (refusal.code, str(directory) in refusal.message) == ("store_missing", True)
    assert not (tmp_path / "missing").exists()
    assert not database(tmp_path).exists()
    assert refused(lambda: open_store(tmp_path, World().genesis, writable=False)).code == "store_missing"


def test_another_communitys_database_is_refused(tmp_path: Path) -> None:
    mine, other = World(), World(name="Other street")
    open_store(tmp_path, mine.genesis).close()
    refusal = refused(lambda: open_store(tmp_path, other.genesis))
    assert refusal.code == "other_community"
    assert mine.chain_id.hex() in refusal.message
    assert other.chain_id.hex() in refusal.message
    open_store(tmp_path, mine.genesis).close()


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    open_store(tmp_path, World().genesis).close()
    newer = len(schema.MIGRATIONS) + 3
    edit(database(tmp_path), f"PRAGMA user_version = {newer}")
    before = database(tmp_path).read_bytes()
    refusal = refused(lambda: open_store(tmp_path))
    assert refusal.code == "store_newer"
    assert f"schema version {newer}" in refusal.message
    assert f"up to {len(schema.MIGRATIONS)}" in refusal.message
    assert "update Energy Ledger" in refusal.message
    assert database(tmp_path).read_bytes() == before


def test_an_older_schema_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = grow(World(), 12)
    with open_store(tmp_path, world.genesis) as store:
        fill(store, world.blocks)

    def add_table(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE later (id INTEGER PRIMARY KEY) STRICT")

    known = len(schema.MIGRATIONS)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, add_table))
    older = refused(lambda: open_store(tmp_path, writable=False))
    assert (older.code, f"schema version {known}" in older.message) == ("store_older", True)
    with open_store(tmp_path) as store:
        assert_holds(store, world.blocks)
        with store._database.reading() as connection:
            assert connection.execute("PRAGMA user_version").fetchone()[0] == known + 1
            assert connection.execute("SELECT count(*) FROM later").fetchone()[0] == 0
    open_store(tmp_path, writable=False).close()


def test_a_failed_migration_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(tmp_path, World().genesis).close()

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE half (id INTEGER PRIMARY KEY) STRICT")
        connection.execute("CREATE TABLE chain (id INTEGER PRIMARY KEY) STRICT")

    migrations = schema.MIGRATIONS
    monkeypatch.setattr(schema, "MIGRATIONS", (*migrations, fail))
    assert refused(lambda: open_store(tmp_path)).code == "store_damaged"
    monkeypatch.setattr(schema, "MIGRATIONS", migrations)
    with open_store(tmp_path) as store, store._database.reading() as connection:
        tables = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'")
        assert tables.fetchone()[0] == 0


def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    edit(database(tmp_path), "CREATE TABLE notes (text TEXT)")
    before = database(tmp_path).read_bytes()
    refusal = refused(lambda: open_store(tmp_path, World().genesis))
    assert refusal.code == "store_foreign"
    assert "another program" in refusal.message
    assert database(tmp_path).read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to look at" * 99])
def test_a_file_that_is_no_database_is_damaged(tmp_path: Path, content: bytes) -> None:
    database(tmp_path).write_bytes(content)
    refusal = refused(lambda: open_store(tmp_path, World().genesis))
    assert refusal.code == "store_damaged"
    assert f"energy-ledger chain rebuild --data {tmp_path}" in refusal.message
    assert database(tmp_path).read_bytes() == content


def test_a_log_without_its_database_is_damage(tmp_path: Path) -> None:
    (tmp_path / "chain.db-wal").write_bytes(b"frames")
    assert refused(lambda: open_store(tmp_path, World().genesis)).code == "store_damaged"


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("DELETE FROM chain", "the genesis is missing"),
        ("UPDATE chain SET genesis = x'00'", "genesis is not readable"),
        ("DELETE FROM keys WHERE number = 0", "row 0 of the table keys is missing"),
        ("UPDATE keys SET value = x'0011223344556677' WHERE number = 0", "checksum is wrong"),
        ("UPDATE keys SET value = x'00'", "checksum is wrong"),
        ("INSERT INTO dictionaries VALUES (0, x'3132333443C2D8A6')", "checksum is wrong"),
        ("DROP TABLE chain", "no such table"),
    ],
)
def test_missing_or_changed_rows_are_damage(tmp_path: Path, statement: str, why: str) -> None:
    world = grow(World(), 12)
    with open_store(tmp_path, world.genesis) as store:
        fill(store, world.blocks)
    edit(database(tmp_path), statement)
    refusal = refused(lambda: open_store(tmp_path))
    assert refusal.code == "store_damaged"
    assert why in refusal.message


def test_an_address_with_spaces_is_quoted_in_the_remedy(tmp_path: Path) -> None:
    directory = tmp_path / "my home"
    open_store(directory, World().genesis).close()
    database(directory).write_bytes(b"")
    assert f"chain rebuild --data '{directory}'" in refused(lambda: open_store(directory)).message


def test_another_program_that_holds_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ledger_core.chain.store import database as connections

    monkeypatch.setattr(connections, "_BUSY_S", 0.05)
    world = grow(World(), 4)
    with open_store(tmp_path, world.genesis) as store:
        chain = fill(store, world.blocks[:3])
        with closing(sqlite3.connect(database(tmp_path), autocommit=True)) as other:
            other.execute("BEGIN IMMEDIATE")
            refusal = refused(lambda: chain.add_block(world.blocks[3], LATER))
            assert (refusal.code, "another program" in refusal.message) == ("store_busy", True)
            other.execute("ROLLBACK")
            other.execute("BEGIN")
            other.execute("SELECT * FROM chain").fetchall()
            chain.add_block(world.blocks[3], LATER)
            assert refused(store.checkpoint).code == "store_busy"
        store.checkpoint()
        assert_holds(store, world.blocks)


def test_a_directory_without_permission(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        # Root may write anywhere but into what is no directory.
        (tmp_path / "file").write_text("")
        place = tmp_path / "file" / "data"
    else:
        tmp_path.chmod(0o500)
        place = tmp_path / "data"
    refusal = refused(lambda: open_store(place, World().genesis))
    assert refusal.code == "store_unreachable"
    assert str(tmp_path) in refusal.message


def test_a_database_that_is_a_directory(tmp_path: Path) -> None:
    database(tmp_path).mkdir()
    refusal = refused(lambda: open_store(tmp_path, World().genesis))
    assert (refusal.code, "permissions" in refusal.message) == ("store_unreachable", True)


def test_a_full_database_keeps_the_last_good_state(tmp_path: Path) -> None:
    world = grow(World(), 60)
    with open_store(tmp_path, world.genesis) as store:
        chain = fill(store, world.blocks[:20])
        writer = store._database.writer()
        errors: list[ChainError] = []
        for block in world.blocks[20:]:
            pages = writer.execute("PRAGMA page_count").fetchone()[0]
            writer.execute(f"PRAGMA max_page_count = {pages}")
            try:
                chain.add_block(block, LATER)
            except ChainError as error:
                errors.append(error)
                height = chain.height
                assert_holds(store, world.blocks[:height])
                assert state_hash(store) == chain.state.hash()
                writer.execute("PRAGMA max_page_count = 4294967294")
                chain.add_block(block, LATER)
        assert len(errors) > 3
        for each in errors:
            assert each.code == "disk_full"
            assert str(database(tmp_path)) in each.message
            assert "free some space" in each.message
        assert_holds(store, world.blocks)
        assert state_hash(store) == world.state.hash()


FILL_UNTIL_FULL = """
import json, resource, sys
from pathlib import Path
from ledger_core.chain.chain import Chain
from ledger_core.chain.store.opening import open_store
from ledger_core.errors import ChainError
from tests.core.chains import LATER, grow, state_hash, verifier
from tests.core.world import World

directory, limit = Path(sys.argv[1]), int(sys.argv[2])
world = grow(World(), 60)
store = open_store(directory, world.genesis)
chain = Chain.open(store, verifier())
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
codes = []
for block in world.blocks:
    if chain.height >= 20:
        # As a disk that is nearly full: no file of the process may grow any more.
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
    try:
        chain.add_block(block, LATER)
    except ChainError as error:
        codes.append(error.code)
        before = chain.height, chain.tip_hash
        assert store.tip() == before, (store.tip(), before)
        assert state_hash(store) == chain.state.hash()
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        chain.add_block(block, LATER)
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
assert chain.state.hash() == world.state.hash()
store.close()
print(json.dumps(codes))
"""


@pytest.mark.parametrize("limit", [40_000, 120_000])
def test_a_process_that_may_not_write_more(tmp_path: Path, limit: int) -> None:
    command = [sys.executable, "-c", FILL_UNTIL_FULL, str(tmp_path), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.strip("[]\n").replace('"', "").split(", ")) == {"disk_full"}
    world = grow(World(), 60)
    with open_store(tmp_path) as store:
        assert_holds(store, world.blocks)
        assert state_hash(store) == world.state.hash()


@contextmanager
def tiny_disk(mount: Path, kib: int) -> Iterator[Path]:
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(mount)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        # Without the right to mount, the limit of the file size above is the same to the store.
        yield mount
        return
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    world = grow(World(), 60)
    with tiny_disk(tmp_path / "disk", 4096) as disk:
        ballast = disk / "ballast"
        with open_store(disk / "data", world.genesis) as store:
            chain = fill(store, world.blocks[:20])
            mounted = os.statvfs(disk).f_blocks * os.statvfs(disk).f_frsize < 8_000_000
            codes: list[str] = []
            for block in world.blocks[20:]:
                if mounted and not ballast.exists():
                    fill_up(ballast)
                try:
                    chain.add_block(block, LATER)
                except ChainError as error:
                    codes.append(error.code)
                    assert store.tip() == (chain.height, chain.tip_hash)
                    ballast.unlink()
                    chain.add_block(block, LATER)
            assert set(codes) == ({"disk_full"} if mounted else set())
            assert state_hash(store) == world.state.hash()
        if mounted:
            ballast.unlink(missing_ok=True)
            fill_up(ballast)
            assert refused(lambda: open_store(disk / "new", world.genesis)).code == "disk_full"
            ballast.unlink()
        with open_store(disk / "data") as store:
            assert_holds(store, world.blocks)
        open_store(disk / "new", world.genesis).close()


def fill_up(path: Path) -> None:
    """Take every byte that the disk has left."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def test_what_the_system_says_is_translated(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"

    def of(error: Exception) -> ChainError:
        def fail() -> None:
            with faults.as_chain_errors(path):
                raise error

        return refused(fail)

    def sqlite_error(code: int, name: str) -> sqlite3.Error:
        error = sqlite3.OperationalError("it failed")
        error.sqlite_errorcode = code
        error.sqlite_errorname = name
        return error

    assert of(OSError(28, "No space left on device")).code == "disk_full"
    assert of(OSError(13, "Permission denied", "place")).message.startswith("place: permission denied")
    io_error = of(sqlite_error(sqlite3.SQLITE_IOERR_READ, "SQLITE_IOERR_READ"))
    assert io_error.code == "store_io_error"
    assert "SQLITE_IOERR_READ" in io_error.message
    assert "chain rebuild" in io_error.message
    assert of(sqlite_error(sqlite3.SQLITE_READONLY, "SQLITE_READONLY")).code == "store_unreachable"
    assert of(sqlite3.ProgrammingError("Cannot operate on a closed database.")).code == "store_closed"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)
