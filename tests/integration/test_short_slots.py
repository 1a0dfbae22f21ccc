"""Rules keep pace with their community: what they offer can be taken in time, and no slot is left out."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from msgspec.structs import replace

from tests.core.world import TEST_PARAMETERS, World
from tests.node.api_world import ApiWorld

from .conftest import EntryMaker
from .trading_world import Street, battery_device, meter_device, set_battery, set_meter, street

SLOT = 60
AMOUNT = {"min_kwh": 0.05, "horizon_slots": 1, "keep_for_home": False}
PRICE = {"source": "fixed", "price": 0.20, "ceiling": 0.30}


@pytest.fixture
def world(request: pytest.FixtureRequest) -> World:
    """A community with slots of a minute; the parameter is the time between its blocks."""
    parameters = replace(TEST_PARAMETERS, slot_s=SLOT, block_spacing_s=request.param)
    return World(parameters=parameters, created=-(-int(time.time()) // SLOT) * SLOT)


@pytest.fixture
async def homes(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> AsyncIterator[Street]:
    """Anna with a battery, Bert with a load."""
    async with street(hass, node, make_entry) as found:
        hass.states.async_set("input_number.anna_discharge", "0", {"unit_of_measurement": "W"})
        set_meter(hass, "anna", import_wh=1000, export_wh=2000, surplus_w=-300)
        set_battery(hass, "anna", soc=80)
        set_meter(hass, "bert", import_wh=5000, export_wh=0, surplus_w=-2000)
        await found.add("anna", meter_device("anna"), battery_device("anna"))
        await found.add("bert", meter_device("bert"))
        await found.register()
        await found.turn_on("anna", "bert")
        yield found


async def block(homes: Street) -> None:
    """Mine a block one second later; the world's own come half a minute later."""
    homes.node.world.now -= 29
    await homes.mine()


async def offered(homes: Street, **partners: Any) -> Any:
    """Give Anna a selling rule; return its offer, made five seconds after a slot began, and that time."""
    homes.node.world.now = now = (homes.now // SLOT + 1) * SLOT + 5
    battery = homes.subentry("anna", "anna battery")
    data = {"device": battery, "price_section": PRICE, "amount_section": AMOUNT, "partners_section": partners}
    await homes.add_rule("anna", "sell", data)
    await homes.look()
    await block(homes)
    offers = [each for each in homes.entries["bert"].runtime_data.ledger.data.offers if each.start > now]
    return min(offers, key=lambda each: each.start), now


@pytest.mark.parametrize(
    ("world", "lead_s"), [(1, 20), (30, 120), (60, 240)], indirect=["world"], ids=["1 s", "30 s", "60 s"]
)
async def test_the_first_window_is_the_first_that_can_still_be_taken(homes: Street, lead_s: int) -> None:
    """An offer and an answer to it need four blocks; with fast ones the very next slot is offered."""
    offer, now = await offered(homes)
    assert offer.start - now >= lead_s
    assert offer.start - now < lead_s + SLOT


@pytest.mark.parametrize(("world", "answer_s"), [(1, 10), (30, 60)], indirect=["world"])
async def test_an_auction_closes_two_blocks_before_its_window(homes: Street, answer_s: int) -> None:
    offer, _ = await offered(homes, auction=True)
    assert offer.start - offer.auction.closes == answer_s


@pytest.mark.parametrize("world", [1], indirect=True)
async def test_a_neighbour_buys_the_very_next_slot(homes: Street) -> None:
    price, amount = {"source": "fixed", "price": 0.30}, {"only_need": False}
    await homes.add_rule("bert", "buy", {"price_section": price, "amount_section": amount})
    offer, now = await offered(homes)
    await homes.look()
    await block(homes)
    (trade,) = [
        each for each in homes.entries["anna"].runtime_data.ledger.data.trades if each.start == offer.start
    ]
    assert trade.start - now < SLOT
