"""What the page on trading shows works as it stands there."""

import json
import re
from pathlib import Path

import yaml
from homeassistant.core import HomeAssistant
from homeassistant.helpers import condition
from homeassistant.helpers import config_validation as cv

from ledger_core.market.reasons import Reason

PAGE = Path(__file__).parents[2] / "docs" / "trading.md"


async def test_every_yaml_of_the_page_is_valid(hass: HomeAssistant) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        conditions = cv.CONDITIONS_SCHEMA(yaml.safe_load(block))
        assert await condition.async_validate_conditions_config(hass, conditions)


def test_every_reason_is_explained_and_translated() -> None:
    page = PAGE.read_text(encoding="utf-8")
    codes = {reason.value for reason in Reason}
    assert not {code for code in codes if f"`{code}`" not in page}
    for path in (PAGE.parents[1] / "custom_components" / "energy_ledger" / "translations").glob("*.json"):
        event = json.loads(path.read_text(encoding="utf-8"))["entity"]["event"]["decision"]
        assert set(event["state_attributes"]["reason"]["state"]) == codes, path.name
