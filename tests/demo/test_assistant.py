"""The processes that the demo starts, and how they end."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from demo import extras
from demo import main as command
from demo.assistant import ROOT, Assistant, AssistantError, free_port
from demo.extras import ExtrasError, ensure_extras, wanted_stamp
from demo.main import main
from demo.rest import RestError
from demo.street import Street

GUARDED = ROOT / "demo" / "guarded.py"


def test_the_guarded_command_is_home_assistants_own() -> None:
    command = [sys.executable, "-P", str(GUARDED), "--version"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read().strip().startswith(b"2026.10")
    assert process.returncode == 0


def test_it_ends_when_its_starter_is_gone(tmp_path: Path) -> None:
    """Standard input closes when the starter dies, by whatever means."""
    (tmp_path / "homeassistant").mkdir()
    (tmp_path / "homeassistant" / "__init__.py").touch()
    (tmp_path / "homeassistant" / "__main__.py").write_text(
        "import time\n\n\ndef main():\n    print('up', flush=True)\n    time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-P", GUARDED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.stdin.close()
    assert process.wait(timeout=30) == -15
    process.stdout.close()


def test_what_is_prepared_listens_on_the_loopback_alone(tmp_path: Path) -> None:
    """And what a user changed in it is kept."""
    assistant = Assistant("House", tmp_path / "config", 18_123)
    assistant.prepare(onboarded=True)
    storage = tmp_path / "config" / ".storage"
    http = json.loads((storage / "http").read_text())["data"]
    assert (http["stable"]["server_host"], http["stable"]["server_port"]) == (["127.0.0.1"], 18_123)
    assert http["pending"] is None
    assert "user" not in json.loads((storage / "onboarding").read_text())["data"]["done"]
    assert (tmp_path / "config" / "custom_components" / "energy_ledger" / "manifest.json").is_file()
    (tmp_path / "config" / "automations.yaml").write_text("- alias: mine\n")
    assistant.prepare(onboarded=True)
    assert (tmp_path / "config" / "automations.yaml").read_text() == "- alias: mine\n"
    assistant.remove()
    assert not (tmp_path / "config").exists()


@pytest.mark.usefixtures("socket_enabled")
async def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    """With the end of its log; and nothing is left running."""
    assistant = Assistant("House", tmp_path / "config", free_port())
    assistant.prepare()
    assistant.python = "/bin/sh"
    with pytest.raises(AssistantError, match=r"(?s)House: Home Assistant ended.*demo\.log"):
        await assistant.start()
    await assistant.stop()
    assert assistant.pid is None
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_extras_that_are_there_are_not_installed_again(tmp_path: Path) -> None:
    (tmp_path / ".stamp").write_text(wanted_stamp())
    assert ensure_extras(tmp_path) == tmp_path


def test_extras_that_fail_say_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "extras.txt"
    wrong.write_text("./not-there\n")
    monkeypatch.setattr(extras, "LIST", wrong)
    monkeypatch.setattr(extras, "ROOT", tmp_path)
    with pytest.raises(ExtrasError, match=r"(?s)g\+\+.*not-there"):
        ensure_extras(tmp_path / "folder")
    assert "installing" in capsys.readouterr().out
    assert not (tmp_path / "folder" / ".stamp").exists()


def test_the_command_refuses_a_folder_that_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--keep", str(tmp_path)]) == 2
    assert "name a new folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [AssistantError("Sun house: Home Assistant ended"), RestError("POST /api/x: 400 no")]
)
@pytest.mark.parametrize("keep", [False, True], ids=["", "keep"])
def test_what_fails_is_told_in_a_line_and_its_logs_are_kept(
    error: Exception,
    keep: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def fail(street: Street) -> None:
        log = street.founder.assistant.log_path
        log.parent.mkdir(parents=True)
        log.write_text("why")
        raise error

    monkeypatch.setattr(Street, "start", fail)
    monkeypatch.setattr(command, "ensure_extras", lambda: tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main(["--once", *(["--keep", str(tmp_path / "kept")] if keep else [])]) == 1
    reason, where = capsys.readouterr().err.splitlines()
    assert reason == f"demo: {error}"
    folder = Path(where.rpartition(" ")[2])
    assert folder.parent == tmp_path
    assert (folder / "sun" / "demo.log").read_text() == "why"


def test_nothing_is_left_of_what_did_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> Path:
        raise ExtrasError("no compiler")

    monkeypatch.setattr(command, "ensure_extras", fail)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main([]) == 1
    assert capsys.readouterr().err == "demo: no compiler\n"
    assert not list(tmp_path.iterdir())
