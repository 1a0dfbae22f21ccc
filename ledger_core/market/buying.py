"""Buying rules: which offers are accepted, countered once, or bid for; and why the others are not."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from ledger_core.market.pace import Pace
from ledger_core.market.reasons import Decision, Reason, Verdict, ignore
from ledger_core.market.terms import Hours, LocalWindow, OfferTerms, Standing
from ledger_core.records.types import Basis, Carrier, Side


class BuyCriteria(Struct, frozen=True, kw_only=True):
    """The plain criteria of a rule; prices and what is needed now come with the world."""

    carrier: Carrier = Carrier.ELECTRICITY
    basis: Basis | None = Basis.ENERGY
    """None: both."""
    min_wh: int = 1
    """Less is not worth it."""
    max_wh: int | None = None
    """At most so much from one offer."""
    hours: Hours = Hours()
    sellers: frozenset[bytes] | None = None
    """Only these; None: everybody."""
    blocked: frozenset[bytes] = frozenset()
    min_score_tenths: int | None = None
    """Of those who have a score."""
    min_delivered_permille: int | None = None
    daily_budget: int | None = None
    """Micro-currency."""
    only_need: bool = True
    """Buy only what the home will draw from the grid."""
    counter_permille: int | None = None
    """Counter at the ceiling where the price is above it by no more than this; None: never."""
    bid: bool = True
    min_gain: int = 0
    """Micro-currency that a purchase must save at the least."""
    lead_s: int = Pace().answer_s
    """So long before its window an offer is not taken any more: the record must still get into a block."""


class BuyWorld(Struct, frozen=True, kw_only=True):
    """What a decision is based on, besides rule and offer."""

    now: int
    me: bytes
    window: LocalWindow
    ceiling: int
    """Highest price now, micro-currency per kWh."""
    tariff: int | None = None
    """What the same would cost from the grid; None: not known, then the ceiling counts."""
    need_wh: int | None = None
    """What the home will draw in the window beyond what it has bought already; None: not known."""
    spent_today: int = 0
    standing: Standing | None = None
    answered: bool = False
    """This home has an answer to the offer under way, or had one."""
    countered: bool = False
    conditions: bool | None = None
    """What Home Assistant's conditions say; None: there are none."""


type Check = Callable[[BuyCriteria, OfferTerms, BuyWorld], Decision | None]


def decide_buy(rule: BuyCriteria, offer: OfferTerms, world: BuyWorld) -> Decision:
    """Decide about an offer: the first criterion that it fails is the reason."""
    for check in _CHECKS:
        refusal = check(rule, offer, world)
        if refusal is not None:
            return refusal
    quantity, refusal = wanted_quantity(rule, offer, world)
    if refusal is not None:
        return refusal
    if offer.auction is not None:
        verdict, reason = Verdict.BID, Reason.WORTH_A_BID
    elif offer.price <= world.ceiling:
        verdict, reason = Verdict.ACCEPT, Reason.GOOD_PRICE
    else:
        verdict, reason = Verdict.COUNTER, Reason.WORTH_A_COUNTER
    return _with_gain(rule, offer, world, Decision(verdict, reason, quantity, _price(offer, world)))


def _price(offer: OfferTerms, world: BuyWorld) -> int:
    """Return the price of the answer: of a bid as well, for an auction's winners pay their own."""
    return min(offer.price if offer.auction is None else offer.auction.ceiling, world.ceiling)


def _check_offer(rule: BuyCriteria, offer: OfferTerms, world: BuyWorld) -> Decision | None:
    if offer.author == world.me:
        return ignore(Reason.OWN_OFFER)
    if offer.side is not Side.SELL:
        return ignore(Reason.OTHER_SIDE)
    if offer.carrier is not rule.carrier:
        return ignore(Reason.OTHER_CARRIER, carrier=offer.carrier.value)
    if rule.basis is not None and offer.basis is not rule.basis:
        return ignore(Reason.OTHER_BASIS, basis=offer.basis.value)
    if offer.audience is not None and world.me not in offer.audience:
        return ignore(Reason.NOT_FOR_US)
    return None


def _check_time(rule: BuyCriteria, offer: OfferTerms, world: BuyWorld) -> Decision | None:
    closes = min(offer.valid_until, offer.start) if offer.auction is None else offer.auction.closes
    if world.now >= closes:
        return ignore(Reason.EXPIRED, valid_until=closes)
    if closes - world.now < rule.lead_s:
        return ignore(Reason.TOO_SOON, seconds=closes - world.now, lead_s=rule.lead_s)
    if not rule.hours.hold(world.window):
        return ignore(Reason.OUTSIDE_HOURS, start=offer.start, end=offer.end)
    return None


def _check_partner(rule: BuyCriteria, offer: OfferTerms, world: BuyWorld) -> Decision | None:
    if offer.author in rule.blocked:
        return ignore(Reason.PARTNER_BLOCKED)
    if rule.sellers is not None and offer.author not in rule.sellers:
        return ignore(Reason.PARTNER_NOT_LISTED)
    standing = world.standing
    if standing is None:
        return None
    score = standing.mean_score_tenths
    if rule.min_score_tenths is not None and score is not None and score < rule.min_score_tenths:
        return ignore(Reason.SCORE_TOO_LOW, score_tenths=score, least=rule.min_score_tenths)
    least = rule.min_delivered_permille
    if least is not None and standing.agreed_wh and standing.delivered_permille < least:
        return ignore(Reason.DELIVERS_TOO_LITTLE, delivered=standing.delivered_permille, least=least)
    return None


def _check_price(rule: BuyCriteria, offer: OfferTerms, world: BuyWorld) -> Decision | None:
    if world.answered:
        return ignore(Reason.ALREADY_ANSWERED)
    figures = {"price": offer.price, "ceiling": world.ceiling}
    if offer.auction is not None:
        if not rule.bid or offer.auction.reserve > world.ceiling:
            return ignore(Reason.PRICE_ABOVE_CEILING, price=offer.auction.reserve, ceiling=world.ceiling)
        return None
    if offer.price <= world.ceiling:
        return None
    most = None if rule.counter_permille is None else world.ceiling * (1000 + rule.counter_permille) // 1000
    if most is None or offer.price > most:
        return ignore(Reason.PRICE_ABOVE_CEILING, **figures)
    return ignore(Reason.COUNTERED_BEFORE, **figures) if world.countered else None


def _check_conditions(_rule: BuyCriteria, _offer: OfferTerms, world: BuyWorld) -> Decision | None:
    return ignore(Reason.CONDITIONS_NOT_MET) if world.conditions is False else None


_CHECKS: tuple[Check, ...] = (_check_offer, _check_time, _check_partner, _check_price, _check_conditions)


def wanted_quantity(rule: BuyCriteria, offer: OfferTerms, world: BuyWorld) -> tuple[int, Decision | None]:
    """Return how much of an offer is wanted, or why none of it is."""
    wanted_wh = offer.energy_of(offer.open)
    if rule.max_wh is not None:
        wanted_wh = min(wanted_wh, rule.max_wh)
    if rule.only_need:
        if world.need_wh is None:
            return 0, ignore(Reason.NEED_UNKNOWN, start=offer.start, end=offer.end)
        if world.need_wh < rule.min_wh:
            return 0, ignore(Reason.NOTHING_NEEDED, need_wh=world.need_wh)
        wanted_wh = min(wanted_wh, world.need_wh)
    price = _price(offer, world)
    if rule.daily_budget is not None:
        left = rule.daily_budget - world.spent_today
        if left <= 0:
            return 0, ignore(Reason.BUDGET_SPENT, spent=world.spent_today, budget=rule.daily_budget)
        if price:
            wanted_wh = min(wanted_wh, left * 1000 // price)
    quantity = min(offer.quantity_for(wanted_wh), offer.open)
    if quantity < offer.open and offer.min_quantity is None:
        return 0, ignore(Reason.ONLY_WHOLE, open=offer.open, wanted=quantity)
    least = min(max(offer.min_quantity or 1, offer.quantity_for(rule.min_wh), 1), offer.open)
    if quantity < least or offer.energy_of(quantity) < min(rule.min_wh, offer.energy_of(offer.open)):
        return 0, ignore(Reason.TOO_LITTLE, wanted=quantity, least=least)
    if offer.energy_of(offer.open) < rule.min_wh:
        return 0, ignore(Reason.TOO_LITTLE, wanted=quantity, least=rule.min_wh)
    return quantity, None


def _with_gain(rule: BuyCriteria, offer: OfferTerms, world: BuyWorld, decision: Decision) -> Decision:
    """Hold a purchase against what it saves."""
    against = world.ceiling if world.tariff is None else world.tariff
    gain = offer.cost_of(decision.quantity, against) - offer.cost_of(decision.quantity, decision.price)
    figures: dict[str, Any] = {"gain": gain, "ceiling": world.ceiling}
    if gain < rule.min_gain:
        return ignore(Reason.TOO_SMALL_GAIN, gain=gain, least=rule.min_gain)
    return Decision(decision.verdict, decision.reason, decision.quantity, decision.price, figures)


def cheapest_first(offers: list[OfferTerms]) -> list[OfferTerms]:
    """Return offers in the order in which they are looked at: cheapest, then soonest, then by id."""
    return sorted(offers, key=_rank)


def _rank(offer: OfferTerms) -> tuple[int, int, bytes]:
    price = offer.price if offer.auction is None else offer.auction.reserve
    return price, offer.start, offer.id
