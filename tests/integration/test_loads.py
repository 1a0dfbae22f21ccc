"""Loads that a buying rule switches on for what it bought, and off whatever happens."""

from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch

import pytest
from homeassistant.core import HomeAssistant, ServiceCall

from custom_components.energy_ledger.const import DOMAIN
from custom_components.energy_ledger.trading.gate_model import SaleView, TradeState
from custom_components.energy_ledger.trading.loads import Loads, wanted_loads
from ledger_core.client.bodies import OfferTerms
from tests.node.api_world import ApiWorld

from .conftest import EntryMaker, wait_until
from .trades import HOME, OTHER, make_trade
from .trading_world import Street, battery_device, meter_device, set_battery, set_meter, street, world

__all__ = ["world"]

SLOT = 900
BOILER = "input_boolean.bert_boiler"
CHARGER = "input_number.bert_charger"
SCRIPT = "script.bert_pump"


def bought(name: str, state: TradeState, **changes: Any) -> SaleView:
    return SaleView(make_trade(name, seller=OTHER, buyer=HOME, **changes), state, None, 0, 3)


def test_loads_add_up_by_rule() -> None:
    sales = [
        bought("a", TradeState.DELIVERING),
        bought("b", TradeState.DELIVERED, watts=500, end=2700),
        bought("c", TradeState.UNCONFIRMED),
        bought("d", TradeState.DELIVERING),
        bought("f", TradeState.DELIVERED, start=0, end=900),
        SaleView(make_trade("e"), TradeState.DELIVERING, None, 0, 3),
    ]
    rules = {sale.trade.trade: "car" for sale in sales if sale.trade.trade[:2] != b"d".hex()}
    wanted = wanted_loads(sales, HOME.key, {"car": (BOILER, CHARGER), "other": (SCRIPT,)}, rules, 1000)
    assert wanted == {BOILER: (2500, 2700), CHARGER: (2500, 2700)}


@pytest.fixture
async def calls(hass: HomeAssistant) -> list[tuple[str, str, Any]]:
    """What was asked of the loads."""
    heard: list[tuple[str, str, Any]] = []

    async def switched(call: ServiceCall) -> None:
        heard.append((call.service, BOILER, None))
        hass.states.async_set(BOILER, "on" if call.service == "turn_on" else "off")

    async def called(call: ServiceCall) -> None:
        given = call.data["variables"]
        heard.append(("script", SCRIPT, (given["command"], given["power_w"])))

    for service in ("turn_on", "turn_off"):
        hass.services.async_register("input_boolean", service, switched)
    hass.services.async_register("script", "turn_on", called)
    return heard


@pytest.fixture
async def homes(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, calls: list[Any]
) -> AsyncIterator[Street]:
    """Bert's rule has bought 500 Wh of Anna for the window that has just begun."""
    async with street(hass, node, make_entry) as found:
        hass.states.async_set(BOILER, "off")
        hass.states.async_set(SCRIPT, "off")
        hass.states.async_set(CHARGER, "100", {"unit_of_measurement": "W"})
        set_meter(hass, "anna", import_wh=1000, export_wh=2000, surplus_w=0)
        set_battery(hass, "anna", soc=80)
        set_meter(hass, "bert", import_wh=5000, export_wh=0, surplus_w=-2000)
        await found.add("anna", meter_device("anna"), battery_device("anna"))
        await found.add("bert", meter_device("bert"))
        await found.register()
        rule = {
            "price_section": {"source": "fixed", "price": 0.25},
            "amount_section": {"min_kwh": 0.1, "only_need": False},
            "loads": [BOILER, CHARGER, SCRIPT],
        }
        await found.add_rule("bert", "buy", rule)
        await found.seen()
        await found.turn_on("bert")
        anna = found.entries["anna"].runtime_data
        battery = anna.devices[found.subentry("anna", "anna battery")].asset_id
        start = found.now // SLOT * SLOT + SLOT
        await anna.home.offer(
            OfferTerms(quantity=500, start=start, end=start + SLOT, price=200_000, asset=battery)
        )
        await found.mine()
        await found.look()
        await found.mine()
        assert found.entries["bert"].runtime_data.ledger.data.trades
        assert calls == []
        await found.until_time(start)
        yield found


async def look(homes: Street) -> None:
    await homes.look()
    await homes.trading("bert").loads.async_look()
    await homes.hass.async_block_till_done()


ON = [("turn_on", BOILER, None), ("script", SCRIPT, ("charge", 2000))]
OFF = [("turn_off", BOILER, None), ("script", SCRIPT, ("release", 0))]


async def test_on_in_the_window_and_off_after_it(homes: Street, calls: list[Any]) -> None:
    await look(homes)
    await look(homes)
    assert calls == ON
    assert homes.commands[-1] == (CHARGER, 2000.0)
    (trade,) = homes.entries["bert"].runtime_data.ledger.data.trades
    await homes.until_time(trade.end)
    await look(homes)
    assert calls == ON + OFF
    assert homes.commands[-1] == (CHARGER, 100.0), "what it held before"


async def test_off_when_buying_is_switched_off(homes: Street, calls: list[Any]) -> None:
    await look(homes)
    settings = homes.entries["bert"].runtime_data.settings
    assert settings is not None
    await settings.async_change(automatic_buying=False)
    await look(homes)
    assert calls == ON + OFF


async def test_off_on_unload_and_on_again_after_a_restart(homes: Street, calls: list[Any]) -> None:
    await look(homes)
    entry = homes.entries["bert"]
    assert await homes.hass.config_entries.async_unload(entry.entry_id)
    assert calls == ON + OFF
    assert await homes.hass.config_entries.async_setup(entry.entry_id)
    await homes.hass.async_block_till_done()
    homes.follow_clock(entry)
    await look(homes)
    assert calls == ON + OFF + ON


async def test_what_a_crash_left_on_is_switched_off(
    homes: Street, calls: list[Any], hass_storage: dict[str, Any]
) -> None:
    await look(homes)
    kept = hass_storage[f"{DOMAIN}.loads.{homes.entries['bert'].entry_id}"]["data"]
    assert set(kept["notes"]) == {BOILER, CHARGER, SCRIPT}
    calls.clear()
    trading = homes.trading("bert")
    notes = {**kept["notes"], "switch.odd": {"version": 0}}
    entry = homes.entries["bert"]
    later = Loads(homes.hass, entry, trading.gate, trading._desk.notebook, lambda: float(homes.now))
    with patch.object(later._store, "async_load", return_value={"notes": notes}):
        await later.async_start()
    assert calls == OFF
    assert later._notes == {}
    await later.async_stop()


async def test_a_load_that_is_away_is_tried_again(homes: Street, calls: list[Any]) -> None:
    settings = homes.entries["bert"].runtime_data.settings
    assert settings is not None
    await settings.async_change(automatic_buying=False)
    await look(homes)
    calls.clear()
    homes.hass.states.async_set(BOILER, "unavailable")
    await settings.async_change(automatic_buying=True)
    await look(homes)
    assert calls == ON[1:]
    homes.hass.states.async_set(BOILER, "off")
    await look(homes)
    assert calls == ON[1:], "not at once"
    homes.node.world.now += 31
    await look(homes)
    assert calls[-1] == ON[0]


async def test_a_failure_inside_does_not_end_the_watch(homes: Street, calls: list[Any]) -> None:
    loads = homes.trading("bert").loads
    with patch.object(Loads, "async_look", side_effect=ValueError("a fault")) as failing:
        loads.kick()
        await wait_until(lambda: failing.called)
    await look(homes)
    assert calls == ON
