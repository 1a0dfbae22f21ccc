"""Prices by distance and feeder: of offers to some members, and of answers to those who ask."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from homeassistant.core import HomeAssistant

from custom_components.energy_ledger.trading.sell_desk import farthest_m
from ledger_core.client.views import AssetView, MemberView, Place
from ledger_core.keys import address
from tests.node.api_world import ApiWorld

from .conftest import EntryMaker
from .trades import HOME, OTHER, party
from .trading_world import Street, battery_device, meter_device, set_battery, set_meter, street, world

__all__ = ["world"]

SLOT = 900
HERE, NEAR, FAR = Place(48_000_000, 11_000_000), Place(48_001_000, 11_000_000), Place(48_010_000, 11_000_000)
THIRD = party("third")


def desk(*members: MemberView) -> Any:
    data = SimpleNamespace(ledger=SimpleNamespace(data=SimpleNamespace(members=members)))
    return SimpleNamespace(me=bytes.fromhex(HOME.key), entry=SimpleNamespace(runtime_data=data))


def member(who: Any, place: Place | None) -> MemberView:
    return MemberView(member=who, roles=["home"], node=None, name_hash="00" * 32, location=place)


def asset(place: Place | None) -> AssetView:
    return cast("AssetView", SimpleNamespace(location=place))


def test_the_farthest_of_those_known_counts() -> None:
    other, third = bytes.fromhex(OTHER.key), bytes.fromhex(THIRD.key)
    known = desk(member(HOME, HERE), member(OTHER, NEAR), member(THIRD, FAR))
    assert farthest_m(known, asset(None), (other,)) == 111
    assert farthest_m(known, asset(None), (other, third)) == 1113
    assert farthest_m(known, asset(FAR), (third,)) == 0, "the device's own place is the nearer truth"
    assert farthest_m(known, asset(None), None) is None, "an offer to all"
    assert farthest_m(desk(member(OTHER, NEAR)), asset(None), (other,)) is None
    assert farthest_m(desk(member(HOME, HERE)), asset(None), (other,)) is None


@pytest.fixture
async def homes(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> AsyncIterator[Street]:
    """Anna with a battery; Bert is a member without a place."""
    async with street(hass, node, make_entry) as found:
        hass.states.async_set("input_number.anna_discharge", "0", {"unit_of_measurement": "W"})
        set_meter(hass, "anna", import_wh=1000, export_wh=2000, surplus_w=-300)
        set_battery(hass, "anna", soc=80)
        await found.add("anna", meter_device("anna"), battery_device("anna"))
        await found.register()
        yield found


@pytest.mark.parametrize(("named", "price"), [(["bert"], 150_000), ([], 200_000)])
async def test_the_same_feeder_is_cheaper(homes: Street, named: list[str], price: int) -> None:
    addresses = [address(homes.node.world[name].id) for name in named]
    bert = address(homes.node.world["bert"].id)
    rule = {
        "price_section": {"source": "fixed", "price": 0.20, "feeder_price": -0.05, "per_km": 0.1},
        "amount_section": {"min_kwh": 0.1, "max_kwh": 0.5, "horizon_slots": 1, "keep_for_home": False},
        "partners_section": {"members": [bert], "feeder_members": addresses},
        "device": homes.subentry("anna", "anna battery"),
    }
    await homes.add_rule("anna", "sell", rule)
    await homes.seen()
    await homes.turn_on("anna")
    await homes.look()
    await homes.mine()
    (offer,) = homes.entries["anna"].runtime_data.ledger.data.offers
    assert offer.price == price
