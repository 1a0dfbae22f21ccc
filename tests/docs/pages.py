"""Reads the pages: tables below a heading, and the examples in hexadecimal."""

import re
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    """Return a page of docs/."""
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """Return what stands below a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the page has no heading {title!r}"
    return found[1]


def table_of(text: str, title: str, which: int = 0) -> list[list[str]]:
    """Return the rows of one of the tables below a heading, without its head."""
    tables = re.findall(r"(?:^\|.*\n)+", section(text, title), re.MULTILINE)
    assert len(tables) > which, f"too few tables below {title!r}"
    return [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in tables[which].splitlines()[2:]
    ]


def fenced(text: str, language: str) -> list[str]:
    """Return the contents of a page's fenced blocks in a language, without their common indent."""
    found = re.findall(rf"^( *)```{re.escape(language)}\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [dedent(content) for _, content in found]


def examples(text: str) -> dict[str, str]:
    """Return the examples of a page: `name: value`, the value in lines that are indented further."""
    found = {}
    for block in re.findall(r"^```text\n(.*?)^```", section(text, "Examples"), re.MULTILINE | re.DOTALL):
        for name, value in re.findall(r"^([^\n:]+):((?:\n? +\S+)+)$", block, re.MULTILINE):
            found[name] = "".join(value.split())
    return found
