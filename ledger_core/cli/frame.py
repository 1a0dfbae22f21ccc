"""What a group of commands registers itself with, so that all commands behave alike."""

import argparse
from collections.abc import Callable
from typing import Any, NoReturn, Self

from ledger_core import __version__
from ledger_core.cli.refusal_text import people_text
from ledger_core.cli.usage import UsageError
from ledger_core.client import RefusedError
from ledger_core.errors import RuleError

__all__ = ["PROGRAM", "Group", "Handler", "Parser", "Program", "UsageError", "add_force"]

PROGRAM = "energy-ledger"

type Handler = Callable[[argparse.Namespace], None]
"""Does a command's work; it prints its result, and fails by raising LedgerError, OSError or UsageError."""


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong with a command line."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        options.setdefault("suggest_on_error", True)
        super().__init__(**options)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError instead of printing the whole usage."""
        raise UsageError(f"{message} (see: {self.prog} --help)")


class Group:
    """A group of commands that belong together, such as `keys`."""

    def __init__(self, commands: argparse._SubParsersAction[Parser]) -> None:
        self._commands = commands

    def command(self, name: str, handler: Handler, summary: str, *, json: bool = False) -> Parser:
        """Add a command; the caller adds its arguments to the parser that is returned.

        With `json` the command has a flag `--json`, and its handler looks at `arguments.json`.
        """
        parser = self._commands.add_parser(name, help=summary, description=_sentence(summary))
        parser.set_defaults(handler=_for_people(handler), json=False)
        parser.add_argument(
            "--debug", action="store_true", help="show where in the program an error came from"
        )
        if json:
            parser.add_argument("--json", action="store_true", help="print one JSON object in one line")
        return parser


class Program:
    """The whole command line."""

    def __init__(self, description: str) -> None:
        self.parser = Parser(prog=PROGRAM, description=description)
        self.parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
        self._groups = self.parser.add_subparsers(metavar="GROUP", required=True, title="groups of commands")

    def group(self, name: str, summary: str) -> Group:
        """Add a group of commands."""
        parser = self._groups.add_parser(name, help=summary, description=_sentence(summary))
        return Group(parser.add_subparsers(metavar="COMMAND", required=True, title="commands"))

    def single(self) -> Group:
        """Return the place of commands that stand alone, such as `simulate`."""
        return Group(self._groups)

    def with_groups(self, *register: Callable[[Self], None]) -> Self:
        """Let groups of commands register themselves."""
        for each in register:
            each(self)
        return self


def add_force(parser: argparse.ArgumentParser) -> None:
    """Add the flag that every command needs that can replace a file."""
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")


def _for_people(handler: Handler) -> Handler:
    """Return a handler whose refusals are in people's units, unless a program asked."""

    def run(arguments: argparse.Namespace) -> None:
        try:
            handler(arguments)
        except (RefusedError, RuleError) as error:
            if not arguments.json:
                error.message = people_text(error.code, error.message)
            raise

    return run


def _sentence(summary: str) -> str:
    return summary[:1].upper() + summary[1:] + "."
