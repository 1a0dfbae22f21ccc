"""What each kind of device can sell, forecasts behind it, and statements of what was settled."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, ClassVar
from unittest.mock import patch

import pytest
from homeassistant.core import HomeAssistant
from msgspec.structs import replace

from custom_components.energy_ledger.trading.prices_now import entity_price
from custom_components.energy_ledger.trading.rule_config import RuleProblem
from custom_components.energy_ledger.trading.rule_state import RuleStatus
from custom_components.energy_ledger.trading.statement_core import Account
from custom_components.energy_ledger.trading.statements import Statements
from custom_components.energy_ledger.trading.supply import _own_permille
from ledger_core.client.views import EventView
from ledger_core.keys import address
from tests.node.api_world import ApiWorld

from .conftest import EntryMaker
from .trading_world import (
    Street,
    battery_device,
    fuel_cell_device,
    meter_device,
    set_battery,
    set_meter,
    set_power,
    street,
    sun_device,
    world,
)

__all__ = ["world"]


@pytest.fixture
async def homes(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> AsyncIterator[Street]:
    """Anna with sun, a full battery and a fuel cell."""
    async with street(hass, node, make_entry) as found:
        hass.states.async_set("input_number.anna_discharge", "0", {"unit_of_measurement": "W"})
        set_meter(hass, "anna", import_wh=1000, export_wh=2000, surplus_w=2500)
        set_battery(hass, "anna", soc=100)
        set_power(hass, "sensor.anna_pv", 3000)
        set_power(hass, "sensor.anna_cell", 0)
        energy = {"unit_of_measurement": "Wh", "device_class": "energy_storage"}
        hass.states.async_set("sensor.anna_tank", "15000", energy)
        await found.add(
            "anna",
            meter_device("anna"),
            sun_device("anna"),
            battery_device("anna"),
            fuel_cell_device("anna"),
        )
        await found.register()
        yield found


async def sell(homes: Street, device: str, **amount: Any) -> str:
    data = {
        "device": homes.subentry("anna", f"anna {device}"),
        "price_section": {"source": "fixed", "price": 0.2},
        "amount_section": {"horizon_slots": 1, **amount},
    }
    return await homes.add_rule("anna", "sell", data, f"sell {device}")


async def test_sun_battery_and_fuel_cell_sell_what_they_have(homes: Street) -> None:
    await sell(homes, "pv")
    await sell(homes, "battery")
    capacity = await sell(homes, "fuel_cell", basis="capacity", max_kw=1.5)
    await homes.turn_on("anna")
    await homes.look()
    await homes.mine()
    view = homes.entries["anna"].runtime_data.ledger.data
    kinds = {asset.asset: asset.kind for asset in view.assets}
    offered = {kinds[str(offer.asset)]: (offer.basis, offer.quantity) for offer in view.offers}
    assert offered == {
        "pv": ("energy", 625),  # 2500 W beyond the home's 500 W, the battery being full
        "battery": ("energy", 1250),  # 5 kW for a slot, of 8 kWh above the reserve
        "fuel_cell": ("capacity", 1500),
    }
    figures = homes.trading("anna").rules[capacity].figures
    assert figures is not None
    assert figures.offered_wh == 375
    surplus = homes.hass.states.get("sensor.test_street_surplus")
    assert surplus is not None
    assert surplus.attributes["generation_w"] == 3000
    assert surplus.attributes["consumption_w"] == 500
    assert surplus.attributes["reserve_kwh"] == 2
    assert surplus.attributes["slots"][1]["generation_kwh"] == 0.75
    # 2500 W of sun; 5 kW of the battery; 2 kW of the fuel cell.
    assert surplus.state == str((2500 + 5000 + 2000) / 4000)
    assert surplus.attributes["tanks"] == {
        "stored_kwh": 15,
        "reserve_kwh": 4,
        "bought_from_grid_kwh": 0,
        "kept_for_home_kwh": 0,
        "sold_from_store_kwh": 0,
        "free_in_store_kwh": 11,
    }


async def test_a_rule_says_why_this_much_at_this_price(homes: Street) -> None:
    data = {
        "device": homes.subentry("anna", "anna battery"),
        "price_section": {"source": "fixed", "price": 0.2, "scarcity": 50, "ceiling": 0.22},
        "amount_section": {"horizon_slots": 1, "keep_for_home": False},
    }
    await homes.add_rule("anna", "sell", data)
    set_battery(homes.hass, "anna", soc=60)
    await homes.look()
    # All that came in since is the grid's.
    homes.node.world.now += 800
    set_meter(homes.hass, "anna", import_wh=2500, export_wh=2000, surplus_w=2500)
    set_battery(homes.hass, "anna", soc=75)
    await homes.look()
    shown = homes.hass.states.get("sensor.anna_sell_rule_state")
    assert shown is not None
    told = shown.attributes
    assert {name: told[name] for name in told if name.endswith("_kwh")} == {
        "spare_kwh": 1.25,
        "offered_kwh": 1.25,
        "stored_kwh": 7.5,
        "reserve_kwh": 2,
        "bought_from_grid_kwh": 1.5,
        "kept_for_home_kwh": 0,
        "sold_from_store_kwh": 0,
        "free_in_store_kwh": 4,
    }
    assert (told["base_price"], told["added_by_scarcity"], told["added_by_demand"]) == (0.2, 0.03125, 0)
    assert (told["added_by_distance"], told["price"], told["limited_by"]) == (0, 0.22, "ceiling")
    offered = told["decisions"][-1]
    assert offered["figures"] == {"spare_wh": 1250}
    surplus = homes.hass.states.get("sensor.test_street_surplus")
    assert surplus is not None
    assert surplus.attributes["bought_from_grid_kwh"] == 1.5


async def test_a_store_gets_dearer_from_full_to_its_reserve(homes: Street) -> None:
    data = {
        "device": homes.subentry("anna", "anna battery"),
        "price_section": {"source": "fixed", "price": 0.2, "scarcity": 50},
        "amount_section": {"horizon_slots": 1, "keep_for_home": False},
    }
    rule = await homes.add_rule("anna", "sell", data)
    for soc, price in ((100, 200_000), (60, 250_000), (30, 287_500)):
        set_battery(homes.hass, "anna", soc=soc)
        await homes.look()
        assert homes.trading("anna").rules[rule].price == price


async def test_the_battery_is_charged_before_the_sun_is_sold(homes: Street) -> None:
    set_battery(homes.hass, "anna", soc=50)
    rule = await sell(homes, "pv")
    await homes.look()
    state = homes.trading("anna").rules[rule]
    assert state.status is RuleStatus.DRY_RUN
    decided = state.last()
    assert decided is not None
    assert decided.decision.figures["spare_wh"] == 0


async def test_what_came_from_the_grid_is_not_sold(homes: Street) -> None:
    set_battery(homes.hass, "anna", soc=50)
    await homes.look()
    # Over night 3 kWh come from the grid into the battery, in steps that the home's meter sees.
    for step in range(1, 4):
        homes.node.world.now += 400
        set_meter(homes.hass, "anna", import_wh=1000 + step * 1000, export_wh=2000, surplus_w=-9000)
        set_battery(homes.hass, "anna", soc=50 + step * 10)
        await homes.look()
    assert origin(homes) == (5000, 3000)


def origin(homes: Street) -> tuple[int, int]:
    """What the battery holds: the home's own, and the grid's."""
    (known,) = homes.trading("anna")._desk.notebook.pages.origins.values()
    return known.own_wh, known.grid_wh


async def reload(homes: Street, between: Callable[[], None]) -> None:
    """Have the home's entry unloaded for a while."""
    entry = homes.entries["anna"]
    assert await homes.hass.config_entries.async_unload(entry.entry_id)
    between()
    assert await homes.hass.config_entries.async_setup(entry.entry_id)
    await homes.hass.async_block_till_done()
    homes.follow_clock(entry)
    await homes.look()


async def test_what_came_from_the_grid_over_a_restart_is_the_grids(homes: Street) -> None:
    set_battery(homes.hass, "anna", soc=20)
    await homes.look()

    def night() -> None:
        homes.node.world.now += 6 * 3600
        set_meter(homes.hass, "anna", import_wh=6000, export_wh=2000)
        set_battery(homes.hass, "anna", soc=80)

    await reload(homes, night)
    assert origin(homes) == (3000, 5000), "5 kWh were drawn meanwhile, so 1 kWh is the home's own"
    (known,) = homes.trading("anna")._desk.notebook.pages.origins.values()
    known.imported_wh = 99_000  # by the meter that hung there before
    set_battery(homes.hass, "anna", soc=90)
    await homes.look()
    assert origin(homes) == (3000, 6000), "what was drawn is not known"


async def test_while_the_meter_or_the_store_is_away_nothing_is_decided(homes: Street) -> None:
    set_battery(homes.hass, "anna", soc=20)
    await homes.look()
    homes.hass.states.async_set("sensor.anna_import", "unavailable")
    set_battery(homes.hass, "anna", soc=30)
    await homes.look()
    assert origin(homes) == (2000, 0)
    desk = homes.trading("anna")._desk
    (asset,) = (each for each in desk.entry.runtime_data.ledger.data.assets if each.kind == "battery")
    assert _own_permille(desk, asset, 3000) == 666, "what may be the grid's is not sold as own"
    homes.hass.states.async_set("sensor.anna_soc", "unavailable")
    set_meter(homes.hass, "anna", import_wh=2500, export_wh=2000)
    await homes.look()
    set_battery(homes.hass, "anna", soc=40)
    await homes.look()
    assert origin(homes) == (2500, 1500)


async def test_home_assistants_own_solar_forecast_counts(homes: Street) -> None:
    engine = homes.trading("anna")
    hour = homes.now // 3600 * 3600
    told = {
        "wh_hours": {datetime.fromtimestamp(hour + n * 3600, UTC).isoformat(): 1000 * n for n in range(24)}
    }

    class Manager:
        data: ClassVar[dict[str, Any]] = {
            "energy_sources": [{"type": "solar", "config_entry_solar_forecast": ["one", "gone"]}]
        }

    async def manager(_: HomeAssistant) -> Manager:
        return Manager()

    async def forecast(_hass: HomeAssistant, _entry_id: str) -> dict[str, Any]:
        return told

    async def platforms(_: HomeAssistant) -> dict[str, Any]:
        return {"energy_ledger": forecast}

    hass, module = homes.hass, "custom_components.energy_ledger.trading.forecast."
    hass.config.components.add("energy")
    entry = homes.entries["anna"]
    with (
        patch(f"{module}async_get_manager", manager),
        patch(f"{module}async_get_energy_platforms", platforms),
        patch.object(
            hass.config_entries, "async_get_entry", side_effect=lambda name: entry if name == "one" else None
        ),
    ):
        engine.forecaster._solar_at = 0
        await engine.forecaster.async_look(homes.now)
    assert engine.forecaster.has_solar_forecast
    slots = engine.forecaster.slots(homes.now, 40)
    assert slots is not None
    far = next(slot for slot in slots if slot.start >= hour + 5 * 3600)
    assert far.generation_wh == 5000 // 4


def test_prices_in_other_units(hass: HomeAssistant) -> None:
    for value, unit, price in (
        ("32.5", "ct/kWh", 325_000),
        ("120", "EUR/MWh", 120_000),
        ("0.0003", "EUR/Wh", 300_000),
        ("0.3", None, 300_000),
    ):
        hass.states.async_set("sensor.price", value, {"unit_of_measurement": unit} if unit else {})
        assert entity_price(hass, "sensor.price") == price
    for value in ("-1", "nan", "1e9", "cheap"):
        hass.states.async_set("sensor.price", value)
        with pytest.raises(RuleProblem, match="entity_no_price"):
            entity_price(hass, "sensor.price")


async def test_statements_of_a_month(homes: Street) -> None:
    statements = homes.trading("anna").statements
    anna, bert = homes.node.world["anna"].id, homes.node.world["bert"].id

    def settled(block: str, slot_end: int, **changes: Any) -> EventView:
        data = {
            "trade": "7" * 64,
            "slot_end": slot_end,
            "seller": bert.hex(),
            "buyer": anna.hex(),
            "agreed_wh": 500,
            "sent_wh": 500,
            "received_wh": 450,
            "delivered_wh": 450,
            "paid": 90_000,
            "shortfall_paid": 0,
            "disputed": False,
        }
        return EventView(
            cursor="1-" + "0" * 16,
            event="slot_settled",
            height=9,
            block=block,
            time=slot_end,
            data=data | changes,
        )

    noon = int(datetime(2026, 11, 10, 12, tzinfo=UTC).timestamp())
    agreed = {"trade": "7" * 64, "seller": bert.hex(), "buyer": anna.hex(), "price": 250_000}
    statements.take(replace(settled("0" * 64, noon), event="trade_agreed", data=agreed))
    statements.take(settled("a" * 64, noon))
    statements.take(settled("b" * 64, noon + 900))
    statements.take(settled("c" * 64, noon + 1800, seller="9" * 64, buyer="8" * 64))
    undone = settled("b" * 64, noon)
    statements.take(
        EventView(cursor=undone.cursor, event="block_undone", height=9, block="b" * 64, time=noon, data={})
    )
    assert [line.slot_end for line in statements.of_month("2026-11")] == [noon]
    assert statements.of_month("2026-10") == []
    await statements.async_stop()
    again = Statements(homes.hass, homes.entries["anna"])
    await again.async_start()
    again.take(settled("e" * 64, noon + 900))
    assert [line.price for line in again.lines()] == [250_000] * 2, "the trade is long gone"
    again.take(settled("e" * 64, noon + 900, trade="6" * 64))
    assert again.of_trade("6" * 64)[0].price is None
    assert statements.points("7" * 64) == 9
    assert statements.points("0" * 64) is None
    assert address(bert) in statements.csv("2026-11")
    account = Account(name="Anna", iban="DE89370400440532013000")
    assert "<InstdAmt" in statements.payments("2026-11", account, {address(bert): account})
    statements.take(settled("d" * 64, noon + 101 * 86_400))
    assert len(statements.of_month("2026-11")) == 0, "kept for some months"
