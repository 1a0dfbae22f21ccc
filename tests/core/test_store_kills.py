"""SIGKILL at every stage of every change, at random times, and during recovery.

After each kill the reopened store equals one of the two clean states: before the change, or after it.
"""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ledger_core.chain import chain as chain_module
from ledger_core.chain.chain import Chain
from ledger_core.chain.recovery import quick_check, verify_store
from ledger_core.chain.store import files
from ledger_core.chain.store.blockfile import write_blocks
from ledger_core.chain.store.opening import open_store
from ledger_core.chain.store.store import SqliteStore
from ledger_core.errors import ChainError
from ledger_core.records.block import Block, decode_header
from tests.core.chains import LATER, assert_holds, database, fill, flip, grow, state_hash, twin, verifier
from tests.core.world import World

ROOT = Path(__file__).parents[2]


class Nursery:
    """The program that forks the children, and a count of those that were killed."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.core.kill_nursery"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.kills = 0

    def run(self, job: str, directory: Path, **options: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        values = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
        self._process.stdin.write(json.dumps({"job": job, "directory": str(directory), **values}) + "\n")
        self._process.stdin.flush()
        ended: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert ended["error"] is None, ended
        self.kills += ended["killed"]
        return ended

    def close(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


class Story:
    """Blocks in the order in which a node gets them: a switch to another branch, votes, final blocks."""

    def __init__(self, directory: Path) -> None:
        world = grow(World(), 6, votes=False)
        other = twin(world, 3)
        grow(other, 26, step=31)
        self.world = other
        self.order: list[Block] = [*world.blocks, *other.blocks[3:]]
        self.path = directory / "story.blocks"
        with self.path.open("wb") as file:
            write_blocks(file, world.genesis, self.order)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(tmp_path_factory.mktemp("story"))


@pytest.fixture(autouse=True)
def _frequent_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "SNAPSHOT_EVERY", 1)


def digest(store: SqliteStore) -> str:
    """Everything that the store can be asked, and the state that a start reaches."""
    parts: list[object] = [store.tip(), store.final(), store.snapshots()]
    parts += [store.snapshot(info.hash) for info in store.snapshots()]
    final = store.final()[1]
    for row in store.recent():
        parts += [row, store.block(row.hash)]
        if row.active and row.hash != final:
            parts.append(store.undo(row.hash))
    parts += [store.block_at(height) for height in range(1, store.tip()[0] + 1)]
    parts.append(store.sealed_headers(1, 10**6))
    quick_check(store)
    parts.append(state_hash(store))
    return sha256(repr(parts).encode()).hexdigest()


def digest_at(directory: Path) -> str:
    with open_store(directory) as store:
        return digest(store)


class Kind(NamedTuple):
    """What a commit did."""

    move: str
    final: bool
    snapshot: bool


def kind_of_change(before: Path, after: Path) -> Kind:
    with open_store(before) as old, open_store(after) as new:
        if old.tip() == new.tip():
            move = "side"
        else:
            header = decode_header(new.header_at(new.tip()[0]) or b"")
            move = "tip" if header.previous == old.tip()[1] else "switch"
        return Kind(move, old.final() != new.final(), old.snapshots() != new.snapshots())


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def test_kill_at_every_stage_of_every_kind_of_commit(nursery: Nursery, story: Story, tmp_path: Path) -> None:
    clean = tmp_path / "clean"
    open_store(clean, story.world.genesis).close()
    seen: set[Kind] = set()
    kills = nursery.kills
    for step in range(len(story.order)):
        before = copy(clean, tmp_path / f"before {step}")
        options: dict[str, Any] = {"blocks": story.path, "first": step, "last": step + 1}
        stages = tuple(nursery.run("feed", clean, **options)["stages"])
        kind = kind_of_change(before, clean)
        if kind in seen:
            continue
        seen.add(kind)
        allowed = {digest_at(before), digest_at(clean)}
        for number in range(1, len(stages) + 1):
            directory = copy(before, tmp_path / f"killed {step} {number}")
            ended = nursery.run("feed", directory, **options, kill_at=number)
            assert ended["killed"]
            assert ended["stages"] == list(stages[:number])
            found = digest_at(directory)
            assert found in allowed
            if ended["stages"][-1] == "committed":
                assert found == digest_at(clean)
            if number % 3 == 0:
                # The store works on from where it is.
                nursery.run("feed", directory, **options)
                assert digest_at(directory) == digest_at(clean)
            shutil.rmtree(directory)
    # A block on the tip, beside it, a switch of branches; new snapshots; final blocks and their archive.
    assert {kind.move for kind in seen} == {"tip", "side", "switch"}
    assert {kind.final for kind in seen} == {kind.snapshot for kind in seen} == {False, True}
    assert nursery.kills - kills >= 50
    with open_store(clean) as store:
        assert state_hash(store) == story.world.state.hash()


def test_kill_at_random_times(nursery: Nursery, story: Story, tmp_path: Path) -> None:
    expected: list[str] = []
    with open_store(tmp_path / "clean", story.world.genesis) as store:
        chain = Chain.open(store, verifier())
        expected.append(digest(store))
        for block in story.order:
            chain.add_block(block, LATER)
            expected.append(digest(store))
    chance = random.Random(4)
    kills = nursery.kills
    options: dict[str, Any] = {"blocks": story.path, "first": 0, "last": len(story.order)}
    longest = 0.2
    while nursery.kills - kills < 30:
        directory = tmp_path / "random"
        ended = nursery.run("feed", directory, **options, kill_after_s=chance.uniform(0, longest))
        if not ended["killed"]:
            longest *= 0.9
        steps = min(ended["steps"], len(story.order))
        with open_store(directory, story.world.genesis) as store:
            assert digest(store) in expected[steps : steps + 2]
        shutil.rmtree(directory)


def test_kill_while_a_store_is_made(nursery: Nursery, story: Story, tmp_path: Path) -> None:
    options: dict[str, Any] = {"blocks": story.path, "first": 0, "last": 0}
    stages = nursery.run("feed", tmp_path / "clean", **options)["stages"]
    assert "database built" in stages
    for number in range(1, len(stages) + 1):
        directory = tmp_path / f"killed {number}"
        assert nursery.run("feed", directory, **options, kill_at=number)["killed"]
        with open_store(directory, story.world.genesis) as store:
            assert store.tip() == (0, story.world.chain_id)
        assert sorted(path.name for path in directory.iterdir()) == [files.DATABASE, files.LOCK]


def test_kill_in_a_large_commit(nursery: Nursery, story: Story, tmp_path: Path) -> None:
    stages = nursery.run("sync", tmp_path / "clean", blocks=story.path)["stages"]
    assert stages.count("segment archived") >= 4
    wanted = digest_at(tmp_path / "clean")
    states: dict[int, set[bytes]] = {}
    for number in range(1, len(stages) + 1):
        directory = tmp_path / f"killed {number}"
        ended = nursery.run("sync", directory, blocks=story.path, kill_at=number)
        assert ended["killed"]
        with open_store(directory, story.world.genesis) as store:
            states.setdefault(ended["stages"].count("committed"), set()).add(state_hash(store))
            quick_check(store)
        if number % 4 == 0:
            nursery.run("sync", directory, blocks=story.path)
            assert digest_at(directory) == wanted
        shutil.rmtree(directory)
    # Nothing of a commit is there before it is done, whichever stage the kill hit.
    assert [len(states[done]) for done in range(stages.count("committed") + 1)] == [1] * len(states)
    assert states[stages.count("committed")] == {story.world.state.hash()}


def test_kill_while_loose_segments_are_stored_and_packed(
    nursery: Nursery, story: Story, tmp_path: Path
) -> None:
    options = {"blocks": story.path, "loose": True}
    stages = nursery.run("sync", tmp_path / "clean", **options)["stages"]
    assert stages.count("segment archived") >= 4
    heights = set()
    for number in range(1, len(stages) + 1):
        directory = tmp_path / f"killed {number}"
        assert nursery.run("sync", directory, kill_at=number, **options)["killed"]
        with open_store(directory, story.world.genesis) as store:
            quick_check(store)
            heights.add(store.tip()[0])
        nursery.run("sync", directory, **options)
        with open_store(directory) as store:
            assert_holds(store, story.world.blocks)
        shutil.rmtree(directory)
    assert {0, len(story.world.blocks)} < heights
    source, wanted = tmp_path / "clean", digest_at(tmp_path / "clean")
    stages = nursery.run("pack", copy(source, tmp_path / "packed"))["stages"]
    assert stages.count("segment packed") >= 4
    for number in range(1, len(stages) + 1):
        directory = copy(source, tmp_path / f"packing {number}")
        assert nursery.run("pack", directory, kill_at=number)["killed"]
        assert digest_at(directory) == wanted
        with open_store(directory) as store:
            while store.pack_some():
                pass
            assert digest(store) == wanted
        shutil.rmtree(directory)


def full_store(story: Story, directory: Path) -> Path:
    with open_store(directory, story.world.genesis) as store:
        fill(store, story.order)
        assert store.final()[0] >= 20
    return directory


def test_kill_while_pruning(nursery: Nursery, story: Story, tmp_path: Path) -> None:
    source = full_store(story, tmp_path / "source")
    clean = copy(source, tmp_path / "clean")
    stages = nursery.run("prune", clean, before=100)["stages"]
    with open_store(clean) as store:
        last = store.head().pruned
    pruned = set()
    for number in range(1, len(stages) + 1):
        directory = copy(source, tmp_path / f"killed {number}")
        assert nursery.run("prune", directory, before=100, kill_at=number)["killed"]
        with open_store(directory) as store:
            quick_check(store)
            pruned.add(store.head().pruned)
            assert_holds(store, story.world.blocks, store.head().pruned)
            assert state_hash(store) == story.world.state.hash()
            assert store.prune(100) == last
            assert_holds(store, story.world.blocks, last)
        shutil.rmtree(directory)
    assert {0, last} < pruned


def test_kill_while_a_snapshot_is_installed(nursery: Nursery, story: Story, tmp_path: Path) -> None:
    source = full_store(story, tmp_path / "source")
    clean = tmp_path / "clean"
    stages = nursery.run("install", clean, source=source)["stages"]
    with open_store(clean) as store:
        tip = store.tip()
        assert tip[0] >= 20
        installed = state_hash(store)
    outcomes = set()
    for number in range(1, len(stages) + 1):
        directory = tmp_path / f"killed {number}"
        assert nursery.run("install", directory, source=source, kill_at=number)["killed"]
        with open_store(directory, story.world.genesis) as store:
            outcomes.add((store.tip(), state_hash(store)))
    nothing = World()
    assert outcomes == {((0, nothing.chain_id), nothing.state.hash()), (tip, installed)}


@pytest.mark.parametrize("harm", [None, "flipped", "pruned"])
def test_kill_while_rebuilding_and_recovering(
    nursery: Nursery, story: Story, tmp_path: Path, harm: str | None
) -> None:
    source = full_store(story, tmp_path / "source")
    if harm == "pruned":
        nursery.run("prune", source, before=100)
    if harm == "flipped":
        flip(database(source), 0)
        with pytest.raises(ChainError, match="chain rebuild"):
            open_store(source)
    clean = copy(source, tmp_path / "clean")
    stages = nursery.run("rebuild", clean)["stages"]
    assert stages[-1] == "database replaced"
    wanted = digest_at(clean)
    announced = stages.index("rebuilt") + 1
    for number in (*range(1, announced, 7 if harm is None else 11), *range(announced, len(stages) + 1)):
        directory = copy(source, tmp_path / f"killed {number}")
        ended = nursery.run("rebuild", directory, kill_at=number)
        assert ended["killed"]
        if harm == "flipped" and "replacement announced" not in ended["stages"]:
            with pytest.raises(ChainError, match="chain rebuild"):
                open_store(directory)
            nursery.run("rebuild", directory)
        kill_the_recovery(nursery, directory)
        with open_store(directory) as store:
            assert state_hash(store) == story.world.state.hash()
            assert_holds(store, story.world.blocks, store.head().pruned)
        assert not list(directory.glob(f"{files.BUILDING}*"))
        shutil.rmtree(directory)
    assert digest_at(clean) == wanted
    with open_store(clean) as store, verifier() as checker:
        assert verify_store(store, checker).state_hash == story.world.state.hash()


def kill_the_recovery(nursery: Nursery, directory: Path) -> None:
    """Kill the start after a kill, stage by stage, until one goes through."""
    for number in range(1, 20):
        if not nursery.run("reopen", directory, kill_at=number)["killed"]:
            return
    pytest.fail("the start never ends")


def test_at_least_a_hundred_kills(nursery: Nursery) -> None:
    """Runs last: what the tests above did must not shrink unnoticed."""
    assert nursery.kills >= 180
