"""What a selling rule does when the node refuses or does not answer, and with counters it leaves alone."""

from collections.abc import AsyncIterator
from unittest.mock import patch

import pytest
from homeassistant.core import HomeAssistant

from custom_components.energy_ledger.trading.rule_state import Decided
from ledger_core.client import RefusedError, TimedOutError
from ledger_core.client.bodies import OfferTerms
from ledger_core.client.home import Home
from ledger_core.market.reasons import Reason
from tests.node.api_world import ApiWorld

from .conftest import EntryMaker
from .trading_world import Street, battery_device, meter_device, set_battery, set_meter, street, world

__all__ = ["world"]

AMOUNT = {"min_kwh": 0.1, "max_kwh": 0.5, "horizon_slots": 1, "keep_for_home": False}
REFUSED = RefusedError("energy_unavailable", "nothing is left", 409)


@pytest.fixture
async def homes(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> AsyncIterator[Street]:
    """Anna sells from a battery by a rule; Bert acts by hand."""
    async with street(hass, node, make_entry) as found:
        hass.states.async_set("input_number.anna_discharge", "0", {"unit_of_measurement": "W"})
        set_meter(hass, "anna", import_wh=1000, export_wh=2000, surplus_w=-300)
        set_battery(hass, "anna", soc=80)
        set_meter(hass, "bert", import_wh=5000, export_wh=0, surplus_w=-2000)
        await found.add("anna", meter_device("anna"), battery_device("anna"))
        await found.add("bert", meter_device("bert"))
        await found.register()
        rule = {
            "device": found.subentry("anna", "anna battery"),
            "price_section": {"source": "fixed", "price": 0.2, "floor": 0.15},
            "amount_section": AMOUNT,
        }
        await found.add_rule("anna", "sell", rule)
        await found.seen()
        yield found


def last(homes: Street) -> Decided:
    (state,) = homes.trading("anna").rules.values()
    found = state.last()
    assert found is not None
    return found


async def test_an_offer_that_is_refused_is_made_later(homes: Street) -> None:
    with patch.object(Home, "offer", side_effect=REFUSED):
        await homes.turn_on("anna")
        await homes.look()
        assert last(homes).refused == "energy_unavailable"
    unsure = TimedOutError("timeout", "later")
    unsure.details = {"record": "ab" * 32}
    with patch.object(Home, "offer", side_effect=unsure):
        await homes.look()
    assert (last(homes).refused, last(homes).record) == ("timeout", "ab" * 32)


async def test_a_request_that_is_refused_is_not_answered_again(homes: Street) -> None:
    start = homes.now // 900 * 900 + 900
    bert = homes.entries["bert"].runtime_data.home
    await bert.request(OfferTerms(quantity=300, start=start, end=start + 900, price=300_000))
    await homes.mine()
    with patch.object(Home, "accept", side_effect=REFUSED) as asked:
        await homes.turn_on("anna")
        await homes.look()
        await homes.look()
    assert asked.await_count == 1
    assert "energy_unavailable" in [decided.refused for decided in homes.trading("anna").decisions]


async def test_an_answer_to_a_counter_is_tried_again_or_left_to_the_user(homes: Street) -> None:
    await homes.turn_on("anna")
    await homes.look()
    await homes.mine()
    await homes.seen()
    (offer,) = homes.entries["bert"].runtime_data.ledger.data.offers
    bert = homes.entries["bert"].runtime_data.home
    cheaper = await bert.counter(offer, price=100_000)
    other = await bert.counter(offer, end=offer.end + 900)
    await homes.mine()
    await homes.seen()
    with patch.object(Home, "reject", side_effect=REFUSED) as rejected:
        await homes.look()
        await homes.look()
    assert {call.args[0] for call in rejected.await_args_list} == {cheaper}
    assert rejected.await_count > 1
    told = {decided.subject: decided for decided in homes.trading("anna").decisions}
    assert told[cheaper].refused == "energy_unavailable"
    assert told[other].decision.reason is Reason.ANSWER_LATER
