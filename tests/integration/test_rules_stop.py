"""What a rule has offered is taken back once it does not sell any more: paused, switched off, or removed."""

from collections.abc import AsyncIterator
from unittest.mock import PropertyMock, patch

import pytest
from homeassistant.core import HomeAssistant

from custom_components.energy_ledger.trading.metering import Metering
from custom_components.energy_ledger.trading.rule_state import RuleStatus
from ledger_core.client.views import OfferView
from tests.node.api_world import ApiWorld

from .conftest import EntryMaker
from .trading_world import Street, battery_device, meter_device, set_battery, set_meter, street, world

__all__ = ["world"]


@pytest.fixture
async def homes(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> AsyncIterator[Street]:
    """Anna, whose rule has offered from her battery at the price of an entity."""
    async with street(hass, node, make_entry) as found:
        set_meter(hass, "anna", import_wh=1000, export_wh=2000, surplus_w=-300)
        set_battery(hass, "anna", soc=80)
        hass.states.async_set("sensor.price", "0.2")
        await found.add("anna", meter_device("anna"), battery_device("anna"))
        await found.register()
        await found.turn_on("anna")
        rule = {
            "device": found.subentry("anna", "anna battery"),
            "price_section": {"source": "entity", "price_entity": "sensor.price"},
            "amount_section": {"max_kwh": 0.5, "horizon_slots": 3, "keep_for_home": False},
        }
        await found.add_rule("anna", "sell", rule)
        await step(found)
        assert offers(found)
        yield found


def offers(homes: Street) -> tuple[OfferView, ...]:
    """What is offered in the street."""
    return homes.entries["anna"].runtime_data.ledger.data.offers


async def step(homes: Street) -> None:
    """Everybody looks, and a block is mined."""
    await homes.look()
    await homes.mine()


def status(homes: Street) -> tuple[RuleStatus, str | None]:
    (rule,) = homes.trading("anna").rules.values()
    return rule.status, rule.problem


async def test_a_paused_rule_offers_no_longer(homes: Street) -> None:
    homes.hass.states.async_set("sensor.price", "free of charge")
    await step(homes)
    assert status(homes) == (RuleStatus.PAUSED, "entity_no_price")
    assert not offers(homes)


async def test_a_rule_that_pauses_for_a_moment_keeps_its_offers(homes: Street) -> None:
    before = offers(homes)
    homes.hass.states.async_set("sensor.price", "unavailable")
    homes.node.world.now += 5
    await homes.look()
    homes.node.world.now += 59
    await step(homes)
    assert status(homes) == (RuleStatus.PAUSED, "entity_unavailable")
    assert offers(homes) == before
    homes.hass.states.async_set("sensor.price", "0.2")
    await homes.look()
    homes.hass.states.async_set("sensor.price", "unavailable")
    await homes.look()
    homes.node.world.now += 59
    await step(homes)
    assert offers(homes) == before, "it answered meanwhile"
    homes.node.world.now += 1
    await step(homes)
    assert not offers(homes)


async def test_what_is_switched_off_offers_no_longer(homes: Street) -> None:
    settings = homes.entries["anna"].runtime_data.settings
    assert settings is not None
    await settings.async_change(automatic_selling=False)
    await step(homes)
    assert status(homes) == (RuleStatus.DRY_RUN, None)
    assert not offers(homes)
    await settings.async_change(automatic_selling=True)
    await step(homes)
    assert offers(homes), "switched on again it offers anew"


async def test_a_removed_rule_offers_no_longer(homes: Street) -> None:
    entry = homes.entries["anna"]
    homes.hass.config_entries.async_remove_subentry(entry, homes.subentry("anna", "anna sell rule"))
    await homes.hass.async_block_till_done()
    homes.follow_clock(entry)
    await homes.seen()
    assert homes.trading("anna").rules == {}
    await step(homes)
    assert not offers(homes)


async def test_readings_that_the_ledger_refuses_stop_selling(homes: Street) -> None:
    told = PropertyMock(return_value="register_jump")
    with patch.object(Metering, "refused", told, create=True):
        await homes.look()
        assert status(homes) == (RuleStatus.PAUSED, "readings_refused")
        homes.node.world.now += 60
        await step(homes)
        assert not offers(homes)


async def test_what_nobody_counts_is_not_sold(homes: Street) -> None:
    homes.hass.states.async_set("sensor.anna_export", "unavailable")
    await homes.hass.async_block_till_done()
    await homes.look()
    assert status(homes) == (RuleStatus.PAUSED, "meter_away")
    homes.node.world.now += 60
    await step(homes)
    assert not offers(homes)
    set_meter(homes.hass, "anna", import_wh=1000, export_wh=2000, surplus_w=-300)
    await step(homes)
    assert status(homes) == (RuleStatus.ACTIVE, None)
    assert offers(homes)
    homes.hass.config_entries.async_remove_subentry(
        homes.entries["anna"], homes.subentry("anna", "anna meter")
    )
    await homes.hass.async_block_till_done()
    homes.follow_clock(homes.entries["anna"])
    await homes.seen()
    await step(homes)
    assert status(homes) == (RuleStatus.PAUSED, "meter_missing")
    assert not offers(homes)
