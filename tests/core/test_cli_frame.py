"""The frame of all commands: exit codes, errors in one line, clean ends; mostly as real child processes."""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger_core import __version__
from ledger_core.cli import main, output
from ledger_core.cli.frame import Program, UsageError, add_force
from ledger_core.errors import LedgerError

COMMAND = [sys.executable, "-m", "ledger_core.cli"]
# As users run it: what is printed waits in a buffer.
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def child(*arguments: str | Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the real command, without a terminal."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=given,
        capture_output=True,
        timeout=60,
        check=False,
        start_new_session=True,
        env=BUFFERED,
    )


def test_version() -> None:
    done = child("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"energy-ledger {__version__}\n".encode(), b"")


@pytest.mark.parametrize("arguments", [["--help"], ["keys", "--help"], ["keys", "new", "--help"]])
def test_help_names_what_there_is(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("usage: energy-ledger")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: GROUP (see: energy-ledger --help)"),
        (["keys"], "the following arguments are required: COMMAND (see: energy-ledger keys --help)"),
        (["keys", "new"], "the following arguments are required: FILE (see: energy-ledger keys new --help)"),
        (["kyes"], "invalid choice: 'kyes', maybe you meant 'keys'?"),
        (["keys", "new", "file", "--frce"], "unrecognized arguments: --frce"),
        (["keys", "new", "file", "--passphrase", "secret"], "unrecognized arguments: --passphrase secret"),
        (["keys", "new", "file", "--seal", "--passphrase-file", "x"], "not allowed with argument --seal"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("energy-ledger: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_wrong_command_line_of_the_real_command(tmp_path: Path) -> None:
    done = child("keys", "new")
    assert done.returncode == 2
    assert done.stderr == (
        b"energy-ledger: error: the following arguments are required: FILE"
        b" (see: energy-ledger keys new --help)\n"
    )


def test_a_failure_of_the_real_command(tmp_path: Path) -> None:
    missing = tmp_path / "missing.key"
    done = child("keys", "show", missing)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == f"energy-ledger: error: there is no key file {missing}\n".encode()


def test_with_json_a_failure_is_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing.key"
    assert main(["keys", "show", str(missing), "--json"]) == 1
    assert json.loads(capsys.readouterr().err) == {
        "code": "key_file_missing",
        "message": f"there is no key file {missing}",
        "details": {"path": str(missing)},
    }


def test_debug_shows_where_a_failure_came_from(tmp_path: Path) -> None:
    done = child("keys", "show", tmp_path / "missing.key", "--debug")
    assert done.returncode == 1
    assert done.stderr.startswith(b"Traceback")
    assert done.stderr.splitlines()[-1].startswith(b"energy-ledger: error: there is no key file")


def with_output_to(place: Path | int, *arguments: str, **environment: str) -> tuple[int, bytes]:
    """Run the real command with its output going to a file or descriptor; gives exit code and errors."""
    with open(place, "wb") as output_file:  # noqa: PTH123 - also a descriptor
        done = subprocess.run(
            [*COMMAND, *arguments],
            stdout=output_file,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
            env=BUFFERED | environment,
        )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [(["community", "template"], ""), (["community", "template"], "1"), (["--version"], "")],
)
def test_an_output_that_nobody_reads_ends_quietly(arguments: list[str], unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = with_output_to(writing, *arguments, PYTHONUNBUFFERED=unbuffered)
    assert ended == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [(["community", "template"], ""), (["community", "template"], "1"), (["--version"], "")],
)
def test_an_output_on_a_full_disk_is_a_failure(arguments: list[str], unbuffered: str) -> None:
    ended = with_output_to(Path("/dev/full"), *arguments, PYTHONUNBUFFERED=unbuffered)
    assert ended == (1, b"energy-ledger: error: no space left on device\n")


@pytest.mark.parametrize(
    ("closed", "code", "errors"),
    [
        (
            "<&-",
            1,
            b"energy-ledger: error: standard input holds nothing\n",
        ),
        (">&-", 0, b""),
        ("2>&-", 0, b""),
    ],
)
def test_a_closed_stream_is_an_empty_one(tmp_path: Path, closed: str, code: int, errors: bytes) -> None:
    arguments = "record decode" if closed == "<&-" else "keys new " + shlex.quote(str(tmp_path / "home.key"))
    done = subprocess.run(
        ["/bin/sh", "-c", f"{shlex.join(COMMAND)} {arguments} {closed}"],
        capture_output=True,
        timeout=60,
        check=False,
        env=BUFFERED,
    )
    assert (done.returncode, done.stderr) == (code, errors)


def test_an_output_that_breaks_off_ends_quietly(tmp_path: Path) -> None:
    """More than a pipe holds: the write itself fails, not only the flush at the end."""
    program = (
        "import sys\n"
        "from ledger_core.cli import main\n"
        "sys.modules['ledger_core.cli.main'].GROUPS = (lambda program: program.group('g', 'g').command(\n"
        "    'c', lambda arguments: [print('x' * 1000) for _ in range(1000)], 'c'),)\n"
        "sys.exit(main(['g', 'c']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=BUFFERED
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.read(10)
        running.stdout.close()
        assert running.wait(timeout=60) == 128 + signal.SIGPIPE
        assert running.stderr.read() == b""


@pytest.mark.parametrize("loading", ["argparse", "aiohttp", "ledger_core.cli.found_command"])
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "energy-ledger: error: interrupted\n"),
        (("--json",), '{"code": "interrupted", "message": "interrupted", "details": {}}\n'),
    ],
)
def test_ctrl_c_ends_it_quietly_also_while_it_loads(
    loading: str, arguments: tuple[str, ...], line: str
) -> None:
    program = (
        "import runpy, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {loading!r}:\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "runpy.run_module('ledger_core.cli', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "status", "--data", "nowhere", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", line)


# --- how a failure of a command ends ---------------------------------------------------------------


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """Run a program whose one command raises an error; registered as any group is."""

    def run(error: BaseException) -> int:
        def handler(arguments: argparse.Namespace) -> None:
            raise error

        def register(program: Program) -> None:
            add_force(program.group("test", "test").command("fail", handler, "fail"))

        monkeypatch.setattr(sys.modules["ledger_core.cli.main"], "GROUPS", (register,))
        return main(["test", "fail", "--force"])

    return run


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (LedgerError("a_code", "what and\nwhere"), 1, "what and\\nwhere"),
        (UsageError("these do not go together"), 2, "these do not go together"),
        (FileNotFoundError(2, "No such file or directory", "a/b"), 1, "a/b: no such file or directory"),
        (FileExistsError(17, "File exists", "a"), 1, "a: exists already (--force replaces it)"),
        (OSError("no number"), 1, "no number"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("x"), 1, "a mistake in the program, please report it: ZeroDivisionError: x"),
    ],
)
def test_a_failure_ends_with_a_line_and_a_code(
    failing: Callable[[BaseException], int],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    line: str,
) -> None:
    assert failing(error) == code
    assert capsys.readouterr() == ("", f"energy-ledger: error: {line}\n")


# --- output ----------------------------------------------------------------------------------------


def test_what_others_wrote_cannot_move_the_cursor() -> None:
    hostile = "a\x1b[2J\x9b1m\u202eb\nc\U000e0001"
    shown = output.as_json({"name": hostile})
    assert shown.isprintable()
    assert json.loads(shown) == {"name": hostile}
    assert output.one_line(hostile) == "a\\u001b[2J\\u009b1m\\u202eb\\nc\\udb40\\udc01"


def test_letters_of_all_languages_stay_readable() -> None:
    assert output.as_json({"name": "Straße 東"}) == '{"name": "Straße 東"}'


def test_a_terminal_that_cannot_show_a_letter_gets_its_escape(tmp_path: Path) -> None:
    name = tmp_path / "ß.key"
    done = subprocess.run(
        [*COMMAND, "keys", "new", name],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    assert done.returncode == 0
    assert b"\\xdf.key" in done.stdout
