"""The delivery gate at work on a device: faults during a delivery, and what both sides are told."""

from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers.storage import Store

from custom_components.energy_ledger.devices.commands import Order
from custom_components.energy_ledger.devices.errors import (
    CommandRefused,
    LinkError,
    ReserveReached,
    ValueOutOfRange,
)
from custom_components.energy_ledger.events import Happening, HomeEvent
from custom_components.energy_ledger.trading.gate_core import Gate
from custom_components.energy_ledger.trading.gate_model import Block, TradeState
from ledger_core.client.bodies import OfferTerms
from ledger_core.client.views import TradeView
from tests.node.api_world import ApiWorld

from .conftest import EntryMaker, wait_until
from .trading_world import Street, battery_device, meter_device, set_battery, set_meter, street, world

__all__ = ["world"]

NUMBER = "input_number.anna_discharge"


@pytest.fixture
async def homes(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> AsyncIterator[Street]:
    """Anna with a battery has sold 500 Wh to Bert; the window has just begun."""
    async with street(hass, node, make_entry) as found:
        hass.states.async_set(NUMBER, "0", {"unit_of_measurement": "W"})
        set_meter(hass, "anna", import_wh=1000, export_wh=2000, surplus_w=0)
        set_battery(hass, "anna", soc=80)
        set_meter(hass, "bert", import_wh=5000, export_wh=0, surplus_w=-2000)
        await found.add("anna", meter_device("anna"), battery_device("anna"))
        await found.add("bert", meter_device("bert"))
        await found.register()
        anna, bert = (found.entries[name].runtime_data for name in ("anna", "bert"))
        battery = anna.devices[found.subentry("anna", "anna battery")].asset_id
        start = found.now // 900 * 900 + 900
        terms = OfferTerms(quantity=500, start=start, end=start + 900, price=200_000, asset=battery)
        offer = await anna.home.offer(terms)
        await found.mine()
        await bert.home.accept(offer)
        await found.mine()
        await found.until_time(start)
        yield found


def trade(homes: Street) -> TradeView:
    (found,) = homes.entries["anna"].runtime_data.ledger.data.trades
    return found


def of(heard: list[HomeEvent], *kinds: Happening) -> list[tuple[Happening, object]]:
    return [(each.kind, each.data.get("reason")) for each in heard if each.kind in kinds]


DELIVERY = (Happening.DELIVERY_STARTED, Happening.DELIVERY_ENDED)


async def test_dry_run_switches_nothing_whatever_is_agreed(homes: Street) -> None:
    heard = homes.heard["anna"]
    await homes.look()
    assert homes.commands == []
    (sale,) = homes.trading("anna").gate.sales
    assert (sale.state, sale.block) == (TradeState.BLOCKED, Block.DRY_RUN)
    assert of(heard, Happening.SHORTFALL, *DELIVERY) == [(Happening.SHORTFALL, "dry_run")]


async def test_both_sides_hear_of_it_and_switching_off_stops_it(homes: Street) -> None:
    heard, theirs = homes.heard["anna"], homes.heard["bert"]
    await homes.turn_on("anna")
    await homes.look()
    assert homes.commands == [(NUMBER, 2000.0)]
    assert of(heard, *DELIVERY) == [(Happening.DELIVERY_STARTED, None)]
    assert of(theirs, *DELIVERY) == [(Happening.DELIVERY_STARTED, None)]
    settings = homes.entries["anna"].runtime_data.settings
    assert settings is not None
    await settings.async_change(automatic_selling=False)
    await homes.look()
    assert homes.commands[-1] == (NUMBER, 0.0)
    assert of(heard, *DELIVERY)[-1] == (Happening.DELIVERY_ENDED, "stopped")


async def test_a_restart_releases_and_goes_on(homes: Street) -> None:
    await homes.turn_on("anna")
    await homes.look()
    entry = homes.entries["anna"]
    assert await homes.hass.config_entries.async_unload(entry.entry_id)
    assert homes.commands[-1] == (NUMBER, 0.0)
    assert await homes.hass.config_entries.async_setup(entry.entry_id)
    await homes.hass.async_block_till_done()
    homes.follow_clock(entry)
    await homes.trading("anna").gate.async_look()
    assert homes.commands[-1] == (NUMBER, 2000.0), "the trade is known, so is its confirmation"
    await homes.until_time(trade(homes).end)
    await homes.look()
    assert homes.commands[-1] == (NUMBER, 0.0)


async def reload(homes: Street) -> None:
    entry = homes.entries["anna"]
    assert await homes.hass.config_entries.async_reload(entry.entry_id)
    await homes.hass.async_block_till_done()
    homes.follow_clock(entry)
    await homes.trading("anna").gate.async_look()
    await homes.hass.async_block_till_done()


async def test_a_reload_does_not_deliver_a_slot_again(homes: Street) -> None:
    """Also what left the home while nobody watched counts; and each begin has its end."""
    await homes.turn_on("anna")
    await homes.look()
    homes.node.world.now += 600
    set_meter(homes.hass, "anna", import_wh=1000, export_wh=2450, surplus_w=2000)
    await homes.hass.async_block_till_done()
    await homes.look()
    set_meter(homes.hass, "anna", import_wh=1000, export_wh=2500)
    homes.commands.clear()
    await reload(homes)
    assert [each for each in homes.commands if each[1]] == []
    (sale,) = homes.trading("anna").gate.sales
    assert (sale.state, sale.sent_wh) == (TradeState.DELIVERED, 500)
    await homes.until_time(trade(homes).end)
    await homes.look()
    assert of(homes.heard["anna"], *DELIVERY) == [
        (Happening.DELIVERY_STARTED, None),
        (Happening.DELIVERY_ENDED, "unloaded"),
    ]


async def test_another_meter_counts_from_elsewhere(homes: Street) -> None:
    await homes.turn_on("anna")
    await homes.look()
    await homes.trading("anna").gate.async_stop()
    kept = homes.trading("anna").gate._kept()
    assert kept["registers"] == [2000, 1000]
    with patch.object(Gate, "restore") as restored, patch.object(Store, "async_load", return_value=kept):
        await homes.trading("anna").gate.async_start()
        assert restored.call_args.args[0]["registers"] == [2000, 1000]
        await homes.trading("anna").gate.async_stop()
        kept["meter"] = "another"
        await homes.trading("anna").gate.async_start()
        assert "registers" not in restored.call_args.args[0]


async def test_the_reserve_and_a_lost_device_end_it(homes: Street) -> None:
    heard = homes.heard["anna"]
    await homes.turn_on("anna")
    await homes.look()
    set_battery(homes.hass, "anna", soc=20, discharge_w=2000)
    await homes.hass.async_block_till_done()
    await homes.look()
    assert homes.commands[-1] == (NUMBER, 0.0)
    (sale,) = homes.trading("anna").gate.sales
    assert sale.state is TradeState.BLOCKED
    assert (Happening.SHORTFALL, "dry_run") in of(heard, Happening.SHORTFALL)
    assert of(heard, *DELIVERY)[-1][0] is Happening.DELIVERY_ENDED
    set_battery(homes.hass, "anna", soc=60)
    homes.node.world.now += 31
    await homes.look()
    assert homes.commands[-1][1] == pytest.approx(2070, abs=30), "what is missing is made up for"
    homes.hass.states.async_set(NUMBER, "unavailable")
    homes.hass.states.async_set("sensor.anna_soc", "unavailable")
    await homes.hass.async_block_till_done()
    await homes.look()
    (sale,) = homes.trading("anna").gate.sales
    assert (sale.state, sale.block) == (TradeState.BLOCKED, Block.DEVICE_LOST)


async def test_a_terminated_trade_ends_at_its_new_end(homes: Street) -> None:
    """Ended before its window: nothing is ever delivered."""
    anna, bert = (homes.entries[name].runtime_data for name in ("anna", "bert"))
    battery = anna.devices[homes.subentry("anna", "anna battery")].asset_id
    start = trade(homes).end
    terms = OfferTerms(quantity=500, start=start, end=start + 900, price=200_000, asset=battery)
    offer = await anna.home.offer(terms)
    await homes.mine()
    later = await bert.home.accept(offer)
    await homes.mine()
    await bert.home.terminate(later, start, compensation=100_000)
    await homes.mine()
    await homes.turn_on("anna")
    await homes.until_time(start)
    await homes.look()
    assert homes.commands == [] or homes.commands[-1] == (NUMBER, 0.0)
    assert all(sale.trade.trade != later for sale in homes.trading("anna").gate.sales)


async def test_a_node_that_is_away_is_not_relied_on_for_long(homes: Street) -> None:
    await homes.turn_on("anna")
    await homes.look()
    await homes.node.server.close()
    anna = homes.entries["anna"].runtime_data
    await anna.ledger.async_refresh()
    await homes.trading("anna").gate.async_look()
    assert homes.commands[-1] == (NUMBER, 2000.0), "a moment without the node ends nothing"
    homes.node.world.now += 901
    await homes.trading("anna").gate.async_look()
    assert homes.commands[-1] == (NUMBER, 0.0)


async def test_a_meter_that_is_away_ends_it_until_it_is_back(homes: Street) -> None:
    await homes.turn_on("anna")
    await homes.look()
    homes.hass.states.async_set("sensor.anna_export", "unavailable")
    await homes.hass.async_block_till_done()
    await homes.trading("anna").gate.async_look()
    homes.node.world.now += 30
    await homes.trading("anna").gate.async_look()
    assert homes.commands[-1][1] > 0, "a moment without it ends nothing"
    homes.node.world.now += 30
    await homes.trading("anna").gate.async_look()
    await homes.hass.async_block_till_done()
    assert homes.commands[-1] == (NUMBER, 0.0)
    heard = homes.heard["anna"]
    assert of(heard, *DELIVERY)[-1] == (Happening.DELIVERY_ENDED, "meter_away")
    set_meter(homes.hass, "anna", import_wh=1000, export_wh=2030)
    await homes.hass.async_block_till_done()
    await homes.trading("anna").gate.async_look()
    await homes.hass.async_block_till_done()
    assert homes.commands[-1][1] > 0
    assert of(heard, *DELIVERY)[-1] == (Happening.DELIVERY_STARTED, None)


async def test_what_the_meter_tells_must_be_plausible(homes: Street) -> None:
    """What jumped is no reading: nothing of it would be paid."""
    await homes.turn_on("anna")
    await homes.look()
    homes.node.world.now += 5
    set_meter(homes.hass, "anna", import_wh=99_000, export_wh=2000)
    await homes.hass.async_block_till_done()
    assert homes.trading("anna").metering.pause is not None
    await homes.trading("anna").gate.async_look()
    homes.node.world.now += 60
    await homes.trading("anna").gate.async_look()
    assert homes.commands[-1] == (NUMBER, 0.0)
    (sale,) = homes.trading("anna").gate.sales
    assert (sale.state, sale.block) == (TradeState.BLOCKED, Block.METER_AWAY)
    assert await homes.trading("anna").metering.async_accept()
    await homes.trading("anna").gate.async_look()
    assert homes.commands[-1][1] > 0


async def test_a_device_that_refuses_or_ends_by_itself_is_asked_again(homes: Street) -> None:
    await homes.turn_on("anna")
    commander = next(
        each.commander
        for each in homes.entries["anna"].runtime_data.devices.values()
        if each.commander is not None
    )
    for error, block in (
        (CommandRefused("no"), Block.REFUSED),
        (LinkError("away"), Block.DEVICE_LOST),
        (ReserveReached("empty"), Block.RESERVE),
    ):
        with patch.object(type(commander), "start", side_effect=error):
            await homes.look()
        (sale,) = homes.trading("anna").gate.sales
        assert (sale.state, sale.block) == (TradeState.BLOCKED, block)
        homes.node.world.now += 31
    set_battery(homes.hass, "anna", soc=60)
    await homes.hass.async_block_till_done()
    await homes.look()
    assert homes.commands[-1][1] > 0
    await commander.release("by its own watch")
    await homes.trading("anna").gate.async_look()
    (sale,) = homes.trading("anna").gate.sales
    assert (sale.state, sale.block) == (TradeState.BLOCKED, Block.REFUSED)


async def test_a_device_that_allows_less_gives_what_it_may(homes: Street) -> None:
    """An inverter in the heat allows less than it is rated for."""
    await homes.turn_on("anna")
    commander = next(
        each.commander
        for each in homes.entries["anna"].runtime_data.devices.values()
        if each.commander is not None
    )
    start = type(commander).start

    async def hot(self: Any, order: Order) -> None:
        if order.power_w > 1_500:
            raise ValueOutOfRange("power to discharge", order.power_w, 0, 1_500, "W")
        await start(self, order)

    with patch.object(type(commander), "start", hot):
        await homes.look()
    assert homes.commands[-1] == (NUMBER, 1_500.0)
    (sale,) = homes.trading("anna").gate.sales
    assert sale.state is TradeState.DELIVERING


async def test_a_failure_inside_does_not_end_the_watch(homes: Street) -> None:
    gate = homes.trading("anna").gate
    with (
        patch("custom_components.energy_ledger.trading.gate.FAILED_S", 0.05),
        patch.object(Gate, "evaluate", side_effect=ValueError("a fault")) as failing,
    ):
        gate.kick()
        await wait_until(lambda: failing.call_count >= 2)
    await homes.turn_on("anna")
    await homes.look()
    assert homes.commands == [(NUMBER, 2000.0)]
