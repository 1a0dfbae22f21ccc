"""Every blueprint, made into an automation of a real Home Assistant that trades."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from homeassistant.helpers import device_registry as dr
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped]
    async_fire_time_changed,
)

from custom_components.energy_ledger.const import DOMAIN
from tests.core.world import asset_id
from tests.integration.conftest import wait_until

from .conftest import Street
from .test_support import Device, have_battery

BLUEPRINTS = Path(__file__).parents[3] / "blueprints" / "automation" / "energy_ledger"


async def use(street: Street, tmp_path: Path, name: str, **inputs: Any) -> None:
    """Set up an automation from a blueprint, as a user who has imported it."""
    shutil.copytree(BLUEPRINTS, tmp_path / "blueprints" / "automation" / "energy_ledger")
    street.hass.config.config_dir = str(tmp_path)
    blueprint = {
        "path": f"energy_ledger/{name}.yaml",
        "input": {"home": street.entry.entry_id, **inputs},
    }
    config = {"automation": {"alias": "test", "use_blueprint": blueprint}}
    assert await async_setup_component(street.hass, "automation", config)
    await street.hass.async_block_till_done()
    state = street.hass.states.get("automation.test")
    assert state is not None
    assert state.state == "on"


def test_each_blueprint_is_tested() -> None:
    assert {path.stem for path in BLUEPRINTS.iterdir()} == {"sell_surplus", "charge_car", "notify_trade"}


async def pooled(street: Street, number: int) -> None:
    """Wait until so many records wait for a block."""
    for _ in range(400):
        if (await street.data.client.status()).waiting_records >= number:
            return
        await street.hass.async_block_till_done()
    pytest.fail(f"no {number} records wait")


async def test_sell_surplus(street: Street, tmp_path: Path) -> None:
    have_battery(street, "battery")
    device = Device()
    device.asset_id = asset_id("anna pv")
    street.data.devices["battery"] = device
    entry = dr.async_get(street.hass).async_get_or_create(
        config_entry_id=street.entry.entry_id,
        config_subentry_id="battery",
        identifiers={(DOMAIN, "battery")},
    )
    street.hass.states.async_set("sensor.soc", "50")
    await use(
        street,
        tmp_path,
        "sell_surplus",
        battery=entry.id,
        state_of_charge="sensor.soc",
        capacity=10,
        price=0.25,
    )
    street.hass.states.async_set("sensor.soc", "75")
    await pooled(street, 1)
    await street.node.mine()
    await street.until(lambda: street.offers)
    (offer,) = street.offers.values()
    assert (offer.quantity, offer.price, offer.min_quantity) == (1_500, 250_000, 500)
    assert offer.asset == asset_id("anna pv").hex()
    # One open offer is enough, and too little is not worth one.
    async_fire_time_changed(street.hass)
    street.hass.states.async_set("sensor.soc", "50")
    street.hass.states.async_set("sensor.soc", "80")
    await street.hass.async_block_till_done()
    assert (await street.data.client.status()).waiting_records == 0
    # What was sold and is not delivered yet is not offered once more.
    await street.agreed(await street.home("bert").accept(offer))
    await street.until(lambda: not street.offers)
    for percent in ("50", "75"):
        street.hass.states.async_set("sensor.soc", percent)
    await street.hass.async_block_till_done()
    assert (await street.data.client.status()).waiting_records == 0
    for percent in ("50", "85"):
        street.hass.states.async_set("sensor.soc", percent)
    await pooled(street, 1)
    await street.node.mine()
    await street.until(lambda: street.offers)
    (offer,) = street.offers.values()
    assert offer.quantity == 1_000
    target = {"entity_id": "automation.test"}
    await street.hass.services.async_call("automation", "turn_off", target, blocking=True)


async def test_charge_the_car(street: Street, tmp_path: Path) -> None:
    """Two cheap offers in one block, and one later: the car's need is bought once."""
    street.hass.states.async_set("sensor.car", "77")
    street.hass.states.async_set("binary_sensor.plug", "on")
    await use(
        street,
        tmp_path,
        "charge_car",
        highest_price=0.2,
        plugged_in="binary_sensor.plug",
        state_of_charge="sensor.car",
        capacity=50,
    )
    bert, cara = street.home("bert"), street.home("cara")
    await bert.offer(street.terms(price=200_000))
    cheap = {
        await bert.offer(street.terms(price=150_000)),
        await cara.offer(street.terms(price=140_000, asset=asset_id("cara battery"))),
    }
    await street.node.mine()
    client = street.data.client
    # The automation waits for the block: what blocks until all is done would wait for ever.
    async with asyncio.timeout(20):
        while (await client.status()).waiting_records == 0:
            await asyncio.sleep(0.01)
    await street.node.mine()
    await wait_until(lambda: street.trades)
    (trade,) = street.trades.values()
    assert trade.offer in cheap
    assert trade.quantity == 1_500
    await street.hass.async_block_till_done()
    assert (await client.status()).waiting_records == 0
    await street.offer(price=100_000)
    await street.hass.async_block_till_done()
    assert (await client.status()).waiting_records == 0
    assert list(street.trades) == [trade.trade]


async def test_notify_of_a_trade(street: Street, tmp_path: Path) -> None:
    tell = [{"action": "test.automation", "data": {"title": "{{ title }}", "message": "{{ message }}"}}]
    await use(street, tmp_path, "notify_trade", tell=tell)
    trade = await street.buy()
    (told,) = await street.told()
    assert told["title"] == "Trade agreed"
    assert " ".join(told["message"].split()).startswith("Bought: 1.0 kWh at 0.2,")
    await street.settle(trade, 500, 200)
    told = (await street.told(2))[1]
    assert (told["title"], told["message"].strip()) == (
        "Shortfall",
        "0.3 kWh less than agreed as buyer (settled).",
    )
