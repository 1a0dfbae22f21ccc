"""`energy-ledger keys`, in this process, as a child process, and on a real terminal."""

import contextlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ledger_core.cli import main
from ledger_core.keys import KeyFile, SoftwareSigner, address, load_key, save_key, seed_text

SEED = bytes(range(32))
SIGNER = SoftwareSigner(SEED)
ADDRESS = address(SIGNER.public_key)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "home.key"
    save_key(path, SIGNER)
    return path


@pytest.fixture
def passphrase_file(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_text("open sesame\nsecond line\n")
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 1) -> str:
    """Run a command that must fail, and give its one line."""
    assert main([*map(str, arguments)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("energy-ledger: error: ")
    assert err.count("\n") == 1
    return err.removeprefix("energy-ledger: error: ").rstrip("\n")


def done(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that must work, and give what it printed."""
    assert main([*map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


class Terminal:
    """A real terminal with the command on it; what is written to it comes back as a user would see it."""

    def __init__(self, *arguments: str | Path) -> None:
        self._own, theirs = os.openpty()
        # The first terminal that a session's leader opens becomes the one it asks on.
        program = (
            "import os, runpy, sys; os.open(sys.argv.pop(1), os.O_RDWR);"
            " runpy.run_module('ledger_core.cli', run_name='__main__')"
        )
        self._child = subprocess.Popen(
            [sys.executable, "-c", program, os.ttyname(theirs), *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def wait_for(self, text: str) -> None:
        while not self.seen.endswith(text):
            self.seen += os.read(self._own, 1024).decode()

    def type(self, text: str) -> None:
        os.write(self._own, text.encode())

    def end(self) -> int:
        code = self._child.wait(timeout=60)
        # Linux reports the end of a terminal as an error.
        with contextlib.suppress(OSError):
            while part := os.read(self._own, 1024):
                self.seen += part.decode()
        os.close(self._own)
        return code


# --- new ---------------------------------------------------------------------------------------------


def test_new_writes_a_key_file_and_shows_its_address(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "home.key"
    shown = done(capsys, "keys", "new", path)
    public_key = load_key(path).public_key
    assert shown.splitlines() == [
        f"file        {path}",
        f"address     {address(public_key)}",
        f"public key  {public_key.hex()}",
        "passphrase  no",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_new_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "home.key"
    shown = json.loads(done(capsys, "keys", "new", path, "--json"))
    public_key = load_key(path).public_key
    assert shown == {
        "file": str(path),
        "address": address(public_key),
        "public_key": public_key.hex(),
        "sealed": False,
    }


def test_new_replaces_a_key_only_by_force(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "keys", "new", key) == (
        f"{key} exists already: choose another name, or replace it (--force)"
    )
    assert load_key(key).export_seed() == SEED
    done(capsys, "keys", "new", key, "--force")
    assert load_key(key).export_seed() != SEED


def test_new_seals_with_the_passphrase_of_a_file(
    tmp_path: Path, passphrase_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "home.key"
    shown = done(capsys, "keys", "new", path, "--passphrase-file", passphrase_file)
    assert "passphrase  yes" in shown
    assert load_key(path, "open sesame").public_key == KeyFile.read(path).public_key


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "its first line is empty"),
        (b"\nsecond", "its first line is empty"),
        (b"\xff\n", "its first line is not UTF-8 text"),
        (b"a" * 5000, "its first line is longer than 4096 bytes"),
        pytest.param("ä".encode() * 3000, "its first line is longer than 4096 bytes", id="cut in a letter"),
    ],
)
def test_a_passphrase_file_without_a_passphrase_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, why: str
) -> None:
    path, file = tmp_path / "home.key", tmp_path / "passphrase"
    file.write_bytes(content)
    assert refused(capsys, "keys", "new", path, "--passphrase-file", file) == (
        f"{file} holds no passphrase: {why}"
    )
    assert not path.exists()


def test_a_missing_passphrase_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing"
    assert refused(capsys, "keys", "new", tmp_path / "home.key", "--passphrase-file", missing) == (
        f"{missing}: no such file or directory"
    )


# --- on a terminal -----------------------------------------------------------------------------------


def test_a_passphrase_is_asked_for_twice_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "home.key"
    terminal = Terminal("keys", "new", path, "--seal")
    terminal.wait_for("New passphrase: ")
    terminal.type("open sesame\n")
    terminal.wait_for("The same again: ")
    terminal.type("open sesame\n")
    assert terminal.end() == 0
    assert "open sesame" not in terminal.seen
    assert load_key(path, "open sesame").public_key == KeyFile.read(path).public_key


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (["one\n", "other\n"], "the two passphrases differ: nothing was changed"),
        (["\n"], "the passphrase is empty: nothing was changed"),
    ],
)
def test_a_passphrase_that_will_not_do(tmp_path: Path, answers: list[str], message: str) -> None:
    path = tmp_path / "home.key"
    terminal = Terminal("keys", "new", path, "--seal")
    for prompt, answer in zip(["New passphrase: ", "The same again: "], answers, strict=False):
        terminal.wait_for(prompt)
        terminal.type(answer)
    assert terminal.end() == 1
    assert message in terminal.seen
    assert not path.exists()


def test_an_interrupted_question_ends_with_130(tmp_path: Path) -> None:
    path = tmp_path / "home.key"
    terminal = Terminal("keys", "new", path, "--seal")
    terminal.wait_for("New passphrase: ")
    terminal.type("\x03")
    assert terminal.end() == 130
    assert terminal.seen.split("energy-ledger: ")[1].strip() == "error: interrupted"
    assert not path.exists()


def test_an_export_to_a_terminal_warns(key: Path) -> None:
    terminal = Terminal("keys", "export", key)
    assert terminal.end() == 0
    assert terminal.seen.splitlines() == ["Whoever sees this seed owns the key:", seed_text(SEED)]


def test_a_seed_is_asked_for_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "copy.key"
    terminal = Terminal("keys", "import", path)
    terminal.wait_for("Seed (elsec1...): ")
    terminal.type(seed_text(SEED) + "\n")
    assert terminal.end() == 0
    assert seed_text(SEED) not in terminal.seen
    assert load_key(path).export_seed() == SEED


def test_without_a_terminal_a_secret_is_not_asked_for(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "ledger_core.cli", "keys", "new", tmp_path / "home.key", "--seal"],
        input=b"open sesame\nopen sesame\n",
        capture_output=True,
        timeout=60,
        check=False,
        start_new_session=True,
    )
    assert ended.returncode == 2
    assert ended.stdout == b""
    assert ended.stderr == (
        b"energy-ledger: error: there is no terminal to ask for a secret on:"
        b" give it in a file (see the command's --help)\n"
    )


# --- show, address -----------------------------------------------------------------------------------


def test_show_never_shows_the_secret(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = done(capsys, "keys", "show", key)
    assert ADDRESS in shown
    assert "elsec" not in shown
    assert SEED.hex() not in shown


def test_show_of_a_sealed_file_opens_it_only_on_demand(
    tmp_path: Path, passphrase_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, wrong = tmp_path / "home.key", tmp_path / "wrong"
    save_key(key, SIGNER, passphrase="open sesame")
    wrong.write_text("wrong\n")
    assert "passphrase  yes" in done(capsys, "keys", "show", key)
    assert ADDRESS in done(capsys, "keys", "show", key, "--open", "--passphrase-file", passphrase_file)
    assert refused(capsys, "keys", "show", key, "--passphrase-file", wrong) == (
        f"that is not the passphrase of key file {key}"
    )


def test_show_refuses_a_plain_file_with_another_seed(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key.write_text(key.read_text().replace("elsec1q", "elsec1p"))
    assert refused(capsys, "keys", "show", key).startswith(f"key file {key} is damaged: ")


def test_show_refuses_a_file_that_others_can_read(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key.chmod(0o644)
    assert "chmod 600" in refused(capsys, "keys", "show", key)


@pytest.mark.parametrize("form", ["file", "address", "upper", "hex"])
def test_address_of_all_that_stands_for_a_key(
    key: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    argument = {
        "file": str(key),
        "address": ADDRESS,
        "upper": ADDRESS.upper(),
        "hex": SIGNER.public_key.hex(),
    }[form]
    assert done(capsys, "keys", "address", argument) == ADDRESS + "\n"
    assert json.loads(done(capsys, "keys", "address", argument, "--json")) == {
        "address": ADDRESS,
        "public_key": SIGNER.public_key.hex(),
    }


def test_a_mistyped_address_is_located(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ADDRESS[:30] + ("q" if ADDRESS[30] != "q" else "p") + ADDRESS[31:]
    assert refused(capsys, "keys", "address", wrong) == (
        f"the checksum does not match: character '{wrong[30]}' at position 31 is probably wrong"
    )


@pytest.mark.parametrize("argument", ["missing.key", "missing/key"])
def test_a_missing_key_file_is_not_taken_for_an_address(
    argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, "keys", "address", argument) == f"there is no key file {argument}"


def test_an_argument_that_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "keys", "address", "x" * 300) == (
        "an address starts with 'el1', this text does not"
    )


# --- export, import, passphrase ----------------------------------------------------------------------


def test_an_exported_seed_can_be_imported(
    key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed, copy = tmp_path / "seed", tmp_path / "copy.key"
    assert done(capsys, "keys", "export", key) == seed_text(SEED) + "\n"
    assert done(capsys, "keys", "export", key, "--output", seed) == ""
    assert stat.S_IMODE(seed.stat().st_mode) == 0o600
    assert ADDRESS in done(capsys, "keys", "import", copy, "--seed-file", seed)
    assert load_key(copy).export_seed() == SEED


def test_an_export_replaces_a_file_only_by_force(
    key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = tmp_path / "seed"
    seed.write_text("other")
    assert refused(capsys, "keys", "export", key, "--output", seed) == (
        f"{seed}: exists already (--force replaces it)"
    )
    assert seed.read_text() == "other"
    done(capsys, "keys", "export", key, "--output", seed, "--force")
    assert seed.read_text() == seed_text(SEED) + "\n"


def test_a_mistyped_seed_is_refused_and_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed, copy = tmp_path / "seed", tmp_path / "copy.key"
    wrong = seed_text(SEED)[:-1] + "q"
    seed.write_text(wrong)
    line = refused(capsys, "keys", "import", copy, "--seed-file", seed)
    assert line.startswith("the checksum does not match: character 'q' at position 64")
    assert wrong not in line
    assert not copy.exists()


def test_an_address_is_no_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = tmp_path / "seed"
    seed.write_text(ADDRESS)
    assert refused(capsys, "keys", "import", tmp_path / "copy.key", "--seed-file", seed) == (
        "this is an address (el1...), not a secret seed (elsec1...)"
    )


def test_a_passphrase_is_set_changed_and_removed(
    key: Path, tmp_path: Path, passphrase_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.write_text("another\n")
    command = ("keys", "passphrase", key)
    assert "passphrase  yes" in done(capsys, *command, "--new-passphrase-file", passphrase_file)
    assert load_key(key, "open sesame").export_seed() == SEED
    done(capsys, *command, "--passphrase-file", passphrase_file, "--new-passphrase-file", other)
    assert load_key(key, "another").export_seed() == SEED
    before = key.read_bytes()
    line = refused(capsys, *command, "--passphrase-file", passphrase_file, "--remove")
    assert line == f"that is not the passphrase of key file {key}"
    assert key.read_bytes() == before
    assert "passphrase  no" in done(capsys, *command, "--passphrase-file", other, "--remove")
    assert load_key(key).export_seed() == SEED


def test_a_passphrase_that_is_not_there_is_not_removed(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "keys", "passphrase", key, "--remove", code=2) == (
        f"{key} has no passphrase to remove"
    )
