"""What the page on trading shows works as it stands there."""

import re
from pathlib import Path

import yaml
from homeassistant.core import HomeAssistant
from homeassistant.helpers import condition
from homeassistant.helpers import config_validation as cv

PAGE = Path(__file__).parents[2] / "docs" / "trading.md"


async def test_every_yaml_of_the_page_is_valid(hass: HomeAssistant) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        conditions = cv.CONDITIONS_SCHEMA(yaml.safe_load(block))
        assert await condition.async_validate_conditions_config(hass, conditions)
