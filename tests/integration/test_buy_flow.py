"""The flow of a buying rule, with Home Assistant's own conditions."""

from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped]
    MockConfigEntry,
)

GIVEN: dict[str, Any] = {
    "name": "Car",
    "price_section": {"source": "fixed", "price": 0.25},
    "amount_section": {"daily_budget": 2, "min_kwh": 0.2},
    "partners_section": {"min_score": 7},
    "hours_section": {},
}
CONDITIONS = [
    {"condition": "state", "entity_id": "binary_sensor.car", "state": "on"},
    {"condition": "template", "value_template": "{{ offer.price < 0.22 }}"},
]


async def begin(hass: HomeAssistant, entry: MockConfigEntry) -> Any:
    return await hass.config_entries.subentries.async_init(
        (entry.entry_id, "buy"), context={"source": "user"}
    )


async def test_conditions_are_kept_as_the_editor_gives_them(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    step = await begin(hass, entry)
    assert step["step_id"] == "user"
    done = await hass.config_entries.subentries.async_configure(
        step["flow_id"], GIVEN | {"conditions": CONDITIONS}
    )
    assert done["type"] is FlowResultType.CREATE_ENTRY
    await hass.async_block_till_done()
    (rule,) = entry.subentries.values()
    assert rule.data["conditions"] == CONDITIONS
    state = hass.states.get("sensor.car_state")
    assert state is not None
    assert state.state == "dry_run"
    change = await entry.start_subentry_reconfigure_flow(hass, rule.subentry_id)
    done = await hass.config_entries.subentries.async_configure(change["flow_id"], GIVEN)
    assert done["reason"] == "reconfigure_successful"
    assert "conditions" not in entry.subentries[rule.subentry_id].data
    await hass.async_block_till_done()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"price_section": {"source": "below_tariff", "discount": 0.02}}, "price_missing"),
        ({"price_section": {"source": "fixed"}}, "price_missing"),
        ({"conditions": [{"condition": "no_such_thing.at_all"}]}, "conditions_invalid"),
        ({"partners_section": {"blocked": ["el1nobody"]}}, "member_invalid"),
    ],
)
async def test_what_can_not_be_is_said(
    hass: HomeAssistant, entry: MockConfigEntry, changes: dict[str, Any], error: str
) -> None:
    step = await begin(hass, entry)
    again = await hass.config_entries.subentries.async_configure(step["flow_id"], GIVEN | changes)
    assert again["errors"] == {"base": error}
    hass.states.async_set("sensor.tariff", "34.5", {"unit_of_measurement": "ct/kWh"})
    right = GIVEN | {
        "price_section": {"source": "below_tariff", "tariff_entity": "sensor.tariff", "discount": 0.02}
    }
    done = await hass.config_entries.subentries.async_configure(step["flow_id"], right)
    assert done["type"] is FlowResultType.CREATE_ENTRY
    await hass.async_block_till_done()
