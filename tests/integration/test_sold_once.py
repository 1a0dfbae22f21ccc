"""The same energy is promised once: in open offers, in answers on their way, and in trades."""

from collections.abc import AsyncIterator
from unittest.mock import patch

import pytest
from homeassistant.core import HomeAssistant

from custom_components.energy_ledger.trading.rule_state import Decided
from ledger_core.client import TimedOutError
from ledger_core.client.bodies import OfferTerms
from ledger_core.client.home import Home
from ledger_core.market.reasons import Reason
from tests.node.api_world import ApiWorld

from .conftest import EntryMaker
from .trading_world import Street, battery_device, meter_device, set_battery, set_meter, street, world

__all__ = ["world"]

SPARE = 500
"""Wh that Anna's battery holds above the reserve."""
ONE_SLOT = {"min_kwh": 0.1, "horizon_slots": 1, "keep_for_home": False}


@pytest.fixture
async def homes(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> AsyncIterator[Street]:
    """Anna sells from a battery by rules; Bert acts by hand."""
    async with street(hass, node, make_entry) as found:
        set_meter(hass, "anna", import_wh=1000, export_wh=2000, surplus_w=-300)
        set_battery(hass, "anna", soc=25)
        set_meter(hass, "bert", import_wh=5000, export_wh=0, surplus_w=-2000)
        await found.add("anna", meter_device("anna"), battery_device("anna"))
        await found.add("bert", meter_device("bert"))
        await found.register()
        await found.turn_on("anna")
        yield found


async def sell(homes: Street, title: str = "", **amount: object) -> str:
    rule = {
        "device": homes.subentry("anna", "anna battery"),
        "price_section": {"source": "fixed", "price": 0.2},
        "amount_section": ONE_SLOT | amount,
    }
    return await homes.add_rule("anna", "sell", rule, title)


async def request(homes: Street, slots: int, quantity: int = 450) -> None:
    """Bert asks for energy so many slots ahead."""
    start = homes.now // 900 * 900 + slots * 900
    bert = homes.entries["bert"].runtime_data.home
    await bert.request(OfferTerms(quantity=quantity, start=start, end=start + 900, price=210_000))


def last(homes: Street, rule: str) -> Decided:
    found = homes.trading("anna").rules[rule].last()
    assert found is not None
    return found


async def promised(homes: Street) -> tuple[int, int]:
    """Wh that Anna offers, and that are agreed, once every record of hers is in the chain."""
    await homes.mine()
    view = homes.entries["anna"].runtime_data.ledger.data
    mine = [offer.open for offer in view.offers if offer.author.key == homes.node.world["anna"].id.hex()]
    return sum(mine), sum(trade.quantity for trade in view.trades)


async def test_answers_to_requests_are_remembered_until_they_bind(homes: Street) -> None:
    await request(homes, 2)
    await request(homes, 3)
    await homes.mine()
    rule = await sell(homes)
    for _ in range(3):
        await homes.look()
    assert last(homes, rule).decision.reason is Reason.NOTHING_TO_SPARE
    assert await promised(homes) == (0, 450)
    for _ in range(2):
        await homes.look()
        assert await promised(homes) == (0, 450)


async def test_an_answer_that_may_have_arrived_counts(homes: Street) -> None:
    await request(homes, 2)
    await request(homes, 3)
    await homes.mine()
    unsure = TimedOutError("timeout", "the node did not answer in time", record="ab" * 32)
    with patch.object(Home, "accept", side_effect=unsure) as accept:
        await sell(homes)
        await homes.look()
        await homes.look()
    assert accept.await_count == 1


async def test_what_is_offered_is_withdrawn_before_a_request_is_supplied(homes: Street) -> None:
    rule = await sell(homes)
    await homes.look()
    assert await promised(homes) == (SPARE, 0)
    await request(homes, 3)
    await homes.mine()
    homes.node.world.now += 300
    await homes.look()
    reasons = [decided.decision.reason for decided in homes.trading("anna").rules[rule].decisions]
    assert Reason.ANSWER_LATER in reasons
    assert await promised(homes) == (0, 0), "withdrawn at first"
    await homes.look()
    assert await promised(homes) == (0, 450), "then supplied"


async def test_two_rules_do_not_offer_the_same(homes: Street) -> None:
    await sell(homes, "one")
    await sell(homes, "other")
    await homes.look()
    assert await promised(homes) == (SPARE, 0)
    await homes.look()
    assert await promised(homes) == (SPARE, 0)


async def test_an_offer_that_stays_counts_once(homes: Street) -> None:
    set_battery(homes.hass, "anna", soc=35)
    rule = {
        "device": homes.subentry("anna", "anna battery"),
        "price_section": {"source": "fixed", "price": 0.2},
        "amount_section": ONE_SLOT | {"horizon_slots": 2},
        "partners_section": {"auction": True},
    }
    name = await homes.add_rule("anna", "sell", rule)
    for _ in range(3):
        await homes.look()
        figures = homes.trading("anna").rules[name].figures
        assert figures is not None
        assert figures.offered_wh == 3 * SPARE
        assert await promised(homes) == (3 * SPARE, 0)


async def test_an_offer_is_made_anew_once_the_old_one_is_gone(homes: Street) -> None:
    homes.hass.states.async_set("sensor.price", "0.2")
    rule = {
        "device": homes.subentry("anna", "anna battery"),
        "price_section": {"source": "entity", "price_entity": "sensor.price"},
        "amount_section": ONE_SLOT,
    }
    await homes.add_rule("anna", "sell", rule)
    await homes.look()
    assert await promised(homes) == (SPARE, 0)
    homes.hass.states.async_set("sensor.price", "0.3")
    homes.node.world.now += 300
    with patch.object(Home, "offer") as offered:
        await homes.look()
        await homes.look()
    offered.assert_not_called()
    assert await promised(homes) == (0, 0)
    await homes.look()
    assert await promised(homes) == (SPARE, 0)
