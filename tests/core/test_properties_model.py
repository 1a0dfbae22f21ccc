"""The rules against a naive model of the market, over random days of a small street."""

from collections.abc import Callable
from random import Random
from typing import Any, ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_core.community import MoneyMode
from ledger_core.records.acceptances import Acceptance, Confirmation, Rejection
from ledger_core.records.assets import Asset
from ledger_core.records.body import Body
from ledger_core.records.codec import Record
from ledger_core.records.money import Transfer
from ledger_core.records.offers import Offer, Withdrawal
from ledger_core.records.readings import Reading
from ledger_core.records.trades import Score, Termination
from ledger_core.records.types import Basis, Side
from ledger_core.rules.events import SlotSettled
from ledger_core.rules.rows import AccountRow, EnergyRow
from tests.core.actions import SLOT, lines
from tests.core.reference_model import Answer, Model, Refused, Terms, Thing
from tests.core.strategies import PROFILE
from tests.core.street_life import NAMES, Step, Street
from tests.core.world import asset_id


class Mirror:
    """Hands every record of a street to the model as well."""

    def __init__(self, street: Street) -> None:
        self.street = street
        self.tried: list[Record] = []
        self.latest: dict[bytes, bytes | None] = {}
        world = street.world
        given_parameters = world.genesis.parameters
        credit = given_parameters.money_mode is MoneyMode.MUTUAL_CREDIT
        self.model = Model(
            slot=SLOT,
            grace=given_parameters.grace_s,
            limit=given_parameters.credit_limit if credit else 0,
            fee=given_parameters.fee,
            ending=given_parameters.termination_permille,
            longest=given_parameters.window_max_slots * SLOT,
            horizon=given_parameters.horizon_s,
            settled=world.state.tip.settled_until,
            now=world.now,
        )
        self.people = {world[name].id: name for name in NAMES}
        self.names = {
            asset_id(f"{name} {what}"): f"{name} {what}"
            for name in NAMES
            for what in ("pv", "meter", "battery")
        }
        for key, row in world.state.assets.items():
            owner = self.people[row.owner]
            stored = world.state.stores.get(key)
            store = (stored.energy_wh, stored.at) if stored else None
            self.model.things[self.names[key]] = Thing(owner, f"{owner} meter", row.rating_w, store)
        for key, account in world.state.accounts.items():
            self.model.money[self.people[key]] = account.balance
        self.model.fees = sum(row.amount for row in world.state.fees.values())

    def follow(self, step: Step) -> None:
        model = self.model
        model.begin(step.time)
        for record in step.tried:
            taken = self.take(record)
            error = step.refused.get(record.id)
            assert taken == (error is None), (record.body, error)
            model.turns += taken
        already = len(model.lines)
        model.finish_block()
        self.compare_lines(lines(step.applied.events), already)
        self.compare()

    def take(self, record: Record) -> bool:
        before = self.model.money.copy(), self.model.fees
        try:
            self.handlers[type(record.body)](self, record.id, record.body)
        except Refused:
            self.model.money, self.model.fees = before
            return False
        return True

    def offer(self, key: bytes, body: Offer) -> None:
        terms = Terms(
            self.people[body.author],
            body.side is Side.SELL,
            self.names[body.asset] if body.asset else None,
            body.basis is Basis.CAPACITY,
            body.quantity,
            body.min_quantity,
            body.max_w,
            body.start,
            body.end,
            body.price,
            body.shortfall_price,
            body.valid_until,
            tuple(self.people[key] for key in body.audience) if body.audience else None,
            (body.auction.closes, body.auction.ceiling, body.auction.reserve) if body.auction else None,
        )
        self.model.offer(key, terms)

    def accept(self, key: bytes, body: Acceptance) -> None:
        thing = self.names[body.asset] if body.asset else None
        answer = Answer(
            self.people[body.author],
            body.offer,
            thing,
            body.quantity,
            body.start,
            body.end,
            body.price,
            body.valid_until,
        )
        self.model.accept(key, answer)

    def confirm(self, _: bytes, body: Confirmation) -> None:
        self.model.confirm(body.acceptance, self.people[body.author])

    def reject(self, _: bytes, body: Rejection) -> None:
        self.model.reject(body.acceptance, self.people[body.author])

    def withdraw(self, _: bytes, body: Withdrawal) -> None:
        self.model.withdraw(body.target, self.people[body.author])

    def terminate(self, key: bytes, body: Termination) -> None:
        record = next(known for known in self.tried if known.id == key)
        deal = self.model.deals.get(body.trade)
        sides = {deal.seller, deal.buyer} if deal else set()
        signers = {self.people.get(signer, "") for signer in record.signers}
        self.model.terminate(
            body.trade, self.people[body.author], body.end, body.compensation, both=sides <= signers
        )

    def transfer(self, _: bytes, body: Transfer) -> None:
        self.model.transfer(self.people[body.author], self.people[body.to], body.amount)

    def read(self, _: bytes, body: Reading) -> None:
        for row in body.rows:
            self.model.read(self.names[body.meter], row.end, row.import_wh, row.export_wh)
        for item in body.stored:
            thing = self.model.things[self.names[item.asset]]
            if thing.store is None or thing.store[1] <= body.rows[-1].end:
                thing.store = (item.energy_wh, body.rows[-1].end)

    def rate(self, _: bytes, body: Asset) -> None:
        latest = self.latest.setdefault(body.asset, body.supersedes)
        if body.supersedes != latest:
            raise Refused("superseded")
        self.model.rate(self.names[body.asset], body.rating_w)
        self.latest[body.asset] = next(known.id for known in self.tried if known.body is body)

    def score(self, _: bytes, body: Score) -> None:
        raise AssertionError(f"scores are not handed on: {body}")

    handlers: ClassVar[dict[type[Body], Callable[..., None]]] = {
        Offer: offer,
        Acceptance: accept,
        Confirmation: confirm,
        Rejection: reject,
        Withdrawal: withdraw,
        Termination: terminate,
        Transfer: transfer,
        Reading: read,
        Asset: rate,
        Score: score,
    }

    def compare_lines(self, settled: list[SlotSettled], already: int) -> None:
        mine = self.model.lines[already:]
        theirs = [
            (
                line.trade,
                line.slot_end,
                line.sent_wh,
                line.received_wh,
                line.delivered_wh,
                line.paid,
                line.shortfall_paid,
            )
            for line in settled
        ]
        assert theirs == mine

    def compare(self) -> None:
        model, state = self.model, self.street.world.state
        for key, name in self.people.items():
            account = state.accounts.get(key, AccountRow(0, 0))
            assert (account.balance, account.held) == (model.money.get(name, 0), model.held.get(name, 0)), (
                name
            )
            energy = state.energy.get((key, "electricity"), EnergyRow(0, 0))
            assert (energy.sold_wh, energy.bought_wh) == model.energy.get(name, (0, 0))
        assert {key: row.open for key, row in state.offers.items()} == {
            key: terms.open for key, terms in model.offers.items()
        }
        assert set(state.waiting) == set(model.answers)
        assert {key: (row.watts, row.end) for key, row in state.trades.items()} == {
            key: (deal.watts, max(deal.agreed) + SLOT) for key, deal in model.deals.items()
        }
        assert sum(row.amount for row in state.fees.values()) == model.fees
        assert state.tip.settled_until == model.settled
        for key, row in state.stores.items():
            assert (row.energy_wh, row.at) == model.things[self.names[key]].store


@settings(PROFILE, max_examples=20)
@given(st.randoms(use_true_random=False))
def test_rules_do_what_the_model_does(random: Random) -> None:
    street = Street(random)
    mirror = Mirror(street)
    for _ in range(30):
        step = street.step()
        mirror.tried = step.tried = [record for record in step.tried if not isinstance(record.body, Score)]
        mirror.follow(step)


def test_random_days_are_eventful() -> None:
    """What the model is compared on does happen: every kind of end of an offer, and money that moves."""
    seen: dict[str, int] = {}
    for seed in range(16):
        street = Street(Random(seed))
        for _ in range(30):
            step = street.step()
            for event in step.applied.events:
                label: Any = getattr(event, "origin", None) or getattr(event, "reason", None)
                name = f"{type(event).__name__} {label or ''}".strip()
                seen[name] = seen.get(name, 0) + 1
            paid = [line.paid for line in lines(step.applied.events) if line.paid]
            seen["paid"] = seen.get("paid", 0) + len(paid)
    for needed in (
        "TradeAgreed posted",
        "TradeAgreed countered",
        "TradeAgreed auction",
        "OfferClosed taken",
        "OfferClosed withdrawn",
        "OfferClosed expired",
        "OfferClosed auctioned",
        "AcceptanceEnded rejected",
        "AcceptanceEnded expired",
        "AcceptanceEnded lost",
        "TradeTerminated",
        "TradeClosed",
        "ScoreGiven",
        "paid",
    ):
        assert seen.get(needed), (needed, seen)
