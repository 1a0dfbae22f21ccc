"""Selling: offers what a device can spare, replaces what no longer fits, answers requests and counters."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from ledger_core.client.bodies import OfferTerms as Terms
from ledger_core.client.views import AssetView, OfferView, WaitingView
from ledger_core.errors import LedgerError
from ledger_core.market.prices import Market, PriceParts, asking_price, distance_m
from ledger_core.market.reasons import Decision, Reason, Verdict, ignore
from ledger_core.market.selling import (
    Draft,
    OpenOffer,
    Steps,
    answer_counter,
    answer_request,
    draft,
    energy_of,
    reconcile,
    windows,
)
from ledger_core.market.surplus import Balance
from ledger_core.records.offers import Auction
from ledger_core.records.types import Basis, Carrier, Side
from ledger_core.units import MAX_PRICE, energy

from .context import Desk, local_window, require_day, sent, terms_of
from .notebook import Made
from .prices_now import price_now
from .rule_config import RuleProblem, SellRule
from .rule_state import RuleState, SellFigures

_LOGGER = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Supply:
    """What the rule's asset can give."""

    asset: AssetView
    plan: Balance


class SellDesk:
    """One selling rule at work."""

    def __init__(self, rule: SellRule, state: RuleState) -> None:
        self.rule = rule
        self.state = state
        self._on: frozenset[tuple[int, int]] = frozenset()
        """Windows that the rule would offer at the last look."""

    async def async_run(self, desk: Desk, supply: Supply, floor: int, acting: bool) -> None:
        """Do what the rule says; `floor` is the home's own. Raises RuleProblem."""
        rule = self.rule
        require_day(rule.last_day, desk.now)
        floor = max(floor, rule.formation.floor)
        if rule.formation.ceiling is not None and floor > rule.formation.ceiling:
            raise RuleProblem(
                "floor_above_ceiling", floor=f"{floor / 1e6:g}", ceiling=f"{rule.formation.ceiling / 1e6:g}"
            )
        open_offers = self._open_offers(desk)
        left = self._unpromised(desk, supply, open_offers)
        if rule.criteria.answer_requests:
            left = await self._answer_requests(desk, supply, left, floor, acting)
        wanted = self._drafts(desk, supply, left, open_offers, floor, acting)
        criteria = replace(rule.criteria, lead_s=desk.pace.offer_s)
        await self._offer(desk, supply, reconcile(criteria, wanted, open_offers, desk.now), floor, acting)
        await self._answer_counters(desk, floor, acting)

    # --- price and quantity -----------------------------------------------------------------------------

    def _drafts(
        self,
        desk: Desk,
        supply: Supply,
        left: Balance,
        open_offers: Sequence[OpenOffer],
        floor: int,
        acting: bool,
    ) -> list[Draft]:
        """Return what the rule would offer of what is left, besides its offers that stay in any case."""
        criteria = replace(self.rule.criteria, lead_s=desk.pace.offer_s)
        on = self._on.union((each.start, each.end) for each in open_offers)
        staying = [each for each in open_offers if _stays(each)]
        kept = {(each.start, each.end) for each in staying}
        wanted: list[Draft] = []
        first: tuple[int, int, PriceParts] | None = None
        for window in windows(criteria, desk.now, desk.slot_s):
            price = self._price(desk, supply, window, floor, self.rule.audience)
            spare = _spare(supply.asset, left, window)
            first = first or (window[0], spare, price)
            if window in kept:
                continue
            sold = supply.plan.sold_between(*window)
            made = draft(criteria, window, local_window(*window), spare, price.price, window in on, sold)
            if isinstance(made, Draft):
                wanted.append(made)
                left = left.without(*window, energy_of(made, criteria.basis))
            else:
                desk.note(self.state, f"{window[0]}-{window[1]}", made, dry_run=not acting)
        self._on = frozenset((each.start, each.end) for each in wanted)
        offered: list[Draft | OpenOffer] = [*staying, *wanted]
        if first is not None:
            start, spare, price = first
            self.state.price = price.price
            self.state.figures = SellFigures(
                start=start,
                spare_wh=spare,
                offered_wh=sum(energy_of(each, criteria.basis) for each in offered),
                price=price,
                store=supply.plan.store,
            )
        return wanted

    def _price(
        self,
        desk: Desk,
        supply: Supply,
        window: tuple[int, int],
        floor: int,
        others: tuple[bytes, ...] | None,
    ) -> PriceParts:
        """Form the price for some members; `others` is None for an offer to all."""
        base = price_now(desk.hass, self.rule.price, window[0])
        asked = offered = 0
        for view in desk.entry.runtime_data.ledger.data.offers:
            if view.author.key == desk.me.hex() or view.start >= window[1] or view.end <= window[0]:
                continue
            if view.basis == Basis.ENERGY.value and view.carrier == self.rule.criteria.carrier.value:
                if view.side == Side.BUY.value:
                    asked += view.open
                else:
                    offered += view.open
        store, capacity = supply.plan.store, supply.asset.capacity_wh
        market = Market(
            left_wh=None if store is None else store.held_wh - store.reserve_wh,
            full_wh=None if store is None or capacity is None else capacity - store.reserve_wh,
            asked_wh=asked,
            offered_wh=offered,
            distance_m=farthest_m(desk, supply.asset, others) if self.rule.formation.per_km else None,
            same_feeder=bool(others) and self.rule.feeder.issuperset(others or ()),
        )
        return asking_price(base, replace(self.rule.formation, floor=floor), market)

    def _unpromised(self, desk: Desk, supply: Supply, replaceable: Sequence[OpenOffer] = ()) -> Balance:
        """Return the plan less what the asset owes if others take all that is offered and all answers bind.

        What is replaceable may be withdrawn, and is not taken off.
        """
        plan, asset = supply.plan, supply.asset.asset
        kept = {each.id for each in replaceable if not _stays(each)}
        seen = set()
        for view in desk.entry.runtime_data.ledger.data.offers:
            seen.add(view.offer)
            if view.asset == asset and view.offer not in kept and view.author.key == desk.me.hex():
                plan = plan.without(view.start, view.end, terms_of(view).energy_of(view.open))
        for name, made in desk.notebook.pages.offers.items():
            if made.asset == asset and name not in seen | kept:
                plan = plan.without(made.start, made.end, made.energy_wh)
        for answer in desk.notebook.promised(asset):
            plan = plan.without(answer.start, answer.end, answer.energy_wh)
        return plan

    # --- offering ---------------------------------------------------------------------------------------

    def _open_offers(self, desk: Desk) -> list[OpenOffer]:
        """Return what the rule offers now; an offer that somebody else has answered is pinned."""
        waiting = desk.entry.runtime_data.ledger.data.waiting
        answered = [each.offer for each in waiting if each.author.key != desk.me.hex()]
        return desk.notebook.open_of(self.rule.rule_id, answered)

    async def _offer(self, desk: Desk, supply: Supply, steps: Steps, floor: int, acting: bool) -> None:
        rule = self.rule
        for name in steps.withdraw:
            if acting:
                await withdraw(desk, name)
        for each in steps.offer:
            figures = {"spare_wh": each.spare_wh}
            decision = Decision(Verdict.ACCEPT, Reason.GOOD_PRICE, each.quantity, each.price, figures)
            subject = f"{each.start}-{each.end}"
            if not acting:
                desk.note(self.state, subject, decision, dry_run=True)
                continue
            terms = self._terms(desk, supply, each, floor)
            record, refused = await sent(desk.entry.runtime_data.home.offer(terms))
            if record is not None:
                desk.notebook.pages.offers[record] = Made(
                    rule=rule.rule_id,
                    start=each.start,
                    end=each.end,
                    quantity=each.quantity,
                    price=each.price,
                    since=desk.now,
                    auction=rule.auction,
                    asset=supply.asset.asset,
                    energy_wh=energy_of(each, rule.criteria.basis),
                )
            desk.note(self.state, subject, decision, dry_run=False, record=record, refused=refused)

    def _terms(self, desk: Desk, supply: Supply, each: Draft, floor: int) -> Terms:
        rule = self.rule
        criteria = rule.criteria
        capacity = criteria.basis is Basis.CAPACITY
        least = None
        if criteria.parts:
            part = criteria.part_wh * 3600 // (each.end - each.start) if capacity else criteria.part_wh
            least = max(min(part, each.quantity), 1)
        closes = each.start - desk.pace.answer_s  # so that its award gets into a block before
        auction = None
        if rule.auction and closes > desk.now:
            auction = Auction(closes, rule.formation.ceiling or max(MAX_PRICE, each.price), floor)
        return Terms(
            quantity=each.quantity,
            start=each.start,
            end=each.end,
            price=each.price,
            asset=bytes.fromhex(supply.asset.asset),
            carrier=Carrier(supply.asset.carrier),
            basis=criteria.basis,
            min_quantity=least,
            shortfall_price=rule.shortfall_price,
            audience=rule.audience,
            auction=auction,
        )

    # --- answering --------------------------------------------------------------------------------------

    async def _answer_counters(self, desk: Desk, floor: int, acting: bool) -> None:
        """Confirm or reject changed terms of this rule's own offers."""
        data = desk.entry.runtime_data
        offers = {view.offer: view for view in data.ledger.data.offers}
        for waiting in data.ledger.data.waiting:
            made = desk.notebook.pages.offers.get(waiting.offer)
            view = offers.get(waiting.offer)
            if waiting.bid or waiting.author.key == desk.me.hex() or made is None or view is None:
                continue
            if made.rule != self.rule.rule_id or waiting.acceptance in desk.notebook.pages.replied:
                continue
            decision = self._judge_counter(view, waiting, floor)
            if acting:
                await self._reply(desk, waiting, decision)
            else:
                desk.note(self.state, waiting.acceptance, decision, dry_run=True)

    def _judge_counter(self, view: OfferView, waiting: WaitingView, floor: int) -> Decision:
        if (waiting.start, waiting.end) != (view.start, view.end):
            return Decision(Verdict.IGNORE, Reason.ANSWER_LATER)  # another window: that is for the user
        return answer_counter(
            self.rule.criteria, terms_of(view), waiting.quantity, waiting.price, floor, view.price
        )

    async def _reply(self, desk: Desk, waiting: WaitingView, decision: Decision) -> None:
        home = desk.entry.runtime_data.home
        record = refused = None
        try:
            if decision.verdict is Verdict.CONFIRM:
                record = await home.confirm(waiting.acceptance)
            elif decision.verdict is Verdict.REJECT:
                record = await home.reject(waiting.acceptance)
            desk.notebook.pages.replied[waiting.acceptance] = desk.now
        except LedgerError as error:
            refused = error.code
        desk.note(self.state, waiting.acceptance, decision, dry_run=False, record=record, refused=refused)

    async def _answer_requests(
        self, desk: Desk, supply: Supply, left: Balance, floor: int, acting: bool
    ) -> Balance:
        """Supply what others ask for, where the price is right; returns what is left for offers."""
        firm = self._unpromised(desk, supply)
        for view in desk.entry.runtime_data.ledger.data.offers:
            if view.side != Side.BUY.value or view.offer in desk.notebook.pages.answers:
                continue
            window, terms = (view.start, view.end), terms_of(view)
            decision = answer_request(
                self.rule.criteria,
                terms,
                local_window(*window),
                desk.me,
                _spare(supply.asset, left, window),
                self._price(desk, supply, window, floor, (terms.author,)).price,
                desk.now,
            )
            if decision.acts:
                promised = terms.energy_of(decision.quantity)
                left = left.without(*window, promised)
                if acting and promised > _spare(supply.asset, firm, window):
                    # It stands in an open offer, which is withdrawn first.
                    decision = ignore(Reason.ANSWER_LATER, asked=decision.quantity)
                else:
                    firm = firm.without(*window, promised)
            if decision.acts and acting:
                await self._supply(desk, supply, view, decision)
            else:
                desk.note(self.state, view.offer, decision, dry_run=not acting)
        return left

    async def _supply(self, desk: Desk, supply: Supply, view: OfferView, decision: Decision) -> None:
        home, asset = desk.entry.runtime_data.home, bytes.fromhex(supply.asset.asset)
        if decision.verdict is Verdict.BID:
            sending = home.bid(view, decision.price, decision.quantity, asset=asset)
        else:
            sending = home.accept(view, decision.quantity, asset=asset)
        await desk.answer(self.state, terms_of(view), decision, sending, supply.asset.asset)


async def withdraw(desk: Desk, name: str) -> None:
    """Take back what is open of an offer, or a counter; what fails is tried again at the next look."""
    try:
        await desk.entry.runtime_data.home.withdraw(name)
    except LedgerError as error:
        _LOGGER.debug("%s: %s was not withdrawn: %s", desk.entry.title, name, error)
        return
    if (made := desk.notebook.pages.offers.get(name)) is not None:
        made.withdrawn = True


def _stays(offer: OpenOffer) -> bool:
    """Whether an offer is not to be replaced, nor on its way out."""
    return offer.pinned and not offer.withdrawn


def _spare(asset: AssetView, plan: Balance, window: tuple[int, int]) -> int:
    """Return the Wh that an asset can sell in a window."""
    start, end = window
    return min(plan.surplus_between(start, end), energy(asset.rating_w, end - start))


def farthest_m(desk: Desk, asset: AssetView, others: tuple[bytes, ...] | None) -> int | None:
    """Return how far the farthest of some members is from an asset, in metres; None: not known."""
    members = desk.entry.runtime_data.ledger.data.members
    places = {each.member.key: each.location for each in members if each.location is not None}
    here = asset.location or places.get(desk.me.hex())
    if here is None or not others:
        return None
    known = [place for key in others if (place := places.get(key.hex())) is not None]
    return max(
        (distance_m((here.latitude, here.longitude), (there.latitude, there.longitude)) for there in known),
        default=None,
    )
