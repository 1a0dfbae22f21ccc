"""Printing data: as one JSON object, or as lines for people; never a control character of someone else's."""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any


def printable(text: str) -> str:
    """Escape what a terminal would act on or not show; line ends stay.

    What others wrote (a community's name, a damaged file's contents) must not move the cursor.
    """
    return "".join(
        character if character.isprintable() or character == "\n" else _escaped(character)
        for character in text
    )


def one_line(text: str) -> str:
    """Escape a text as `printable`, and its line ends as well."""
    return printable(text).replace("\n", "\\n")


def as_json(data: object, *, indent: int | None = None) -> str:
    """Return data as JSON, safe to print and unchanged when it is read again."""
    # An unprintable character can stand only inside a JSON string, where its escape means the same.
    return printable(json.dumps(data, indent=indent, ensure_ascii=False))


def show(arguments: argparse.Namespace, data: Mapping[str, Any], lines: Iterable[str]) -> None:
    """Print a command's result: as one line of JSON if the user asked for it, otherwise the lines."""
    if arguments.json:
        print(as_json(data))
    else:
        for line in lines:
            print(one_line(line))


def table(rows: Mapping[str, object]) -> list[str]:
    """Return a line per name and value, aligned."""
    width = max(map(len, rows), default=0)
    return [f"{name:<{width}}  {value}" for name, value in rows.items()]


def note(text: str) -> None:
    """Tell the user something that is not the command's result, on standard error."""
    print(one_line(text), file=sys.stderr)


def _escaped(character: str) -> str:
    if ord(character) > 0xFFFF:
        high, low = divmod(ord(character) - 0x10000, 0x400)
        return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
    return f"\\u{ord(character):04x}"
