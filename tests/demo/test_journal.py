"""What the demo hears of its homes, and shows."""

import io
import time
from types import SimpleNamespace
from typing import Any

import pytest

from demo import bargains, table
from demo.bargains import AUCTION, COUNTERED, POSTED, Offer, next_start
from demo.houses import HOUSES
from demo.journal import Deal, Journal, line_of, seconds
from demo.main import due_of

START = 1_800_000_000
SELLER, BUYER = "el1seller", "el1buyer"


def home(number: int, address: str) -> Any:
    """Return what the journal needs of a resident."""
    return SimpleNamespace(house=HOUSES[number], address=address)


def offer(seller: Any, kind: str = POSTED) -> Offer:
    return Offer(kind, "offer-" + kind, seller, START, START + 120, 60)


def agreed(kind: str = POSTED) -> dict[str, Any]:
    return {
        "type": "trade_agreed",
        "trade": "trade-" + kind,
        "offer": "offer-" + kind,
        "seller": SELLER,
        "buyer": BUYER,
        "start": "2027-01-15T08:00:00+00:00",
        "end": "2027-01-15T08:01:00+00:00",
        "quantity": 0.066,
        "price": 0.25,
    }


def settled(slot_end: int, sent: float | None = 0.033, received: float | None = 0.033) -> dict[str, Any]:
    return {
        "type": "slot_settled",
        "trade": "trade-" + POSTED,
        "slot_end": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(slot_end)),
        "agreed_kwh": 0.033,
        "sent_kwh": sent,
        "received_kwh": received,
        "delivered_kwh": min(sent or 0, received or 0),
        "paid": 0.00825,
        "disputed": False,
    }


@pytest.fixture
def seller() -> Any:
    return home(0, SELLER)


@pytest.fixture
def buyer() -> Any:
    return home(2, BUYER)


def test_a_deal_goes_from_offered_to_settled(seller: Any, buyer: Any) -> None:
    """Settled is what both homes were told alike."""
    changes: list[None] = []
    journal = Journal(lambda: changes.append(None), 60)
    journal.add(offer(seller))
    deal = journal.deals[0]
    stages = [deal.stage]
    for resident, event in (
        (buyer, agreed()),
        (seller, agreed()),
        (seller, {"type": "delivery_started", "trade": "trade-" + POSTED}),
        (seller, {"type": "delivery_ended", "trade": "trade-" + POSTED}),
        (seller, settled(START + 60)),
        (buyer, settled(START + 60)),
        (buyer, settled(START + 120)),
        (seller, settled(START + 120)),
    ):
        journal.heard(resident, event)
        stages.append(deal.stage)
    assert stages == [
        "offered",
        "agreed",
        "agreed",
        "delivering",
        "delivered, being metered",
        "settled 1 of 2",
        "settled 1 of 2",
        "settled 1 of 2",
        "settled",
    ]
    assert (deal.buyer, deal.agreed_wh, deal.price_micro) == (BUYER, 66, 250_000)
    assert len(changes) == 9


def test_homes_that_are_told_different_things_are_not_settled(seller: Any, buyer: Any) -> None:
    deal = Deal(offer(seller))
    for resident, sent in ((seller, 0.033), (buyer, 0.031)):
        for slot_end in (START + 60, START + 120):
            line = line_of(settled(slot_end, sent))
            deal.lines.setdefault(resident.house.key, {})[slot_end] = line
    assert not deal.done


def test_what_a_rule_sold_is_a_deal_as_its_seller_tells_it(seller: Any, buyer: Any) -> None:
    journal = Journal(lambda: None, 60)
    journal.add(offer(seller, COUNTERED))
    journal.heard(buyer, agreed(AUCTION))
    journal.heard(seller, {"type": "offer_closed", "offer": "offer-" + COUNTERED})
    assert [deal.trade for deal in journal.deals] == [""]
    for resident in (seller, buyer, seller):
        journal.heard(resident, agreed(AUCTION))
    _, sold = journal.deals
    assert (sold.offer.kind, sold.offer.seller, sold.trade) == (POSTED, seller, "trade-" + AUCTION)
    assert sold.slot_ends == [START + 60]


def test_a_round_is_due_when_every_kind_is_there(seller: Any) -> None:
    """All that ends by then is due with them, and nothing later."""

    def deal(kind: str, start: int, end: int) -> Deal:
        return Deal(Offer(kind, kind, seller, START + start, START + end, 60))

    countered, auction = deal(COUNTERED, 0, 120), deal(AUCTION, 0, 120)
    rule, again, later = deal(POSTED, 60, 120), deal(POSTED, 0, 60), deal(POSTED, 120, 180)
    assert due_of([countered, auction]) == []
    assert due_of([countered, auction, later]) == [countered, auction, later]
    assert due_of([countered, auction, rule, again, later]) == [countered, auction, rule, again]


def test_a_missing_reading_stays_missing() -> None:
    line = line_of(settled(START + 60, sent=None))
    assert (line.sent_wh, line.received_wh, line.delivered_wh, line.paid_micro) == (None, 33, 0, 8250)
    assert seconds("2027-01-15T09:01:00+01:00") == 1_800_000_060


def test_the_table_shows_every_deal(seller: Any, buyer: Any) -> None:
    deal = Deal(offer(seller), trade="t", buyer=BUYER, agreed_wh=66, price_micro=250_000)
    deal.why = "Sun house: good_price"
    deal.lines[seller.house.key] = {
        START + 60: line_of(settled(START + 60)),
        START + 120: line_of(settled(START + 120, received=None)),
    }
    head, *lines = table.text_of(table.rows([deal], {BUYER: "The flat"}))
    assert head.startswith("way to the trade")
    (line,) = lines
    for word in (
        "posted price, by rules (Sun house: good_price)",
        "Sun house",
        "The flat",
        "66 at 0.25",
        "no reading",
        "0.016500",
        "settled",
    ):
        assert word in line


def test_a_file_gets_each_row_once() -> None:
    """No terminal: nothing is drawn over."""
    out = io.StringIO()
    live = table.LiveTable(out)
    live.show(["a  b", "1  2"])
    live.show(["a  b", "1  2"])
    live.show(["a   b", "1   2", "3   4"])
    assert out.getvalue() == "  a, b\n  1, 2\n  3, 4\n"


def test_a_terminal_is_drawn_over() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    live = table.LiveTable(out)
    live.show(["a", "1"])
    live.show(["a", "2"])
    live.leave()
    live.show(["a", "3"])
    assert out.getvalue() == "a\n1\n\x1b[2A\x1b[Ja\n2\na\n3\n"


@pytest.mark.parametrize("now", [START, START + 14.5, START + 15, START + 59])
def test_a_window_starts_when_it_can_still_be_agreed(now: float) -> None:
    start = next_start(60, now)
    assert start % 60 == 0
    assert 44 < start - now <= 105


def test_houses_can_be_built() -> None:
    """Each has a meter first, and a link for each device."""
    for house in HOUSES:
        simulated = house.simulated()
        assert house.devices[0].kind == "meter"
        assert {device.profile for device in house.devices} == set(simulated.links)
    assert {house.key for house in HOUSES} == {"sun", "cell", "flat"}
    assert set(bargains.KINDS) == {"posted price, by rules", "countered", "auction"}


async def test_rules_tell_why_they_traded() -> None:
    """The seller's decision made the offer, the buyer's is about it; a dry run and a refusal made nothing."""

    def resident(number: int, *decisions: dict[str, Any]) -> Any:
        async def states() -> dict[str, Any]:
            rule = {
                "attributes": {"decisions": [{**decision, "reason": "good_price"} for decision in decisions]}
            }
            return {"sensor.rule_state": rule, "sensor.power": {"attributes": {}}}

        return SimpleNamespace(house=HOUSES[number], api=SimpleNamespace(states=states))

    yes = {"verdict": "accept"}
    sun = resident(0, {**yes, "record": "offer", "about": "window"}, {**yes, "record": "other", "about": ""})
    flat = resident(
        2,
        {**yes, "record": "answer", "about": "offer"},
        {**yes, "record": None, "about": "other"},
        {**yes, "record": None, "about": "other", "verdict": "ignore"},
    )
    street: Any = SimpleNamespace(residents=(sun, flat))
    told = await bargains.reasons(street)
    assert told["offer"] == "Sun house: good_price, The flat: good_price"
    assert told["other"] == "Sun house: good_price"
