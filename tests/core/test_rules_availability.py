"""Availability: power by slot, energy of stores, the connections that assets share."""

import pytest

from ledger_core.records.assets import CurveStep
from ledger_core.records.readings import Stored
from ledger_core.records.types import AssetKind, Basis
from ledger_core.rules.rows import StoreRow
from tests.core.actions import (
    SLOT,
    WINDOW,
    accept,
    agree,
    battery,
    meters,
    offer,
    refusal,
    settle,
    street,
    terminate,
)
from tests.core.world import World, asset_id

END = WINDOW + 4 * SLOT


def reserve(world: World, watts: int, **fields: object) -> None:
    """Sell reserved power to bert."""
    agree(world, basis=Basis.CAPACITY, quantity=watts, price=1_000, **fields)


def test_energy_of_a_battery_is_not_sold_twice_after_its_trade_is_settled() -> None:
    """Delivered energy is gone, although it is no longer outstanding and nobody has read the battery."""
    world = street()
    store = battery(world, energy_wh=10_000)
    first = agree(world, asset=store, quantity=7_000)
    assert world.state.trades[first.id].watts == 7_000
    meters(world, {"anna": [1_500] * 4}, {"bert": [1_750] * 4})
    settle(world)
    assert first.id in world.state.closed
    assert world.state.stores[store].energy_wh == 4_000
    later = {"asset": store, "start": world.now // SLOT * SLOT + 4 * SLOT}
    error = refusal(world, offer(world, quantity=4_001, **later))
    assert error.code == "energy_unavailable"
    assert error.details["left_wh"] == 4_000
    world.mine(offer(world, quantity=4_000, **later))


def test_reading_after_the_trade_replaces_the_estimate() -> None:
    world = street()
    store = battery(world, energy_wh=10_000)
    agree(world, asset=store, quantity=7_000)
    meters(world, {"anna": [1_500] * 4}, {"bert": [1_750] * 4})
    row = [(END, 500_000, 106_000)]
    world.mine(world.reading("anna", row, [Stored(store, 9_000, None)]))
    settle(world)
    assert world.state.stores[store] == StoreRow(9_000, END)


def test_reading_during_the_trade_draws_only_what_follows_it() -> None:
    world = street()
    store = battery(world, energy_wh=10_000)
    agree(world, asset=store, quantity=8_000)
    world.now = WINDOW + 2 * SLOT - 30
    world.mine(
        world.reading(
            "anna",
            [(WINDOW + 2 * SLOT, 500_000, 104_000)],
            [Stored(store, 6_000, None)],
            created=WINDOW + 2 * SLOT,
        )
    )
    later = {"asset": store, "start": END + 4 * SLOT}
    error = refusal(world, offer(world, quantity=2_001, **later))
    assert error.details == {"asset": store.hex(), "wanted_wh": 2_001, "left_wh": 2_000}
    world.mine(offer(world, quantity=2_000, **later))


def test_terminated_trade_gives_its_energy_back() -> None:
    world = street()
    store = battery(world, energy_wh=10_000)
    trade = agree(world, asset=store, quantity=8_000)
    world.mine(terminate(world, "bert", trade, WINDOW + SLOT, 0, "anna"))
    later = {"asset": store, "start": END}
    assert refusal(world, offer(world, quantity=8_001, **later)).details["left_wh"] == 8_000


@pytest.mark.parametrize("kind", [AssetKind.BATTERY, AssetKind.FUEL_CELL, AssetKind.EV, AssetKind.PORTABLE])
def test_store_of_unknown_content_sells_nothing(kind: AssetKind) -> None:
    world = street()
    store = asset_id("anna store")
    world.mine(world.asset_record("anna", "store", kind, 10_000, capacity_wh=20_000))
    error = refusal(world, offer(world, asset=store, quantity=1))
    assert error.code == "energy_unavailable"
    assert error.details["left_wh"] == 0
    boundary = world.now // SLOT * SLOT
    world.mine(world.reading("anna", [(boundary, 0, 0)], [Stored(store, 500, None)]))
    world.mine(offer(world, asset=store, quantity=500))


def test_reserved_power_draws_on_a_store_in_full() -> None:
    world = street()
    store = battery(world, energy_wh=5_000)
    reserve(world, 3_000, asset=store)
    error = refusal(world, offer(world, asset=store, quantity=2_001, start=END))
    assert error.details["left_wh"] == 2_000


def test_power_is_free_again_where_windows_only_touch() -> None:
    world = street()
    reserve(world, 7_000)
    reserve(world, 10_000, start=END, end=END + SLOT)
    reserve(world, 10_000, start=WINDOW - SLOT, end=WINDOW)
    error = refusal(world, offer(world, basis=Basis.CAPACITY, quantity=3_001, start=WINDOW - SLOT, end=END))
    assert error.code == "power_unavailable"
    assert error.details["left_w"] == 0
    assert error.details["slot"] == WINDOW - SLOT


def test_the_tightest_slot_decides() -> None:
    world = street()
    for slot, watts in enumerate([1_000, 6_000, 4_000]):
        reserve(world, watts, start=WINDOW + slot * SLOT, end=WINDOW + (slot + 1) * SLOT)
    window = {"start": WINDOW, "end": WINDOW + 3 * SLOT}
    error = refusal(world, offer(world, basis=Basis.CAPACITY, quantity=4_001, **window))
    assert error.details["left_w"] == 4_000
    assert error.details["slot"] == WINDOW + SLOT
    reserve(world, 4_000, **window)


def test_curve_lowers_the_rating_by_time() -> None:
    world = street()
    curve = (CurveStep(WINDOW, 2_000), CurveStep(WINDOW + 2 * SLOT, 8_000))
    pv = world.state.assets[asset_id("anna pv")]
    world.mine(world.asset_record("anna", curve=curve, supersedes=pv.record))
    before = {"start": WINDOW - SLOT, "end": WINDOW}
    reserve(world, 10_000, **before)
    assert refusal(world, offer(world, basis=Basis.CAPACITY, quantity=2_001)).details["left_w"] == 2_000
    reserve(world, 8_000, start=WINDOW + 2 * SLOT, end=END)


def test_both_connections_limit_a_trade() -> None:
    world = street()
    meter = world.state.assets[world["bert"].meter]
    world.mine(world.meter_record("bert", 3_000, supersedes=meter.record))
    offered = offer(world, basis=Basis.CAPACITY, quantity=4_000)
    world.mine(offered)
    error = refusal(world, accept(world, "bert", offered))
    assert error.code == "connection_full"
    assert error.details["left_w"] == 3_000
    assert "to import" in error.message
    world.mine(accept(world, "bert", offered, quantity=3_000))
    anna = world.state.assets[world["anna"].meter]
    error = refusal(world, world.meter_record("anna", 2_999, supersedes=anna.record))
    assert error.code == "rating_below_booked"
    world.mine(world.meter_record("anna", 5_000, supersedes=anna.record))
    error = refusal(world, offer(world, basis=Basis.CAPACITY, quantity=2_001))
    assert error.code == "connection_full"
    assert "to export" in error.message
    assert error.details["left_w"] == 2_000


def test_two_assets_share_one_connection() -> None:
    world = street(rating_w=15_000)
    battery(world, energy_wh=20_000)
    reserve(world, 15_000)
    fields = {"asset": asset_id("anna battery"), "basis": Basis.CAPACITY}
    error = refusal(world, offer(world, quantity=5_001, **fields))
    assert error.code == "connection_full"
    assert error.details["left_w"] == 5_000


def test_offer_books_its_highest_power_even_for_little_energy() -> None:
    world = street()
    agree(world, quantity=1_000, max_w=8_000)
    assert refusal(world, offer(world, quantity=2_001)).details["left_w"] == 2_000


def test_partial_acceptance_books_its_part_rounded_up() -> None:
    world = street()
    offered = offer(world, quantity=3_000, max_w=10_000)
    world.mine(offered)
    part = accept(world, "bert", offered, quantity=1_000)
    world.mine(part)
    assert world.state.trades[part.id].watts == 3_334


def test_retired_asset_sells_nothing_and_retired_meter_is_no_choice() -> None:
    world = street()
    old = world.state.assets[world["bert"].meter]
    world.mine(world.meter_record("bert", 0, supersedes=old.record))
    new = asset_id("bert new meter")
    world.mine(world.meter_record("bert", asset=new, meter_key=world["bert"].node.public_key))
    trade = agree(world)
    assert world.state.trades[trade.id].buyer_meter == new
    pv = world.state.assets[asset_id("anna pv")]
    error = refusal(world, world.asset_record("anna", rating_w=0, supersedes=pv.record))
    assert error.code == "rating_below_booked"
    world.mine(terminate(world, "bert", trade, WINDOW, 0, "anna"))
    world.mine(world.asset_record("anna", rating_w=0, supersedes=pv.record))
    assert refusal(world, offer(world, quantity=1)).code == "power_unavailable"
