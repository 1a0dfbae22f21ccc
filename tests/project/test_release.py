"""The archive that HACS installs: what it holds, and that it is the same on every machine."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import ledger_core

ROOT = Path(__file__).resolve().parents[2]


def release(*arguments: str | Path, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run script/release of a checkout."""
    command = [sys.executable, str(root / "script" / "release"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def build(output: Path, version: str, root: Path = ROOT) -> bytes:
    """Build an archive and give its bytes."""
    result = release(version, "--output", output, root=root)
    assert result.returncode == 0, result.stderr
    return output.read_bytes()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a release is made from, free to be spoiled."""
    copy = tmp_path / "checkout"
    for folder in ("ledger_core", "custom_components"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "script").mkdir()
    for name in ("script/release", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


def test_two_builds_are_equal_byte_by_byte(tmp_path: Path, checkout: Path) -> None:
    """Dates, modes, caches, hidden files and the checkout's place leave no trace."""
    first = build(tmp_path / "first.zip", "1.2.3")
    for path in checkout.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o700)
    cache = checkout / "ledger_core" / "__pycache__"
    cache.mkdir()
    (cache / "units.cpython-314.pyc").write_bytes(b"cache")
    (checkout / "custom_components" / "energy_ledger" / ".hidden").write_text("hidden", encoding="utf-8")
    second = build(tmp_path / "second.zip", "1.2.3", root=checkout)
    assert first == second


def test_holds_the_integration_and_the_ledger(tmp_path: Path) -> None:
    """Every source file is there under its place, nothing else is, and the entries are plain and sorted."""
    output = tmp_path / "energy_ledger.zip"
    build(output, "1.2.3")
    with zipfile.ZipFile(output) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        entries = archive.infolist()
        held = {name: archive.read(name) for name in names}
    integration = ROOT / "custom_components" / "energy_ledger"
    wanted = {path.relative_to(integration).as_posix() for path in integration.rglob("*.py")}
    wanted |= {
        f"_vendor/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "ledger_core").rglob("*.py")
    }
    assert wanted <= set(names)
    assert names == sorted(names)
    assert {name.split("/")[1] for name in names if name.startswith("_vendor/")} == {"ledger_core"}
    assert not any("__pycache__" in name or name.endswith(".pyc") for name in names)
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}
    for name in wanted - {"_vendor/ledger_core/__init__.py"}:
        source = (
            integration / name if not name.startswith("_vendor/") else ROOT / name.removeprefix("_vendor/")
        )
        assert held[name] == source.read_bytes()
    assert held["LICENSE"] == (ROOT / "LICENSE").read_bytes()


def test_stamps_the_version(tmp_path: Path) -> None:
    """The manifest keeps its keys and their order; the unpacked ledger tells the same version."""
    output = tmp_path / "energy_ledger.zip"
    build(output, "12.0.34b5")
    with zipfile.ZipFile(output) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        archive.extractall(tmp_path / "unpacked")
    source = json.loads((ROOT / "custom_components/energy_ledger/manifest.json").read_text(encoding="utf-8"))
    assert manifest["version"] == "12.0.34b5"
    assert list(manifest) == list(source)
    assert manifest | {"version": source["version"]} == source
    vendor = tmp_path / "unpacked" / "_vendor"
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import ledger_core;"
        "print(ledger_core.__version__, ledger_core.__file__)"
    )
    command = [sys.executable, "-I", "-c", program, str(vendor)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert told == ["12.0.34b5", str(vendor / "ledger_core" / "__init__.py")]


@pytest.mark.parametrize(
    "version", ["", "1", "1.2", "v1.2.3", "1.2.3-beta", "01.2.3", "1.2.3.4", '1.2.3"', "1.2.3\n"]
)
def test_refuses_a_wrong_version(tmp_path: Path, version: str) -> None:
    """Usage errors end with code 2, say what is right, and write nothing."""
    output = tmp_path / "energy_ledger.zip"
    result = release("--output", output, "--", version)
    assert result.returncode == 2
    assert "is no version; write it as 1.2.3" in result.stderr
    assert not output.exists()


def spoil_manifest(checkout: Path) -> None:
    """Take the manifest away."""
    (checkout / "custom_components/energy_ledger/manifest.json").unlink()


def spoil_version(checkout: Path) -> None:
    """Take the ledger's version away."""
    (checkout / "ledger_core/__init__.py").write_text('"""The ledger."""\n', encoding="utf-8")


def spoil_ledger(checkout: Path) -> None:
    """Take the ledger away."""
    shutil.rmtree(checkout / "ledger_core")


def spoil_with_link(checkout: Path) -> None:
    """Add a link that points out of the project."""
    (checkout / "ledger_core" / "link.py").symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_manifest, "manifest.json is missing"),
        (spoil_version, "should set __version__ on one line, and does on 0"),
        (spoil_ledger, "ledger_core/ is missing"),
        (spoil_with_link, "ledger_core/link.py is a link"),
    ],
    ids=["manifest", "version", "ledger", "link"],
)
def test_says_what_is_wrong_with_the_checkout(
    tmp_path: Path, checkout: Path, spoil: Callable[[Path], None], message: str
) -> None:
    """A failure ends with code 1 and one line, and leaves an earlier archive as it was."""
    output = tmp_path / "energy_ledger.zip"
    output.write_bytes(b"earlier")
    spoil(checkout)
    result = release("1.2.3", "--output", output, root=checkout)
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert output.read_bytes() == b"earlier"
    assert [path.name for path in tmp_path.glob(".energy_ledger*")] == []


def test_manifest_and_ledger_agree_between_releases() -> None:
    """What a checkout tells as its version is one thing, wherever it is read."""
    manifest = json.loads(
        (ROOT / "custom_components/energy_ledger/manifest.json").read_text(encoding="utf-8")
    )
    assert manifest["version"] == ledger_core.__version__
