"""Asking for a passphrase or a secret, or reading it from a file; never from the command line."""

import argparse
import getpass
import warnings
from pathlib import Path

from ledger_core.cli.frame import UsageError
from ledger_core.errors import LedgerError
from ledger_core.keys import KeyFile

_MAX_LINE = 4096


def add_passphrase_file(parser: argparse._ActionsContainer, which: str = "the key file's passphrase") -> None:
    """Add the flag for the passphrase that opens an existing key file."""
    parser.add_argument(
        "--passphrase-file", metavar="FILE", type=Path, help=f"a file whose first line is {which}"
    )


def add_seal(parser: argparse.ArgumentParser) -> None:
    """Add the flags that decide whether a new key file is sealed."""
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--seal", action="store_true", help="ask for a passphrase and seal the key file")
    add_passphrase_file(choice, "the passphrase to seal the key file with")


def new_passphrase(seal: bool, file: Path | None) -> str | None:
    """Return the passphrase for a new key file, or None for a key file without a seal."""
    if file is not None:
        return read_passphrase(file)
    if not seal:
        return None
    first = ask_secret("New passphrase: ")
    if not first:
        raise LedgerError("passphrase_empty", "the passphrase is empty: nothing was changed")
    if ask_secret("The same again: ") != first:
        raise LedgerError("passphrase_mismatch", "the two passphrases differ: nothing was changed")
    return first


def passphrase_for(key_file: KeyFile, file: Path | None) -> str | None:
    """Return the passphrase that opens a key file; None if it has no seal."""
    if not key_file.is_sealed:
        return None
    return read_passphrase(file) if file is not None else ask_secret(f"Passphrase of {key_file.path}: ")


def read_passphrase(file: Path) -> str:
    """Return the first line of a file; raises LedgerError `secret_file_invalid`, or OSError."""
    return read_secret(file, "passphrase")


def read_secret(file: Path, what: str) -> str:
    """Return the first line of a file; raises LedgerError `secret_file_invalid`, or OSError."""
    with file.open("rb") as stream:
        line = stream.readline(_MAX_LINE + 1).removesuffix(b"\n").removesuffix(b"\r")
    if not line:
        raise _invalid(file, what, "its first line is empty")
    if len(line) > _MAX_LINE:
        raise _invalid(file, what, f"its first line is longer than {_MAX_LINE} bytes")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise _invalid(file, what, "its first line is not UTF-8 text") from None


def ask_secret(prompt: str) -> str:
    """Ask on the terminal without showing the answer; raises UsageError where there is no terminal."""
    try:
        with warnings.catch_warnings():
            # getpass would go on and show the secret.
            warnings.simplefilter("error", getpass.GetPassWarning)
            return getpass.getpass(prompt)
    except getpass.GetPassWarning, EOFError:
        raise UsageError(
            "there is no terminal to ask for a secret on: give it in a file (see the command's --help)"
        ) from None


def _invalid(file: Path, what: str, why: str) -> LedgerError:
    return LedgerError("secret_file_invalid", f"{file} holds no {what}: {why}", path=str(file), reason=why)
