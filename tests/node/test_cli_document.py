"""Every example of docs/cli.md, run in order with real nodes."""

import ast
import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from ledger_core.cli.frame import Program
from ledger_core.cli.main import GROUPS
from ledger_core.client import NodeClient
from ledger_core.client.local import local_api
from tests.node.cli_world import around_noon, run_command
from tests.node.peer_world import free_ports

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "cli.md"
PATIENCE_S = 110
# A community and nodes that are quick enough for a test.
QUICK_COMMUNITY = ("block_spacing_s=1", "difficulty_half_life_s=10", "checkpoint_interval=4")
PRINTED = re.compile(
    r"^(offer|request|trade|proposal|asset) ([0-9a-f]{32,64}): |\(([0-9a-f]{64})\): ", re.MULTILINE
)
COMMAND = (sys.executable, "-m", "ledger_core.cli")
ADDRESS = "192.168.1.7:7946"


def examples() -> list[str]:
    """The command lines of the document, in order."""
    blocks = re.findall(r"^```console\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


class Shell:
    """Runs the examples: words in capitals stand for ids, nodes run beside, on free ports."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.ids: dict[str, str] = {}
        self.jobs: list[subprocess.Popen[bytes]] = []
        self.names: list[str] = []
        self.ports = iter(free_ports(4))
        self.places: list[str] = []
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(self, line: str) -> None:
        line, _, target = line.partition(" > ")
        words = shlex.split(line)
        background = words[-1] == "&"
        words = words[:-1] if background else words
        if words[0] == "kill":
            self.end(self.jobs[int(words[1].removeprefix("%")) - 1])
        elif words[0] == "echo":
            Path(target).write_text(" ".join(words[1:]) + "\n")
        elif background:
            self.start(words)
        elif words[1] == "watch":
            self.watch(words)
        else:
            self.command(words, target)

    def command(self, words: list[str], target: str) -> None:
        self.level()
        done = run_command(*self.arguments(words))
        assert done.code == 0, f"{shlex.join(words)}\n{done.out}\n{done.err}"
        assert done.out or "--output" in words, f"{shlex.join(words)} printed nothing"
        if target:
            Path(target).write_text(done.out)
        for kind, first, second in PRINTED.findall(done.out):
            self.ids[(kind or words[1]).upper()] = first or second

    def level(self) -> None:
        """Wait until every node that runs has the blocks that the others had a moment ago."""

        async def heights() -> list[int]:
            running = [name for job, name in zip(self.jobs, self.names, strict=True) if job.poll() is None]
            found = []
            for api in map(local_api, map(Path, running)):
                async with NodeClient(api.url, api.token) as client:
                    found.append((await client.status()).tip.height)
            return found

        wanted = max(asyncio.run(heights()), default=0)
        started = time.monotonic()
        while min(asyncio.run(heights()), default=0) < wanted:
            assert time.monotonic() < started + PATIENCE_S
            time.sleep(0.02)

    def arguments(self, words: list[str]) -> list[str]:
        assert words[0] == "energy-ledger"
        words = [self.ids.get(word, word) for word in words[1:]]
        words = [self.places[0] if word == ADDRESS else word for word in words]
        if words[0] == "found" and "--name" in words:
            words += [part for value in QUICK_COMMUNITY for part in ("--set", value)]
        return words

    def start(self, words: list[str]) -> None:
        place = f"127.0.0.1:{next(self.ports)}"
        self.places.append(place)
        host, port = place.split(":")
        quick = ["--peer-host", host, "--peer-port", port, "--discovery", "no", "--mining-share", "0.3"]
        log = Path(f"node{len(self.jobs)}.log")
        with log.open("wb") as errors:
            job = subprocess.Popen(
                [*COMMAND, *self.arguments(words), *quick],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self.stack.callback(self.end, job)
        self.jobs.append(job)
        self.names.append(words[words.index("--data") + 1])
        assert job.stdout is not None
        self.stack.callback(job.stdout.close)
        assert b'"ready"' in job.stdout.readline()

    def watch(self, words: list[str]) -> None:
        """Into a pipe: the first lines, then Ctrl-C."""
        job = subprocess.Popen(
            [*COMMAND, *self.arguments(words)], env=self.environment, stdout=subprocess.PIPE
        )
        assert job.stdout is not None
        try:
            assert job.stdout.readline()
            job.send_signal(signal.SIGINT)
            job.stdout.read()
            assert job.wait(PATIENCE_S) == 0
        finally:
            job.kill()
            job.wait()
            job.stdout.close()

    def end(self, job: subprocess.Popen[bytes]) -> None:
        if job.poll() is None:
            job.terminate()
            with suppress(subprocess.TimeoutExpired):
                assert job.wait(30) == 0
        job.kill()
        job.wait()


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    with around_noon(), ExitStack() as stack:
        yield Shell(stack)


@pytest.mark.timeout(300)
def test_every_example_of_the_document_works(shell: Shell) -> None:
    for line in examples():
        started = time.monotonic()
        shell.run(line)
        print(f"{time.monotonic() - started:6.2f}  {line}")  # noqa: T201 - shown when an example fails


def test_every_command_has_an_example() -> None:
    shown = {tuple(shlex.split(line)[1:3]) for line in examples() if line.startswith("energy-ledger ")}
    alone = {words[0] for words in shown}
    for words in commands():
        assert words in shown or (len(words) == 1 and words[0] in alone), words


def commands() -> Iterator[tuple[str, ...]]:
    """Every command of the program."""
    groups = Program("").with_groups(*GROUPS)._groups.choices
    for name, parser in groups.items():
        nested = [
            action
            for action in parser._actions
            if hasattr(action, "choices") and action.dest == "==SUPPRESS=="
        ]
        if not nested:
            yield (name,)
        for action in nested:
            for command in action.choices or ():
                yield (name, str(command))


def raised_codes() -> Iterator[str]:
    """The codes of all errors that keys, client and command line make."""
    for folder in ("keys", "client", "cli"):
        for path in (ROOT / "ledger_core" / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                first = node.args[0] if isinstance(node, ast.Call) and node.args else None
                name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
                if (
                    re.fullmatch(r"\w+Error|_fail", name)
                    and isinstance(first, ast.Constant)
                    and re.fullmatch(r"[a-z]+(_[a-z]+)+", str(first.value))
                ):
                    yield str(first.value)


def test_every_code_is_explained() -> None:
    page = (ROOT / "docs" / "error-codes.md").read_text()
    explained = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    codes = set(raised_codes())
    assert len(codes) > 50
    assert codes - explained == set()
    part = page.split("\n# Keys, client and command line\n")[1].split("\n# The node\n")[0]
    mine = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", part, re.MULTILINE)
    assert len(mine) == len(set(mine))
    # Those that are given by name alone, not where an error is made.
    assert set(mine) - codes <= {"usage", "interrupted", "unreachable", "timeout"}
