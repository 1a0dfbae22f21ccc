"""Readings: several slots, late and repeated ones, contradictions, registers that jump."""

from ledger_core.records.readings import Stored
from ledger_core.rules.rows import StoreRow
from tests.core.actions import SLOT, WINDOW, battery, refusal, street, until
from tests.core.world import START, World, asset_id

LATER = WINDOW


def ends(world: World) -> list[int]:
    return [row.end for row in world.state.boundaries[world["anna"].meter]]


def waited(time: int = LATER) -> World:
    world = street()
    until(world, time)
    return world


def test_several_slots_share_one_record() -> None:
    world = waited()
    world.mine(world.reading("anna", [(LATER - age * SLOT, 100 - age, 200 - age) for age in (2, 1, 0)]))
    assert ends(world) == [LATER - age * SLOT for age in (2, 1, 0)]


def test_late_reading_fills_a_gap_and_must_fit_between_its_neighbours() -> None:
    world = waited()
    world.mine(world.reading("anna", [(LATER - 2 * SLOT, 100, 0), (LATER, 300, 0)]))
    error = refusal(world, world.reading("anna", [(LATER - SLOT, 301, 0)]))
    assert (error.code, error.details["before_wh"], error.details["after_wh"]) == (
        "register_backwards",
        301,
        300,
    )
    assert refusal(world, world.reading("anna", [(LATER - SLOT, 99, 0)])).code == "register_backwards"
    world.mine(world.reading("anna", [(LATER - SLOT, 150, 0)]))
    assert ends(world) == [LATER - 2 * SLOT, LATER - SLOT, LATER]


def test_repeated_boundaries_are_taken_once() -> None:
    world = waited()
    world.mine(world.reading("anna", [(LATER - SLOT, 100, 0)]))
    world.mine(world.reading("anna", [(LATER - SLOT, 100, 0), (LATER, 200, 0)]))
    assert ends(world) == [LATER - SLOT, LATER]
    error = refusal(world, world.reading("anna", [(LATER - SLOT, 100, 1), (LATER, 200, 1)]))
    assert (error.code, error.details["end"]) == ("reading_conflict", LATER - SLOT)


def test_boundaries_of_settled_slots_are_dropped_but_the_last_one_stays() -> None:
    world = waited()
    world.mine(world.reading("anna", [(LATER - 3 * SLOT, 10, 0)]))
    assert ends(world) == [LATER - 3 * SLOT]
    settled = world.state.tip.settled_until
    assert settled == LATER - 2 * SLOT
    world.mine(world.reading("anna", [(LATER - 2 * SLOT, 20, 0), (LATER, 30, 0)]))
    assert ends(world) == [LATER - 2 * SLOT, LATER]
    until(world, LATER + 20 * SLOT)
    error = refusal(world, world.reading("anna", [(LATER + 20 * SLOT, 29, 0)]))
    assert error.code == "register_backwards"
    world.mine(world.reading("anna", [(LATER + 20 * SLOT, 31, 0)]))
    assert ends(world) == [LATER + 20 * SLOT]


def test_very_late_reading_changes_nothing() -> None:
    world = waited()
    world.mine(world.reading("anna", [(LATER, 100, 0)]))
    before = world.state.boundaries[world["anna"].meter]
    world.mine(world.reading("anna", [(LATER - 6 * SLOT, 50, 0)]))
    assert world.state.boundaries[world["anna"].meter] == before


def test_registers_rise_no_faster_than_the_connection_allows() -> None:
    """20 kW for a slot is 5000 Wh; a quarter and 20 Wh are forgiven."""
    world = waited()
    world.mine(world.reading("anna", [(LATER - SLOT, 0, 0)]))
    error = refusal(world, world.reading("anna", [(LATER, 0, 6_271)]))
    assert (error.code, error.details["limit_wh"], error.details["rise_wh"]) == (
        "register_jump",
        6_270,
        6_271,
    )
    world.mine(world.reading("anna", [(LATER, 6_270, 6_270)]))


def test_gap_of_slots_allows_the_energy_of_all_of_them() -> None:
    world = waited()
    world.mine(world.reading("anna", [(LATER - 3 * SLOT, 0, 0)]))
    assert refusal(world, world.reading("anna", [(LATER, 18_771, 0)])).details["limit_wh"] == 18_770
    world.mine(world.reading("anna", [(LATER, 18_770, 0)]))


def test_first_reading_may_stand_anywhere() -> None:
    world = waited()
    world.mine(world.reading("anna", [(LATER, 10**12, 10**12)]))
    assert ends(world) == [LATER]


def test_boundary_is_read_when_it_is_over() -> None:
    world = street()
    world.now = LATER - 10
    assert refusal(world, world.reading("anna", [(LATER, 1, 1)])).code == "reading_early"
    world.mine(world.reading("anna", [(LATER, 1, 1)], created=LATER))


def test_stored_energy_follows_the_newest_boundary() -> None:
    world = street()
    store = battery(world, energy_wh=1_000)
    created = world.state.stores[store].at
    until(world, LATER)
    world.mine(world.reading("anna", [(LATER, 10, 10)], [Stored(store, 7_000, 3)]))
    assert world.state.stores[store] == StoreRow(7_000, LATER)
    world.mine(world.reading("anna", [(LATER - SLOT, 5, 5)], [Stored(store, 2_000, None)]))
    assert world.state.stores[store] == StoreRow(7_000, LATER)
    world.mine(world.reading("anna", [(LATER, 10, 10)], [Stored(store, 6_900, None)]))
    assert world.state.stores[store] == StoreRow(6_900, LATER)
    assert START < created < LATER


def test_content_is_read_only_behind_the_own_meter() -> None:
    world = street()
    store = battery(world)
    until(world, LATER)
    assert refusal(world, world.reading("bert", [(LATER, 1, 1)], [Stored(store, 1, None)])).code == (
        "stored_not_behind_meter"
    )
    assert store == asset_id("anna battery")
