"""What the rules remember, statements and payment files, rules' data, learnt consumption."""

import csv
import io
import json
from datetime import UTC, date, datetime
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from custom_components.energy_ledger.trading.forecast import Flows, Memory
from custom_components.energy_ledger.trading.notebook import PENDING_S, Answer, Made, Notebook
from custom_components.energy_ledger.trading.rule_config import (
    RuleProblem,
    SourceKind,
    buy_rule,
    price_at,
    sell_rule,
)
from custom_components.energy_ledger.trading.statement_core import (
    NAMESPACE,
    Account,
    Settled,
    StatementError,
    as_csv,
    as_pain001,
    as_slots_csv,
    cents,
    check_iban,
    sums,
)
from ledger_core.keys import address
from ledger_core.market.terms import LocalWindow

ANNA, BERT = address(b"a" * 32), address(b"b" * 32)


def made(**changes: Any) -> Made:
    values: dict[str, Any] = {
        "rule": "r",
        "start": 1800,
        "end": 2700,
        "quantity": 500,
        "price": 1,
        "since": 1000,
    }
    return Made(**{**values, **changes})


def answer(record: str, **changes: Any) -> Answer:
    values: dict[str, Any] = {
        "rule": "r",
        "record": record,
        "kind": "accept",
        "energy_wh": 600,
        "cost": 100,
        "start": 1800,
        "end": 2700,
        "at": 1000,
        "day": "2026-11-21",
    }
    return Answer(**{**values, **changes})


def test_offers_are_followed_from_signing_to_the_end() -> None:
    book = Notebook()
    book.pages.offers = {"a": made(), "b": made(), "c": made(rule="other")}
    book.follow_offers({"a": 300}, 1000 + PENDING_S)
    assert [(each.id, each.quantity, each.pinned) for each in book.open_of("r", [])] == [
        ("a", 300, False),
        ("b", 500, True),
    ]
    assert [each.pinned for each in book.open_of("r", ["a"])] == [True, True]
    book.follow_offers({}, 1001 + PENDING_S)
    assert book.pages.offers == {}, "what was seen is over, what was never seen is lost"
    again = Notebook()
    book.pages.answers["x"] = answer("1")
    again.restore(json.loads(json.dumps(book.kept())))
    assert again.pages == book.pages
    again.restore(None)


def test_answers_count_until_they_are_lost() -> None:
    book = Notebook()
    book.pages.answers = {"o1": answer("1"), "o2": answer("2"), "o3": answer("3", day="2026-11-20")}
    assert book.spent("r", "2026-11-21") == 200
    assert book.on_the_way(1800, 2250) == 900
    assert book.on_the_way(2700, 3600) == 0
    book.follow_answers(["1"], ["2"], 1001 + PENDING_S)
    assert [each.state for each in book.pages.answers.values()] == ["agreed", "pending", "contested"]
    for record in ("1", "2", "3"):
        book.lose(record)
    assert [each.state for each in book.pages.answers.values()] == ["agreed", "lost", "lost"]
    book.pages.offers["x"] = made()
    book.lose("x")
    assert not book.pages.offers
    assert book.spent("r", "2026-11-21") == 100
    book.follow_answers([], [], 10**6)
    assert not book.pages.answers


def test_a_contested_answer_is_not_waited_for_but_may_still_cost() -> None:
    book = Notebook()
    book.pages.answers = {"o1": answer("1"), "o2": answer("2")}
    book.follow_answers(["1"], [], 1001)
    # The branch on which the first one was agreed lost, too.
    for record in ("1", "2"):
        book.contest(record)
    assert book.on_the_way(1800, 3600) == 0
    assert book.spent("r", "2026-11-21") == 200
    book.resume("1", 5000)
    book.resume("unknown", 5000)
    book.follow_answers([], [], 5000 + PENDING_S)
    assert [each.state for each in book.pages.answers.values()] == ["pending", "contested"]
    book.follow_answers([], ["2"], 5000)
    assert [each.state for each in book.pages.answers.values()] == ["pending", "pending"]
    book.contest("1")
    book.contest("2")
    book.follow_answers(["1"], [], 5001)
    book.lose("2")
    assert [each.state for each in book.pages.answers.values()] == ["agreed", "lost"]
    assert book.spent("r", "2026-11-21") == 100


def line(partner: str, **changes: Any) -> Settled:
    values: dict[str, Any] = {
        "trade": "t",
        "slot_end": 900,
        "partner": partner,
        "selling": False,
        "agreed_wh": 500,
        "sent_wh": 480,
        "received_wh": 470,
        "delivered_wh": 470,
        "paid": 94_000,
        "shortfall_paid": 0,
        "disputed": False,
    }
    return Settled(**{**values, **changes})


LINES = [
    line(ANNA),
    line(ANNA, slot_end=1800, shortfall_paid=6_000, disputed=True),
    line(ANNA, selling=True, delivered_wh=100, paid=20_000, shortfall_paid=1_000),
    line(BERT, selling=True, delivered_wh=1_234, paid=1_000_001),
]


def test_sums_per_neighbour() -> None:
    anna, bert = sums(LINES)
    assert (anna.bought_wh, anna.sold_wh, anna.spent, anna.earned) == (940, 100, 188_000, 20_000)
    assert anna.owed == 188_000 - 20_000 + 1_000 - 6_000
    assert (bert.owed, bert.lines, anna.disputed) == (-1_000_001, 1, 1)


def test_the_statement_as_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv("2026-11", "EUR", LINES))))
    assert [row["neighbour"] for row in rows] == [ANNA, BERT]
    assert (rows[0]["bought_kwh"], rows[0]["owed_EUR"]) == ("0.940", "0.163000")
    assert (rows[1]["earned_EUR"], rows[1]["owed_EUR"]) == ("1.000001", "-1.000001")


def test_every_settled_slot_as_csv() -> None:
    lines = [
        ("12:15", line(ANNA, price=200_000)),
        ("12:30", line(BERT, selling=True, sent_wh=470, received_wh=480, disputed=True)),
        ("12:45", line(BERT, received_wh=None, delivered_wh=0, paid=0, price=200_000)),
    ]
    rows = list(csv.DictReader(io.StringIO(as_slots_csv("EUR", lines))))
    assert list(rows[0].values()) == [
        *("t", "12:15", ANNA, "buyer", "0.500", "0.480", "0.470", "0.010", "0.470"),
        *("0.200000", "0.100000", "0.094000", "0.006000", "0.000000", "no"),
    ]
    assert (rows[1]["role"], rows[1]["difference_kwh"], rows[1]["disputed"]) == ("seller", "-0.010", "yes")
    assert (rows[1]["price_EUR_per_kWh"], rows[1]["agreed_EUR"], rows[1]["difference_EUR"]) == ("", "", "")
    assert (rows[2]["received_kwh"], rows[2]["difference_kwh"]) == ("", "")
    assert (rows[2]["agreed_EUR"], rows[2]["difference_EUR"]) == ("0.100000", "0.100000")


ME = Account(name="Bert Müller & Söhne", iban="DE89 3704 0044 0532 0130 00")
TO = Account(name="Anna", iban="GB82 WEST 1234 5698 7654 32")


def payments(**changes: Any) -> str:
    given: dict[str, Any] = {
        "month": "2026-11",
        "currency": "EUR",
        "debtor": ME,
        "creditors": {ANNA: TO},
        "lines": LINES,
        "created": "2026-12-01T08:00:00",
        "execute_on": date(2026, 12, 2),
    }
    return as_pain001(**{**given, **changes})


def test_two_files_of_a_month_are_two_messages() -> None:
    names = set()
    for created in ("2026-12-01T08:00:00", "2026-12-01T08:00:01"):
        root = ET.fromstring(payments(created=created))
        (message,) = root.iter(f"{{{NAMESPACE}}}MsgId")
        (payment,) = root.iter(f"{{{NAMESPACE}}}PmtInfId")
        assert message.text is not None
        assert len(message.text) <= 35
        assert message.text == payment.text
        names.add(message.text)
    assert names == {"EL 2026-11 20261201T080000", "EL 2026-11 20261201T080001"}


def test_the_payment_file_is_what_banks_take() -> None:
    root = ET.fromstring(payments())
    space = {"p": NAMESPACE}
    assert root.tag == f"{{{NAMESPACE}}}Document"

    def text(path: str) -> list[str | None]:
        return [each.text for each in root.findall(path, space)]

    assert text(".//p:GrpHdr/p:NbOfTxs") == ["1"]
    assert text(".//p:CtrlSum") == ["0.16", "0.16"]
    assert text(".//p:DbtrAcct/p:Id/p:IBAN") == ["DE89370400440532013000"]
    assert text(".//p:CdtrAcct/p:Id/p:IBAN") == ["GB82WEST12345698765432"]
    amount = root.find(".//p:InstdAmt", space)
    assert amount is not None
    assert (amount.text, amount.get("Ccy")) == ("0.16", "EUR")
    assert text(".//p:Dbtr/p:Nm") == ["Bert M ller   S hne"], "only characters that every bank takes"
    start = root[0]
    assert [each.tag.partition("}")[2] for each in start] == ["GrpHdr", "PmtInf"]
    assert [each.tag.partition("}")[2] for each in start[1]] == [
        *("PmtInfId", "PmtMtd", "NbOfTxs", "CtrlSum", "ReqdExctnDt", "Dbtr", "DbtrAcct", "DbtrAgt"),
        "CdtTrfTxInf",
    ], "the order that the schema asks for"
    assert all(len(name or "") <= 35 for name in text(".//p:EndToEndId") + text(".//p:MsgId"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"currency": "Taler"}, "three capital letters"),
        ({"lines": LINES[3:]}, "nothing is owed"),
        ({"creditors": {}}, "is not given"),
        ({"creditors": {ANNA: Account(name="x", iban="DE00 3704 0044 0532 0130 00")}}, "check digits"),
        ({"debtor": Account(name="x", iban="12")}, "is no IBAN"),
    ],
)
def test_what_is_wrong_with_a_payment_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StatementError, match=message):
        payments(**changes)


def test_cents_and_ibans() -> None:
    assert [cents(4_999), cents(5_000), cents(163_000)] == [0, 1, 16]
    assert check_iban("de89 3704 0044 0532 0130 00") == "DE89370400440532013000"


def test_a_selling_rule_in_wire_units() -> None:
    rule = sell_rule(
        "id",
        "Evenings",
        {
            "device": "d",
            "price_section": {
                "source": "by_hour",
                "price_by_hour": "06:00-09:00=0,30; 22:00-06:00=0.12",
                "price": 0.2,
                "scarcity": 50,
                "shortfall_price": 0.1,
            },
            "amount_section": {"max_kw": 2.5, "min_kwh": 0.25, "window_slots": 12, "basis": "capacity"},
            "partners_section": {"members": [BERT, ANNA]},
            "hours_section": {"weekdays": ["sat"], "from": "22:00:00", "last_day": "2027-01-31"},
        },
    )
    assert rule.price.kind is SourceKind.BY_HOUR
    assert [price_at(rule.price, minute) for minute in (0, 359, 360, 540, 1320)] == [
        120_000,
        120_000,
        300_000,
        200_000,
        120_000,
    ]
    assert (rule.criteria.max_w, rule.criteria.min_wh, rule.criteria.horizon_slots) == (2500, 250, 12)
    assert rule.audience == (b"a" * 32, b"b" * 32)
    assert rule.formation.scarcity_permille == 500
    assert rule.last_day == date(2027, 1, 31)
    assert rule.criteria.hours.hold(LocalWindow(5, 22 * 60, 120))
    assert not rule.criteria.hours.hold(LocalWindow(4, 22 * 60, 60))


def test_a_buying_rule_in_wire_units() -> None:
    rule = buy_rule(
        "id",
        "Car",
        {
            "price_section": {
                "source": "below_tariff",
                "tariff_entity": "sensor.t",
                "discount": 0.02,
                "counter": 10,
            },
            "amount_section": {"daily_budget": 1.5},
            "partners_section": {"min_score": 7.5, "min_delivered": 90, "blocked": [ANNA]},
        },
    )
    assert (rule.ceiling.kind, rule.ceiling.entity, rule.ceiling.discount) == (
        SourceKind.BELOW_TARIFF,
        "sensor.t",
        20_000,
    )
    criteria = rule.criteria
    assert (criteria.daily_budget, criteria.counter_permille) == (1_500_000, 100)
    assert (criteria.min_score_tenths, criteria.min_delivered_permille) == (75, 900)
    assert criteria.blocked == {b"a" * 32}


@pytest.mark.parametrize("hours", ["25:00-26:00=1", "06:61-07:00=1", "06:00-07:00=5000", "six"])
def test_hours_that_can_not_be(hours: str) -> None:
    with pytest.raises(RuleProblem) as refused:
        sell_rule("", "", {"price_section": {"source": "by_hour", "price_by_hour": hours, "price": 1}})
    assert refused.value.code == "hours_malformed"
    assert refused.value.values["text"] == hours
    with pytest.raises(RuleProblem, match="price_missing"):
        sell_rule("", "", {"price_section": {"source": "below_tariff", "tariff_entity": "sensor.t"}})


def test_consumption_is_learnt_by_the_hour() -> None:
    memory = Memory()
    monday = datetime(2026, 11, 23, 8, tzinfo=UTC)
    began = monday.timestamp()

    def hour(number: int, load: int | None) -> None:
        for minute in range(0, 60, 2):
            at = began + number * 3600 + minute * 60
            memory.take(Flows(100, load), datetime.fromtimestamp(at, UTC), at)

    hour(0, 400)
    hour(1, 800)
    assert memory.load_at(monday) == 400
    assert memory.load_at(datetime(2026, 11, 24, 8, tzinfo=UTC)) == 400, "another day's same hour"
    assert memory.load_at(datetime(2026, 11, 23, 9, tzinfo=UTC)) is None, "not over yet"
    hour(7 * 24, 800)
    hour(7 * 24 + 1, None)
    assert memory.load_at(monday) == 500, "it follows slowly"
    assert memory.generation[8] == 100
    again = Memory()
    again.restore(json.loads(json.dumps(memory.kept())))
    assert (again.load, again.generation) == (memory.load, memory.generation)
