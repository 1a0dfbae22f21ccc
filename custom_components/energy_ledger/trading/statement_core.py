"""Monthly statements of what neighbours owe each other, as CSV and as a payment file banks take; pure.

The ledger itself moves mutual credit; a statement tells what a month's trades came to, per neighbour, so
that it can be paid for outside. The payment file is ISO 20022 pain.001.001.09, one payment per creditor.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any
from xml.etree import ElementTree as ET

from msgspec import Struct

from ledger_core.keys import address
from ledger_core.units import amount

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9/\-?:().,'+ ]")


class Settled(Struct, kw_only=True):
    """One settled slot of one trade of this home; Wh and micro-currency."""

    trade: str
    slot_end: int
    partner: str
    """Address of the other side."""
    selling: bool
    agreed_wh: int
    sent_wh: int | None
    received_wh: int | None
    delivered_wh: int
    paid: int
    shortfall_paid: int
    disputed: bool
    price: int | None = None
    """As agreed, per kWh; None: not known any more."""
    block: str = ""

    @property
    def difference_wh(self) -> int | None:
        """Sent less received; None: a reading is missing."""
        if self.sent_wh is None or self.received_wh is None:
            return None
        return self.sent_wh - self.received_wh

    @property
    def agreed_amount(self) -> int | None:
        """What all that was agreed would have cost."""
        return None if self.price is None else amount(self.agreed_wh, self.price)

    @property
    def unpaid(self) -> int | None:
        """What was agreed less what was paid."""
        agreed = self.agreed_amount
        return None if agreed is None else agreed - self.paid


def settled_of(raw: Mapping[str, Any], home: str, price: int | None, block: str = "") -> Settled:
    """Return a settlement line of a home (its key, hexadecimal) from the node's event."""
    selling = raw["seller"] == home
    return Settled(
        trade=str(raw["trade"]),
        slot_end=int(raw["slot_end"]),
        partner=address(bytes.fromhex(raw["buyer"] if selling else raw["seller"])),
        selling=selling,
        agreed_wh=raw["agreed_wh"],
        sent_wh=raw["sent_wh"],
        received_wh=raw["received_wh"],
        delivered_wh=raw["delivered_wh"],
        paid=raw["paid"],
        shortfall_paid=raw["shortfall_paid"],
        disputed=raw["disputed"],
        price=price,
        block=block,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PartnerSum:
    """A month with one neighbour."""

    partner: str
    sold_wh: int
    bought_wh: int
    earned: int
    spent: int
    shortfall_received: int
    shortfall_paid: int
    lines: int
    disputed: int

    @property
    def owed(self) -> int:
        """Micro-currency that this home owes the neighbour; negative: is owed."""
        return self.spent - self.earned + self.shortfall_paid - self.shortfall_received


def sums(lines: Iterable[Settled]) -> list[PartnerSum]:
    """Return the sums per neighbour, by address."""
    by_partner: dict[str, list[Settled]] = {}
    for line in lines:
        by_partner.setdefault(line.partner, []).append(line)
    return [_sum(partner, each) for partner, each in sorted(by_partner.items())]


def _sum(partner: str, lines: list[Settled]) -> PartnerSum:
    sold = [line for line in lines if line.selling]
    bought = [line for line in lines if not line.selling]
    return PartnerSum(
        partner=partner,
        sold_wh=sum(line.delivered_wh for line in sold),
        bought_wh=sum(line.delivered_wh for line in bought),
        earned=sum(line.paid for line in sold),
        spent=sum(line.paid for line in bought),
        shortfall_received=sum(line.shortfall_paid for line in bought),
        shortfall_paid=sum(line.shortfall_paid for line in sold),
        lines=len(lines),
        disputed=sum(line.disputed for line in lines),
    )


def as_csv(month: str, currency: str, lines: Iterable[Settled]) -> str:
    """Return a statement as CSV: one row per neighbour, figures in kWh and currency."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(
        [
            *("month", "neighbour", "sold_kwh", "bought_kwh", f"earned_{currency}", f"spent_{currency}"),
            *(f"shortfall_received_{currency}", f"shortfall_paid_{currency}", f"owed_{currency}"),
            *("slots", "disputed_slots"),
        ]
    )
    for each in sums(lines):
        writer.writerow(
            [
                *(month, each.partner, _kilo(each.sold_wh), _kilo(each.bought_wh)),
                *(_money(each.earned), _money(each.spent), _money(each.shortfall_received)),
                *(_money(each.shortfall_paid), _money(each.owed), each.lines, each.disputed),
            ]
        )
    return out.getvalue()


def as_slots_csv(currency: str, lines: Iterable[tuple[str, Settled]]) -> str:
    """Return settled slots, each with its end as people read it, as CSV: one row per trade and slot."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(
        [
            *("trade", "slot_end", "neighbour", "role", "agreed_kwh", "sent_kwh", "received_kwh"),
            *("difference_kwh", "delivered_kwh", f"price_{currency}_per_kWh", f"agreed_{currency}"),
            *(f"paid_{currency}", f"difference_{currency}", f"shortfall_paid_{currency}", "disputed"),
        ]
    )
    for end, line in lines:
        writer.writerow(
            [
                *(line.trade, end, line.partner, "seller" if line.selling else "buyer"),
                *(_kilo(line.agreed_wh), _kilo(line.sent_wh), _kilo(line.received_wh)),
                *(_kilo(line.difference_wh), _kilo(line.delivered_wh), _money(line.price)),
                *(_money(line.agreed_amount), _money(line.paid), _money(line.unpaid)),
                *(_money(line.shortfall_paid), "yes" if line.disputed else "no"),
            ]
        )
    return out.getvalue()


def _kilo(watt_hours: int | None) -> str:
    if watt_hours is None:
        return ""
    sign, watt_hours = "-" if watt_hours < 0 else "", abs(watt_hours)
    return f"{sign}{watt_hours // 1000}.{watt_hours % 1000:03d}"


def _money(micro: int | None) -> str:
    if micro is None:
        return ""
    sign, micro = "-" if micro < 0 else "", abs(micro)
    return f"{sign}{micro // 1_000_000}.{micro % 1_000_000:06d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whose bank account: a name and an IBAN."""

    name: str
    iban: str


class StatementError(ValueError):
    """A payment file can't be made; the message says what is missing or wrong."""


def check_iban(iban: str) -> str:
    """Return an IBAN without spaces; raises StatementError for one whose check digits are wrong."""
    plain = re.sub(r"\s", "", iban).upper()
    if not re.fullmatch(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", plain):
        raise StatementError(f"{iban!r} is no IBAN: two letters, two digits, 11 to 30 letters or digits")
    turned = plain[4:] + plain[:4]
    if int("".join(str(int(letter, 36)) for letter in turned)) % 97 != 1:
        raise StatementError(f"the check digits of the IBAN {iban!r} are wrong: is it mistyped?")
    return plain


def cents(micro: int) -> int:
    """Return whole cents, rounded half up."""
    return (micro + 5_000) // 10_000


def as_pain001(
    *,
    month: str,
    currency: str,
    debtor: Account,
    creditors: dict[str, Account],
    lines: Iterable[Settled],
    created: str,
    execute_on: date,
) -> str:
    """Return the payments of what this home owes; raises StatementError.

    `creditors` by the neighbours' addresses; `created` is an ISO 8601 time. Nothing is left out silently:
    a neighbour who is owed a cent and whose account is not given is an error.
    """
    if not re.fullmatch(r"[A-Z]{3}", currency):
        raise StatementError(f"{currency!r} is no currency that banks know: three capital letters, as EUR")
    owed = [(each.partner, cents(each.owed)) for each in sums(lines) if cents(each.owed) > 0]
    if not owed:
        raise StatementError(f"nothing is owed for {month}")
    missing = [partner for partner, _ in owed if partner not in creditors]
    if missing:
        raise StatementError(f"the bank account of {', '.join(missing)} is not given")
    total = _decimal(sum(sum_cents for _, sum_cents in owed))
    # Banks refuse a name that they have seen: two files of a month are two messages.
    name = f"EL {month} {re.sub('[^0-9T]', '', created)}"[:35]
    ET.register_namespace("", NAMESPACE)
    document = ET.Element(_tag("Document"))
    start = ET.SubElement(document, _tag("CstmrCdtTrfInitn"))
    header = ET.SubElement(start, _tag("GrpHdr"))
    _text(header, "MsgId", name)
    _text(header, "CreDtTm", created)
    _text(header, "NbOfTxs", str(len(owed)))
    _text(header, "CtrlSum", total)
    _text(ET.SubElement(header, _tag("InitgPty")), "Nm", _plain(debtor.name, 140))
    payment = ET.SubElement(start, _tag("PmtInf"))
    _text(payment, "PmtInfId", name)
    _text(payment, "PmtMtd", "TRF")
    _text(payment, "NbOfTxs", str(len(owed)))
    _text(payment, "CtrlSum", total)
    _text(ET.SubElement(payment, _tag("ReqdExctnDt")), "Dt", execute_on.isoformat())
    _text(ET.SubElement(payment, _tag("Dbtr")), "Nm", _plain(debtor.name, 140))
    _iban(ET.SubElement(payment, _tag("DbtrAcct")), debtor.iban)
    agent = ET.SubElement(ET.SubElement(payment, _tag("DbtrAgt")), _tag("FinInstnId"))
    _text(ET.SubElement(agent, _tag("Othr")), "Id", "NOTPROVIDED")
    for number, (partner, sum_cents) in enumerate(owed, start=1):
        _transfer(payment, number, month, currency, creditors[partner], partner, sum_cents)
    ET.indent(document)
    return ET.tostring(document, encoding="unicode", xml_declaration=True) + "\n"


def _transfer(
    payment: ET.Element, number: int, month: str, currency: str, to: Account, partner: str, sum_cents: int
) -> None:
    transfer = ET.SubElement(payment, _tag("CdtTrfTxInf"))
    _text(ET.SubElement(transfer, _tag("PmtId")), "EndToEndId", f"EL {month} {number}"[:35])
    instructed = ET.SubElement(ET.SubElement(transfer, _tag("Amt")), _tag("InstdAmt"))
    instructed.set("Ccy", currency)
    instructed.text = _decimal(sum_cents)
    _text(ET.SubElement(transfer, _tag("Cdtr")), "Nm", _plain(to.name, 140))
    _iban(ET.SubElement(transfer, _tag("CdtrAcct")), to.iban)
    _text(ET.SubElement(transfer, _tag("RmtInf")), "Ustrd", _plain(f"Energy {month} {partner}", 140))


def _iban(account: ET.Element, iban: str) -> None:
    _text(ET.SubElement(account, _tag("Id")), "IBAN", check_iban(iban))


def _decimal(sum_cents: int) -> str:
    return f"{sum_cents // 100}.{sum_cents % 100:02d}"


def _plain(text: str, length: int) -> str:
    """Return a text in the characters that every bank takes."""
    return _NOT_ALLOWED.sub(" ", text)[:length].strip() or "-"


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _text(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, _tag(name)).text = text
