"""The node's process and its supervisor, with children that misbehave as told."""

import asyncio
import logging
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers.aiohttp_client import async_get_clientsession

from custom_components.energy_ledger.node.process import NodeLaunch, NodeProcess, NodeStartError
from custom_components.energy_ledger.node.supervisor import (
    TOKEN_FILE,
    NodeSupervisor,
    NodeUnavailable,
    Pace,
)
from custom_components.energy_ledger.node.versions import version_fits
from ledger_core import __version__
from ledger_core.client import NodeClient
from tests.integration.conftest import wait_until
from tests.node.api_world import TOKEN, ApiWorld

CHILD = """
import json, os, pathlib, signal, sys, time
mode, directory = sys.argv[1], pathlib.Path(sys.argv[-1])
starts = directory / "starts"
count = len(starts.read_text()) if starts.exists() else 0
starts.write_text("x" * (count + 1))
(directory / "environment").write_text(json.dumps(dict(os.environ)))

def ready(version="VERSION", port="1"):
    api = os.environ.get("TEST_API") or f"http://127.0.0.1:{port}"
    line = {"version": version, "api": api, "peer": None, "node": "el1", "chain_id": "00"}
    print(json.dumps(line), flush=True)

def rest():
    sys.stdin.read()

match mode:
    case "exits":
        print("energy-ledger: error: the disk is full", file=sys.stderr)
        sys.exit(1)
    case "silent":
        rest()
    case "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ready()
        time.sleep(600)
    case "other":
        ready("9.9.9")
        rest()
    case "updated":
        ready("9.9.9") if count else ready()
        sys.exit(3) if not count else rest()
    case "ready":
        ready()
        rest()
    case "crashes":
        ready()
        sys.exit(3)
    case "once":
        if count:
            sys.exit(4)
        ready()
        sys.exit(3)
    case "moves":
        ready(port=str(10 + count))
        sys.exit(3) if not count else rest()
    case "chatters":
        print("2026-11-21T14:17:02Z ERROR ledger_core.node: broken", file=sys.stderr)
        print("z" * 200_000, file=sys.stderr)
        sys.stderr.buffer.write(b"DEBUG \\xff key elsec1abcdef and ELINVITE-1-ABC\\n")
        print("no level here", file=sys.stderr, flush=True)
        print("not json")
        ready()
        print("more")
        ready()
        rest()
""".replace("VERSION", __version__)
PACE = Pace(
    ready_s=20, end_s=5, poll_s=0.05, stable_s=60, failures=3, first_pause_s=0.01, longest_pause_s=0.02
)


@dataclass
class Watched:
    """A supervisor, and what it told."""

    supervisor: NodeSupervisor
    directory: Path
    troubles: list[NodeUnavailable | None] = field(default_factory=list)
    moves: list[bool] = field(default_factory=list)

    @property
    def starts(self) -> int:
        """How often the child was started."""
        return len((self.directory / "starts").read_text())


type Maker = Callable[..., Watched]


@pytest.fixture
def launch(tmp_path: Path) -> Callable[[str], NodeLaunch]:
    """Return what makes the launch of a child of some mode."""
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / TOKEN_FILE).write_text(TOKEN + "\n")

    def make(mode: str) -> NodeLaunch:
        command = (sys.executable, "-X", "utf8", str(script), mode)
        return NodeLaunch(directory=directory, command=command, settings={"mining": "no"})

    return make


@pytest.fixture
async def watch(hass: HomeAssistant, launch: Callable[[str], NodeLaunch]) -> AsyncIterator[Maker]:
    """Return what makes a supervisor of a child of some mode; all are stopped at the end."""
    made: list[Watched] = []
    session = async_get_clientsession(hass)

    def make(mode: str, pace: Pace = PACE) -> Watched:
        how = launch(mode)
        troubles: list[NodeUnavailable | None] = []
        supervisor = NodeSupervisor(
            hass,
            how,
            lambda url, token: NodeClient(url, token, session=session, timeout_s=1),
            troubles.append,
            pace,
        )
        watched = Watched(supervisor, how.directory, troubles)
        supervisor.on_moved = lambda: watched.moves.append(True)
        made.append(watched)
        return watched

    yield make
    for watched in made:
        await watched.supervisor.stop()


async def test_a_child_that_says_much(
    launch: Callable[[str], NodeLaunch], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    lines: deque[str] = deque(maxlen=512)
    process = NodeProcess(launch("chatters"), lines)
    assert process.pid is None
    assert await process.wait() == 0
    told = await process.start(api_port="7")
    assert told.version == __version__
    await wait_until(lambda: "more" in lines)
    await process.stop()
    await process.stop()
    levels = {record.getMessage(): record.levelno for record in caplog.records}
    assert levels["2026-11-21T14:17:02Z ERROR ledger_core.node: broken"] == logging.ERROR
    assert levels["no level here"] == logging.WARNING
    assert levels["DEBUG \N{REPLACEMENT CHARACTER} key **** and ****"] == logging.DEBUG
    assert not any("zzz" in line for line in lines)
    assert "abcdef" not in caplog.text


async def test_settings_go_by_the_environment(
    launch: Callable[[str], NodeLaunch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENERGY_LEDGER_LOG_LEVEL", "debug")
    monkeypatch.setenv("ENERGY_LEDGER_MINING", "yes")
    process = NodeProcess(launch("ready"), deque())
    await process.start(api_port="7")
    environment = (launch("ready").directory / "environment").read_text()
    await process.stop()
    assert '"ENERGY_LEDGER_MINING": "no"' in environment
    assert '"ENERGY_LEDGER_API_PORT": "7"' in environment
    assert '"ENERGY_LEDGER_LOG_LEVEL": "debug"' in environment


async def test_a_child_that_heeds_nothing_is_killed(launch: Callable[[str], NodeLaunch]) -> None:
    process = NodeProcess(launch("stubborn"), deque())
    await process.start()
    pid = process.pid
    assert pid is not None
    await process.stop(end_s=0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_start_that_is_given_up_leaves_nothing(launch: Callable[[str], NodeLaunch]) -> None:
    process = NodeProcess(launch("silent"), deque())
    starting = asyncio.create_task(process.start())
    await wait_until(lambda: process.pid is not None)
    pid = process.pid
    assert pid is not None
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    process = NodeProcess(NodeLaunch(directory=tmp_path, command=(str(tmp_path / "nothing"),)), deque())
    with pytest.raises(NodeStartError, match="can't be started"):
        await process.start()


@pytest.mark.parametrize(
    ("mode", "issue", "reason"),
    [
        ("exits", "node_cannot_start", "exit code 1: energy-ledger: error: the disk is full"),
        ("silent", "node_cannot_start", "not ready within 0.2 s"),
        ("other", "node_version_mismatch", "version 9.9.9"),
    ],
)
async def test_a_first_start_that_fails(watch: Maker, mode: str, issue: str, reason: str) -> None:
    watched = watch(mode, Pace(ready_s=0.2 if mode == "silent" else 20, end_s=5))
    with pytest.raises(NodeUnavailable) as raised:
        await watched.supervisor.start()
    assert raised.value.issue == issue
    assert reason in raised.value.reason
    assert watched.supervisor.pid is None


async def test_a_node_without_a_token(watch: Maker) -> None:
    watched = watch("ready")
    (watched.directory / TOKEN_FILE).unlink()
    with pytest.raises(NodeUnavailable, match=r".*"):
        await watched.supervisor.start()
    assert watched.supervisor.readiness is None
    assert watched.supervisor.pid is None


async def test_crashes_without_end_are_told(watch: Maker) -> None:
    # Its health is asked for too seldom to matter: on a busy machine it would seem deaf before it has ended.
    watched = watch("crashes", replace(PACE, poll_s=60))
    await watched.supervisor.start()
    await wait_until(lambda: watched.troubles[-1] is not None)
    trouble = watched.troubles[-1]
    assert trouble is not None
    assert trouble.issue == "node_cannot_start"
    assert "exit code 3" in trouble.reason
    assert watched.supervisor.restarts >= PACE.failures


async def test_starts_that_fail_are_told_and_tried_on(watch: Maker) -> None:
    watched = watch("once")
    await watched.supervisor.start()
    await wait_until(lambda: watched.troubles[-1] is not None)
    count = watched.starts
    await wait_until(lambda: watched.starts > count)
    trouble = watched.troubles[-1]
    assert trouble is not None
    assert "exit code 4" in trouble.reason


async def test_a_stable_run_forgives(watch: Maker) -> None:
    watched = watch("ready", Pace(poll_s=60, stable_s=0.05))
    await watched.supervisor.start()
    await wait_until(lambda: watched.troubles == [None, None])


async def test_another_version_after_an_update_is_told_and_left_alone(watch: Maker) -> None:
    watched = watch("updated")
    await watched.supervisor.start()
    await wait_until(lambda: watched.troubles[-1] is not None)
    trouble = watched.troubles[-1]
    assert trouble is not None
    assert trouble.issue == "node_version_mismatch"
    assert watched.starts == 2
    assert watched.supervisor.pid is None


async def test_a_node_that_comes_back_elsewhere(watch: Maker) -> None:
    watched = watch("moves")
    await watched.supervisor.start()
    await wait_until(lambda: watched.moves)
    assert watched.supervisor.readiness is not None
    assert watched.supervisor.readiness.api == "http://127.0.0.1:11"


async def test_a_node_that_comes_back_with_another_token(watch: Maker) -> None:
    watched = watch("ready")
    await watched.supervisor.start()
    (watched.supervisor.launch.directory / TOKEN_FILE).write_text("another\n")
    await wait_until(lambda: watched.moves)


async def test_a_node_that_does_not_answer_is_started_again(watch: Maker) -> None:
    watched = watch("ready")
    await watched.supervisor.start()
    pid = watched.supervisor.pid
    await wait_until(lambda: watched.supervisor.restarts and watched.supervisor.pid not in (None, pid))


async def test_a_node_that_answers_is_left_alone(
    watch: Maker, node: ApiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_API", f"http://127.0.0.1:{node.server.port}")
    watched = watch("ready", Pace(poll_s=0.01))
    client = await watched.supervisor.start()
    for _ in range(5):
        await client.status()
    assert watched.supervisor.restarts == 0


async def test_no_pause_when_the_user_says_so(watch: Maker) -> None:
    watched = watch("crashes", Pace(poll_s=60, first_pause_s=600, longest_pause_s=600))
    await watched.supervisor.start()
    await wait_until(lambda: watched.supervisor.pid is None)

    def restarted() -> bool:
        watched.supervisor.try_now()
        return watched.supervisor.restarts > 0

    await wait_until(restarted)


@pytest.mark.parametrize(
    ("theirs", "fits"),
    [("1.2.3", True), ("1.2.9b1", True), ("1.3.0", False), ("2.2.3", False), ("new", False)],
)
def test_versions(theirs: str, fits: bool) -> None:
    assert version_fits(theirs, "1.2.3") is fits
