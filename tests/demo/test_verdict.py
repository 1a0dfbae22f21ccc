"""The end of a run passes only when everything was delivered, paid and booked as it was agreed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from demo import verdict
from demo.bargains import AUCTION, COUNTERED, KINDS, POSTED, Offer
from demo.houses import HOUSES
from demo.journal import Deal, Line
from demo.main import Demo

START, SLOT_S = 1_800_000_000, 60
SLOT_ENDS = (START + 60, START + 120)
PRICE = 250_000
AGREED_WH = 50
"""In each slot of each deal."""


class Node:
    """A node's answers: the accounts of the homes, and a state that all have alike."""

    def __init__(self, balances: dict[str, int]) -> None:
        self._balances = balances

    async def state_hash(self) -> Any:
        return SimpleNamespace(as_of=SimpleNamespace(hash="ab", height=9), state_hash="cd")

    async def all_accounts(self) -> list[Any]:
        return [
            SimpleNamespace(member=SimpleNamespace(address=address), balance=balance)
            for address, balance in self._balances.items()
        ]


def home(number: int, node: Node, exported: int = 0, imported: int = 0) -> Any:
    """Return what the demo needs of a resident; its counters grow by so much in each minute."""
    boundaries = [
        SimpleNamespace(
            time_s=START + 60 * place, energy_wh={"export": exported * place, "import": imported * place}
        )
        for place in range(3)
    ]
    house = HOUSES[number]

    async def its_node() -> Node:
        return node

    return SimpleNamespace(
        house=house, address=house.key, simulated=SimpleNamespace(boundaries=boundaries), node=its_node
    )


def line(slot_end: int, **changed: Any) -> Line:
    figures: dict[str, Any] = {
        "agreed_wh": AGREED_WH,
        "sent_wh": AGREED_WH,
        "received_wh": AGREED_WH,
        "delivered_wh": AGREED_WH,
        "paid_micro": AGREED_WH * PRICE // 1000,
    }
    return Line(slot_end, **{**figures, **changed}, disputed=False)


def deal(kind: str, seller: Any, **changed: Any) -> Deal:
    """Return a deal that both homes were told settled alike."""
    offer = Offer(kind, kind, seller, START, START + 120, SLOT_S)
    made = Deal(offer, trade=kind, buyer="flat", agreed_wh=2 * AGREED_WH, price_micro=PRICE)
    for told in (seller.house.key, "flat"):
        made.lines[told] = {slot_end: line(slot_end, **changed) for slot_end in SLOT_ENDS}
    return made


async def run_verdict(
    tmp_path: Path, flowed_wh: int = AGREED_WH, paid: int | None = None, **changed: Any
) -> bool:
    """Let the demo judge three deals whose lines are changed so, and all of whose energy flowed so."""
    earned = 2 * line(0, **changed).paid_micro if paid is None else paid
    node = Node({"sun": 2 * earned, "cell": earned, "flat": -3 * earned})
    demo = Demo(tmp_path, tmp_path, once=True)
    sun, cell = home(0, node, exported=2 * flowed_wh), home(1, node, exported=flowed_wh)
    flat = home(2, node, imported=150)
    street: Any = demo._street
    street.residents = (sun, cell, flat)
    deals = [deal(kind, cell if kind == COUNTERED else sun, **changed) for kind in KINDS]
    demo._journal.deals += deals
    return await demo._judge(deals)


@pytest.fixture(autouse=True)
def _book_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """These accounts don't change any more."""
    monkeypatch.setattr(verdict, "SECONDS_TO_BOOK", 0.01)


async def test_what_was_delivered_as_agreed_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run_verdict(tmp_path)
    assert "delivered 300 Wh, paid 0.075000 EUR: as agreed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flowed_wh", "changed", "told"),
    [
        (0, {"sent_wh": 0, "delivered_wh": 0, "paid_micro": 0}, "TOO LITTLE, at least 90 Wh"),
        (0, {"sent_wh": None, "delivered_wh": 0, "paid_micro": 0}, "NO READING of the seller"),
        (50, {"received_wh": None, "delivered_wh": 0, "paid_micro": 0}, "NO READING of the buyer"),
        (44, {"sent_wh": 44, "delivered_wh": 44, "paid_micro": 11_000}, "TOO LITTLE"),
        (48, {"sent_wh": 48}, "IS NOT the least of 48 sent"),
        (50, {"paid_micro": 12_000}, "IS NOT 50 Wh at 0.25"),
        (40, {}, "DIFFERS FROM"),
    ],
    ids=[
        "nothing sent",
        "no reading of the seller",
        "no reading of the buyer",
        "too little",
        "more delivered than sent",
        "paid otherwise",
        "physics otherwise",
    ],
)
async def test_what_was_not_delivered_or_paid_fails(
    flowed_wh: int,
    changed: dict[str, Any],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The nodes agree, and the balances are as these lines say: the lines themselves are wrong."""
    assert not await run_verdict(tmp_path, flowed_wh, **changed)
    assert told in capsys.readouterr().out


async def test_accounts_that_are_not_what_was_settled_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not await run_verdict(tmp_path, paid=0)
    assert "Sun house        has 0.000000 EUR in the ledger, NOT 0.050000" in capsys.readouterr().out


async def test_a_kind_that_is_missing_or_not_settled_fails(tmp_path: Path) -> None:
    sun = home(0, Node({}))
    unsettled = Deal(Offer(AUCTION, AUCTION, sun, START, START + 120, SLOT_S))
    too_little, not_settled = verdict.judge([unsettled])
    assert not too_little.good
    assert not not_settled.good
    assert "NOT SETTLED" in not_settled.text
    demo = Demo(tmp_path, tmp_path, once=True)
    street: Any = demo._street
    street.residents = (sun,)
    assert not await demo._judge([])


@pytest.mark.parametrize(
    ("exported", "agrees", "expected"),
    [(50, True, 50), (53, True, 50), (200, True, 50), (47, True, 47), (46, False, 46), (0, False, 0)],
    ids=["equal", "a little more", "much more than agreed", "a little less", "less", "nothing"],
)
def test_books_are_compared_with_what_flowed(exported: int, agrees: bool, expected: int) -> None:
    """The books hold at most what was agreed; further apart than metering can err is a difference."""
    node = Node({})
    seller, buyer = home(0, node, exported=exported), home(2, node, imported=100)
    street: Any = SimpleNamespace(residents=(seller, buyer))
    found = verdict.compare(street, [deal(POSTED, seller)])
    assert [(each.home, each.direction, each.slot_end) for each in found] == [
        ("Sun house", "sent", SLOT_ENDS[0]),
        ("Sun house", "sent", SLOT_ENDS[1]),
        ("The flat", "received", SLOT_ENDS[0]),
        ("The flat", "received", SLOT_ENDS[1]),
    ]
    assert [each.agrees for each in found] == [agrees, agrees, True, True]
    assert found[0].expected_wh == expected
