"""No ledgered trade, no command on the wire: seen at the simulated devices, whoever asks for a delivery."""

from typing import Any

import pytest
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util

from custom_components.energy_ledger.events import Happening
from custom_components.energy_ledger.trading.gate_model import Block, TradeState
from tests.integration.conftest import wait_until

from .wire_world import WireWorld


async def automate_a_sale(wire: WireWorld) -> None:
    """Have a real automation ask for a delivery by the action `sell`."""
    action = {
        "action": "energy_ledger.sell",
        "data": {
            "config_entry_id": wire.street.entries["anna"].entry_id,
            "asset": wire.asset().hex(),
            "quantity": 0.5,
            "price": 0.2,
            "start": dt_util.utc_from_timestamp(wire.start).isoformat(),
            "end": dt_util.utc_from_timestamp(wire.end).isoformat(),
        },
    }
    config: dict[str, Any] = {
        "triggers": [{"trigger": "event", "event_type": "deliver_now"}],
        "actions": [action],
    }
    assert await async_setup_component(wire.street.hass, "automation", {"automation": config})
    await wire.street.hass.async_block_till_done()
    wire.street.hass.bus.async_fire("deliver_now")
    await wire.street.hass.async_block_till_done()
    await wire.street.mine()
    anna = wire.street.entries["anna"].runtime_data
    await wait_until(lambda: [offer.quantity for offer in anna.ledger.data.offers] == [500])


async def test_a_trade_is_on_the_wire_in_its_window_only(wire: WireWorld) -> None:
    await wire.street.turn_on("anna", "bert")
    await wire.sell()
    await wire.run_until(wire.start)
    before = wire.export_wh
    await wire.run_until(wire.start + 180)
    assert wire.export_w == pytest.approx(2000, abs=250)
    await wire.run_until(wire.end + 180)
    assert wire.export_wh - before == pytest.approx(500, abs=10)
    assert wire.export_w == 0
    times = [seen.simulated_s for seen in wire.writes()]
    assert times
    assert wire.start <= min(times)
    assert max(times) <= wire.end
    line = await wire.settle()
    assert line["agreed_wh"] == 500
    assert line["delivered_wh"] == pytest.approx(500, abs=10)
    assert line["paid"] == line["delivered_wh"] * 200
    assert len(wire.writes()) == len(times)


async def test_neither_an_offer_nor_a_trade_of_another_asset_commands_anything(wire: WireWorld) -> None:
    """An automation asks for a delivery that nobody bought, while the PV system has sold something."""
    await wire.street.turn_on("anna", "bert")
    await automate_a_sale(wire)
    await wire.sell("pv", quantity=100)
    assert wire.sale.trade.asset == wire.asset("pv").hex()
    await wire.run_until(wire.end + 90)
    assert wire.writes() == []
    assert wire.export_w == 0


async def test_an_automation_in_dry_run_commands_nothing_though_it_sells(wire: WireWorld) -> None:
    """What is signed by hand is signed; the device stays as it is, and both sides hear of the shortfall."""
    await automate_a_sale(wire)
    (offer,) = wire.street.entries["bert"].runtime_data.ledger.data.offers
    await wire.accept(offer.offer)
    await wire.street.mine(2)
    await wire.run_until(wire.start + 90)
    assert wire.state() == (TradeState.BLOCKED, Block.DRY_RUN)
    line = await wire.settle()
    assert wire.writes() == []
    assert (line["delivered_wh"], line["paid"]) == (0, 0)
    assert ("shortfall", "settled") in wire.told("bert", Happening.SHORTFALL)


async def test_an_unconfirmed_trade_commands_nothing_until_it_is_confirmed(wire: WireWorld) -> None:
    await wire.street.turn_on("anna", "bert")
    offer = await wire.offer()
    await wire.run_until(wire.start - 60)
    await wire.accept(offer)
    await wire.street.mine()
    assert wire.trade.start == wire.start
    await wire.run_until(wire.start + 180, mining=False)
    assert wire.state() == (TradeState.UNCONFIRMED, None)
    assert wire.writes() == []
    await wire.street.mine()
    await wire.look()
    assert wire.state() == (TradeState.DELIVERING, None)
    assert wire.writes()
    await wire.run_until(wire.end)
    after = len(wire.writes())
    await wire.run_until(wire.end + 180)
    assert wire.export_w == 0
    assert len(wire.writes()) == after
