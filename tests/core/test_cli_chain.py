"""`energy-ledger chain`: what users see when they check, look into, repair, shorten and export a chain."""

import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger_core.chain import chain as chain_module
from ledger_core.chain.store import files
from ledger_core.chain.store.blockfile import BlockFile
from ledger_core.chain.store.opening import open_store
from ledger_core.cli import main
from ledger_core.cli.chain_view import view_block
from ledger_core.cli.quantities import show_utc
from ledger_core.community import encode_genesis
from ledger_core.records.block import Block
from tests.core.chains import database, fill, grow, twin
from tests.core.world import World

type Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def world() -> World:
    return grow(World(), 46)


@pytest.fixture(scope="module")
def made(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "data"
    other = grow(twin(world, 44), 1, step=31)
    with pytest.MonkeyPatch.context() as patch, open_store(directory, world.genesis) as store:
        patch.setattr(chain_module, "SNAPSHOT_EVERY", 1)
        fill(store, [*world.blocks, other.blocks[-1]])
    return directory


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "data"))


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command of the group on the directory; returns exit code and both outputs."""

    def run_command(command: str, *arguments: object, data: Path | None = None) -> tuple[int, str, str]:
        words = ["chain", command, "--data", str(data or home), *(str(word) for word in arguments)]
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


def as_json(output: tuple[int, str, str]) -> dict[str, Any]:
    code, out, err = output
    assert code == 0, err
    assert out.count("\n") == 1
    data: dict[str, Any] = json.loads(out)
    return data


def refused(output: tuple[int, str, str], exit_code: int = 1) -> str:
    code, out, err = output
    assert (code, out) == (exit_code, "")
    assert err.startswith("energy-ledger: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def break_segment(home: Path, first: int) -> None:
    with closing(sqlite3.connect(database(home), autocommit=True)) as connection:
        connection.execute("UPDATE segments SET data = x'00' WHERE first = ?", (first,))


def test_verify_a_good_chain(run: Run, world: World) -> None:
    code, out, _ = run("verify")
    assert code == 0
    assert out.startswith("The chain is good.\n")
    assert world.state.hash().hex() in out
    data = as_json(run("verify", "--json", "--workers", 2))
    assert data == {
        "ok": True,
        "height": 46,
        "hash": world.blocks[-1].hash.hex(),
        "state_hash": world.state.hash().hex(),
        "final": 40,
        "blocks": 46,
        "headers": 0,
        "side_blocks": 1,
        "snapshots": 3,
    }
    code, out, _ = run("verify", "--quick")
    assert out.startswith("The last blocks are good.\n")
    assert as_json(run("verify", "--quick", "--json"))["height"] == 46


def test_verify_names_the_damage_and_the_remedy(run: Run, home: Path) -> None:
    break_segment(home, 9)
    assert run("verify", "--quick")[0] == 1
    error = refused(run("verify"))
    assert f"{database(home)} is damaged" in error
    assert "segment from block 9" in error
    assert f"run: energy-ledger chain rebuild --data {home}" in error
    code, out, err = run("verify", "--json")
    assert (code, out) == (1, "")
    assert json.loads(err)["code"] == "store_damaged"


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("verify", ()),
        ("inspect", ()),
        ("prune", ("--before", 5)),
        ("rebuild", ()),
        ("export", ("--out", "file.blocks")),
    ],
)
def test_a_directory_without_a_chain(
    run: Run, tmp_path: Path, command: str, options: tuple[object, ...]
) -> None:
    for directory in (tmp_path / "missing", tmp_path):
        error = refused(run(command, *options, data=directory))
        assert str(directory) in error
        assert "no chain" in error


def test_a_directory_in_use(run: Run, home: Path) -> None:
    with open_store(home):
        for command, options in (("verify", ()), ("prune", ("--before", 5)), ("rebuild", ())):
            assert "in use by another node" in refused(run(command, *options))
        assert as_json(run("inspect", "--json"))["height"] == 46
        assert run("export", "--out", home / "file.blocks")[0] == 0


@pytest.mark.parametrize(
    ("command", "options", "why"),
    [
        ("verify", ("--workers", 0), "--workers must lie between 1 and 64, not at 0"),
        ("rebuild", ("--workers", 65), "--workers must lie between 1 and 64, not at 65"),
        ("verify", ("--workers", "x"), "invalid int value"),
        ("prune", (), "one of the arguments --before --days is required"),
        ("prune", ("--before", 1, "--days", 1), "not allowed with"),
        ("prune", ("--before", -1), "--before must be a height between 0 and 4294967295, not -1"),
        ("prune", ("--days", -1), "--days must lie between 0 and 36500, not at -1"),
        ("export", (), "required: --out"),
    ],
)
def test_wrong_usage(run: Run, command: str, options: tuple[object, ...], why: str) -> None:
    assert why in refused(run(command, *options), 2)


def test_inspect_shows_where_the_chain_stands(run: Run, world: World) -> None:
    data = as_json(run("inspect", "--json"))
    assert data["name"] == "Test street"
    assert data["chain_id"] == world.chain_id.hex()
    assert (data["height"], data["hash"]) == (46, world.blocks[-1].hash.hex())
    assert data["final"] == {"height": 40, "hash": world.blocks[39].hash.hex()}
    assert [info["height"] for info in data["snapshots"]] == [43, 39, 35]
    assert (data["pruned"], data["side_blocks"], data["time"]) == (0, 1, world.now)
    assert data["database_bytes"] > 0
    code, out, _ = run("inspect")
    assert code == 0
    for text in ("Test street", "46  " + world.blocks[-1].hash.hex(), "UTC", "43, 39, 35", "bodies from"):
        assert text in out


def test_inspect_an_empty_chain(run: Run, world: World, tmp_path: Path) -> None:
    open_store(tmp_path / "new", world.genesis).close()
    data = as_json(run("inspect", "--json", data=tmp_path / "new"))
    assert (data["height"], data["time"], data["snapshots"]) == (0, world.genesis.created, [])
    code, out, _ = run("inspect", data=tmp_path / "new")
    assert (code, "none" in out) == (0, True)
    assert "there is no block 1: the chain has 1 to 0" in refused(
        run("inspect", "--block", 1, data=tmp_path / "new")
    )


def test_inspect_a_block_by_height_and_hash(run: Run, world: World) -> None:
    for height in (1, 22, 40, 41, 46):
        block = world.blocks[height - 1]
        data = as_json(run("inspect", "--json", "--block", height))
        assert (data["height"], data["hash"]) == (height, block.hash.hex())
        assert data["final"] == (height <= 40)
        assert [record["kind"] for record in data["records"]] == ["transfer"]
        assert [part["valid"] for part in data["records"][0]["signatures"]] == [True]
        assert as_json(run("inspect", "--json", "--block", block.hash.hex().upper())) == data
    voted = as_json(run("inspect", "--json", "--block", 22))["votes"]
    assert [(vote["source"]["height"], vote["target"]["height"], vote["members"]) for vote in voted] == [
        (16, 20, [0, 1, 2])
    ]
    checkpoint = as_json(run("inspect", "--json", "--block", 40))
    assert len(checkpoint["state_hash"]) == 64
    assert as_json(run("inspect", "--json", "--block", 41))["state_hash"] is None
    assert run("inspect", "--block", 46)[1].startswith("{\n")


def test_inspect_a_side_block(run: Run, home: Path) -> None:
    with open_store(home) as store:
        side = next(row.hash for row in store.recent() if not row.active)
    assert as_json(run("inspect", "--json", "--block", side.hex()))["height"] == 45


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ("0", "there is no block 0: the chain has 1 to 46"),
        ("47", "there is no block 47"),
        ("ab" * 32, "no block of the chain has the hash abab"),
        ("tip", "'tip' is neither a height nor a hash"),
        ("9" * 100, "is neither a height nor a hash"),
        ("-1", "'-1' is neither a height nor a hash"),
    ],
)
def test_inspect_an_unknown_block(run: Run, block: str, why: str) -> None:
    assert why in refused(run("inspect", "--block", block))


def test_a_time_that_no_calendar_has_is_shown_as_a_number(run: Run, world: World, tmp_path: Path) -> None:
    assert show_utc(2**63) == f"{2**63} s after 1970"
    assert show_utc(0) == "1970-01-01 00:00:00 UTC"
    with open_store(tmp_path / "new", world.genesis) as store:
        assert (
            view_block(Block(*(world.blocks[0].header, bytes(64), world.blocks[0].body)), store)["height"]
            == 1
        )


def test_prune_and_compact(run: Run, home: Path) -> None:
    data = as_json(run("prune", "--before", 21, "--json"))
    assert (data["pruned"], data["newly_pruned"]) == (20, 20)
    code, out, _ = run("prune", "--before", 999, "--compact")
    assert code == 0
    assert "12 (up to block 32)" in out
    assert "0 of them free" in out
    assert as_json(run("prune", "--before", 10, "--json"))["newly_pruned"] == 0
    assert as_json(run("inspect", "--json"))["pruned"] == 32
    assert "the body of block 7 was pruned" in refused(run("inspect", "--block", 7))
    assert as_json(run("verify", "--json"))["headers"] == 35
    with open_store(home) as store:
        assert store.head().pruned == 32


def test_prune_by_age(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: world.now + 3 * 86_400 - 30 * 30 + 0.5)
    assert as_json(run("prune", "--days", 4, "--json"))["pruned"] == 0
    # The block 30 steps below the tip is just three days old.
    assert as_json(run("prune", "--days", 3, "--json"))["pruned"] == 12
    monkeypatch.setattr(time, "time", lambda: world.now + 10**6)
    assert as_json(run("prune", "--days", 0, "--json"))["pruned"] == 32


def test_prune_without_a_snapshot(run: Run, home: Path) -> None:
    with closing(sqlite3.connect(database(home), autocommit=True)) as connection:
        connection.execute("DELETE FROM snapshots")
    assert "no bodies can be removed yet" in refused(run("prune", "--before", 10))


def test_export_and_rebuild_from_the_file(run: Run, home: Path, world: World, tmp_path: Path) -> None:
    out = tmp_path / "chain.blocks"
    code, text, _ = run("export", "--out", out)
    assert (code, "46 (up to block 46)" in text) == (0, True)
    assert list(BlockFile(out).blocks()) == world.blocks
    assert "exists already (--force replaces it)" in refused(run("export", "--out", out))
    data = as_json(run("export", "--out", out, "--force", "--final", "--json"))
    assert (data["first"], data["last"], data["blocks"]) == (1, 40, 40)
    assert not list(tmp_path.glob(".*.part"))
    break_segment(home, 9)
    data = as_json(run("rebuild", "--import", out, "--json"))
    assert (data["height"], data["lost"], data["final"]) == (46, 0, 40)
    assert Path(data["kept_aside"]).exists()
    assert as_json(run("verify", "--json"))["state_hash"] == world.state.hash().hex()


def test_export_of_a_pruned_chain_says_so(run: Run, tmp_path: Path) -> None:
    run("prune", "--before", 999)
    out = tmp_path / "rest.blocks"
    code, _, err = run("export", "--out", out)
    assert code == 0
    assert "Bodies up to block 32 were pruned" in err
    assert len(list(BlockFile(out).blocks())) == 14


def test_export_into_a_missing_directory(run: Run, tmp_path: Path) -> None:
    error = refused(run("export", "--out", tmp_path / "missing" / "file"))
    assert "no such file or directory" in error


def test_export_while_the_node_switches_branches(
    run: Run, home: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ledger_core.chain.store.store import SqliteStore

    honest = SqliteStore.block_at
    other = grow(twin(world, 44), 1, step=31).blocks[-1]

    def switched(self: SqliteStore, height: int) -> Block | None:
        return other if height == 45 else honest(self, height)

    monkeypatch.setattr(SqliteStore, "block_at", switched)
    error = refused(run("export", "--out", tmp_path / "file"))
    assert "switched to another branch below block 46" in error
    assert "--final" in error
    assert not (tmp_path / "file").exists()
    assert not list(tmp_path.glob(".*.part"))


def test_rebuild_tells_what_was_lost(run: Run, home: Path) -> None:
    break_segment(home, 21)
    code, out, _ = run("rebuild")
    assert code == 0
    assert "saved up to         block 20" in out
    assert "blocks lost         26" in out
    assert "blocks 21 to 24 are not readable" in out
    assert "--import FILE" in out
    aside = next(home.glob(f"{files.DAMAGED}*"))
    assert str(aside) in out


def test_rebuild_of_a_file_without_its_genesis(run: Run, home: Path, world: World, tmp_path: Path) -> None:
    database(home).write_bytes(b"")
    assert "--genesis FILE" in refused(run("rebuild"))
    genesis = tmp_path / "street.genesis"
    genesis.write_bytes(encode_genesis(world.genesis))
    code, out, _ = run("rebuild", "--genesis", genesis)
    assert (code, "unknown: the old tip is not readable" in out) == (0, True)
    assert as_json(run("inspect", "--json"))["height"] == 0


def test_rebuild_with_a_wrong_file(run: Run, home: Path, tmp_path: Path) -> None:
    before = database(home).read_bytes()
    other = tmp_path / "other.genesis"
    other.write_bytes(encode_genesis(World(name="Other street").genesis))
    assert "of the community" in refused(run("rebuild", "--genesis", other))
    assert "no such file" in refused(run("rebuild", "--import", tmp_path / "missing"))
    assert database(home).read_bytes() == before
