"""Assets: registration, update, change of hands, figures of stores, curves and meters."""

from ledger_core.community import AssetApproval
from ledger_core.records.assets import Asset, CurveStep
from ledger_core.records.codec import Record
from ledger_core.records.readings import Stored
from ledger_core.records.types import AssetKind, Carrier, Role, Side
from ledger_core.rules.rows import StoreRow
from tests.core.actions import (
    SLOT,
    WINDOW,
    agree,
    battery,
    member,
    offer,
    refusal,
    street,
    terminate,
    until,
)
from tests.core.world import HOUSEHOLD, World, asset_id, signer


def handed_over(world: World, what: str, to: str, **fields: object) -> Record:
    """The record with which a home takes over anna's asset, co-signed by her."""
    known = world.state.assets[asset_id(f"anna {what}")]
    values = {
        "asset": asset_id(f"anna {what}"),
        "kind": known.kind,
        "carrier": known.carrier,
        "rating_w": known.rating_w,
        "curve": (),
        "energy_wh": None,
        "capacity_wh": known.capacity_wh,
        "meter": world[to].meter if known.meter else None,
        "meter_key": known.meter_key,
        "location": None,
        "supersedes": known.record,
    }
    return world.make(Asset, world[to].key, world["anna"].key, **{**values, **fields})


def test_asset_changes_hands_with_both_signatures() -> None:
    world = street()
    world.mine(handed_over(world, "pv", "bert"))
    row = world.state.assets[asset_id("anna pv")]
    assert (row.owner, row.meter) == (world["bert"].id, world["bert"].meter)


def test_booked_asset_does_not_change_hands() -> None:
    world = street()
    trade = agree(world)
    assert refusal(world, handed_over(world, "pv", "bert")).code == "asset_booked"
    assert refusal(world, handed_over(world, "meter", "bert")).code == "asset_booked"
    world.mine(terminate(world, "bert", trade, WINDOW, 0, "anna"))
    world.mine(handed_over(world, "pv", "bert"))


def test_meter_does_not_leave_the_assets_behind_it() -> None:
    world = street()
    assert refusal(world, handed_over(world, "meter", "bert")).code == "meter_in_use"
    world.mine(handed_over(world, "pv", "bert"))
    world.mine(handed_over(world, "meter", "bert"))
    assert world.state.assets[world["anna"].meter].owner == world["bert"].id


def test_a_meter_that_changed_hands_counts_for_its_new_owner_only() -> None:
    world = street()
    mine = {"asset": None, "side": Side.BUY}
    world.mine(offer(world, "anna", **mine), offer(world, "bert", **mine))
    world.mine(handed_over(world, "pv", "bert"))
    world.mine(handed_over(world, "meter", "bert"))
    assert refusal(world, offer(world, "anna", **mine)).code == "meter_missing"
    assert refusal(world, offer(world, "bert", **mine)).code == "meter_ambiguous"
    index = dict(world.state.meters_of)
    world.state.rebuild_indexes()
    assert world.state.meters_of == index
    assert index[world["bert"].id] == tuple(sorted((world["anna"].meter, world["bert"].meter)))
    assert world["anna"].id not in index


def test_two_updates_of_the_same_record_do_not_overwrite_each_other() -> None:
    world = street()
    known = world.state.assets[asset_id("anna pv")].record
    first = world.asset_record("anna", rating_w=9_000, supersedes=known)
    second = world.asset_record("anna", rating_w=8_000, supersedes=known)
    world.mine(first)
    error = refusal(world, second)
    assert error.code == "asset_superseded"
    assert error.details["latest"] == first.id.hex()


def test_new_meter_key_replaces_the_old_one() -> None:
    world = street()
    known = world.state.assets[world["anna"].meter].record
    new = signer("anna new meter key")
    world.mine(world.meter_record("anna", meter_key=new.public_key, supersedes=known))
    assert refusal(world, world.reading("anna", [(world.now // SLOT * SLOT, 1, 1)])).code == "meter_key_wrong"
    world["anna"].meter_key = new
    world.mine(world.reading("anna", [(world.now // SLOT * SLOT, 1, 1)]))
    old = signer("anna meter").public_key
    world.mine(world.meter_record("bert", asset=asset_id("second"), meter_key=old))
    assert world.state.meter_keys[old] == asset_id("second")


def test_authority_approves_where_the_genesis_says_so() -> None:
    world = World(parameters=street().genesis.parameters)
    strict = street(("anna",), asset_approval=AssetApproval.AUTHORITY)
    assert strict.state.assets
    bert = signer("bert newcomer")
    strict.mine(member(strict, strict["anna"].key, bert.public_key, bert, roles=int(Role.HOME)))
    fields = {
        "asset": asset_id("bert meter"),
        "kind": AssetKind.METER,
        "carrier": Carrier.ELECTRICITY,
        "rating_w": 5_000,
        "curve": (),
        "energy_wh": None,
        "capacity_wh": None,
        "meter": None,
        "meter_key": bert.public_key,
        "location": None,
        "supersedes": None,
    }
    assert refusal(strict, strict.make(Asset, bert, **fields)).code == "authority_missing"
    strict.mine(strict.make(Asset, bert, strict["anna"].key, **fields))
    assert len(world.homes) == 3


def test_stated_energy_is_that_of_the_record() -> None:
    world = street()
    store = battery(world, energy_wh=10_000)
    created = world.now - 30
    assert world.state.stores[store] == StoreRow(10_000, created)
    known = world.state.assets[store].record
    world.mine(
        world.asset_record(
            "anna", "battery", AssetKind.BATTERY, capacity_wh=20_000, energy_wh=12_000, supersedes=known
        )
    )
    assert world.state.stores[store].energy_wh == 12_000


def test_stated_energy_does_not_replace_a_newer_reading() -> None:
    world = street()
    store = battery(world, energy_wh=10_000)
    before = world.now
    end = world.now // SLOT * SLOT + SLOT
    until(world, end)
    world.mine(world.reading("anna", [(end, 10, 10)], [Stored(store, 7_000, None)]))
    for created, stored in ((before, StoreRow(7_000, end)), (end, StoreRow(9_000, end))):
        known = world.state.assets[store].record
        world.mine(
            world.asset_record(
                "anna",
                "battery",
                AssetKind.BATTERY,
                rating_w=4_000,
                capacity_wh=20_000,
                energy_wh=9_000,
                supersedes=known,
                created=created,
            )
        )
        assert world.state.stores[store] == stored
        assert world.state.assets[store].record != known


def test_curve_within_the_rating() -> None:
    world = street()
    known = world.state.assets[asset_id("anna pv")].record
    good = (CurveStep(WINDOW, 10_000), CurveStep(WINDOW + SLOT, 0))
    for bad in (
        (CurveStep(WINDOW, 10_001),),
        (CurveStep(WINDOW, 1), CurveStep(WINDOW, 2)),
        (CurveStep(WINDOW + SLOT, 1), CurveStep(WINDOW, 2)),
    ):
        record = world.asset_record("anna", curve=bad, supersedes=known)
        assert refusal(world, record).code == "asset_curve_invalid"
    world.mine(world.asset_record("anna", curve=good, supersedes=known))


def test_lower_rating_must_cover_what_is_booked_ahead() -> None:
    world = street()
    trade = agree(world, quantity=4_000)
    known = world.state.assets[asset_id("anna pv")].record
    error = refusal(world, world.asset_record("anna", rating_w=3_999, supersedes=known))
    assert error.code == "rating_below_booked"
    assert (error.details["booked_w"], error.details["rating_w"]) == (4_000, 3_999)
    dip = (CurveStep(WINDOW + SLOT, 3_000), CurveStep(WINDOW + 2 * SLOT, 10_000))
    error = refusal(world, world.asset_record("anna", curve=dip, supersedes=known))
    assert error.details["slot"] == WINDOW + SLOT
    world.mine(world.asset_record("anna", rating_w=4_000, supersedes=known))
    assert trade.id in world.state.trades


def test_revoked_home_keeps_its_assets_but_registers_none() -> None:
    world = street()
    bert = world["bert"]
    world.mine(member(world, world["anna"].key, bert.id, roles=0))
    assert refusal(world, world.asset_record("bert")).code == "member_revoked"
    assert world.state.assets[bert.meter].owner == bert.id
    world.mine(member(world, world["anna"].key, bert.id, roles=HOUSEHOLD, node=bert.node.public_key))
    world.mine(world.asset_record("bert"))
