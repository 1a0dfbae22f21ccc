"""docs/security.md names tests for its defences: they are there."""

import re

import pytest

from tests.docs.pages import ROOT, page, table_of

NAMED = [cells[2].strip("`") for cells in table_of(page("security"), "Threats and defences")]


@pytest.mark.parametrize("name", NAMED)
def test_every_named_test_exists(name: str) -> None:
    path, function = name.split("::")
    assert re.search(rf"^(async )?def {function}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_every_threat_names_a_test() -> None:
    assert len(NAMED) == len(set(NAMED)) > 20
