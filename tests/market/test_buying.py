"""Buying rules as a table of cases, each with the reason that a user sees."""

from typing import Any

import pytest
from msgspec.structs import replace

from ledger_core.market.buying import BuyCriteria, BuyWorld, cheapest_first, decide_buy
from ledger_core.market.reasons import Reason, Verdict
from ledger_core.market.terms import Hours, LocalWindow, OfferTerms, Standing
from ledger_core.records.offers import Auction
from ledger_core.records.types import Basis, Carrier, Side

ME, ANNA, BERT = b"m" * 32, b"a" * 32, b"b" * 32
OFFER = OfferTerms(
    id=b"o" * 32,
    author=ANNA,
    side=Side.SELL,
    carrier=Carrier.ELECTRICITY,
    basis=Basis.ENERGY,
    open=2000,
    min_quantity=100,
    start=7200,
    end=8100,
    price=200_000,
    valid_until=7200,
)
WORLD = BuyWorld(
    now=3600, me=ME, window=LocalWindow(2, 12 * 60, 15), ceiling=250_000, tariff=300_000, need_wh=1500
)
AUCTION = Auction(7000, 400_000, 150_000)

CASES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], Verdict, Reason, int, int]] = [
    ("cheap enough", {}, {}, {}, Verdict.ACCEPT, Reason.GOOD_PRICE, 1500, 200_000),
    ("at the ceiling", {}, {"price": 250_000}, {}, Verdict.ACCEPT, Reason.GOOD_PRICE, 1500, 250_000),
    ("own", {}, {"author": ME}, {}, Verdict.IGNORE, Reason.OWN_OFFER, 0, 0),
    ("a request", {}, {"side": Side.BUY}, {}, Verdict.IGNORE, Reason.OTHER_SIDE, 0, 0),
    ("heat", {}, {"carrier": Carrier.HEAT}, {}, Verdict.IGNORE, Reason.OTHER_CARRIER, 0, 0),
    ("capacity", {}, {"basis": Basis.CAPACITY}, {}, Verdict.IGNORE, Reason.OTHER_BASIS, 0, 0),
    ("for others", {}, {"audience": (BERT,)}, {}, Verdict.IGNORE, Reason.NOT_FOR_US, 0, 0),
    ("for us", {}, {"audience": (BERT, ME)}, {}, Verdict.ACCEPT, Reason.GOOD_PRICE, 1500, 200_000),
    ("run out", {}, {"valid_until": 3600}, {}, Verdict.IGNORE, Reason.EXPIRED, 0, 0),
    ("begun", {}, {"start": 2700, "end": 3600}, {}, Verdict.IGNORE, Reason.EXPIRED, 0, 0),
    ("too soon", {}, {"valid_until": 3650}, {}, Verdict.IGNORE, Reason.TOO_SOON, 0, 0),
    (
        "outside the hours",
        {"hours": Hours(spans=((22 * 60, 6 * 60),))},
        {},
        {},
        Verdict.IGNORE,
        Reason.OUTSIDE_HOURS,
        0,
        0,
    ),
    (
        "on another day",
        {"hours": Hours(weekdays=frozenset({5, 6}))},
        {},
        {},
        Verdict.IGNORE,
        Reason.OUTSIDE_HOURS,
        0,
        0,
    ),
    ("not listed", {"sellers": frozenset({BERT})}, {}, {}, Verdict.IGNORE, Reason.PARTNER_NOT_LISTED, 0, 0),
    ("listed", {"sellers": frozenset({ANNA})}, {}, {}, Verdict.ACCEPT, Reason.GOOD_PRICE, 1500, 200_000),
    ("blocked", {"blocked": frozenset({ANNA})}, {}, {}, Verdict.IGNORE, Reason.PARTNER_BLOCKED, 0, 0),
    (
        "bad score",
        {"min_score_tenths": 70},
        {},
        {"standing": Standing(1000, 500, 69)},
        Verdict.IGNORE,
        Reason.SCORE_TOO_LOW,
        0,
        0,
    ),
    (
        "no score yet",
        {"min_score_tenths": 70},
        {},
        {"standing": Standing(1000, 0, None)},
        Verdict.ACCEPT,
        Reason.GOOD_PRICE,
        1500,
        200_000,
    ),
    (
        "delivers badly",
        {"min_delivered_permille": 900},
        {},
        {"standing": Standing(850, 500, None)},
        Verdict.IGNORE,
        Reason.DELIVERS_TOO_LITTLE,
        0,
        0,
    ),
    ("dear", {}, {"price": 260_000}, {}, Verdict.IGNORE, Reason.PRICE_ABOVE_CEILING, 0, 0),
    (
        "a little dear",
        {"counter_permille": 50},
        {"price": 260_000},
        {},
        Verdict.COUNTER,
        Reason.WORTH_A_COUNTER,
        1500,
        250_000,
    ),
    (
        "countered once",
        {"counter_permille": 50},
        {"price": 260_000},
        {"countered": True},
        Verdict.IGNORE,
        Reason.COUNTERED_BEFORE,
        0,
        0,
    ),
    (
        "too dear to counter",
        {"counter_permille": 50},
        {"price": 270_000},
        {},
        Verdict.IGNORE,
        Reason.PRICE_ABOVE_CEILING,
        0,
        0,
    ),
    ("answered", {}, {}, {"answered": True}, Verdict.IGNORE, Reason.ALREADY_ANSWERED, 0, 0),
    ("conditions", {}, {}, {"conditions": False}, Verdict.IGNORE, Reason.CONDITIONS_NOT_MET, 0, 0),
    ("conditions hold", {}, {}, {"conditions": True}, Verdict.ACCEPT, Reason.GOOD_PRICE, 1500, 200_000),
    ("no need", {}, {}, {"need_wh": 0}, Verdict.IGNORE, Reason.NOTHING_NEEDED, 0, 0),
    (
        "need does not count",
        {"only_need": False},
        {},
        {"need_wh": 0},
        Verdict.ACCEPT,
        Reason.GOOD_PRICE,
        2000,
        200_000,
    ),
    ("need unknown", {}, {}, {"need_wh": None}, Verdict.IGNORE, Reason.NEED_UNKNOWN, 0, 0),
    (
        "need does not have to be known",
        {"only_need": False},
        {},
        {"need_wh": None},
        Verdict.ACCEPT,
        Reason.GOOD_PRICE,
        2000,
        200_000,
    ),
    ("at most", {"max_wh": 700}, {}, {}, Verdict.ACCEPT, Reason.GOOD_PRICE, 700, 200_000),
    (
        "whole or nothing",
        {},
        {"min_quantity": None},
        {},
        Verdict.IGNORE,
        Reason.ONLY_WHOLE,
        0,
        0,
    ),
    (
        "the whole fits",
        {},
        {"min_quantity": None},
        {"need_wh": 2000},
        Verdict.ACCEPT,
        Reason.GOOD_PRICE,
        2000,
        200_000,
    ),
    ("below its minimum", {}, {"min_quantity": 1600}, {}, Verdict.IGNORE, Reason.TOO_LITTLE, 0, 0),
    ("below ours", {"min_wh": 2500}, {}, {"need_wh": 9000}, Verdict.IGNORE, Reason.TOO_LITTLE, 0, 0),
    ("the last rest", {}, {"open": 60}, {}, Verdict.ACCEPT, Reason.GOOD_PRICE, 60, 200_000),
    (
        "budget left for a part",
        {"daily_budget": 500_000},
        {},
        {"spent_today": 300_000},
        Verdict.ACCEPT,
        Reason.GOOD_PRICE,
        1000,
        200_000,
    ),
    (
        "budget spent",
        {"daily_budget": 500_000},
        {},
        {"spent_today": 500_000},
        Verdict.IGNORE,
        Reason.BUDGET_SPENT,
        0,
        0,
    ),
    (
        "budget left for a part of a bid",
        {"daily_budget": 500_000},
        {"auction": Auction(7000, 400_000, 150_000)},
        {"spent_today": 250_000},
        Verdict.BID,
        Reason.WORTH_A_BID,
        1000,
        250_000,
    ),
    ("little gain", {"min_gain": 150_001}, {}, {}, Verdict.IGNORE, Reason.TOO_SMALL_GAIN, 0, 0),
    ("gain enough", {"min_gain": 150_000}, {}, {}, Verdict.ACCEPT, Reason.GOOD_PRICE, 1500, 200_000),
    ("auction", {}, {"auction": AUCTION}, {}, Verdict.BID, Reason.WORTH_A_BID, 1500, 250_000),
    (
        "never above the auction's ceiling",
        {},
        {"auction": Auction(7000, 220_000, 150_000)},
        {},
        Verdict.BID,
        Reason.WORTH_A_BID,
        1500,
        220_000,
    ),
    (
        "reserve too high",
        {},
        {"auction": Auction(7000, 400_000, 251_000)},
        {},
        Verdict.IGNORE,
        Reason.PRICE_ABOVE_CEILING,
        0,
        0,
    ),
    ("no bids", {"bid": False}, {"auction": AUCTION}, {}, Verdict.IGNORE, Reason.PRICE_ABOVE_CEILING, 0, 0),
    (
        "auction closed",
        {},
        {"auction": Auction(3500, 400_000, 150_000)},
        {},
        Verdict.IGNORE,
        Reason.EXPIRED,
        0,
        0,
    ),
    (
        "capacity wanted",
        {"basis": None},
        {"basis": Basis.CAPACITY, "open": 4000},
        {"need_wh": 500},
        Verdict.ACCEPT,
        Reason.GOOD_PRICE,
        2000,
        200_000,
    ),
    ("free of charge", {"daily_budget": 1}, {"price": 0}, {}, Verdict.ACCEPT, Reason.GOOD_PRICE, 1500, 0),
]


@pytest.mark.parametrize(
    ("rule", "offer", "world", "verdict", "reason", "quantity", "price"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_case(
    rule: dict[str, Any],
    offer: dict[str, Any],
    world: dict[str, Any],
    verdict: Verdict,
    reason: Reason,
    quantity: int,
    price: int,
) -> None:
    decision = decide_buy(BuyCriteria(**rule), replace(OFFER, **offer), replace(WORLD, **world))
    assert (decision.verdict, decision.reason, decision.quantity, decision.price) == (
        verdict,
        reason,
        quantity,
        price,
    )
    assert decision.acts is (verdict is not Verdict.IGNORE)


def test_the_cheapest_comes_first() -> None:
    dear = replace(OFFER, id=b"1", price=3)
    later = replace(OFFER, id=b"2", price=2, start=9000)
    bid = replace(OFFER, id=b"3", price=9, auction=Auction(1, 9, 1))
    assert [o.id for o in cheapest_first([dear, later, bid, replace(later, id=b"0", start=1)])] == [
        b"3",
        b"0",
        b"2",
        b"1",
    ]


@pytest.mark.parametrize(
    ("spans", "window", "holds"),
    [
        ((), (0, 0, 1440), True),
        (((480, 1200),), (0, 480, 15), True),
        (((480, 1200),), (0, 1185, 15), True),
        (((480, 1200),), (0, 1190, 15), False),
        (((480, 1200),), (0, 470, 15), False),
        (((1320, 360),), (0, 1430, 30), True),
        (((1320, 360),), (0, 345, 15), True),
        (((1320, 360),), (0, 350, 15), False),
        (((0, 0),), (0, 700, 60), True),
        (((100, 200), (300, 400)), (0, 310, 15), True),
    ],
)
def test_hours(spans: tuple[tuple[int, int], ...], window: tuple[int, int, int], holds: bool) -> None:
    assert Hours(spans=spans).hold(LocalWindow(*window)) is holds
