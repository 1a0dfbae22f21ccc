"""Every command and example of the pages is run by a test: this one names which, and runs those left over.

A block that no test claims fails here, and so does a claim without a test.
"""

import ast
import asyncio
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from custom_components.energy_ledger.devices.profile.load import parse_profile
from custom_components.energy_ledger.devices.profile.model import RegisterPoint
from demo.main import parser as demo_parser
from ledger_core.cli.frame import Program
from ledger_core.cli.main import GROUPS
from tests.devices.dumpfile import Dump
from tests.docs.pages import ROOT, fenced, page
from tests.docs.programs import readiness_of
from tests.node.cli_world import run_command
from tests.node.peer_world import free_ports

README = (ROOT / "README.md").read_text()
PAGES = {"README": README, **{path.stem: page(path.stem) for path in sorted(ROOT.glob("docs/*.md"))}}
HERE = "tests/docs/test_blocks.py"
CLAIMS = {
    ("README", "sh"): (f"{HERE}::test_the_commands_of_the_readme", 2),
    ("architecture", "python"): (f"{HERE}::test_the_module_of_a_further_kind", 1),
    ("automations", "yaml"): ("tests/integration/home/test_quality.py::test_the_examples_are_valid", 0),
    ("cli", "console"): ("tests/node/test_cli_document.py::test_every_example_of_the_document_works", 0),
    ("community", "console"): ("tests/docs/test_community_page.py::test_every_command_of_the_page_works", 0),
    ("community", "ini"): ("tests/docs/test_community_page.py::test_the_unit_starts_a_node", 1),
    ("devices", "json"): (f"{HERE}::test_the_dump_of_the_devices_page", 1),
    ("devices", "yaml"): ("tests/devices/test_profiles.py::test_the_documentation_is_right", 1),
    ("first-hour", "yaml"): ("tests/demo/test_docs.py::test_automations_are_taken", 0),
    ("formats", "text"): ("tests/docs/test_formats_page.py::test_examples_of_the_page", 0),
    ("node", "console"): (f"{HERE}::test_the_start_of_a_node", 1),
    ("node", "json"): (f"{HERE}::test_the_start_of_a_node", 1),
    ("protocol", "text"): ("tests/docs/test_protocol_page.py::test_examples_of_the_page", 0),
    ("scaling", "console"): (f"{HERE}::test_the_command_behind_the_figures", 1),
    ("scaling", "text"): (f"{HERE}::test_the_command_behind_the_figures", 1),
    ("trading", "yaml"): ("tests/integration/test_rules_docs.py::test_every_yaml_of_the_page_is_valid", 0),
}
"""By page and language: the test that runs the blocks, and how many it takes; 0: whatever stands there."""


def blocks() -> Iterator[tuple[str, str]]:
    """Yield page and language of every fenced block."""
    for name, text in PAGES.items():
        opened = False
        for line in text.splitlines():
            if line.lstrip().startswith("```"):
                opened = not opened
                if opened:
                    yield name, line.strip().removeprefix("```")
        assert not opened, f"a block of {name} has no end"


def test_every_block_is_claimed_by_a_test() -> None:
    found = list(blocks())
    assert {block for block in found if block not in CLAIMS} == set()
    for block, (_, number) in CLAIMS.items():
        assert block in found, f"{block} is not there"
        assert number in (0, found.count(block)), f"{block}: its test takes {number}"
        assert found.count(block) == len(fenced(PAGES[block[0]], block[1])), f"{block} is indented oddly"


@pytest.mark.parametrize("block", CLAIMS, ids="-".join)
def test_every_claim_is_a_test_of_that_page(block: tuple[str, str]) -> None:
    path, name = CLAIMS[block][0].split("::")
    source = (ROOT / path).read_text()
    functions = [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert name in functions
    assert re.search(rf'"{block[0]}(\.md)?"|{block[0]}\.md', source), (
        "the test's module does not name the page"
    )


def test_no_command_hides_in_an_indented_block() -> None:
    """What is indented without a fence is a diagram or a formula, and is not looked at."""
    for name, text in PAGES.items():
        for line in text.splitlines():
            assert not re.match(r" {4,}(\$ |energy-ledger |script/|pip |docker )", line), f"{name}: {line}"


def test_commands_named_in_passing_exist() -> None:
    groups = Program("").with_groups(*GROUPS)._groups.choices
    named = {
        (name, words[0])
        for name, text in PAGES.items()
        for words in (span.split() for span in re.findall(r"`energy-ledger ([a-z][^`]*)`", text))
    }
    assert len(named) > 5
    assert {(name, word) for name, word in named if word not in groups} == set()


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as the hosting site makes them."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    folder = ROOT if name == "README" else ROOT / "docs"
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", PAGES[name]):
        if target.startswith("http"):
            continue
        path = folder / target
        assert path.exists(), target
        if anchor:
            found = anchors(path.read_text() if target else PAGES[name])
            assert anchor in found, f"{target}#{anchor}"


# The README


@pytest.mark.timeout(300)
async def test_the_commands_of_the_readme() -> None:
    """Each program is there and takes what is shown; those that end by themselves run (the demo: in CI)."""
    lines = [
        shlex.split(line, comments=True) for block in fenced(README, "sh") for line in block.splitlines()
    ]
    checks = {
        "script/demo": demo,
        "script/bench": bench,
        "script/simulate-home": simulate,
        "script/probe": probe,
    }
    ran = set()
    port = free_ports(1)[0]
    try:
        for program, *arguments in lines:
            path = ROOT / program
            assert path.stat().st_mode & 0o100, f"{program} can't be run"
            if program in checks:
                await checks[program]([each.replace("15020", str(port)) for each in arguments])
                ran.add(program)
            else:
                assert program in ("script/setup", "script/test", "script/test-ui")
                assert not arguments
                checked = await asyncio.create_subprocess_exec("bash", "-n", path)
                assert await checked.wait() == 0
    finally:
        for process in STARTED:
            process.send_signal(signal.SIGINT)
            await process.communicate()
        STARTED.clear()
    assert ran == set(checks)


STARTED: list[asyncio.subprocess.Process] = []
PIPE = asyncio.subprocess.PIPE


async def demo(arguments: list[str]) -> None:
    """The demo's own parser takes the flags; a run takes minutes, and is the CI's."""
    demo_parser().parse_args(arguments)


async def bench(arguments: list[str]) -> None:
    """Without a name the benchmarks are listed: each that the page on benchmarks tells of."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks", *arguments, cwd=ROOT, stdout=PIPE
    )
    output, _ = await process.communicate()
    listed = set(re.findall(r"^(\w+) ", output.decode(), re.MULTILINE))
    assert set(re.findall(r"^\| `(\w+)` \|", page("benchmarks"), re.MULTILINE)) == listed


async def simulate(arguments: list[str]) -> None:
    """Start the simulated home; it goes on until all commands were run."""
    process = await asyncio.create_subprocess_exec(
        ROOT / "script" / "simulate-home", *arguments, stdout=PIPE, stderr=PIPE
    )
    STARTED.append(process)
    assert process.stdout is not None
    assert json.loads(await process.stdout.readline())["ready"] is True


async def probe(arguments: list[str]) -> None:
    """Know the simulated device and read it."""
    process = await asyncio.create_subprocess_exec(ROOT / "script" / "probe", *arguments, stdout=PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert "goodwe_et" in output.decode()


# The other pages


def test_the_module_of_a_further_kind() -> None:
    """The module of the page architecture.md registers its kind; by itself, for a kind stays registered."""
    (module,) = fenced(PAGES["architecture"], "python")
    script = f"""
from typing import Annotated, ClassVar
from msgspec import Meta
from ledger_core.records.body import Body
from ledger_core.records.codec import Record
from ledger_core.records.types import Role
from ledger_core.rules.context import Context, body_of
from ledger_core.rules.registry import RULES, register
from ledger_core.rules.rows import Row
from ledger_core.rules.state import declare_table
class LimitRow(Row, frozen=True):
    watts: int
{module}
assert RULES[Limit] is apply_limit
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_dump_of_the_devices_page(tmp_path: Path) -> None:
    """The dump of devices.md is one, and the profile of the same page decodes it to what it expects."""
    (text,) = fenced(PAGES["devices"], "json")
    (profile,) = fenced(PAGES["devices"], "yaml")
    (tmp_path / "dump.json").write_text(text)
    dump = Dump(tmp_path / "dump.json")
    points = parse_profile(profile, "mine.yaml").points
    content, power = points["soc"], points["battery_power"]
    assert isinstance(content, RegisterPoint)
    assert isinstance(power, RegisterPoint)
    expected = {name.split()[0]: value for name, value in dump.expected.items()}
    assert dump.value(content) == expected["102"]
    assert dump.value(power) == expected["101"]


def test_the_start_of_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of node.md start a node, whose first line has the keys that the page shows."""
    monkeypatch.chdir(tmp_path)
    (commands,), (shown,) = fenced(PAGES["node"], "console"), fenced(PAGES["node"], "json")
    *first, last = [shlex.split(line.removeprefix("$ ")) for line in commands.splitlines()]
    for _, *words in first:
        done = run_command(*words)
        assert done.code == 0, done.err
    program, *words, background = last
    assert (program, background) == ("energy-ledger", "&")
    assert readiness_of(words).keys() == json.loads(shown).keys()


def test_the_command_behind_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of scaling.md, for a few homes and minutes: it draws, and prints the page's rows."""
    monkeypatch.chdir(tmp_path)
    (command,), (figures,) = fenced(PAGES["scaling"], "console"), fenced(PAGES["scaling"], "text")
    program, *words = shlex.split(command.removeprefix("$ "))
    assert program == "energy-ledger"
    small = {"10,100,1000": "3,4,5", "1,1,0.05": "0.1,0.1,0.1", "docs/scaling.svg": "scaling.svg"}
    assert set(small) <= set(words)
    done = run_command(*(small.get(word, word) for word in words))
    assert done.code == 0, done.err
    assert (tmp_path / "scaling.svg").read_text().startswith("<svg")

    def names(text: str) -> list[str]:
        return [re.split(r"  +", line)[0] for line in text.splitlines() if re.search(r"  +\S", line)]

    assert names(figures) == [name for name in names(done.out) if name in names(figures)]
    assert len(names(figures)) > 10
