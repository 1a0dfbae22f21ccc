"""What the rules have done and must not forget: their offers, answers and purchases, kept over restarts."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from ledger_core.market.selling import OpenOffer

PENDING_S = 600
"""An offer that is in no block by then counts as lost, an answer as contested."""
KEPT_S = 3 * 86_400


class Made(Struct, kw_only=True):
    """An offer that a rule made."""

    rule: str
    start: int
    end: int
    quantity: int
    price: int
    since: int
    auction: bool = False
    asset: str = ""
    energy_wh: int = 0
    """What it promised when it was made."""
    seen: bool = False
    """The chain has, or had, it."""
    withdrawn: bool = False


class Answer(Struct, kw_only=True):
    """An acceptance, counter or bid that a rule made, by the offer or request that it answers."""

    rule: str
    record: str
    kind: str
    energy_wh: int
    cost: int
    start: int
    end: int
    at: int
    """When it was sent, or came back."""
    day: str
    """Day on the home's clock, for the budget."""
    state: str = "pending"
    """pending; contested: beaten, and may still come back; agreed; or lost for good."""
    asset: str = ""
    """What supplies a request; empty where the home buys."""


class StoreOrigin(Struct, array_like=True):
    """Whose energy a store holds, Wh, and what the meter had counted from the grid by then."""

    own_wh: int
    grid_wh: int
    imported_wh: int | None = None


class HandedBack(Struct, kw_only=True):
    """A sale whose rest this home ended because it can't deliver it."""

    reason: str
    end: int
    at: int
    compensation: int
    record: str = ""
    """The termination."""


class Pages(Struct, kw_only=True):
    """What is kept."""

    offers: dict[str, Made] = {}
    answers: dict[str, Answer] = {}
    replied: dict[str, int] = {}
    """Others' acceptances of changed terms that were confirmed or rejected, and when."""
    origins: dict[str, StoreOrigin] = {}
    """By asset."""
    handed_back: dict[str, HandedBack] = {}
    """By trade."""


class Notebook:
    """Everything that the rules remember."""

    def __init__(self) -> None:
        self.pages = Pages()

    def kept(self) -> dict[str, Any]:
        """Return what must survive a restart, JSON-friendly."""
        kept: dict[str, Any] = msgspec.to_builtins(self.pages)
        return kept

    def restore(self, kept: Mapping[str, Any] | None) -> None:
        """Go on from what `kept` gave."""
        if kept:
            self.pages = msgspec.convert(kept, Pages)

    # --- offers -----------------------------------------------------------------------------------------

    def follow_offers(self, open_now: Mapping[str, int], now: int) -> None:
        """Take over which offers are open (id to what is left); forget what is over."""
        for name, made in list(self.pages.offers.items()):
            if name in open_now:
                made.seen = True
                made.quantity = open_now[name]
            elif made.seen or now - made.since > PENDING_S or now >= made.end:
                del self.pages.offers[name]

    def open_of(self, rule: str, answered: Iterable[str]) -> list[OpenOffer]:
        """Return a rule's offers that are open or on their way; those that were answered stay.

        One that was withdrawn is among them until the chain has closed it.
        """
        pinned = set(answered)
        return [
            OpenOffer(
                id=name,
                start=made.start,
                end=made.end,
                quantity=made.quantity,
                price=made.price,
                since=made.since,
                pinned=made.auction or name in pinned or not made.seen,
                withdrawn=made.withdrawn,
            )
            for name, made in self.pages.offers.items()
            if made.rule == rule and (made.seen or not made.withdrawn)
        ]

    # --- answers ----------------------------------------------------------------------------------------

    def follow_answers(self, agreed: Iterable[str], waiting: Iterable[str], now: int) -> None:
        """Take over what became of answers; an answer that is nowhere after a while is contested."""
        trades, waits = set(agreed), set(waiting)
        for name, answer in list(self.pages.answers.items()):
            if answer.record in trades:
                answer.state = "agreed"
            elif answer.record in waits:
                answer.state = "pending"
            elif answer.state == "pending" and now - answer.at > PENDING_S:
                answer.state = "contested"
            if now - max(answer.at, answer.end) > KEPT_S:
                del self.pages.answers[name]
        self.pages.handed_back = {
            name: row for name, row in self.pages.handed_back.items() if now - row.end < KEPT_S
        }
        self.pages.replied = {name: at for name, at in self.pages.replied.items() if now - at < KEPT_S}

    def contest(self, record: str) -> None:
        """A block that may be undone refuses a record: if it is an answer, the next offer may be tried."""
        for answer in self._answers_of(record):
            answer.state = "contested"

    def resume(self, record: str, now: int) -> None:
        """A record that was contested is on its way again."""
        for answer in self._answers_of(record):
            if answer.state == "contested":
                answer.state, answer.at = "pending", now

    def lose(self, record: str) -> None:
        """A record came to nothing."""
        for answer in self._answers_of(record):
            if answer.state != "agreed":
                answer.state = "lost"
        self.pages.offers.pop(record, None)
        handed_back = self.pages.handed_back
        self.pages.handed_back = {name: row for name, row in handed_back.items() if row.record != record}

    def _answers_of(self, record: str) -> list[Answer]:
        return [answer for answer in self.pages.answers.values() if answer.record == record]

    def rule_of(self, trade: str) -> str | None:
        """Return the rule whose answer became a trade; None: it was no rule's."""
        return next((answer.rule for answer in self._answers_of(trade)), None)

    def spent(self, rule: str, day: str) -> int:
        """Return what a rule has spent on a day, or may still have to pay, micro-currency."""
        return sum(
            answer.cost
            for answer in self.pages.answers.values()
            if answer.rule == rule and answer.day == day and answer.state != "lost"
        )

    def on_the_way(self, start: int, end: int) -> int:
        """Return the Wh bought in a window that do not bind yet; contested ones are not waited for."""
        return sum(
            answer.energy_wh
            * (min(end, answer.end) - max(start, answer.start))
            // (answer.end - answer.start)
            for answer in self.pages.answers.values()
            if answer.state == "pending" and not answer.asset and answer.start < end and answer.end > start
        )

    def promised(self, asset: str) -> list[Answer]:
        """Return the answers to requests that an asset must supply if they bind after all."""
        return [
            answer
            for answer in self.pages.answers.values()
            if answer.asset == asset and answer.state in ("pending", "contested")
        ]
