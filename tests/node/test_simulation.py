"""The simulation: sound runs, equal for equal seeds, with everything that may go wrong going wrong."""

import gc
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ledger_core.chain.chain import Chain
from ledger_core.chain.model import Commit, Connected, SnapshotInfo
from ledger_core.cli.main import main
from ledger_core.errors import ChainError
from ledger_core.records.block import Block, decode_header
from ledger_core.simulation.config import SimulationConfig
from ledger_core.simulation.facts import Facts
from ledger_core.simulation.memory_store import MemoryStore, Shelf
from ledger_core.simulation.plot import plot
from ledger_core.simulation.report import Report, make_report, spread, table
from ledger_core.simulation.schedule import Schedule
from ledger_core.simulation.simulator import Simulator, few_collections
from tests.core.world import World
from tests.node.virtual import VERIFIER

CALM: dict[str, Any] = {"partitions": 0, "offline_share": 0.0, "wrong_clocks": 0.0, "liars": 0.0, "loss": 0.0}


def simulate(**settings: Any) -> tuple[Simulator, Report]:
    run = Simulator(SimulationConfig(**{"hours": 0.5, "settle_minutes": 40, **settings}))
    try:
        run.run(steps=1)
        return run, make_report(run, 0.0)
    finally:
        run.close()


def test_a_calm_street_finalises_everything_and_forks_hardly() -> None:
    run, report = simulate(nodes=5, trades_per_hour=2, **CALM)
    assert report.sound, table([report])
    assert report.records_final == report.records_submitted > 15
    assert report.records_lost == {}
    assert report.fork_rate < 0.05
    assert report.bans == {}
    assert len({node.engine.chain.state.hash() for node in run.nodes}) == 1
    # The mean spacing is the community's: the lottery follows the difficulty.
    assert 60 < report.blocks_mined < 220
    trades = {kind for fact in run.facts.records.values() for kind in [fact.kind]}
    assert trades == {"reading", "offer", "acceptance"}


def test_everything_that_may_go_wrong_does_and_the_street_holds() -> None:
    run, report = simulate(
        nodes=16,
        hours=1.0,
        partitions=2,
        partition_share=0.4,
        offline_share=0.1,
        wrong_clocks=0.07,
        # With the wrong clock less than a third: more, and nothing would become final.
        liars=0.25,
        loss=0.01,
        settle_minutes=45,
    )
    assert report.sound, table([report])
    assert run.facts.honest_bans == {}
    assert {"boaster", "flooder"} <= set(report.bans)
    assert 0 in run.facts.doubted_clocks
    assert report.records_final > 0
    assert report.reorganisations > 0
    assert run.facts.mined_wrong == 0


def test_an_equivocator_is_caught_and_punished() -> None:
    run, report = simulate(nodes=10, hours=1.0, settle_minutes=30, **{**CALM, "liars": 0.5}, seed=3)
    assert report.sound
    (offender,) = [node for node in run.nodes if node.liar is not None and node.liar.kind == "equivocator"]
    assert run.facts.equivocations == {offender.home.node.public_key}
    assert report.equivocators_punished == 1
    for node in run.nodes:
        if node.honest:
            assert offender.home.node.public_key not in node.engine.chain.state.node_keys


def test_the_same_seed_gives_the_same_run() -> None:
    settings: dict[str, Any] = {"nodes": 6, "hours": 0.3, "settle_minutes": 10, "partitions": 1}
    first, second = simulate(seed=5, **settings)[1], simulate(seed=5, **settings)[1]
    assert first.as_dict() == second.as_dict()
    other = simulate(seed=6, **settings)[1]
    assert other.as_dict() != first.as_dict()


def test_garbage_is_collected_only_when_asked_while_a_street_runs() -> None:
    before = gc.isenabled()
    with few_collections() as collect:
        assert not gc.isenabled()
        collect()
    assert gc.isenabled() == before


def test_one_home_alone_is_a_street() -> None:
    _, report = simulate(nodes=1, **CALM)
    assert report.sound
    assert report.bytes_per_home_day.at(100) == 0


def test_more_homes_than_founders() -> None:
    run = Simulator(SimulationConfig(nodes=260, hours=0.01))
    try:
        state = run.nodes[0].chain.state
        assert len(state.nodes) == len(state.members) == 260
        assert all(node.counts for node in state.nodes.values())
        assert len(state.assets) == 520
        twin = run.nodes[1].chain
        assert twin.state is not state
        assert twin.state.hash() == state.hash()
        assert twin.tip_hash == run.nodes[0].chain.tip_hash
    finally:
        run.close()


# The command


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    exit_code = main(["simulate", *arguments])
    out = capsys.readouterr()
    return exit_code, out.out, out.err


def test_the_command_prints_a_table_and_draws(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "plot.svg"
    arguments = ["--nodes", "3,4", "--hours", "0.2,0.1", "--settle", "35", "--liars", "0"]
    arguments += ["--plot", str(picture)]
    exit_code, out, err = command(capsys, *arguments)
    assert exit_code == 0, err
    assert out.splitlines()[0].split() == ["nodes", "3", "4"]
    assert out.splitlines()[1].split() == ["simulated", "hours", "0.78", "0.68"]
    assert "BROKEN" not in out
    root = ElementTree.fromstring(picture.read_text())
    assert root.tag.endswith("svg")
    assert "4 homes" in picture.read_text()
    exit_code, _, err = command(capsys, *arguments)
    assert exit_code == 1
    assert "--force" in err


def test_the_command_gives_json(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code, out, _ = command(
        capsys, "--nodes", "2", "--hours", "0.2", "--settle", "35", "--liars", "0", "--json"
    )
    assert exit_code == 0
    data = json.loads(out)
    assert data["sound"] is True
    (run,) = data["runs"]
    assert run["config"]["nodes"] == 2
    assert run["fork_rate"] >= 0
    assert run["record_final_s"]["percentiles"]["50"] > 0
    assert run["bytes_per_home_day"]["count"] == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--nodes", "many"], "--nodes"),
        (["--nodes", "0"], "nodes"),
        (["--hours", "-1"], "hours"),
        (["--hours", "all"], "--hours"),
        (["--nodes", "2,3", "--hours", "1,2,3"], "--hours gives 3 numbers for the 2 of --nodes"),
        (["--loss", "2"], "loss"),
        (["--checkpoint", "1"], "--checkpoint"),
    ],
)
def test_bad_arguments_are_named(
    capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    exit_code, out, err = command(capsys, *arguments)
    assert exit_code == 2
    assert out == ""
    assert named in err
    assert "Traceback" not in err


def test_a_street_too_short_to_finalise_is_not_sound(capsys: pytest.CaptureFixture[str]) -> None:
    exit_code, out, err = command(capsys, "--nodes", "2", "--hours", "0.05", "--settle", "1", "--liars", "0")
    assert exit_code == 1
    assert "BROKEN  finality goes on" in out
    assert "finality goes on" in err


# Its parts


def test_a_schedule_keeps_order() -> None:
    schedule = Schedule(10.0)
    happened: list[str] = []
    schedule.at(12, lambda: happened.append("b"))
    schedule.at(11, lambda: happened.append("a"))
    schedule.at(12, lambda: happened.append("c"))
    schedule.after(100, lambda: happened.append("late"))
    schedule.at(5, lambda: schedule.after(0, lambda: happened.append("now")))
    schedule.run_until(50)
    assert happened == ["now", "a", "b", "c"]
    assert (schedule.now, schedule.done, len(schedule)) == (50, 5, 1)


def test_spreads_of_little() -> None:
    assert spread([]).at(50) is None
    assert spread([3.0]).at(95) == 3.0
    assert spread(range(101)).at(95) == 95


def test_facts_find_what_must_not_be() -> None:
    from tests.node.test_engine_votes import make_vote

    facts = Facts()
    facts.votes[0] = [make_vote(0, 4), make_vote(4, 8)]
    facts.finals = {4: {b"a"}}
    assert (facts.conflicting_votes(), facts.conflicting_finals()) == (0, 0)
    facts.votes[0].append(make_vote(0, 8))
    facts.finals[4].add(b"b")
    assert (facts.conflicting_votes(), facts.conflicting_finals()) == (1, 1)


def test_a_plot_of_nothing_is_a_picture() -> None:
    assert ElementTree.fromstring(plot([])).tag.endswith("svg")


# The store in memory


def grown(blocks: int = 20, keep_final: int = 1000) -> tuple[World, MemoryStore]:
    world = World()
    store = MemoryStore(world.genesis, Shelf(), keep_final)
    chain = Chain.open(store, VERIFIER)
    for number in range(blocks):
        height = world.state.tip.height
        target = height // 4 * 4
        ready = height % 4 == 1 and target > 0
        world.mine(bundles=world.votes(target - 4, target) if ready else ())
        chain.add_block(world.blocks[number], world.now)
    return world, store


def test_a_store_starts_a_chain_again() -> None:
    world, store = grown()
    chain = Chain.open(store, VERIFIER)
    assert chain.tip_hash == world.state.tip.hash
    assert chain.state.hash() == world.state.hash()
    assert store.head().final[0] == world.state.tip.final == 12
    assert [decode_header(header).height for header, _ in store.sealed_headers(5, 3)] == [5, 6, 7]
    assert store.sealed_headers(99, 3) == []
    assert store.header_at(0) is None
    assert store.block_at(99) is None


def test_twins_share_blocks_and_nothing_else() -> None:
    world, store = grown(6)
    twin = store.twin()
    chain = Chain.open(twin, VERIFIER)
    world.mine()
    chain.add_block(world.blocks[-1], world.now)
    assert twin.tip()[0] == 7
    assert store.tip()[0] == 6
    assert twin.block_at(3) is store.block_at(3)
    shelf = store._shelf
    assert len(shelf) == 7
    twin.close()
    assert len(shelf) == 6
    store.close()
    assert len(shelf) == 0


def test_a_store_forgets_old_bodies_and_keeps_headers() -> None:
    _, store = grown(30, keep_final=5)
    final = store.final()[0]
    assert store.head().pruned == final - 5
    assert store.block_at(final - 5) is None
    assert store.block_at(final - 4) is not None
    assert store.header_at(1) is not None
    assert len(store._shelf) <= 30 - (final - 5)
    assert len([info for info in store.snapshots() if info.height <= final]) <= 2


def test_a_store_begins_with_a_snapshot() -> None:
    world, store = grown(24)
    info = store.snapshots()[-1]
    first = info.height + 1
    blocks = [block for height in range(first - 3, first + 1) if (block := store.block_at(height))]
    fresh = MemoryStore(world.genesis)
    fresh.install(store.sealed_headers(1, first - 4), blocks, (info, store.snapshot(info.hash)))
    assert fresh.tip()[0] == fresh.final()[0] == first
    chain = Chain.open(fresh, VERIFIER)
    for height in range(first + 1, 25):
        block = store.block_at(height)
        assert block is not None
        chain.add_block(block, world.now)
    assert chain.state.hash() == world.state.hash()
    with pytest.raises(ChainError, match="not empty"):
        fresh.install([], blocks, (info, b""))


def test_a_store_refuses_what_does_not_fit() -> None:
    world, store = grown(4)
    world.mine()
    world.mine()
    stray: Block = world.blocks[-1]
    with pytest.raises(ChainError, match="does not follow"):
        store.commit(Commit(added=[(stray, 9)], connected=[Connected(stray.hash, b"")]))
    with pytest.raises(ChainError, match="not the tip"):
        store.twin().commit(Commit(disconnected=[world.blocks[1].hash]))
    with pytest.raises(ChainError, match="no such snapshot"):
        store.snapshot(bytes(32))
    store.fail_next = True
    with pytest.raises(ChainError, match="no room"):
        store.commit(Commit(snapshot=(SnapshotInfo(1, bytes(32), bytes(32)), b"")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--nodes", "0"), "--nodes: 0 is not a whole number from 1 to 5000"),
        (("--latency", "-1"), "--latency: -1.0 is not a number from 0 to 60"),
        (("--partition-hours", "99"), "--partition-hours: 99.0 is not a number from 0 to 24"),
    ],
)
def test_a_street_that_can_not_be_is_refused_by_its_option(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *arguments]) == 2
    assert message in capsys.readouterr().err
