"""The project itself: what its files may and may not hold, and that its parts agree with each other."""

import importlib.metadata
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any, cast

import homeassistant
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
INTEGRATION = ROOT / "custom_components" / "energy_ledger"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAX_LINES = 500
MAX_TEST_LINES = 800


def tracked_files() -> list[Path]:
    """Give the files under version control, those that are deleted but not committed left out."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def text_of(path: Path) -> str:
    """Give a file's text; of a binary file, what of it reads as text."""
    return path.read_bytes().decode("utf-8", errors="replace")


def load_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object."""
    return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))


def constraints() -> dict[str, str]:
    """Give the pinned versions by normalised package name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = (line.partition("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, _, version in pins}


def pyproject() -> dict[str, Any]:
    """Read pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


# In pieces, so that this file does not hold what it looks for.
REGISTRY_HOSTS = [
    "".join(pieces)
    for pieces in (
        ("pypi", ".org"),
        ("pythonhosted", ".org"),
        ("deb.debian", ".org"),
        ("security.debian", ".org"),
        ("archive.ubuntu", ".com"),
        ("npmjs", ".org"),
        ("npmjs", ".com"),
        ("proxy.golang", ".org"),
        ("crates", ".io"),
    )
]
MACHINE_PATHS = ["/".join(pieces) for pieces in (("", "work", ""), ("", "root", ""), ("", "tmp", "brief"))]


@pytest.mark.parametrize("forbidden", [*REGISTRY_HOSTS, *MACHINE_PATHS])
def test_no_file_names_a_registry_or_a_place_on_one_machine(forbidden: str) -> None:
    """Machines use the registry they are set to, and the project lies wherever it was cloned."""
    found = [path.relative_to(ROOT).as_posix() for path in tracked_files() if forbidden in text_of(path)]
    assert found == []


def test_the_search_sees_the_files() -> None:
    """The check above would find what it looks for: it reads this very file, among many."""
    files = tracked_files()
    assert Path(__file__).resolve() in files
    assert "tracked_files" in text_of(Path(__file__))


def test_modules_stay_small() -> None:
    """A module has one reason to change; a long one has a seam."""
    lines = {
        path.relative_to(ROOT).as_posix(): len(text_of(path).splitlines())
        for path in tracked_files()
        if path.suffix == ".py" or path.parent == ROOT / "script"
    }
    limit = {name: MAX_TEST_LINES if name.startswith("tests/") else MAX_LINES for name in lines}
    assert {name: count for name, count in lines.items() if count > limit[name]} == {}


# --- Home Assistant and HACS ---------------------------------------------------------------------

MANIFEST_REQUIRED = {
    "codeowners", "documentation", "domain", "integration_type", "iot_class", "issue_tracker", "name",
    "requirements", "version",
}  # fmt: skip
MANIFEST_OPTIONAL = {
    "after_dependencies", "config_flow", "dependencies", "loggers", "quality_scale", "single_config_entry",
    "zeroconf",
}  # fmt: skip
IOT_CLASSES = {"assumed_state", "calculated", "cloud_polling", "cloud_push", "local_polling", "local_push"}
INTEGRATION_TYPES = {"device", "entity", "hardware", "helper", "hub", "service", "system", "virtual"}
HACS_KEYS = {
    "name", "content_in_root", "country", "filename", "hacs", "hide_default_branch", "homeassistant",
    "persistent_directory", "render_readme", "zip_release",
}  # fmt: skip


def test_manifest_has_the_keys_that_hassfest_and_hacs_want() -> None:
    """The domain first, then the name, then the others by alphabet; none missing, none unknown."""
    keys = list(load_json(INTEGRATION / "manifest.json"))
    assert keys == ["domain", "name", *sorted(set(keys) - {"domain", "name"})]
    assert set(keys) >= MANIFEST_REQUIRED
    assert set(keys) - MANIFEST_REQUIRED <= MANIFEST_OPTIONAL


def test_manifest_values_are_what_hassfest_accepts() -> None:
    """The folder is named by the domain, and each value is of its kind."""
    manifest = load_json(INTEGRATION / "manifest.json")
    assert manifest["domain"] == INTEGRATION.name
    assert manifest["iot_class"] in IOT_CLASSES
    assert manifest["integration_type"] in INTEGRATION_TYPES
    assert manifest["codeowners"]
    assert all(re.fullmatch(r"@[a-z0-9-]+(/[a-z0-9-]+)?", owner) for owner in manifest["codeowners"])
    assert manifest["documentation"].startswith("https://")
    assert manifest["issue_tracker"].startswith("https://")
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", manifest["version"])
    assert manifest.get("config_flow", False) is (INTEGRATION / "config_flow.py").is_file()


def test_manifest_asks_for_all_that_home_assistant_does_not_bring() -> None:
    """The ledger's own dependencies are either Home Assistant's too, or named in the manifest."""
    requirements = load_json(INTEGRATION / "manifest.json")["requirements"]
    assert not any(" " in requirement or "://" in requirement for requirement in requirements)
    brought = {
        canonicalize_name(Requirement(text).name)
        for text in importlib.metadata.requires("homeassistant") or []
    }
    named = {canonicalize_name(Requirement(text).name) for text in requirements}
    needed = {canonicalize_name(Requirement(text).name) for text in pyproject()["project"]["dependencies"]}
    assert needed - brought - named == set()
    assert "pymodbus" in named
    # Home Assistant pins it; a tighter range than it may move in would make the set-up fail.
    assert "pymodbus>=3.11" in requirements


def test_hacs_finds_the_archive_of_a_release() -> None:
    """No key that HACS does not know; the archive is the one that script/release makes."""
    hacs = load_json(ROOT / "hacs.json")
    assert set(hacs) <= HACS_KEYS
    assert hacs["name"] == load_json(INTEGRATION / "manifest.json")["name"]
    assert hacs["zip_release"] is True
    assert hacs["hide_default_branch"] is True
    assert hacs["filename"] == "energy_ledger.zip"
    assert hacs["filename"] in text_of(ROOT / "script" / "release")
    assert hacs["homeassistant"] == "2026.10.0"
    assert [path.name for path in (ROOT / "custom_components").iterdir() if path.name != "__pycache__"] == [
        "energy_ledger"
    ]


# --- Dependencies --------------------------------------------------------------------------------


def test_constraints_pin_names_and_versions_alone() -> None:
    """No address, no range, no option; sorted, each package once."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []
    assert len(constraints()) == len(pins)
    assert list(constraints()) == sorted(constraints())


def test_constraints_pin_every_dependency_in_its_range() -> None:
    """Each dependency of pyproject.toml has a pinned version, and one that its range allows."""
    project = pyproject()["project"]
    pinned = constraints()
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)], prereleases=True)


def test_constraints_keep_to_home_assistants_own() -> None:
    """What is tested here is what a real Home Assistant would install."""
    path = Path(homeassistant.__file__).parent / "package_constraints.txt"
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    theirs = [Requirement(line) for line in lines if line and not line.startswith("#")]
    ours = constraints()
    assert "pymodbus" in {canonicalize_name(requirement.name) for requirement in theirs}
    broken = [
        f"{requirement} (here {version})"
        for requirement in theirs
        if (version := ours.get(canonicalize_name(requirement.name)))
        and not requirement.specifier.contains(version, prereleases=True)
    ]
    assert broken == []


def test_the_environment_is_the_pinned_one() -> None:
    """What the tests run with is what constraints.txt says."""
    differing = {
        name: (version, importlib.metadata.version(name))
        for name, version in constraints().items()
        if importlib.metadata.version(name) != version
    }
    assert differing == {}


# --- Commands and workflows ----------------------------------------------------------------------


def is_command(path: Path) -> bool:
    """Tell whether a file can be run: marked as a program, and named by its first line to an interpreter."""
    return path.is_file() and os.access(path, os.X_OK) and text_of(path).startswith("#!")


def commands_in(text: str) -> set[str]:
    """Give the project's commands that a text names."""
    return set(re.findall(r"(?<![\w/])script/[a-z][a-z-]*", text))


def test_the_readmes_commands_exist() -> None:
    """Whoever follows the README finds what it names."""
    named = commands_in(text_of(ROOT / "README.md"))
    assert named >= {"script/setup", "script/test", "script/bench"}
    assert [name for name in sorted(named) if not is_command(ROOT / name)] == []


def test_every_command_can_be_run() -> None:
    """The scripts and the continuous integration's entry are programs."""
    programs = [*(ROOT / "script").iterdir(), ROOT / ".ci" / "run"]
    assert [str(path) for path in programs if path.is_file() and not is_command(path)] == []
    assert "script/test" in text_of(ROOT / ".ci" / "run")


def test_the_workflows_are_those_expected() -> None:
    """Tests, the long ones at night, Home Assistant's and HACS's validation, and the release."""
    assert [path.stem for path in WORKFLOWS] == ["hacs", "hassfest", "nightly", "release", "tests"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_is_sound(path: Path) -> None:
    """It parses, has a name, triggers and bounded jobs, and the project's commands that it runs exist."""
    # BaseLoader reads the key `on` as text; YAML 1.1 would make it a boolean.
    workflow = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    assert workflow["name"]
    assert workflow["on"]
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        assert int(job["timeout-minutes"]) > 0
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert not re.search(r"\$\{\{", step.get("run", "")), "give expressions to commands as variables"
            assert [name for name in commands_in(step.get("run", "")) if not is_command(ROOT / name)] == []


def test_setup_is_done_when_nothing_changed() -> None:
    """A second run sees that the environment is current, and leaves it alone."""
    command = [str(ROOT / "script" / "setup")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "setup: nothing changed\n", "")


def test_setup_takes_no_arguments() -> None:
    """A mistyped call is told so."""
    command = [str(ROOT / "script" / "setup"), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert result.stderr == "setup: error: script/setup takes no arguments (got: --help)\n"
