"""From an offer to a trade: parts, changed terms, silence, withdrawal, auctions, early ends."""

from typing import Any

import pytest

from ledger_core.records.codec import Record
from ledger_core.records.offers import Auction
from ledger_core.records.types import Basis, Side
from ledger_core.rules.events import AcceptanceEnded, Event, OfferClosed, TradeAgreed, TradeTerminated
from tests.core.actions import (
    SLOT,
    WINDOW,
    accept,
    agree,
    battery,
    confirm,
    lines,
    meters,
    money,
    offer,
    refusal,
    reject,
    settle,
    street,
    terminate,
    trade_of,
    until,
    withdraw,
)
from tests.core.world import World, asset_id

END = WINDOW + 4 * SLOT
CLOSES = WINDOW - SLOT
AUCTION = Auction(CLOSES, 300_000, 100_000)


def ended(events: list[Event]) -> dict[bytes, str]:
    return {event.acceptance: event.reason for event in events if isinstance(event, AcceptanceEnded)}


def closed(events: list[Event]) -> list[str]:
    return [event.reason for event in events if isinstance(event, OfferClosed)]


# Parts


def test_parts_until_nothing_is_open() -> None:
    world = street()
    offered = offer(world, min_quantity=1_500)
    world.mine(offered)
    world.mine(accept(world, "bert", offered, quantity=2_000))
    assert world.state.offers[offered.id].open == 2_000
    error = refusal(world, accept(world, "cara", offered, quantity=2_001))
    assert (error.code, error.details) == ("quantity_exceeds_open", {"wanted": 2_001, "left": 2_000})
    assert refusal(world, accept(world, "cara", offered, quantity=1_499)).code == "below_minimum_fill"
    events = world.mine(accept(world, "cara", offered, quantity=2_000)).events
    assert closed(events) == ["taken"]
    assert offered.id not in world.state.offers


def test_the_rest_may_be_smaller_than_the_minimum_fill() -> None:
    world = street()
    offered = offer(world, min_quantity=1_500)
    world.mine(offered)
    world.mine(accept(world, "bert", offered, quantity=3_000))
    world.mine(accept(world, "cara", offered, quantity=1_000))
    assert len(world.state.trades) == 2


def test_first_in_the_chain_wins_within_one_block() -> None:
    world = street()
    offered = offer(world, min_quantity=None)
    world.mine(offered)
    first, second = accept(world, "cara", offered), accept(world, "bert", offered)
    assert refusal(world, first, second).code == "offer_unknown"
    world.mine(first)
    assert list(world.state.trades) == [first.id]


def test_offer_and_acceptance_in_one_block() -> None:
    world = street()
    offered = offer(world)
    assert refusal(world, accept(world, "bert", offered), offered).code == "offer_unknown"
    world.mine(offered, accept(world, "bert", offered))
    assert len(world.state.trades) == 1


def test_audience_keeps_others_out() -> None:
    world = street()
    offered = offer(world, audience=(world["cara"].id,))
    world.mine(offered)
    assert refusal(world, accept(world, "bert", offered)).code == "not_in_audience"
    world.mine(accept(world, "cara", offered))


def test_request_is_answered_by_a_seller() -> None:
    world = street()
    wanted = offer(world, "bert", side=Side.BUY)
    world.mine(wanted)
    assert refusal(world, accept(world, "cara", wanted)).code == "asset_unknown"
    assert refusal(world, accept(world, "anna", wanted, asset=None)).code == "asset_missing"
    answered = accept(world, "anna", wanted)
    world.mine(answered)
    trade = trade_of(world, answered)
    assert (trade.seller, trade.buyer) == (world["anna"].id, world["bert"].id)
    assert (trade.seller_meter, trade.buyer_meter) == (world["anna"].meter, world["bert"].meter)
    assert money(world, "bert").held == 800_000


def test_offer_lasts_to_its_last_second_and_expires_then() -> None:
    world = street()
    offered = offer(world, valid_until=WINDOW - SLOT)
    world.mine(offered)
    late = accept(world, "cara", offered, quantity=2_000)
    world.mine(accept(world, "bert", offered, quantity=2_000), step=WINDOW - SLOT - world.now)
    assert closed(world.mine(step=1).events) == ["expired"]
    assert refusal(world, late).code == "offer_unknown"


def test_offer_ends_when_its_window_begins() -> None:
    world = street()
    offered = offer(world, valid_until=END)
    world.mine(offered)
    world.mine(accept(world, "bert", offered, quantity=1_000), step=WINDOW - world.now)
    assert closed(world.mine(step=1).events) == ["expired"]


# Changed terms


def countered(**fields: Any) -> tuple[World, Record, Record]:
    world = street()
    offered = offer(world)
    changed = accept(world, "bert", offered, **{"price": 190_000, "valid_until": WINDOW - SLOT, **fields})
    world.mine(offered, changed)
    return world, offered, changed


def test_changed_terms_book_and_hold_nothing_until_they_are_confirmed() -> None:
    world, offered, changed = countered()
    assert not world.state.trades
    assert not world.state.booked
    assert money(world, "bert").held == 0
    world.mine(confirm(world, "anna", changed))
    trade = trade_of(world, changed)
    assert (trade.price, trade.origin) == (190_000, "countered")
    assert money(world, "bert").held == 760_000
    assert offered.id not in world.state.offers


def test_changed_window_is_a_counter_and_books_its_own_power() -> None:
    world, _, changed = countered(price=200_000, end=WINDOW + 2 * SLOT)
    world.mine(confirm(world, "anna", changed))
    trade = trade_of(world, changed)
    assert (trade.end, trade.watts) == (WINDOW + 2 * SLOT, 8_000)


def test_rejected_changed_terms_leave_the_offer_open() -> None:
    world, offered, changed = countered()
    assert ended(world.mine(reject(world, "anna", changed)).events) == {changed.id: "rejected"}
    assert world.state.offers[offered.id].open == 4_000
    assert refusal(world, confirm(world, "anna", changed)).code == "acceptance_unknown"


def test_silence_rejects_at_the_end_of_the_validity() -> None:
    world, _, changed = countered()
    assert ended(world.mine(step=WINDOW - SLOT - world.now).events) == {}
    assert ended(world.mine(step=1).events) == {changed.id: "expired"}
    assert refusal(world, confirm(world, "anna", changed)).code == "acceptance_unknown"


def test_terms_can_be_confirmed_in_their_last_second() -> None:
    world, _, changed = countered()
    world.mine(confirm(world, "anna", changed), step=WINDOW - SLOT - world.now)
    assert changed.id in world.state.trades


def test_own_changed_terms_can_be_withdrawn() -> None:
    world, _, changed = countered()
    assert ended(world.mine(withdraw(world, "bert", changed)).events) == {changed.id: "withdrawn"}


def test_withdrawn_offer_ends_what_waits_on_it() -> None:
    world, offered, changed = countered()
    events = world.mine(withdraw(world, "anna", offered)).events
    assert closed(events) == ["withdrawn"]
    assert ended(events) == {changed.id: "offer withdrawn"}
    assert not world.state.waiting_on


def test_taken_offer_ends_what_waits_on_it() -> None:
    world, offered, changed = countered()
    events = world.mine(accept(world, "cara", offered)).events
    assert ended(events) == {changed.id: "offer taken"}


def test_withdrawal_takes_back_only_what_is_open() -> None:
    world = street()
    offered = offer(world)
    sold = accept(world, "bert", offered, quantity=1_000)
    world.mine(offered, sold)
    world.mine(withdraw(world, "anna", offered))
    assert trade_of(world, sold).quantity == 1_000
    assert refusal(world, accept(world, "cara", offered, quantity=1_000)).code == "offer_unknown"


def test_confirmation_meets_what_was_booked_meanwhile() -> None:
    world = street()
    first, second = offer(world, quantity=8_000), offer(world, quantity=8_000)
    changed = accept(world, "bert", first, price=1)
    world.mine(first, second, changed)
    world.mine(accept(world, "cara", second))
    error = refusal(world, confirm(world, "anna", changed))
    assert (error.code, error.details["left_w"]) == ("power_unavailable", 2_000)
    assert changed.id in world.state.waiting


# Auctions


def auction(world: World, **fields: Any) -> Record:
    record = offer(world, **{"quantity": 1_000, "auction": AUCTION, **fields})
    world.mine(record)
    return record


def awarded(events: list[Event]) -> dict[bytes, int]:
    return {event.trade: event.price for event in events if isinstance(event, TradeAgreed)}


def test_highest_bids_win_at_their_own_prices() -> None:
    world = street(("anna", "bert", "cara", "dora"))
    offered = auction(world)
    low = accept(world, "bert", offered, quantity=500, price=150_000)
    high = accept(world, "cara", offered, quantity=600, price=250_000)
    middle = accept(world, "dora", offered, quantity=400, price=200_000)
    world.mine(low, high, middle)
    assert money(world, "cara").held == 150_000
    events = until(world, CLOSES)
    assert awarded(events) == {high.id: 250_000, middle.id: 200_000}
    assert ended(events) == {high.id: "awarded", middle.id: "awarded", low.id: "lost"}
    assert closed(events) == ["auctioned"]
    assert [money(world, name).held for name in ("bert", "cara", "dora")] == [0, 150_000, 80_000]


def test_equal_bids_go_to_the_earlier_one_in_the_chain() -> None:
    world = street(("anna", "bert", "cara", "dora"))
    offered = auction(world)
    bids = [accept(world, name, offered, quantity=600) for name in ("dora", "bert")]
    world.mine(bids[0])
    world.mine(bids[1], accept(world, "cara", offered, quantity=600))
    assert list(awarded(until(world, CLOSES))) == [bids[0].id]


def test_bid_that_no_longer_fits_loses_and_the_next_is_tried() -> None:
    world = street(("anna", "bert", "cara", "dora"))
    offered = auction(world)
    big = accept(world, "bert", offered, quantity=800, price=250_000)
    too_big = accept(world, "cara", offered, quantity=300, price=220_000)
    fits = accept(world, "dora", offered, quantity=200, price=210_000)
    world.mine(big, too_big, fits)
    events = until(world, CLOSES)
    assert list(awarded(events)) == [big.id, fits.id]
    assert ended(events)[too_big.id] == "lost: quantity_exceeds_open"
    assert money(world, "cara").held == 0


def test_bid_that_a_rule_refuses_by_now_loses() -> None:
    """The power was sold elsewhere before the auction closed."""
    world = street()
    offered = auction(world, quantity=8_000)
    bid = accept(world, "bert", offered, price=200_000, quantity=8_000)
    world.mine(bid)
    agree(world, "cara", quantity=9_000)
    events = until(world, CLOSES)
    assert ended(events) == {bid.id: "lost: power_unavailable"}
    assert money(world, "bert").held == 0
    assert not world.state.waiting


def test_bids_on_a_request_are_awarded_lowest_first_and_hold_nothing() -> None:
    world = street()
    world.mine(world.asset_record("cara"))
    wanted = offer(world, "bert", side=Side.BUY, auction=AUCTION)
    world.mine(wanted)
    dear, cheap = (
        accept(world, "anna", wanted, price=250_000),
        accept(world, "cara", wanted, price=120_000),
    )
    world.mine(dear, cheap)
    assert money(world, "anna").held == money(world, "cara").held == 0
    events = until(world, CLOSES)
    assert awarded(events) == {cheap.id: 120_000}
    assert money(world, "bert").held == 480_000
    assert ended(events) == {cheap.id: "awarded", dear.id: "lost"}


@pytest.mark.parametrize("price", [100_000, 300_000])
def test_reserve_and_ceiling_are_bids_themselves(price: int) -> None:
    world = street()
    offered = auction(world)
    bid = accept(world, "bert", offered, price=price)
    world.mine(bid)
    assert awarded(until(world, CLOSES)) == {bid.id: price}


def test_auction_is_awarded_by_the_first_block_at_or_after_its_close() -> None:
    world = street()
    offered = auction(world)
    world.mine(accept(world, "bert", offered))
    assert awarded(until(world, CLOSES - 1)) == {}
    assert len(awarded(until(world, CLOSES + 200))) == 1


def test_auction_whose_award_comes_after_the_start_is_lost() -> None:
    world = street()
    offered = auction(world)
    bid = accept(world, "bert", offered)
    world.mine(bid)
    assert ended(until(world, WINDOW + 1)) == {bid.id: "lost"}
    assert money(world, "bert").held == 0


def test_withdrawn_auction_frees_its_bids() -> None:
    world = street()
    offered = auction(world)
    bid = accept(world, "bert", offered)
    world.mine(bid)
    assert refusal(world, withdraw(world, "bert", bid)).code == "bid_binding"
    world.mine(withdraw(world, "anna", offered))
    assert money(world, "bert").held == 0
    assert not world.state.waiting


# Early ends


def test_ending_alone_before_the_start_costs_the_whole_price_where_the_genesis_says_so() -> None:
    world = street(termination_permille=1000)
    trade = agree(world)
    assert refusal(world, terminate(world, "bert", trade, WINDOW, 799_999)).details["least"] == 800_000
    events = world.mine(terminate(world, "bert", trade, WINDOW, 800_000)).events
    assert any(isinstance(event, TradeTerminated) and event.compensation == 800_000 for event in events)
    assert money(world, "anna").balance == 800_000
    assert (money(world, "bert").balance, money(world, "bert").held) == (-800_000, 0)
    assert not world.state.trades
    assert not world.state.booked
    agree(world, "cara", quantity=10_000)


def test_both_sides_may_end_for_any_price() -> None:
    world = street()
    trade = agree(world)
    world.mine(terminate(world, "anna", trade, WINDOW, 5, "bert"))
    assert money(world, "bert").balance == 5
    assert not world.state.trades


def test_someone_else_s_signature_is_not_the_other_side_s() -> None:
    world = street()
    trade = agree(world)
    assert refusal(world, terminate(world, "anna", trade, WINDOW, 0, "cara")).code == "compensation_too_low"


@pytest.mark.parametrize(("permille", "least"), [(0, 0), (1, 400), (333, 133_200), (1000, 400_000)])
def test_the_community_says_what_ending_alone_costs(permille: int, least: int) -> None:
    world = street(termination_permille=permille)
    trade = agree(world)
    end = WINDOW + 2 * SLOT
    if least:
        assert refusal(world, terminate(world, "anna", trade, end, least - 1)).details["least"] == least
    world.mine(terminate(world, "anna", trade, end, least))


def test_ended_midway_the_rest_is_free_and_the_start_is_settled() -> None:
    world = street()
    trade = agree(world, shortfall_price=10_000)
    assert money(world, "anna").held == 40_000
    until(world, WINDOW + 10)
    assert refusal(world, terminate(world, "bert", trade, WINDOW, 800_000)).code == "termination_end"
    end = WINDOW + 2 * SLOT
    world.mine(terminate(world, "bert", trade, end, 0, "anna"))
    assert (money(world, "bert").held, money(world, "anna").held) == (400_000, 20_000)
    assert trade_of(world, trade).end == end
    agree(world, "cara", quantity=5_000, start=end, end=end + 2 * SLOT)
    meters(world, {"anna": [1_000, 1_000]}, {"bert": [1_000, 1_000]})
    got = [line for line in settle(world, end) if line.trade == trade.id]
    assert [line.slot_end for line in got] == [WINDOW + SLOT, end]
    assert sum(line.paid for line in got) == 400_000
    assert trade.id in world.state.closed
    assert money(world, "bert").held == 0


def test_ended_twice_each_time_earlier() -> None:
    world = street()
    trade = agree(world)
    world.mine(terminate(world, "bert", trade, WINDOW + 3 * SLOT, 200_000))
    assert (
        refusal(world, terminate(world, "bert", trade, WINDOW + 3 * SLOT, 0, "anna")).code
        == "termination_end"
    )
    world.mine(terminate(world, "bert", trade, WINDOW + SLOT, 400_000))
    assert trade_of(world, trade).held_buyer == 200_000
    assert money(world, "anna").balance == 600_000


def test_ended_capacity_is_free_again() -> None:
    world = street()
    store = battery(world, energy_wh=5_000)
    trade = agree(world, asset=store, basis=Basis.CAPACITY, quantity=4_000)
    world.mine(terminate(world, "bert", trade, WINDOW + SLOT, 0, "anna"))
    assert refusal(world, offer(world, asset=store, quantity=4_001, start=END)).details["left_wh"] == 4_000
    assert asset_id("anna battery") == store


def test_compensation_that_can_not_be_paid() -> None:
    world = street(credit_limit=1_000_000)
    trade = agree(world)
    error = refusal(world, terminate(world, "bert", trade, WINDOW, 1_000_001))
    assert error.code == "funds_insufficient"
    assert money(world, "bert").held == 800_000
    world.mine(terminate(world, "bert", trade, WINDOW, 1_000_000))


def test_nothing_is_settled_of_a_trade_that_never_began() -> None:
    world = street()
    trade = agree(world)
    world.mine(terminate(world, "bert", trade, WINDOW, 0, "anna"))
    assert lines(until(world, END + 1800)) == []
