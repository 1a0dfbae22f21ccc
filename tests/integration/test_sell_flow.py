"""The flow of a selling rule: every way through it ends in a rule, a changed rule, or an abort."""

from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped]
    MockConfigEntry,
)

from ledger_core.keys import address
from tests.node.api_world import ApiWorld

from .conftest import EntryMaker
from .trading_world import battery_device, meter_device


@pytest.fixture
async def home(node: ApiWorld, make_entry: EntryMaker) -> MockConfigEntry:
    """Anna's entry with a battery."""
    return await make_entry(node, subentries=[meter_device("anna"), battery_device("anna")])


def battery(entry: MockConfigEntry) -> str:
    found = (name for name, each in entry.subentries.items() if each.title == "anna battery")
    return str(next(found))


def typed(entry: MockConfigEntry, **price: Any) -> dict[str, Any]:
    return {
        "name": "Evenings",
        "device": battery(entry),
        "price_section": {"source": "fixed", "price": 0.2, **price},
        "amount_section": {},
        "partners_section": {},
        "hours_section": {"weekdays": ["mon", "tue"], "from": "18:00:00", "to": "23:00:00"},
    }


async def begin(hass: HomeAssistant, entry: MockConfigEntry) -> Any:
    return await hass.config_entries.subentries.async_init(
        (entry.entry_id, "sell"), context={"source": "user"}
    )


async def test_a_rule_is_made_and_changed(hass: HomeAssistant, home: MockConfigEntry, node: ApiWorld) -> None:
    step = await begin(hass, home)
    assert step["type"] is FlowResultType.FORM
    assert step["step_id"] == "user"
    bert = address(node.world["bert"].id)
    given = typed(home, floor=0.15) | {"partners_section": {"members": [bert]}}
    done = await hass.config_entries.subentries.async_configure(step["flow_id"], given)
    assert done["type"] is FlowResultType.CREATE_ENTRY
    assert done["title"] == "Evenings"
    await hass.async_block_till_done()
    rule = next(each for each in home.subentries.values() if each.subentry_type == "sell")
    assert rule.data["partners_section"]["members"] == [bert]
    assert rule.data["price_section"] == {"source": "fixed", "price": 0.2, "floor": 0.15}
    state = hass.states.get("sensor.evenings_state")
    assert state is not None
    assert state.state == "dry_run"

    change = await home.start_subentry_reconfigure_flow(hass, rule.subentry_id)
    assert change["step_id"] == "reconfigure"
    done = await hass.config_entries.subentries.async_configure(
        change["flow_id"], typed(home, price=0.3) | {"name": "Nights"}
    )
    assert (done["type"], done["reason"]) == (FlowResultType.ABORT, "reconfigure_successful")
    changed = home.subentries[rule.subentry_id]
    assert (changed.title, changed.data["price_section"]["price"]) == ("Nights", 0.3)
    await hass.async_block_till_done()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"price_section": {"source": "fixed"}}, "price_missing"),
        (
            {"price_section": {"source": "fixed", "price": 0.2, "floor": 0.4, "ceiling": 0.3}},
            "floor_above_ceiling",
        ),
        ({"price_section": {"source": "entity", "price_entity": "sensor.nowhere"}}, "entity_missing"),
        ({"price_section": {"source": "entity", "price_entity": "sensor.text"}}, "entity_no_price"),
        ({"price_section": {"source": "template", "price_template": "{{ 1 / 0 }}"}}, "template_failed"),
        ({"price_section": {"source": "template", "price_template": "cheap"}}, "template_no_price"),
        ({"price_section": {"source": "by_hour", "price_by_hour": "six=1", "price": 1}}, "hours_malformed"),
        ({"price_section": {"source": "by_hour", "price_by_hour": "6:00-7:00=1"}}, "hours_incomplete"),
        ({"amount_section": {"min_kwh": 3, "max_kwh": 2}}, "least_above_most"),
        ({"amount_section": {"min_kw": 3, "max_kw": 2}}, "least_above_most"),
        ({"partners_section": {"members": ["el1nobody"]}}, "member_invalid"),
        ({"hours_section": {"last_day": "2020-01-01"}}, "window_past"),
    ],
)
async def test_what_can_not_be_is_said_and_what_was_typed_is_kept(
    hass: HomeAssistant, home: MockConfigEntry, changes: dict[str, Any], error: str
) -> None:
    hass.states.async_set("sensor.text", "cheap")
    step = await begin(hass, home)
    wrong = typed(home) | changes
    again: Any = await hass.config_entries.subentries.async_configure(step["flow_id"], wrong)
    assert again["type"] is FlowResultType.FORM
    assert again["errors"] == {"base": error}
    suggested = {str(key): key.description for key in again["data_schema"].schema}
    assert suggested["name"] == {"suggested_value": "Evenings"}
    done = await hass.config_entries.subentries.async_configure(step["flow_id"], typed(home))
    assert done["type"] is FlowResultType.CREATE_ENTRY
    await hass.async_block_till_done()


async def test_an_unavailable_entity_is_waited_for(hass: HomeAssistant, home: MockConfigEntry) -> None:
    hass.states.async_set("sensor.price", "unavailable")
    step = await begin(hass, home)
    given = typed(home) | {"price_section": {"source": "entity", "price_entity": "sensor.price"}}
    done = await hass.config_entries.subentries.async_configure(step["flow_id"], given)
    assert done["type"] is FlowResultType.CREATE_ENTRY
    await hass.async_block_till_done()


async def test_without_a_device_there_is_nothing_to_sell(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    step = await begin(hass, entry)
    assert (step["type"], step["reason"]) == (FlowResultType.ABORT, "no_supplier")


async def test_an_entry_that_is_not_loaded(hass: HomeAssistant, home: MockConfigEntry) -> None:
    await hass.config_entries.async_unload(home.entry_id)
    step = await begin(hass, home)
    assert (step["type"], step["reason"]) == (FlowResultType.ABORT, "entry_not_loaded")
