"""docs/security.md names tests for its defences: they are there."""

import re

import pytest

from tests.docs.pages import ROOT, page, table_of

THREATS = [cells[2].strip("`") for cells in table_of(page("security"), "Threats and defences")]
NAMED = re.findall(r"^\|.*\| `(tests/[^`]+)` \|$", page("security"), re.MULTILINE)


@pytest.mark.parametrize("name", NAMED)
def test_every_named_test_exists(name: str) -> None:
    path, function = name.split("::")
    assert re.search(rf"^(async )?def {function}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_every_threat_names_a_test() -> None:
    assert set(THREATS) < set(NAMED)
    assert len(NAMED) == len(set(NAMED)) > 50


def test_every_row_names_a_test() -> None:
    tables = page("security").split("## Threats and defences")[1].split("## What is not defended")[0]
    rows = [line for line in tables.splitlines() if line.startswith("| ")]
    heads = [line for line in rows if line.endswith(" | test |")]
    assert len(rows) - len(heads) == len(NAMED)


def test_the_page_names_every_file_of_attacks() -> None:
    attacks = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*hostile*.py")}
    assert attacks <= {name.split("::")[0] for name in NAMED}
