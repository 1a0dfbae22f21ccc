"""A rule that buys only what the home needs buys nothing while that is not known."""

from collections.abc import AsyncIterator

import pytest
from homeassistant.core import HomeAssistant

from custom_components.energy_ledger.trading.rule_state import RuleState, RuleStatus
from ledger_core.client.bodies import OfferTerms
from ledger_core.market.reasons import Reason
from tests.node.api_world import ApiWorld

from .conftest import EntryMaker
from .trading_world import Street, battery_device, meter_device, set_battery, set_meter, street, world

__all__ = ["world"]


@pytest.fixture
async def homes(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> AsyncIterator[Street]:
    """Anna sells by hand; Bert's meter says nothing yet."""
    async with street(hass, node, make_entry) as found:
        set_meter(hass, "anna", import_wh=1000, export_wh=2000)
        set_battery(hass, "anna", soc=80)
        await found.add("anna", meter_device("anna"), battery_device("anna"))
        await found.add("bert", meter_device("bert"))
        await found.register()
        await found.turn_on("bert")
        yield found


async def offer(homes: Street, slots: int) -> None:
    """Anna offers 200 Wh so many slots ahead."""
    anna = homes.entries["anna"].runtime_data
    battery = anna.devices[homes.subentry("anna", "anna battery")].asset_id
    start = homes.now // 900 * 900 + slots * 900
    terms = OfferTerms(
        quantity=200, start=start, end=start + 900, price=100_000, asset=battery, valid_until=start
    )
    await anna.home.offer(terms)
    await homes.mine()


async def buy(homes: Street, **amount: object) -> RuleState:
    data = {"price_section": {"source": "fixed", "price": 0.25}, "amount_section": amount}
    rule = await homes.add_rule("bert", "buy", data)
    await homes.look()
    await homes.mine()
    return homes.trading("bert").rules[rule]


def bought(homes: Street) -> int:
    return sum(trade.quantity for trade in homes.entries["bert"].runtime_data.ledger.data.trades)


async def test_it_pauses_until_consumption_is_known(homes: Street) -> None:
    await offer(homes, 3)
    rule = await buy(homes)
    assert (rule.status, rule.problem) == (RuleStatus.PAUSED, "consumption_unknown")
    assert not bought(homes)
    set_meter(homes.hass, "bert", import_wh=5000, export_wh=0, surplus_w=-2000)
    await homes.look()
    await homes.mine()
    assert rule.status is RuleStatus.ACTIVE
    assert bought(homes) == 200


async def test_it_buys_nevertheless_what_does_not_depend_on_the_need(homes: Street) -> None:
    await offer(homes, 3)
    rule = await buy(homes, only_need=False)
    assert rule.status is RuleStatus.ACTIVE
    assert bought(homes) == 200


async def test_an_implausible_meter_pauses_it(homes: Street) -> None:
    set_meter(homes.hass, "bert", import_wh=5000, export_wh=0, surplus_w=-2000)
    await homes.hass.async_block_till_done()
    homes.node.world.now += 5
    set_meter(homes.hass, "bert", import_wh=99_000, export_wh=0, surplus_w=-2000)
    await homes.hass.async_block_till_done()
    await offer(homes, 3)
    rule = await buy(homes)
    assert (rule.status, rule.problem) == (RuleStatus.PAUSED, "meter_paused")
    assert not bought(homes)


async def test_an_offer_beyond_the_forecast_is_left_alone(homes: Street) -> None:
    set_meter(homes.hass, "bert", import_wh=5000, export_wh=0, surplus_w=-2000)
    await offer(homes, 96)
    rule = await buy(homes)
    decided = rule.last()
    assert decided is not None
    assert decided.decision.reason is Reason.NEED_UNKNOWN
    assert not bought(homes)
