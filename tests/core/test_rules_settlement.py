"""Settlement to the last Wh and micro: shares, missing readings, capacity, shortfall, dispute."""

from typing import Any

import pytest
from msgspec.structs import replace

from ledger_core.records.codec import Record
from ledger_core.records.types import Basis
from ledger_core.rules.events import SlotSettled, TradeClosed
from ledger_core.rules.settlement import settle_line
from ledger_core.units import share_out, slot_share
from tests.core.actions import (
    SLOT,
    WINDOW,
    accept,
    agree,
    history,
    lines,
    meters,
    money,
    offer,
    parameters,
    settle,
    street,
    trade_of,
    until,
)
from tests.core.world import World, asset_id

END = WINDOW + 4 * SLOT
ONE_SLOT = {"end": WINDOW + SLOT}


def one_slot(quantity: int = 1_000, world: World | None = None, **fields: Any) -> tuple[World, Record]:
    """A trade of one slot between anna and bert."""
    world = world or street()
    return world, agree(world, quantity=quantity, **{**ONE_SLOT, **fields})


def settled(world: World, exported: int, imported: int) -> SlotSettled:
    """The only line of the slot, once both meters were read."""
    meters(world, {"anna": [exported]}, {"bert": [imported]})
    (line,) = settle(world, WINDOW + SLOT)
    return line


@pytest.mark.parametrize(
    ("exported", "imported", "delivered"),
    [
        (1_000, 1_000, 1_000),
        (1_500, 1_200, 1_000),
        (999, 1_000, 999),
        (1_000, 0, 0),
        (0, 1_000, 0),
        (3, 2, 2),
    ],
)
def test_delivered_is_the_smallest_of_agreed_sent_and_received(
    exported: int, imported: int, delivered: int
) -> None:
    world, trade = one_slot()
    line = settled(world, exported, imported)
    assert (line.sent_wh, line.received_wh) == (min(exported, 1_000), min(imported, 1_000))
    assert line.delivered_wh == delivered
    assert line.paid == delivered * 200_000 // 1000
    assert money(world, "anna").balance == line.paid == -money(world, "bert").balance
    assert money(world, "anna").held == money(world, "bert").held == 0
    assert trade.id in world.state.closed
    energy = world.state.energy.get((world["anna"].id, "electricity"))
    assert (energy.sold_wh if energy else 0) == delivered


def test_price_is_rounded_down_per_slot_and_the_rest_is_freed() -> None:
    world = street()
    trade = agree(world, quantity=10, price=999)
    assert money(world, "bert").held == 9
    meters(world, {"anna": [5, 5, 5, 5]}, {"bert": [5, 5, 5, 5]})
    settle(world)
    got = history(world)
    assert [line.agreed_wh for line in got] == [2, 3, 2, 3] == [slot_share(10, i, 4) for i in range(4)]
    assert [line.paid for line in got] == [1, 2, 1, 2]
    assert money(world, "bert").held == 0
    assert trade.id in world.state.closed


def test_exports_are_shared_by_what_was_agreed_largest_remainder_first() -> None:
    world = street(("anna", "bert", "cara", "dora"))
    offered = offer(world, quantity=1_000, **ONE_SLOT)
    world.mine(offered)
    deals = [
        accept(world, name, offered, quantity=q) for name, q in (("bert", 500), ("cara", 300), ("dora", 200))
    ]
    world.mine(*deals)
    meters(world, {"anna": [333]}, {"bert": [500], "cara": [300], "dora": [200]})
    sent = {line.trade: line.sent_wh for line in settle(world, WINDOW + SLOT)}
    # 166.5, 99.9 and 66.6: one Wh is left over for 99.9, the other for 66.6
    assert [sent[deal.id] for deal in deals] == [166, 100, 67]


def test_ties_in_the_remainder_go_to_the_smaller_trade_id() -> None:
    world = street()
    offered = offer(world, quantity=1_000, **ONE_SLOT)
    world.mine(offered)
    deals = [accept(world, name, offered, quantity=500) for name in ("bert", "cara")]
    world.mine(*deals)
    meters(world, {"anna": [101]}, {"bert": [500], "cara": [500]})
    sent = {line.trade: line.sent_wh for line in settle(world, WINDOW + SLOT)}
    first, second = sorted(deal.id for deal in deals)
    assert (sent[first], sent[second]) == (51, 50)


def test_share_out_in_small_numbers() -> None:
    keys = [b"a", b"b", b"c"]
    assert share_out(10, [1, 2, 3], keys) == [1, 2, 3]
    assert share_out(0, [1, 2, 3], keys) == [0, 0, 0]
    assert share_out(1, [1, 1, 1], keys) == [1, 0, 0]
    assert share_out(1, [1, 1, 1], keys[::-1]) == [0, 0, 1]
    assert share_out(2, [3, 3, 1], keys) == [1, 1, 0]
    assert share_out(5, [0, 0, 7], keys) == [0, 0, 5]
    assert share_out(3, [0, 0, 0], keys) == [0, 0, 0]
    assert share_out(1, [], []) == []


def test_imports_are_shared_over_all_sellers_of_a_meter() -> None:
    world = street()
    world.mine(world.asset_record("bert"))
    agree(world, "cara", "anna", quantity=600, **ONE_SLOT)
    agree(world, "cara", "bert", quantity=400, asset=asset_id("bert pv"), **ONE_SLOT)
    meters(world, {"anna": [600], "bert": [400]}, {"cara": [500]})
    got = {line.seller: line for line in settle(world, WINDOW + SLOT)}
    assert got[world["anna"].id].delivered_wh == 300
    assert got[world["bert"].id].delivered_wh == 200


def test_two_assets_behind_one_meter_share_its_exports() -> None:
    world = street()
    world.mine(world.asset_record("anna", "wind"))
    agree(world, "bert", "anna", quantity=600, **ONE_SLOT)
    agree(world, "cara", "anna", quantity=200, asset=asset_id("anna wind"), **ONE_SLOT)
    meters(world, {"anna": [400]}, {"bert": [600], "cara": [200]})
    got = {line.buyer: line.delivered_wh for line in settle(world, WINDOW + SLOT)}
    assert got == {world["bert"].id: 300, world["cara"].id: 100}


@pytest.mark.parametrize("missing", ["anna", "bert"])
def test_without_a_reading_nothing_is_delivered_and_that_is_said(missing: str) -> None:
    world, trade = one_slot(shortfall_price=50_000)
    readings = {"anna": {"anna": [1_000]}, "bert": {"bert": [1_000]}}
    if missing == "bert":
        meters(world, readings["anna"], {})
    else:
        meters(world, {}, readings["bert"])
    (line,) = settle(world, WINDOW + SLOT)
    assert (line.sent_wh is None) == (missing == "anna")
    assert (line.received_wh is None) == (missing == "bert")
    assert (line.delivered_wh, line.paid) == (0, 0)
    assert line.disputed is False
    assert line.shortfall_paid == (50_000 if missing == "anna" else 0)
    assert world["anna"].id not in world.state.reputation
    assert money(world, "bert").held == money(world, "anna").held == 0
    assert trade.id in world.state.closed


def test_only_one_boundary_is_no_reading() -> None:
    world, _ = one_slot()
    world.now = WINDOW + SLOT - 30
    world.mine(
        world.reading("anna", [(WINDOW + SLOT, 0, 1_000)], created=WINDOW + SLOT),
        world.reading("bert", [(WINDOW, 0, 0), (WINDOW + SLOT, 1_000, 0)], created=WINDOW + SLOT),
    )
    (line,) = settle(world, WINDOW + SLOT)
    assert (line.sent_wh, line.received_wh, line.delivered_wh) == (None, 1_000, 0)


def test_reading_in_the_very_block_that_settles_counts_and_one_later_does_not() -> None:
    for late in (False, True):
        world, _ = one_slot()
        meters(world, {"anna": [1_000]}, {})
        reading = world.reading("bert", [(WINDOW, 0, 0), (WINDOW + SLOT, 1_000, 0)])
        due = WINDOW + SLOT + world.genesis.parameters.grace_s
        if late:
            (line,) = lines(until(world, due))
            world.mine(reading)
            assert line.delivered_wh == 0
        else:
            (line,) = lines(world.mine(reading, step=due - world.now).events)
            assert line.delivered_wh == 1_000


def test_settled_at_the_first_block_at_or_after_the_grace() -> None:
    world, _ = one_slot()
    due = WINDOW + SLOT + world.genesis.parameters.grace_s
    assert lines(until(world, due - 1)) == []
    assert len(lines(until(world, due))) == 1


def test_a_long_pause_settles_every_slot_in_order() -> None:
    world = street()
    agree(world, quantity=4_000)
    agree(world, "cara", quantity=400, start=END, end=END + SLOT)
    meters(world, {"anna": [1_000] * 4 + [400]}, {"bert": [1_000] * 4, "cara": [0] * 4 + [400]})
    until(world, END + 40 * SLOT)
    got = history(world)
    assert [line.slot_end for line in got] == [WINDOW + SLOT * (n + 1) for n in range(5)]
    assert [line.delivered_wh for line in got] == [1_000] * 4 + [400]
    assert world.state.tip.settled_until == END + 38 * SLOT


def test_closing_tells_the_whole_trade() -> None:
    world = street()
    trade = agree(world, quantity=4_000)
    meters(world, {"anna": [1_000, 900, 1_100, 0]}, {"bert": [1_000] * 4})
    events = until(world, END + 1800)
    (closed,) = [event for event in events if isinstance(event, TradeClosed)]
    assert (closed.trade, closed.delivered_wh, closed.paid) == (trade.id, 2_900, 580_000)


# Reserved capacity


@pytest.mark.parametrize(
    ("exported", "imported", "paid"),
    [
        (500, 500, 12_500),  # all of what was reserved
        (900, 900, 12_500),
        (250, 250, 12_500),  # all of what was wanted
        (125, 250, 6_250),  # half of what was wanted
        (0, 250, 0),
        (0, 0, 12_500),  # nothing was wanted, the power stood ready
        (100, 300, 4_166),
        (100, 900, 2_500),  # wanted is at most what was reserved
    ],
)
def test_capacity_is_paid_by_delivered_over_wanted(exported: int, imported: int, paid: int) -> None:
    world, _ = one_slot(2_000, basis=Basis.CAPACITY, price=25_000)
    assert money(world, "bert").held == 12_500
    line = settled(world, exported, imported)
    assert line.agreed_wh == 500
    assert line.delivered_wh == min(exported, imported, 500)
    assert line.paid == paid


def test_capacity_without_readings_is_not_paid() -> None:
    world, _ = one_slot(2_000, basis=Basis.CAPACITY, price=25_000)
    (line,) = settle(world, WINDOW + SLOT)
    assert (line.sent_wh, line.received_wh, line.paid) == (None, None, 0)
    assert money(world, "bert").held == 0


def test_reserved_power_claims_no_more_of_the_export_than_was_drawn() -> None:
    """400 Wh leave anna's meter; of 500 Wh reserved bert draws 100: the other 300 Wh were for cara."""
    world = street()
    agree(world, "bert", "anna", basis=Basis.CAPACITY, quantity=2_000, price=25_000, **ONE_SLOT)
    world.mine(world.asset_record("anna", "wind"))
    agree(world, "cara", "anna", quantity=300, asset=asset_id("anna wind"), **ONE_SLOT)
    meters(world, {"anna": [400]}, {"bert": [100], "cara": [300]})
    got = {line.buyer: line for line in settle(world, WINDOW + SLOT)}
    assert {name: got[world[name].id].sent_wh for name in ("bert", "cara")} == {"bert": 100, "cara": 300}
    assert {name: got[world[name].id].delivered_wh for name in ("bert", "cara")} == {"bert": 100, "cara": 300}
    assert got[world["bert"].id].paid == 12_500
    assert not any(line.disputed for line in got.values())


def test_reserved_power_of_a_buyer_without_readings_claims_all_of_it() -> None:
    world = street()
    agree(world, "bert", "anna", basis=Basis.CAPACITY, quantity=2_000, price=25_000, **ONE_SLOT)
    world.mine(world.asset_record("anna", "wind"))
    agree(world, "cara", "anna", quantity=500, asset=asset_id("anna wind"), **ONE_SLOT)
    meters(world, {"anna": [400]}, {"cara": [500]})
    got = {line.buyer: line for line in settle(world, WINDOW + SLOT)}
    assert got[world["bert"].id].sent_wh == got[world["cara"].id].sent_wh == 200


def test_reserved_power_that_is_no_whole_watt_hour_per_slot() -> None:
    """333 W for four slots of 15 minutes: 83.25 Wh each, 333 Wh together."""
    world = street()
    trade = agree(world, basis=Basis.CAPACITY, quantity=333, price=1_000)
    assert trade_of(world, trade).held_buyer == 333
    meters(world, {"anna": [84] * 4}, {"bert": [84] * 4})
    settle(world)
    assert [line.agreed_wh for line in history(world)] == [83, 83, 83, 84]


# Shortfall, dispute


def test_seller_pays_the_shortfall_price_for_what_is_missing() -> None:
    world, _ = one_slot(shortfall_price=30_001)
    assert money(world, "anna").held == 30_001
    line = settled(world, 400, 1_000)
    assert line.paid == 400 * 200
    assert line.shortfall_paid == 600 * 30_001 // 1000 == 18_000
    assert money(world, "anna").balance == 80_000 - 18_000 == -money(world, "bert").balance
    assert money(world, "anna").held == 0


def test_buyer_who_takes_less_is_owed_nothing() -> None:
    world, _ = one_slot(shortfall_price=30_000)
    assert settled(world, 1_000, 100).shortfall_paid == 0


@pytest.mark.parametrize(
    ("exported", "imported", "disputed"),
    [
        (1_000, 980, False),  # 2 % of 1000 Wh
        (1_000, 979, True),
        (500, 480, False),  # 20 Wh is the larger
        (500, 479, True),
        (480, 500, False),
        (479, 500, True),
        (0, 20, False),
        (0, 21, True),
    ],
)
def test_difference_beyond_the_loss_tolerance_is_disputed(
    exported: int, imported: int, disputed: bool
) -> None:
    world, _ = one_slot()
    line = settled(world, exported, imported)
    assert line.disputed is disputed
    assert (world["anna"].id in world.state.reputation) is not disputed
    assert line.paid == min(exported, imported) * 200


def test_line_rule_alone_over_all_corners() -> None:
    """Paid never exceeds what is held, and nothing is negative, whatever the meters say."""
    world, trade = one_slot(shortfall_price=7_777)
    energy = trade_of(world, trade)
    for row in (energy, replace(energy, basis=Basis.CAPACITY)):
        for agreed in (0, 1, 999, 1_000):
            for sent in (None, 0, 1, agreed):
                for received in (None, 0, 1, agreed):
                    if max(sent or 0, received or 0) > agreed:
                        continue
                    out = settle_line(row, agreed, sent, received, parameters())
                    assert 0 <= out.paid <= agreed * row.price // 1000
                    assert 0 <= out.shortfall_paid <= agreed * 7_777 // 1000
                    assert 0 <= out.delivered <= min(sent or 0, received or 0)
                    assert 0 <= out.supplied <= out.owed <= agreed
