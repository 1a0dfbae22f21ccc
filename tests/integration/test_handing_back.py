"""What can't be delivered is handed back early, where that is the cheaper way; and both sides hear of it."""

import time
from collections.abc import AsyncIterator
from unittest.mock import patch

import pytest
from homeassistant.core import HomeAssistant

from custom_components.energy_ledger.events import Happening
from custom_components.energy_ledger.flows.creating import community_schema, read_parameters
from custom_components.energy_ledger.trading.gate_model import Block, DeviceNow, SaleView, TradeState
from custom_components.energy_ledger.trading.handing_back import costs, lasting_reason, new_end
from ledger_core.client import RefusedError, TimedOutError
from ledger_core.client.bodies import OfferTerms
from ledger_core.client.home import Home
from ledger_core.community import Parameters, parse_parameters
from tests.core.world import TEST_PARAMETERS, World
from tests.node.api_world import ApiWorld

from .conftest import EntryMaker
from .trades import make_trade
from .trading_world import Street, battery_device, meter_device, set_battery, set_meter, street

NUMBER = "input_number.anna_discharge"
SLOT = 900
BATTERY = DeviceNow(commandable=True, reachable=True, max_w=5000, level_permille=600, reserve_permille=200)
EMPTY = DeviceNow(commandable=True, reachable=True, max_w=5000, level_permille=200, reserve_permille=200)
LOST = DeviceNow(commandable=True, reachable=False, max_w=5000)
SUN = DeviceNow(commandable=False, reachable=False, max_w=5000)


def sale(state: TradeState, block: Block | None = None) -> SaleView:
    return SaleView(make_trade(), state, block, 0, 3)


@pytest.mark.parametrize(
    ("given", "device", "kind", "reason"),
    [
        (sale(TradeState.WAITING), BATTERY, "battery", None),
        (sale(TradeState.WAITING), EMPTY, "battery", Block.RESERVE),
        (sale(TradeState.WAITING), LOST, "battery", Block.DEVICE_LOST),
        (sale(TradeState.WAITING), None, "battery", Block.NO_DEVICE),
        (sale(TradeState.WAITING), SUN, "pv", None),
        (sale(TradeState.BLOCKED, Block.NO_DEVICE), None, "pv", None),
        (sale(TradeState.DELIVERING), EMPTY, "battery", None),
        (sale(TradeState.BLOCKED, Block.REFUSED), BATTERY, "battery", Block.REFUSED),
        (sale(TradeState.BLOCKED, Block.METER_AWAY), BATTERY, "battery", Block.METER_AWAY),
        (sale(TradeState.BLOCKED, Block.METER_AWAY), SUN, "pv", Block.METER_AWAY),
        (sale(TradeState.BLOCKED, Block.NODE_AWAY), LOST, "battery", None),
        (sale(TradeState.BLOCKED, Block.DRY_RUN), LOST, "battery", None),
    ],
)
def test_what_counts_as_failing(
    given: SaleView, device: DeviceNow | None, kind: str, reason: Block | None
) -> None:
    assert lasting_reason(given, device, kind) is reason


def test_the_end_is_one_that_a_block_can_still_take() -> None:
    long = make_trade(start=900, end=3600)
    assert new_end(long, 1000, SLOT) == 1800
    assert new_end(long, 1750, SLOT) == 2700, "too near: the next one"
    assert new_end(long, 100, SLOT) == 900, "before its window: nothing of it is delivered"
    assert new_end(long, 2750, SLOT) is None


def test_the_cheaper_way_is_taken() -> None:
    trade = make_trade(start=0, end=1800, quantity=1000, price=200_000, shortfall_price=100_000)
    priced = costs(trade, 900, SLOT, 1000, 0)
    assert (priced.energy_wh, priced.ending, priced.shortfall) == (500, 100_000, 50_000)
    assert not priced.worth_ending
    assert costs(trade, 900, SLOT, 500, 0).worth_ending, "both cost the same: the other side hears of it"
    assert costs(trade, 900, SLOT, 1000, 100_000).worth_ending


# --- on a device ----------------------------------------------------------------------------------------


def founded_by_default() -> Parameters:
    """What the form for a new community makes if nothing in it is changed; mined faster."""
    names = {"community_name": "Elm Street", "currency": "EUR", "home_name": "Number 1"}
    filled = community_schema()({**names, "advanced": {}})
    return parse_parameters({**read_parameters(filled["advanced"], "EUR"), "min_difficulty_bits": 1})


@pytest.fixture
def world(request: pytest.FixtureRequest) -> World:
    """Founded at the next slot boundary, so that windows do not depend on the time of day."""
    created = -(-int(time.time()) // SLOT) * SLOT
    return World(parameters=getattr(request, "param", TEST_PARAMETERS), created=created)


@pytest.fixture
async def homes(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> AsyncIterator[Street]:
    """Anna with a battery has sold 1500 Wh over three slots to Bert, with a shortfall price as the price."""
    async with street(hass, node, make_entry) as found:
        hass.states.async_set(NUMBER, "0", {"unit_of_measurement": "W"})
        set_meter(hass, "anna", import_wh=1000, export_wh=2000, surplus_w=0)
        set_battery(hass, "anna", soc=80)
        set_meter(hass, "bert", import_wh=5000, export_wh=0, surplus_w=-2000)
        await found.add("anna", meter_device("anna"), battery_device("anna"))
        await found.add("bert", meter_device("bert"))
        await found.register()
        yield found


async def sold(homes: Street, shortfall_price: int = 0) -> tuple[str, int]:
    """Return a trade of the three slots from the next boundary on, and its start."""
    anna, bert = (homes.entries[name].runtime_data for name in ("anna", "bert"))
    battery = anna.devices[homes.subentry("anna", "anna battery")].asset_id
    start = homes.now // SLOT * SLOT + SLOT
    terms = OfferTerms(
        quantity=1500,
        start=start,
        end=start + 3 * SLOT,
        price=200_000,
        shortfall_price=shortfall_price,
        asset=battery,
    )
    offer = await anna.home.offer(terms)
    await homes.mine()
    trade = await bert.home.accept(offer)
    await homes.mine()
    return trade, start


async def wait_and_look(homes: Street, seconds: int = 61) -> None:
    await homes.look()
    homes.node.world.now += seconds
    await homes.look()


async def test_an_empty_battery_ends_the_rest_and_both_hear_why(homes: Street) -> None:
    await homes.turn_on("anna")
    trade, start = await sold(homes, 200_000)
    await homes.until_time(start)
    await homes.look()
    assert homes.commands == [(NUMBER, 2000.0)]
    set_battery(homes.hass, "anna", soc=20, discharge_w=2000)
    await homes.hass.async_block_till_done()
    await homes.look()
    assert homes.trading("anna").end_reason(trade) is None, "a moment ends nothing"
    await wait_and_look(homes)
    assert homes.trading("anna").end_reason(trade) == "reserve"
    await wait_and_look(homes, 1)
    await homes.mine()
    (left,) = homes.entries["bert"].runtime_data.ledger.data.trades
    assert (left.end, left.agreed_end) == (start + SLOT, start + 3 * SLOT)
    for name, own, reason in (("anna", True, "reserve"), ("bert", False, "partner")):
        (told,) = [each for each in homes.heard[name] if each.kind is Happening.TRADE_TERMINATED]
        assert (told.data["own"], told.data["reason"]) == (own, reason)
        assert told.data["compensation"] == pytest.approx(0.2)
    (short,) = [each for each in homes.heard["anna"] if each.kind is Happening.SHORTFALL]
    assert short.data["reason"] == "reserve"


async def test_a_lost_device_hands_back_before_the_window(homes: Street) -> None:
    await homes.turn_on("anna")
    trade, start = await sold(homes, 200_000)
    await homes.until_time(start - 600)
    homes.hass.states.async_set("sensor.anna_soc", "unavailable")
    await homes.hass.async_block_till_done()
    with patch.object(Home, "terminate", side_effect=TimedOutError("timeout", "later")):
        await wait_and_look(homes)
    (short,) = [each for each in homes.heard["anna"] if each.kind is Happening.SHORTFALL]
    assert (short.data["reason"], short.data["missing_kwh"]) == ("device_lost", 0.5)
    assert homes.trading("anna").end_reason(trade) is None, "nothing was sent"
    await homes.look()
    assert homes.trading("anna").end_reason(trade) == "device_lost", "at the next look it is tried again"
    await homes.mine()
    assert homes.entries["bert"].runtime_data.ledger.data.trades == ()
    (told,) = [each for each in homes.heard["bert"] if each.kind is Happening.TRADE_TERMINATED]
    assert (told.data["trade"], told.data["reason"]) == (trade, "partner")
    assert homes.commands == []


async def test_what_may_have_been_sent_is_sent_again_as_it_was(homes: Street) -> None:
    """And what the ledger refuses is ended anew."""
    await homes.turn_on("anna")
    trade, start = await sold(homes, 200_000)
    await homes.until_time(start)
    set_battery(homes.hass, "anna", soc=10)
    await homes.hass.async_block_till_done()
    home = homes.entries["anna"].runtime_data.home
    pages = homes.trading("anna")._desk.notebook.pages
    with patch.object(type(home.client), "submit", side_effect=TimedOutError("timeout", "later")):
        await wait_and_look(homes)
    (record,) = home.unsent
    assert pages.handed_back[trade].record == record
    refused = RefusedError("termination_end", "too late", 409)
    with patch.object(type(home.client), "submit", side_effect=refused):
        await homes.look()
    assert (trade in pages.handed_back, list(home.unsent)) == (False, [])
    with patch.object(type(home.client), "submit", side_effect=TimedOutError("timeout", "later")):
        await homes.look()
    (record,) = home.unsent
    await homes.look()
    assert list(home.unsent) == []
    assert pages.handed_back[trade].record == record
    await homes.mine()
    (told,) = [each for each in homes.heard["bert"] if each.kind is Happening.TRADE_TERMINATED]
    assert told.data["trade"] == trade
    homes.trading("anna")._desk.notebook.lose(record)
    assert homes.trading("anna").end_reason(trade) is None, "a lost record ended nothing"


@pytest.mark.parametrize("world", [founded_by_default()], indirect=True)
async def test_with_all_defaults_both_hear_early_of_a_lost_device(homes: Street) -> None:
    await homes.turn_on("anna")
    trade, start = await sold(homes)
    await homes.until_time(start)
    await homes.look()
    homes.hass.states.async_set("sensor.anna_soc", "unavailable")
    await homes.hass.async_block_till_done()
    await wait_and_look(homes)
    await homes.mine()
    assert homes.now < start + SLOT, "within the slot in which it happened"
    for name, reason in (("anna", "device_lost"), ("bert", "partner")):
        (told,) = [each for each in homes.heard[name] if each.kind is Happening.TRADE_TERMINATED]
        assert (told.data["trade"], told.data["reason"]) == (trade, reason)
        assert told.data["compensation"] == pytest.approx(0.02), "a tenth of 1 kWh at 0.20"


async def test_where_ending_is_dearer_the_shortfall_comes_unless_the_user_pays(homes: Street) -> None:
    await homes.turn_on("anna")
    trade, start = await sold(homes, 0)
    await homes.until_time(start)
    set_battery(homes.hass, "anna", soc=10)
    await homes.hass.async_block_till_done()
    await wait_and_look(homes)
    assert homes.trading("anna").end_reason(trade) is None
    settings = homes.entries["anna"].runtime_data.settings
    assert settings is not None
    await settings.async_change(hand_back_price=200_000)
    await homes.look()
    assert homes.trading("anna").end_reason(trade) == "reserve"


async def test_in_dry_run_nothing_is_handed_back(homes: Street) -> None:
    trade, start = await sold(homes, 200_000)
    await homes.until_time(start)
    set_battery(homes.hass, "anna", soc=10)
    await homes.hass.async_block_till_done()
    await wait_and_look(homes)
    assert homes.trading("anna").end_reason(trade) is None


async def test_what_the_user_ends_is_told_so(homes: Street) -> None:
    trade, start = await sold(homes, 0)
    await homes.entries["bert"].runtime_data.home.terminate(trade, start, 300_000)
    await homes.mine()
    (told,) = [each for each in homes.heard["bert"] if each.kind is Happening.TRADE_TERMINATED]
    assert told.data["reason"] == "by_hand"


async def test_the_wanted_confirmations_are_the_users(homes: Street) -> None:
    await homes.turn_on("anna")
    settings = homes.entries["anna"].runtime_data.settings
    assert settings is not None
    await settings.async_change(confirmations=100)
    _, start = await sold(homes, 0)
    await homes.until_time(start)
    await homes.look()
    (found,) = homes.trading("anna").gate.sales
    assert found.state is TradeState.UNCONFIRMED
    await settings.async_change(confirmations=1)
    await homes.look()
    assert homes.commands == [(NUMBER, 2000.0)]
    await settings.async_change(only_final=True)
    await homes.look()
    final = homes.entries["anna"].runtime_data.ledger.data.status.final
    (found,) = homes.trading("anna").gate.sales
    assert (found.state is TradeState.UNCONFIRMED) == (
        homes.trading("anna").gate.core.heights[found.trade.trade] > final
    )
