"""The user's pages: pictures and links that are there, YAML that Home Assistant takes."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component

from custom_components.energy_ledger.services import ACTIONS

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "docs" / "first-hour.md",
    ROOT / "docs" / "home-assistant.md",
    ROOT / "docs" / "faq.md",
)
BLOCKS = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINKS = re.compile(r"\]\(([^)#]+)\)")


def yaml_blocks() -> list[dict[str, Any]]:
    """Return every YAML example of the pages."""
    return [yaml.safe_load(text) for page in PAGES for text in BLOCKS.findall(page.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for target in LINKS.findall(page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_actions_are_as_the_integration_wants_them() -> None:
    found = [block for block in yaml_blocks() if "action" in block]
    assert found
    for block in found:
        domain, name = block["action"].split(".")
        assert domain == "energy_ledger"
        ACTIONS[name].schema(block["data"])


async def test_automations_are_taken(hass: HomeAssistant) -> None:
    found = [block for block in yaml_blocks() if "triggers" in block]
    assert found
    assert await async_setup_component(hass, "energy_ledger", {})
    assert await async_setup_component(hass, "automation", {"automation": found})
    await hass.async_block_till_done()
    states = hass.states.async_all("automation")
    assert [state.state for state in states] == ["on"] * len(found)
