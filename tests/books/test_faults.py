"""Faults during a delivery, at simulated Modbus devices: what stops, what is told, what is paid."""

import pytest

from custom_components.energy_ledger.events import Happening
from custom_components.energy_ledger.trading.gate_model import Block, TradeState
from simulator.modbus.faults import Fault, FaultKind
from tests.integration.conftest import wait_until
from tests.integration.trading_world import SLOT

from .wire_world import INVERTER, METER, WireWorld

PRICE, SHORTFALL_PRICE = 200_000, 50_000
ENDED = Happening.DELIVERY_ENDED


@pytest.fixture
async def delivering(wire: WireWorld) -> WireWorld:
    """Three minutes into a delivery of 500 Wh in 15 minutes, with a price on what is missing."""
    await wire.street.turn_on("anna", "bert")
    await wire.sell(shortfall_price=SHORTFALL_PRICE)
    await wire.run_until(wire.start + 180)
    assert wire.state() == (TradeState.DELIVERING, None)
    assert wire.export_w == pytest.approx(2000, abs=250)
    for name in wire.homes:
        assert wire.told(name, Happening.DELIVERY_STARTED) == [("delivery_started", None)]
    return wire


async def settle_short(wire: WireWorld, delivered_wh: int) -> None:
    """The rest of the window brings nothing; the ledger settles what was delivered and what was missing."""
    line = await wire.settle()
    assert line["delivered_wh"] == pytest.approx(delivered_wh, abs=15)
    assert line["paid"] == line["delivered_wh"] * PRICE // 1000
    assert line["shortfall_paid"] == (500 - line["sent_wh"]) * SHORTFALL_PRICE // 1000
    assert wire.export_w == 0
    for name in wire.homes:
        assert ("shortfall", "settled") in wire.told(name, Happening.SHORTFALL)


async def test_an_empty_battery(delivering: WireWorld) -> None:
    """The reserve is reached: the command is taken back at once, and the shortfall is told early."""
    wire = delivering
    wire.homes["anna"].set_state_of_charge(190)
    await wire.look()
    assert wire.state() == (TradeState.BLOCKED, Block.RESERVE)
    assert wire.told("anna", ENDED) == [("delivery_ended", "reserve_reached")]
    assert wire.told("anna", Happening.SHORTFALL) == [("shortfall", "expected")]
    writes = len(wire.writes())
    await wire.run_until(wire.start + 360)
    assert wire.export_w == 0
    assert len(wire.writes()) == writes, "a store at its reserve is left alone"
    await settle_short(wire, 100)


@pytest.mark.parametrize("links", [(INVERTER,), (INVERTER, METER)], ids=["inverter", "network"])
async def test_lost_devices(delivering: WireWorld, links: tuple[str, ...]) -> None:
    """The inverter, or all that hangs on the home's network, is out of reach until after the window.

    Nothing gets through, so nothing new is asked for. As soon as the inverter answers, what was left in force
    is taken back, and stays so.
    """
    wire = delivering
    anna = wire.homes["anna"]
    for link in links:
        anna.inject(link, Fault(FaultKind.OFFLINE))
    await wire.look()
    assert wire.state() == (TradeState.BLOCKED, Block.DEVICE_LOST)
    assert wire.told("anna", ENDED) == [("delivery_ended", "device_lost")]
    assert wire.told("anna", Happening.SHORTFALL) == [("shortfall", "expected")]
    writes = len(wire.writes())
    await wire.run_until(wire.end + 90, step_s=SLOT)
    assert len(wire.writes()) == writes
    for link in links:
        anna.links[link].clear(None)
    battery = wire.street.entries["anna"].runtime_data.devices[wire.street.subentry("anna", "battery")]
    commander = battery.commander
    assert commander is not None
    await wait_until(lambda: commander.status.state.value == "idle")
    anna.advance(30)
    assert wire.export_w == 0
    writes = len(wire.writes())
    await wire.run_until(wire.end + 300)
    assert len(wire.writes()) == writes
    assert wire.export_w == 0


async def test_home_assistant_restarts(delivering: WireWorld) -> None:
    wire = delivering
    entry = wire.street.entries["anna"]
    config_entries = wire.street.hass.config_entries
    assert await config_entries.async_unload(entry.entry_id)
    wire.homes["anna"].advance(10)
    assert wire.export_w == 0, "nothing runs while nobody watches"
    assert await config_entries.async_setup(entry.entry_id)
    await wire.street.hass.async_block_till_done()
    wire.street.follow_clock(entry)
    await wire.look()
    wire.homes["anna"].advance(10)
    assert wire.export_w == pytest.approx(2000, abs=250), "it goes on with the trade that there is"
    await wire.run_until(wire.end + 90)
    assert wire.export_w == 0
    line = await wire.settle()
    assert line["delivered_wh"] == pytest.approx(500, abs=15)
    assert line["shortfall_paid"] <= 15 * SHORTFALL_PRICE // 1000


async def test_a_node_that_is_killed(delivering: WireWorld) -> None:
    """The known view holds for the slot; after it nothing runs, though nobody tells the gate."""
    wire = delivering
    await wire.street.node.server.close()
    anna = wire.street.entries["anna"].runtime_data
    await anna.ledger.async_refresh()
    await wire.run_until(wire.end - 90, mining=False)
    assert wire.export_w == pytest.approx(2000, abs=250)
    await wire.run_until(wire.end + 90, mining=False)
    assert wire.export_w == 0
    writes = len(wire.writes())
    await wire.run_until(wire.end + 1800, mining=False)
    assert len(wire.writes()) == writes
    assert wire.told("anna", ENDED)[-1][1] in ("window_ended", "energy_delivered")


async def test_a_terminated_trade(wire: WireWorld) -> None:
    """Two slots are sold; the buyer ends the second one during the first. Only the first is delivered."""
    await wire.street.turn_on("anna", "bert")
    trade = await wire.sell(quantity=1000, end=wire.end + 900, shortfall_price=SHORTFALL_PRICE)
    await wire.run_until(wire.start + 180)
    assert wire.export_w == pytest.approx(2000, abs=250)
    bert = wire.street.entries["bert"].runtime_data.home
    await bert.terminate(trade, wire.end, compensation=100_000)
    await wire.street.mine()
    for name in wire.homes:
        assert [kind for kind, _ in wire.told(name, Happening.TRADE_TERMINATED)] == ["trade_terminated"]
    await wire.run_until(wire.end)
    writes = len(wire.writes())
    await wire.run_until(wire.end + 300)
    assert wire.export_w == 0
    assert len(wire.writes()) == writes
    line = await wire.settle()
    assert (line["agreed_wh"], line["slot_end"]) == (500, wire.end)
    assert line["delivered_wh"] == pytest.approx(500, abs=15)
