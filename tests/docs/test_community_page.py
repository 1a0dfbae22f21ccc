"""docs/community.md: its commands are run in order, its tables are the source's, its unit starts a node."""

import asyncio
import configparser
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ledger_core.chain.chain import SNAPSHOT_EVERY
from ledger_core.client import NodeClient
from ledger_core.client.local import local_api
from ledger_core.community import Founder, Genesis, Parameters, parameters_as_dict
from ledger_core.keys import SoftwareSigner
from ledger_core.records.types import Role
from ledger_core.rules.finality import quorum_reached
from ledger_core.rules.genesis import genesis_state
from tests.docs.pages import fenced, page, table_of
from tests.docs.programs import readiness_of
from tests.node.cli_world import around_noon
from tests.node.peer_world import free_ports
from tests.node.processes import PATIENCE_S
from tests.node.test_cli_document import Shell

COMMUNITY = page("community")
CHECKPOINT_INTERVAL = 4
"""Of a `QUICK_COMMUNITY`."""


class Keeper(Shell):
    """Runs what the page shows: the ledger's commands, and those that move directories."""

    def __init__(self, stack: ExitStack) -> None:
        super().__init__(stack)
        self.ports = iter(free_ports(8))

    def run(self, line: str) -> None:
        words = shlex.split(line)
        if words[0] == "cp":
            assert words[1] == "-r"
            shutil.copytree(words[2], words[3], symlinks=True)
        elif words[0] == "mv":
            Path(words[1]).rename(words[2])
        else:
            super().run(line)

    def await_final(self, height: int) -> None:
        """Wait until a block of some height is final at every node that runs."""

        async def finals() -> list[int]:
            found = []
            for job, name in zip(self.jobs, self.names, strict=True):
                if job.poll() is None:
                    api = local_api(Path(name))
                    async with NodeClient(api.url, api.token) as client:
                        found.append((await client.status()).final)
            return found

        started = time.monotonic()
        while min(asyncio.run(finals())) < height:
            assert time.monotonic() < started + PATIENCE_S
            time.sleep(0.1)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    monkeypatch.chdir(tmp_path)
    with around_noon(), ExitStack() as stack:
        yield Keeper(stack)


@pytest.mark.timeout(300)
def test_every_command_of_the_page_works(shell: Keeper) -> None:
    lines = [line for block in fenced(COMMUNITY, "console") for line in block.splitlines()]
    assert len(lines) > 30
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        assert line.startswith("$ ")
        if "chain prune" in following:
            # Bodies may go once there is a state to start from: of every fourth checkpoint that is final.
            shell.await_final(CHECKPOINT_INTERVAL * SNAPSHOT_EVERY + CHECKPOINT_INTERVAL)
        started = time.monotonic()
        shell.run(line.removeprefix("$ "))
        print(f"{time.monotonic() - started:6.2f}  {line}")  # noqa: T201 - shown when a command fails


def test_parameters() -> None:
    """Each parameter with what it is unless chosen."""
    told = {cells[0].strip("`"): cells[1].strip("`") for cells in table_of(COMMUNITY, "Founding")}
    assert told == {name: str(value) for name, value in parameters_as_dict(Parameters()).items()}


def test_roles() -> None:
    assert [cells[0] for cells in table_of(COMMUNITY, "Roles")] == [
        role.name.lower() for role in Role if role.name
    ]


def least_nodes(nodes: int, *, others_are_silent: bool) -> int:
    """Return how many of so many nodes must vote, by the rule itself."""
    for voters in range(1, nodes + 1):
        founders = tuple(
            Founder(
                SoftwareSigner(bytes([1, number]) * 16).public_key,
                int(Role.HOME | Role.NODE | Role.AUTHORITY),
                SoftwareSigner(bytes([2, number]) * 16).public_key,
                bytes(32),
            )
            for number in range(nodes)
        )
        state = genesis_state(Genesis("Street", "EUR", 10**9, Parameters(), founders))
        now = state.genesis.created
        if others_are_silent:
            now += state.parameters.silence_s + 1
            for index in range(voters):
                state.last_votes[index] = now
        if quorum_reached(state, (1 << voters) - 1, now):
            return voters
    raise AssertionError


def test_how_many_nodes_must_be_up() -> None:
    rows = [[int(cell) for cell in cells] for cells in table_of(COMMUNITY, "How many nodes must be up")]
    assert len(rows) > 5
    for nodes, at_once, later in rows:
        assert least_nodes(nodes, others_are_silent=False) == at_once
        assert least_nodes(nodes, others_are_silent=True) == later


def test_the_unit_starts_a_node(shell: Keeper, tmp_path: Path) -> None:
    """Its command line, on another directory and free ports; it ends in good order as systemd ends it."""
    (unit_text,) = fenced(COMMUNITY, "ini")
    unit = configparser.ConfigParser()
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(unit_text)
    service = unit["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert Path(program).name == "energy-ledger"
    directory = words[words.index("--data") + 1]
    assert directory == service["ReadWritePaths"]
    shell.run("energy-ledger keys new home.key")
    shell.run(f"energy-ledger found --data {tmp_path / 'node'} --name Street --key home.key --home One")
    words = [str(tmp_path / "node") if word == directory else word for word in words]
    ready = readiness_of(words, limit_s=int(service["TimeoutStopSec"]), umask=int(service["UMask"], 8))
    assert ready["ready"] is True
