"""Selling rules: drafts, replacing without flapping, answers to changed terms and requests."""

from typing import Any

import pytest
from msgspec.structs import replace

from ledger_core.market.pace import Pace
from ledger_core.market.reasons import Decision, Reason, Verdict
from ledger_core.market.selling import (
    Draft,
    OpenOffer,
    SellCriteria,
    answer_counter,
    answer_request,
    booked_power,
    draft,
    energy_of,
    reconcile,
    windows,
)
from ledger_core.market.terms import Hours, LocalWindow, OfferTerms
from ledger_core.records.offers import Auction
from ledger_core.records.types import Basis, Carrier, Side

SLOT = 900
NOON = LocalWindow(2, 720, 15)
ME, ANNA, BERT = b"m" * 32, b"a" * 32, b"b" * 32


def test_windows_lie_on_their_own_grid() -> None:
    rule = SellCriteria(window_slots=2, horizon_slots=8, lead_s=120)
    assert windows(rule, 1000, SLOT) == [(1800, 3600), (3600, 5400), (5400, 7200), (7200, 9000)]
    assert windows(rule, 1700, SLOT)[0] == (3600, 5400), "too near to be taken"
    assert windows(SellCriteria(horizon_slots=1, lead_s=0), 900, SLOT) == [(900, 1800), (1800, 2700)]


@pytest.mark.parametrize(
    ("spacing_s", "answer_s", "first"), [(1, 10, 60), (5, 10, 60), (30, 60, 120), (600, 1200, 2400)]
)
def test_the_lead_is_so_many_blocks(spacing_s: int, answer_s: int, first: int) -> None:
    """With fast blocks the next slot of a minute is offered, with slow ones none that nobody could take."""
    pace = Pace(spacing_s)
    assert (pace.answer_s, pace.offer_s) == (answer_s, 2 * answer_s)
    assert windows(SellCriteria(lead_s=pace.offer_s), 0, 60)[0] == (first, first + 60)


@pytest.mark.parametrize(
    ("rule", "spare", "price", "expected"),
    [
        ({}, 500, 200_000, 500),
        ({"max_wh": 300}, 500, 200_000, 300),
        ({"max_w": 800}, 500, 200_000, 200),
        ({"basis": Basis.CAPACITY}, 500, 200_000, 2000),
        ({}, 99, 200_000, Reason.NOTHING_TO_SPARE),
        ({"min_gain": 100_001}, 500, 200_000, Reason.TOO_SMALL_GAIN),
        ({"hours": Hours(spans=((0, 60),))}, 500, 200_000, Reason.OUTSIDE_HOURS),
    ],
)
def test_drafts(rule: dict[str, Any], spare: int, price: int, expected: object) -> None:
    result = draft(SellCriteria(**rule), (900, 1800), NOON, spare, price)
    if isinstance(result, Decision):
        assert result.reason is expected
    else:
        drafted = Draft(start=900, end=1800, quantity=expected, price=price, spare_wh=spare)  # type: ignore[arg-type]
        assert result == drafted


@pytest.mark.parametrize(
    ("rule", "spare", "offered"),
    [
        ({"min_wh": 500}, 499, (None, 499)),
        ({"min_wh": 500}, 500, (500, 500)),
        ({"min_wh": 500}, 400, (None, 400)),
        ({"min_wh": 500}, 399, (None, None)),
        ({"min_wh": 500, "hysteresis_permille": 0}, 499, (None, None)),
        ({"min_wh": 500, "hysteresis_permille": 1000}, 1, (None, 1)),
        ({"min_wh": 500, "hysteresis_permille": 1000}, 0, (None, None)),
        ({"min_wh": 1, "min_w": 2000}, 499, (None, 499)),
        ({"min_wh": 1, "min_w": 2000}, 399, (None, None)),
        ({"min_wh": 1, "min_w": 2000, "basis": Basis.CAPACITY}, 500, (2000, 2000)),
        ({"min_wh": 1, "min_w": 2000, "basis": Basis.CAPACITY}, 450, (None, 1800)),
        ({"min_wh": 600, "min_w": 2000}, 500, (None, 500)),
    ],
)
def test_a_window_is_offered_from_a_threshold_and_stays_so_a_little_below(
    rule: dict[str, Any], spare: int, offered: tuple[int | None, int | None]
) -> None:
    made = [
        draft(SellCriteria(**rule), (900, 1800), NOON, spare, 200_000, was_on) for was_on in (False, True)
    ]
    assert tuple(each.quantity if isinstance(each, Draft) else None for each in made) == offered


def test_the_most_of_a_window_counts_what_is_sold_in_it() -> None:
    def offered(sold_wh: int, **rule: Any) -> int | None:
        made = draft(SellCriteria(**rule), (900, 1800), NOON, 5_000, 200_000, sold_wh=sold_wh)
        return made.quantity if isinstance(made, Draft) else None

    assert [offered(sold, max_wh=500) for sold in (0, 300, 450, 500, 700)] == [500, 200, None, None, None]
    assert [offered(sold, max_w=2_000) for sold in (0, 100, 500)] == [500, 400, None]


def test_what_flaps_about_the_threshold_is_offered_once() -> None:
    rule, on, steps = SellCriteria(min_wh=500), False, []
    for spare in (480, 510, 490, 505, 410, 505, 390, 480, 510):
        on = isinstance(draft(rule, (900, 1800), NOON, spare, 200_000, on), Draft)
        steps.append(on)
    assert steps == [False, True, True, True, True, True, False, False, True]


def test_a_refusal_names_the_threshold_that_holds() -> None:
    rule = SellCriteria(min_wh=500)
    new = draft(rule, (900, 1800), NOON, 399, 200_000)
    stays = draft(rule, (900, 1800), NOON, 399, 200_000, was_on=True)
    assert isinstance(new, Decision)
    assert isinstance(stays, Decision)
    assert (new.figures["least"], stays.figures["least"]) == (500, 400)


def test_booked_power() -> None:
    made = Draft(start=900, end=1800, quantity=500, price=1)
    assert (booked_power(made, Basis.ENERGY), booked_power(made, Basis.CAPACITY)) == (2000, 500)
    assert (energy_of(made, Basis.ENERGY), energy_of(made, Basis.CAPACITY)) == (500, 125)


WANTED = Draft(start=1800, end=2700, quantity=500, price=200_000)
OPEN = OpenOffer(id="a", start=1800, end=2700, quantity=500, price=200_000, since=0)


@pytest.mark.parametrize(
    ("wanted", "open_offers", "now", "withdraw", "offered"),
    [
        ([WANTED], [], 1000, (), 1),
        ([WANTED], [OPEN], 1000, (), 0),
        ([WANTED], [replace(OPEN, quantity=450)], 1000, (), 0),
        ([WANTED], [replace(OPEN, quantity=300)], 1000, ("a",), 0),
        ([WANTED], [replace(OPEN, price=100_000)], 1000, ("a",), 0),
        ([WANTED], [replace(OPEN, price=100_000, withdrawn=True)], 1000, (), 0),
        ([WANTED], [replace(OPEN, price=100_000, since=900)], 1000, (), 0),
        ([WANTED], [replace(OPEN, price=100_000, pinned=True)], 1000, (), 0),
        ([], [OPEN], 1000, ("a",), 0),
        ([], [replace(OPEN, since=999)], 1000, ("a",), 0),
        ([], [OPEN], 1700, (), 0),
        ([WANTED], [OPEN, replace(OPEN, id="b")], 1000, ("b",), 0),
    ],
    ids=[
        "new",
        "the same",
        "near enough",
        "less",
        "price",
        "not closed yet",
        "too young",
        "pinned",
        "gone",
        "gone at once",
        "runs out anyway",
        "twice",
    ],
)
def test_replacing(
    wanted: list[Draft], open_offers: list[OpenOffer], now: int, withdraw: tuple[str, ...], offered: int
) -> None:
    steps = reconcile(SellCriteria(), wanted, open_offers, now)
    assert steps.withdraw == withdraw
    assert len(steps.offer) == offered


REQUEST = OfferTerms(
    id=b"r" * 32,
    author=ANNA,
    side=Side.BUY,
    carrier=Carrier.ELECTRICITY,
    basis=Basis.ENERGY,
    open=1000,
    min_quantity=200,
    start=1800,
    end=2700,
    price=250_000,
    valid_until=1800,
)


@pytest.mark.parametrize(
    ("rule", "price", "verdict", "reason"),
    [
        ({}, 150_000, Verdict.CONFIRM, Reason.GOOD_PRICE),
        ({}, 149_999, Verdict.REJECT, Reason.PRICE_BELOW_FLOOR),
        ({"counter_floor": False}, 199_999, Verdict.REJECT, Reason.PRICE_BELOW_FLOOR),
        ({"counter_floor": False}, 200_000, Verdict.CONFIRM, Reason.GOOD_PRICE),
        ({"min_gain": 150_001}, 150_000, Verdict.REJECT, Reason.TOO_SMALL_GAIN),
    ],
)
def test_changed_terms(rule: dict[str, Any], price: int, verdict: Verdict, reason: Reason) -> None:
    own = replace(REQUEST, side=Side.SELL, author=ME, price=200_000)
    decision = answer_counter(SellCriteria(**rule), own, 1000, price, floor=150_000, asked=200_000)
    assert (decision.verdict, decision.reason) == (verdict, reason)


@pytest.mark.parametrize(
    ("rule", "request_", "spare", "verdict", "reason", "quantity"),
    [
        ({}, {}, 5000, Verdict.ACCEPT, Reason.GOOD_PRICE, 1000),
        ({}, {}, 600, Verdict.ACCEPT, Reason.GOOD_PRICE, 600),
        ({}, {}, 199, Verdict.IGNORE, Reason.NOTHING_TO_SPARE, 0),
        ({}, {"min_quantity": None}, 999, Verdict.IGNORE, Reason.NOTHING_TO_SPARE, 0),
        ({"min_wh": 700}, {}, 600, Verdict.IGNORE, Reason.TOO_LITTLE, 0),
        ({}, {"price": 199_999}, 5000, Verdict.IGNORE, Reason.PRICE_BELOW_FLOOR, 0),
        ({"min_gain": 250_001}, {}, 5000, Verdict.IGNORE, Reason.TOO_SMALL_GAIN, 0),
        ({}, {"author": ME}, 5000, Verdict.IGNORE, Reason.OWN_OFFER, 0),
        ({}, {"side": Side.SELL}, 5000, Verdict.IGNORE, Reason.OTHER_SIDE, 0),
        ({}, {"carrier": Carrier.GAS}, 5000, Verdict.IGNORE, Reason.OTHER_CARRIER, 0),
        ({}, {"audience": (BERT,)}, 5000, Verdict.IGNORE, Reason.NOT_FOR_US, 0),
        ({}, {"valid_until": 1000}, 5000, Verdict.IGNORE, Reason.EXPIRED, 0),
        ({"hours": Hours(spans=((0, 60),))}, {}, 5000, Verdict.IGNORE, Reason.OUTSIDE_HOURS, 0),
        ({}, {"auction": Auction(1500, 260_000, 0)}, 5000, Verdict.BID, Reason.GOOD_PRICE, 1000),
    ],
)
def test_requests(
    rule: dict[str, Any],
    request_: dict[str, Any],
    spare: int,
    verdict: Verdict,
    reason: Reason,
    quantity: int,
) -> None:
    asked = replace(REQUEST, **request_)
    decision = answer_request(SellCriteria(**rule), asked, NOON, ME, spare, 200_000, 1000)
    assert (decision.verdict, decision.reason, decision.quantity) == (verdict, reason, quantity)
    if verdict is Verdict.BID:
        assert decision.price == 200_000, "a bid to sell is at the own price"
