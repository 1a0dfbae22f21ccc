"""Entities of home and node: their figures follow the ledger."""

from typing import Any
from unittest.mock import AsyncMock

import pytest
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.entity_component import async_update_entity
from homeassistant.helpers.translation import async_get_translations

from custom_components.energy_ledger import prices
from custom_components.energy_ledger.const import DOMAIN
from custom_components.energy_ledger.home_entities import sensors
from custom_components.energy_ledger.node_state import (
    MINING_STATES,
    VOTING_STATES,
    mining_state,
    voting_state,
)
from custom_components.energy_ledger.trading_settings import async_load_settings, async_remove_settings
from ledger_core.client import UnreachableError
from ledger_core.node.engine.holds import MINING_CODES, VOTING_CODES
from tests.integration.conftest import EntryMaker
from tests.node.api_world import ApiWorld

from .conftest import SLOT, Street

EVENT, NUMBER, SWITCH = "event", "number", "switch"


def state(street: Street, entity: str) -> Any:
    found = street.hass.states.get(entity)
    assert found is not None, f"{entity} is not among {sorted(street.hass.states.async_entity_ids())}"
    return found


def value(street: Street, name: str) -> str:
    return str(state(street, f"sensor.test_street_{name}").state)


@pytest.mark.parametrize(
    ("language", "name", "models"),
    [("en", "Test street node", {"Home", "Node"}), ("de", "Knoten von Test street", {"Haus", "Knoten"})],
)
async def test_devices_are_named_in_the_systems_language(
    hass: HomeAssistant,
    node: ApiWorld,
    make_entry: EntryMaker,
    language: str,
    name: str,
    models: set[str],
) -> None:
    await hass.config.async_update(language=language)
    for category in ("common", "device"):
        await async_get_translations(hass, language, category, [DOMAIN])
    entry = await make_entry(node)
    devices = dr.async_entries_for_config_entry(dr.async_get(hass), entry.entry_id)
    assert {device.model for device in devices} == models
    assert name in {device.name for device in devices}


async def test_money_of_a_trade(street: Street) -> None:
    assert [value(street, name) for name in ("balance", "held", "spendable")] == ["0.0", "0.0", "50.0"]
    trade = await street.buy()
    assert [value(street, name) for name in ("balance", "held", "spendable")] == ["0.0", "0.2", "49.8"]
    assert value(street, "active_trades") == "1"
    await street.settle(trade, exported=500, imported=500)
    assert [value(street, name) for name in ("balance", "held")] == ["-0.2", "0.0"]
    assert [value(street, name) for name in ("electricity_bought", "electricity_sold")] == ["1.0", "0.0"]
    await street.until(lambda: value(street, "spent") == "0.2")
    assert value(street, "earned") == "0.0"
    spent = state(street, "sensor.test_street_spent").attributes
    assert (spent["unit_of_measurement"], spent["device_class"], spent["state_class"]) == (
        "EUR",
        "monetary",
        "total",
    )
    bought = state(street, "sensor.test_street_electricity_bought").attributes
    assert (bought["unit_of_measurement"], bought["state_class"]) == ("kWh", "total_increasing")


async def test_the_market(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    assert value(street, "sell_price") == value(street, "buy_price") == "unknown"
    await street.offer("bert", price=300_000)
    await street.offer("cara", price=250_000, asset=street.world_asset("cara battery"), quantity=500)
    await street.offer("anna", price=180_000)
    assert [value(street, name) for name in ("own_open_offers", "offers_to_this_home")] == ["1", "2"]
    assert [value(street, name) for name in ("sell_price", "buy_price")] == ["0.18", "0.25"]
    assert state(street, "sensor.test_street_sell_price").attributes["source"] == "offer"
    assert state(street, "sensor.test_street_sell_price").attributes["unit_of_measurement"] == "EUR/kWh"
    trade = await street.buy(price=210_000)
    monkeypatch.setattr(sensors, "now_s", lambda: trade.start)
    monkeypatch.setattr(
        "custom_components.energy_ledger.home_entities.binary_sensors.now_s", lambda: trade.start
    )
    assert state(street, "binary_sensor.test_street_trading_now").state == "off"
    await street.data.ledger.async_refresh()
    assert value(street, "buy_price") == "0.21"
    assert state(street, "sensor.test_street_buy_price").attributes["source"] == "trade"
    assert state(street, "binary_sensor.test_street_trading_now").state == "on"


async def test_prices_of_several_trades_are_weighted_by_power(street: Street) -> None:
    # The second trade is agreed in another slot of the day than the first.
    street.world.now = street.world.now // SLOT * SLOT + 2 * SLOT - 60
    first = await street.buy(quantity=1_000, price=200_000)
    second = await street.buy(quantity=500, price=320_000)
    assert (second.start, second.end) == (first.start, first.end)
    home = street.world["anna"].id.hex()
    found = prices.buy_price(street.view, home, first.start)
    assert found == prices.Price(240_000, "trade")
    assert prices.sell_price(street.view, street.world["bert"].id.hex(), first.start) == found
    assert prices.sell_price(street.view, home, first.start) is None


async def test_score_and_reliability(street: Street) -> None:
    assert value(street, "score") == "unknown"
    trade = await street.buy()
    await street.settle(trade, 500, 500)
    await street.home("bert").rate(trade.trade, 7)
    await street.node.mine()
    await street.until(lambda: value(street, "score") == "7.0")
    assert state(street, "sensor.test_street_score").attributes["scores"] == 1


async def test_delivered_as_agreed_is_unknown_until_a_sale_was_settled(street: Street) -> None:
    assert value(street, "delivered_as_agreed") == "unknown"
    bought = await street.buy()
    await street.settle(bought, 500, 500)
    # Who bought has delivered nothing, and failed at nothing.
    assert value(street, "delivered_as_agreed") == "unknown"
    offer = await street.offer("anna", quantity=1_000)
    sold = await street.agreed(await street.home("bert").accept(offer, 1_000))
    await street.settle(sold, exported=250, imported=250)
    # 500 of 1,000 Wh, and the 10 kWh at 90 % that every newcomer starts with.
    await street.until(lambda: value(street, "delivered_as_agreed") == "86.3")


async def test_before_the_home_is_a_member(hass: HomeAssistant, node: Any, make_entry: Any) -> None:
    from tests.core.world import Home

    node.world.homes["dora"] = Home("dora")
    entry = await make_entry(node, "dora")
    assert entry.runtime_data.ledger.data.account is None
    balance = hass.states.get("sensor.test_street_balance")
    assert balance is not None
    assert balance.state == "unknown"
    score = hass.states.get("sensor.test_street_score")
    assert score is not None
    assert score.attributes["scores"] == 0


async def test_of_the_node(street: Street) -> None:
    assert state(street, "binary_sensor.test_street_node_synced").state == "on"
    assert state(street, "sensor.test_street_node_peers").state == "1"
    mining = state(street, "sensor.test_street_node_mining_state")
    assert mining.state in MINING_STATES
    assert mining.attributes["reason"] == street.view.status.mining_blocked


def test_every_code_of_the_node_is_a_state_of_its_own() -> None:
    assert set(MINING_STATES) == {"active", "other", *MINING_CODES}
    assert set(VOTING_STATES) == {"active", "other", *VOTING_CODES}
    for codes, state_of in ((MINING_CODES, mining_state), (VOTING_CODES, voting_state)):
        assert [state_of(code) for code in codes] == list(codes)
        assert state_of(None) == "active"
        assert state_of("something_new") == "other"


def test_the_sensors_offer_the_states_of_mining_and_voting() -> None:
    options = {each.key: each.options for each in sensors.NODE}
    assert options["mining_state"] == list(MINING_STATES)
    assert options["voting_state"] == list(VOTING_STATES)


async def test_the_noisy_ones_are_disabled(street: Street) -> None:
    registry = er.async_get(street.hass)
    entries = er.async_entries_for_config_entry(registry, street.entry.entry_id)
    disabled = {entry.translation_key for entry in entries if entry.disabled_by}
    carriers = {f"{c}_{d}" for c in ("heat", "gas", "hydrogen", "water") for d in ("sold", "bought")}
    assert disabled == carriers | {
        "height",
        "final_height",
        "waiting_records",
        "voting_state",
        "fees_waiting",
        "hash_rate",
    }
    of_node = [entry for entry in entries if "_node_" in entry.entity_id]
    assert all(entry.entity_category is EntityCategory.DIAGNOSTIC for entry in of_node)
    assert all(entry.unique_id.startswith(str(street.entry.unique_id)) for entry in entries)
    for entry in entries:
        registry.async_update_entity(entry.entity_id, disabled_by=None)
    assert await street.hass.config_entries.async_reload(street.entry.entry_id)
    await street.hass.async_block_till_done()
    assert value(street, "node_height") == str(street.view.status.tip.height)
    assert value(street, "node_final_height") == str(street.view.status.final)
    assert value(street, "node_waiting_records") == "0"
    assert value(street, "node_voting_state") in VOTING_STATES
    assert value(street, "fees_not_final_yet") == "0.0"
    rate = "sensor.test_street_node_hash_rate"
    assert state(street, rate).state == "0.0"
    assert state(street, rate).attributes["unit_of_measurement"] == "H/s"
    street.data.client.mining = AsyncMock(side_effect=UnreachableError("unreachable", "away"))
    await async_update_entity(street.hass, rate)
    assert state(street, rate).state == "unknown"


async def test_devices(street: Street) -> None:
    registry = dr.async_get(street.hass)
    devices = dr.async_entries_for_config_entry(registry, street.entry.entry_id)
    assert {device.name for device in devices} == {"Test street", "Test street node"}
    node = next(device for device in devices if device.name == "Test street node")
    assert node.sw_version == street.view.status.version


async def test_event_entities(street: Street) -> None:
    trade = await street.buy()
    offers = state(street, f"{EVENT}.test_street_offers")
    assert offers.attributes["event_type"] == "offer_received"
    assert offers.attributes["price"] == 0.2
    assert "raw" not in offers.attributes
    agreed = state(street, f"{EVENT}.test_street_trades")
    assert (agreed.attributes["event_type"], agreed.attributes["trade"]) == ("trade_agreed", trade.trade)
    await street.settle(trade, 500, 500)
    await street.until(
        lambda: state(street, f"{EVENT}.test_street_trades").attributes["event_type"] == "trade_closed"
    )
    closed = state(street, f"{EVENT}.test_street_trades").attributes
    assert (closed["delivered_kwh"], closed["paid"], closed["role"]) == (1.0, 0.2, "buyer")


async def test_the_end_of_offers_and_proposals(street: Street) -> None:
    entity = f"{EVENT}.test_street_offers"
    offer = await street.offer("anna")
    acceptance = await street.home("bert").counter(offer, price=50_000)
    await street.node.mine()
    await street.until(lambda: state(street, entity).attributes["event_type"] == "counter_received")
    await street.home("anna").reject(acceptance)
    await street.node.mine()
    await street.until(lambda: state(street, entity).attributes["event_type"] == "counter_ended")
    assert state(street, entity).attributes["own"] is False
    await street.home("anna").withdraw(offer.offer)
    await street.node.mine()
    await street.until(lambda: state(street, entity).attributes["event_type"] == "offer_closed")
    assert state(street, entity).attributes["own"] is True


async def test_switches_are_kept(street: Street) -> None:
    settings = street.data.settings
    for key in ("automatic_selling", "automatic_buying"):
        entity = f"{SWITCH}.test_street_{key}"
        assert state(street, entity).state == "off"
        for action, wanted in (("turn_on", "on"), ("turn_off", "off"), ("turn_on", "on")):
            await street.hass.services.async_call(SWITCH, action, {"entity_id": entity}, blocking=True)
            assert state(street, entity).state == wanted
            assert getattr(settings.limits, key) is (wanted == "on")
    street.hass.data.pop(f"{DOMAIN}_trading_settings")
    again = await async_load_settings(street.hass, street.entry.entry_id, "EUR")
    assert again is not settings
    assert again.limits == settings.limits
    await async_remove_settings(street.hass, street.entry.entry_id)
    fresh = await async_load_settings(street.hass, street.entry.entry_id, "EUR")
    assert fresh.limits.automatic_selling is False


async def test_numbers(street: Street) -> None:
    limits = street.data.settings
    for entity, shown, key, kept in (
        ("reserve", 35, "reserve_permille", 350),
        ("price_floor", 0.29, "price_floor", 290_000),
        ("price_ceiling", 0.501, "price_ceiling", 501_000),
    ):
        target = {"entity_id": f"{NUMBER}.test_street_{entity}", "value": shown}
        await street.hass.services.async_call(NUMBER, "set_value", target, blocking=True)
        assert getattr(limits.limits, key) == kept
        assert float(state(street, f"{NUMBER}.test_street_{entity}").state) == shown


async def test_what_trading_may_do_can_be_changed_while_the_node_is_away(street: Street) -> None:
    await street.node.server.close()
    await street.data.ledger.async_refresh()
    await street.hass.async_block_till_done()
    assert value(street, "balance") == "unavailable"
    entity = f"{SWITCH}.test_street_automatic_selling"
    await street.hass.services.async_call(SWITCH, "turn_on", {"entity_id": entity}, blocking=True)
    assert state(street, entity).state == "on"


async def test_only_an_own_node_has_a_mining_switch(street: Street) -> None:
    assert not any("mining" in entity for entity in street.hass.states.async_entity_ids(SWITCH))


async def test_states_change_only_with_what_they_show(street: Street) -> None:
    """A block that holds nothing of this home changes no state but the node's height, nor repeats one."""

    async def block() -> None:
        height = street.view.status.tip.height
        await street.node.mine()
        await street.until(lambda: street.view.status.tip.height > height)

    await block()
    changed: list[str] = []
    bus = street.hass.bus
    bus.async_listen("state_changed", lambda event: changed.append(event.data["entity_id"]))
    every = callback(lambda _: True)
    bus.async_listen("state_reported", lambda event: changed.append(event.data["entity_id"]), every)
    await block()
    assert changed == []
