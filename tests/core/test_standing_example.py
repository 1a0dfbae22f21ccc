"""The standing example of the design: 10 kW registered, 7 kW sold to B, 4 kW to C refused."""

from typing import Any

import pytest

from ledger_core.errors import RuleError
from ledger_core.records.acceptances import Acceptance
from ledger_core.records.codec import Record
from ledger_core.records.offers import Offer
from ledger_core.records.types import AssetKind, Basis, Carrier, Side
from tests.core.world import START, World, asset_id

SLOT = 900
START_1 = START + 8 * SLOT
END_1 = START_1 + 4 * SLOT
LATER = END_1


def offer(world: World, quantity: int, start: int = START_1, end: int = END_1, **fields: Any) -> Record:
    values: dict[str, Any] = {
        "side": Side.SELL,
        "asset": asset_id("anna pv"),
        "carrier": Carrier.ELECTRICITY,
        "basis": Basis.CAPACITY,
        "quantity": quantity,
        "min_quantity": 1,
        "max_w": 0,
        "start": start,
        "end": end,
        "price": 200_000,
        "shortfall_price": 0,
        "audience": None,
        "valid_until": start,
        "auction": None,
    }
    return world.make(Offer, world["anna"].key, **{**values, **fields})


def accept(world: World, name: str, offer_record: Record, quantity: int) -> Record:
    body = offer_record.body
    assert isinstance(body, Offer)
    return world.make(
        Acceptance,
        world[name].key,
        offer=offer_record.id,
        asset=None,
        quantity=quantity,
        start=body.start,
        end=body.end,
        price=body.price,
        valid_until=body.start,
    )


def test_seven_of_ten_kilowatts_sold_leaves_three() -> None:
    world = World()
    world.mine(*(world.meter_record(name) for name in world.homes))
    world.mine(world.asset_record("anna"))
    ten = offer(world, 10_000)
    world.mine(ten)
    world.mine(accept(world, "bert", ten, 7_000))
    with pytest.raises(RuleError) as refusal:
        world.mine(offer(world, 4_000))
    assert refusal.value.code == "power_unavailable"
    assert "3000 W left" in refusal.value.message
    assert refusal.value.details["left_w"] == 3_000
    with pytest.raises(RuleError) as refusal:
        world.mine(accept(world, "cara", ten, 4_000))
    assert refusal.value.code == "quantity_exceeds_open"
    assert "3000 W left" in refusal.value.message
    later = offer(world, 4_000, LATER, LATER + SLOT)
    world.mine(later)
    world.mine(accept(world, "cara", later, 4_000))
    assert sorted(trade.watts for trade in world.state.trades.values()) == [4_000, 7_000]


@pytest.mark.parametrize("kind", [AssetKind.BATTERY, AssetKind.FUEL_CELL])
def test_stored_energy_counts_what_is_outstanding(kind: AssetKind) -> None:
    world = World()
    world.mine(*(world.meter_record(name) for name in world.homes))
    store = world.asset_record("anna", "store", kind, 10_000, energy_wh=10_000, capacity_wh=12_000)
    world.mine(store)
    fields: dict[str, Any] = {"asset": asset_id("anna store"), "basis": Basis.ENERGY}
    first = offer(world, 7_000, **fields)
    world.mine(first)
    world.mine(accept(world, "bert", first, 7_000))
    with pytest.raises(RuleError) as refusal:
        world.mine(offer(world, 4_000, LATER, LATER + 4 * SLOT, **fields))
    assert refusal.value.code == "energy_unavailable"
    assert "3000 Wh left" in refusal.value.message
    second = offer(world, 3_000, LATER, LATER + 4 * SLOT, **fields)
    world.mine(second)
    world.mine(accept(world, "cara", second, 3_000))


def test_acceptance_races_for_the_same_power() -> None:
    """Two offers that fit alone: the second acceptance meets the first one's booking."""
    world = World()
    world.mine(*(world.meter_record(name) for name in world.homes))
    world.mine(world.asset_record("anna"))
    seven, four = offer(world, 7_000), offer(world, 4_000)
    world.mine(seven, four)
    world.mine(accept(world, "bert", seven, 7_000))
    with pytest.raises(RuleError) as refusal:
        world.mine(accept(world, "cara", four, 4_000))
    assert refusal.value.code == "power_unavailable"
    assert "3000 W left" in refusal.value.message
