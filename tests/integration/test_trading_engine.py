"""Two homes trade by their rules: offered, accepted, delivered, metered, settled, and said why."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from homeassistant.core import HomeAssistant

from tests.node.api_world import ApiWorld

from .conftest import EntryMaker
from .trading_world import Street, battery_device, meter_device, set_battery, set_meter, street, world

__all__ = ["world"]


@pytest.fixture
async def homes(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> AsyncIterator[Street]:
    async with street(hass, node, make_entry) as found:
        yield found


SELL: dict[str, Any] = {
    "price_section": {"source": "fixed", "price": 0.20, "floor": 0.15},
    "amount_section": {"min_kwh": 0.1, "max_kwh": 0.5, "horizon_slots": 1, "keep_for_home": False},
}
BUY = {
    "price_section": {"source": "fixed", "price": 0.25},
    "amount_section": {"min_kwh": 0.1},
}


async def two_homes(
    homes: Street, sell: dict[str, Any] | None = SELL, buy: dict[str, Any] | None = BUY
) -> None:
    """Anna with a battery and maybe a selling rule, Bert with a load and maybe a buying rule."""
    hass = homes.hass
    hass.states.async_set("input_number.anna_discharge", "0", {"unit_of_measurement": "W"})
    set_meter(hass, "anna", import_wh=1000, export_wh=2000, surplus_w=-300)
    set_battery(hass, "anna", soc=80)
    set_meter(hass, "bert", import_wh=5000, export_wh=0, surplus_w=-2000)
    await homes.add("anna", meter_device("anna"), battery_device("anna"))
    await homes.add("bert", meter_device("bert"))
    await homes.register()
    if sell is not None:
        await homes.add_rule("anna", "sell", sell | {"device": homes.subentry("anna", "anna battery")})
    if buy is not None:
        await homes.add_rule("bert", "buy", buy)
    await homes.seen()


async def test_sold_delivered_metered_and_settled(homes: Street) -> None:
    await two_homes(homes)
    hass, anna, bert = homes.hass, homes.trading("anna"), homes.trading("bert")
    await homes.look()
    assert anna.dry_run
    assert not homes.entries["anna"].runtime_data.ledger.data.offers, "nothing is signed in dry run"
    assert [each.dry_run for each in anna.decisions if each.decision.acts] == [True] * 1
    await homes.turn_on("anna", "bert")
    await homes.look()
    await homes.mine()
    offers = homes.entries["bert"].runtime_data.ledger.data.offers
    assert [(each.price, each.quantity, each.min_quantity) for each in offers] == [(200_000, 500, 50)]
    await homes.look()
    await homes.mine()
    (trade,) = homes.entries["anna"].runtime_data.ledger.data.trades
    assert (trade.quantity, trade.price, trade.origin) == (500, 200_000, "posted")
    assert bert.decisions[-1].record == trade.trade

    # Nothing before the window; then what is sold and what the home itself draws.
    await homes.look()
    assert homes.commands == []
    await homes.until_time(trade.start)
    set_meter(hass, "anna", import_wh=1100, export_wh=2000, surplus_w=-300)
    set_meter(hass, "bert", import_wh=5100, export_wh=0, surplus_w=-2000)
    await homes.look()
    (first,) = homes.commands
    assert first[0] == "input_number.anna_discharge"
    assert first[1] == pytest.approx(2300, abs=60)

    # What left the home is counted until the window's end; then the device is released.
    set_battery(hass, "anna", soc=75, discharge_w=2300)
    homes.node.world.now = trade.end - 30
    set_meter(hass, "anna", import_wh=1100, export_wh=2495, surplus_w=2000)
    set_meter(hass, "bert", import_wh=5590, export_wh=0, surplus_w=-2000)
    await homes.look()
    await homes.mine()
    set_meter(hass, "anna", import_wh=1100, export_wh=2500, surplus_w=2000)
    set_meter(hass, "bert", import_wh=5600, export_wh=0, surplus_w=-2000)
    await homes.look()
    assert homes.commands[-1] == ("input_number.anna_discharge", 0.0)

    await homes.mine()
    set_meter(hass, "anna", import_wh=1105, export_wh=2500, surplus_w=-300)
    set_meter(hass, "bert", import_wh=5620, export_wh=0, surplus_w=-2000)
    await homes.send_readings()
    await homes.until_time(trade.end + 1800)
    (line,) = anna.statements.of_trade(trade.trade)
    assert (line.agreed_wh, line.sent_wh, line.received_wh, line.delivered_wh) == (500, 500, 500, 500)
    assert line.paid == 100_000
    (theirs,) = bert.statements.of_trade(trade.trade)
    assert (theirs.selling, theirs.paid) == (False, 100_000)


async def test_an_offer_does_not_flap_about_its_threshold(homes: Street) -> None:
    rule = SELL | {"amount_section": {**SELL["amount_section"], "min_kwh": 0.5, "hysteresis": 30}}
    await two_homes(homes, sell=rule, buy=None)
    await homes.turn_on("anna")

    async def offered(soc: float) -> list[int]:
        """Return the open offers, Wh, with the battery so full: a percent holds 100 Wh, 20 % are kept."""
        set_battery(homes.hass, "anna", soc=soc)
        await homes.look()
        await homes.mine()
        await homes.look()
        return [each.open for each in homes.entries["anna"].runtime_data.ledger.data.offers]

    assert await offered(20) == []
    assert await offered(24) == [], "below the threshold nothing begins"
    assert await offered(26) == [500]
    assert await offered(24) == [500], "what began goes on a little below"
    assert await offered(23) == [], "and ends below the hysteresis"
    assert await offered(24) == []
