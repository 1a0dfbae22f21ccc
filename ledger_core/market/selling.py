"""Selling rules: what is offered, when an open offer is replaced, and what is answered."""

from collections.abc import Sequence

from msgspec import Struct

from ledger_core.market.pace import Pace
from ledger_core.market.reasons import Decision, Reason, Verdict, ignore
from ledger_core.market.surplus import Threshold
from ledger_core.market.terms import Hours, LocalWindow, OfferTerms
from ledger_core.records.types import Basis, Carrier, Side
from ledger_core.units import energy, mean_power


class SellCriteria(Struct, frozen=True, kw_only=True):
    """The plain criteria of a rule; prices and what can be spared now come with the world."""

    carrier: Carrier = Carrier.ELECTRICITY
    basis: Basis = Basis.ENERGY
    hours: Hours = Hours()
    min_wh: int = 100
    """Less energy in a window is not worth an offer."""
    min_w: int = 0
    """Less power, held throughout a window, is not worth an offer."""
    hysteresis_permille: int = 200
    """What is offered stays so until there is by this part less than the least."""
    max_wh: int | None = None
    """At most so much in a window, with what is sold in it already."""
    max_w: int | None = None
    """Highest mean power in a window, with what is sold in it already; None: what the asset can."""
    window_slots: int = 1
    """Slots of one offer."""
    horizon_slots: int = 8
    """How many slots ahead are offered."""
    lead_s: int = Pace().offer_s
    """An offer must be open at least so long before its window."""
    parts: bool = True
    """Others may take a part."""
    part_wh: int = 50
    """The smallest part."""
    counter_floor: bool = True
    """Confirm changed terms at or above the floor; otherwise reject what is below the asked price."""
    min_gain: int = 0
    """Micro-currency that an offer must bring at the least."""
    change_permille: int = 150
    """An open offer stays while price and quantity differ by no more than this …"""
    settle_s: int = 300
    """… and is not replaced more often than this."""
    answer_requests: bool = True


class Draft(Struct, frozen=True, kw_only=True):
    """An offer that a rule would make; quantity in Wh, or W of capacity."""

    start: int
    end: int
    quantity: int
    price: int
    spare_wh: int = 0
    """What there was for it."""


def windows(rule: SellCriteria, now: int, slot_s: int) -> list[tuple[int, int]]:
    """Return the windows that a rule offers: aligned to its own length, so that they do not drift."""
    length = rule.window_slots * slot_s
    first = -(-(now + rule.lead_s) // length) * length
    last = now // slot_s * slot_s + (rule.horizon_slots + 1) * slot_s
    return [(start, start + length) for start in range(first, max(last - length, first) + 1, length)]


def threshold(rule: SellCriteria, start: int, end: int) -> Threshold:
    """Return the Wh from which a window is offered, and below which it is no longer."""
    on = max(rule.min_wh, energy(rule.min_w, end - start))
    return Threshold(on, on * (1000 - rule.hysteresis_permille) // 1000)


def quantity_for(
    rule: SellCriteria, spare_wh: int, start: int, end: int, was_on: bool = False, sold_wh: int = 0
) -> int:
    """Return what is offered of a window's spare energy: Wh, or the W that it holds throughout.

    `was_on`: the window is offered already; `sold_wh`: what is sold in it, beside what is spare.
    """
    if rule.max_wh is not None:
        spare_wh = min(spare_wh, rule.max_wh - sold_wh)
    if rule.max_w is not None:
        spare_wh = min(spare_wh, energy(rule.max_w, end - start) - sold_wh)
    if spare_wh <= 0 or not threshold(rule, start, end).step(was_on, spare_wh):
        return 0
    if rule.basis is Basis.CAPACITY:
        return spare_wh * 3600 // (end - start)
    return spare_wh


def draft(
    rule: SellCriteria,
    window: tuple[int, int],
    local: LocalWindow,
    spare_wh: int,
    price: int,
    was_on: bool = False,
    sold_wh: int = 0,
) -> Draft | Decision:
    """Return the offer for a window, or why there is none.

    `was_on`: the window is offered already; `sold_wh`: what is sold in it, beside what is spare.
    """
    start, end = window
    if not rule.hours.hold(local):
        return ignore(Reason.OUTSIDE_HOURS, start=start, end=end)
    quantity = quantity_for(rule, spare_wh, start, end, was_on, sold_wh)
    if not quantity:
        least = threshold(rule, start, end)
        return ignore(
            Reason.NOTHING_TO_SPARE, spare_wh=spare_wh, least=max(least.off if was_on else least.on, 1)
        )
    made = Draft(start=start, end=end, quantity=quantity, price=price, spare_wh=spare_wh)
    gain = price * energy_of(made, rule.basis) // 1000
    if gain < rule.min_gain:
        return ignore(Reason.TOO_SMALL_GAIN, gain=gain, least=rule.min_gain)
    return made


class OpenOffer(Struct, frozen=True, kw_only=True):
    """An offer of a rule that is open, or on its way into the chain."""

    id: str
    start: int
    end: int
    quantity: int
    """What is still open."""
    price: int
    since: int
    pinned: bool = False
    """An auction, or an offer that somebody has answered: it is not replaced."""
    withdrawn: bool = False
    """It is being taken back, and binds who accepts it until then."""


class Steps(Struct, frozen=True):
    """What leads from the open offers to the wanted ones."""

    withdraw: tuple[str, ...]
    offer: tuple[Draft, ...]


def reconcile(
    rule: SellCriteria, wanted: Sequence[Draft], open_offers: Sequence[OpenOffer], now: int
) -> Steps:
    """Return what is withdrawn and offered; nothing where an open offer is near enough or too young.

    A window is offered anew once the chain has closed what was withdrawn: until then somebody may take it.
    """
    by_window = {(each.start, each.end): each for each in wanted}
    withdraw: list[str] = []
    covered: set[tuple[int, int]] = set()
    for offer in open_offers:
        window = (offer.start, offer.end)
        target = by_window.get(window)
        if offer.withdrawn:
            covered.add(window)
            continue
        if window in covered:
            withdraw.append(offer.id)  # two of one window would sell the same energy twice
            continue
        covered.add(window)
        if offer.pinned or (now - offer.since < rule.settle_s and target is not None):
            continue
        if target is None:
            # The window may only have come too near: then nobody offers anew, and this one runs out.
            if offer.start - now > rule.lead_s:
                withdraw.append(offer.id)
        elif _differ(rule, offer, target):
            withdraw.append(offer.id)
    return Steps(tuple(withdraw), tuple(each for each in wanted if (each.start, each.end) not in covered))


def _differ(rule: SellCriteria, offer: OpenOffer, target: Draft) -> bool:
    def far(old: int, new: int) -> bool:
        return abs(new - old) * 1000 > rule.change_permille * max(old, 1)

    return far(offer.quantity, target.quantity) or far(offer.price, target.price)


def answer_counter(
    rule: SellCriteria, offer: OfferTerms, quantity: int, price: int, floor: int, asked: int
) -> Decision:
    """Decide about changed terms of an own offer: at least the floor (or the asked price) is confirmed."""
    least = floor if rule.counter_floor else asked
    if price < least:
        return Decision(
            Verdict.REJECT, Reason.PRICE_BELOW_FLOOR, quantity, price, {"price": price, "floor": least}
        )
    gain = offer.cost_of(quantity, price)
    if gain < rule.min_gain:
        return Decision(
            Verdict.REJECT, Reason.TOO_SMALL_GAIN, quantity, price, {"gain": gain, "least": rule.min_gain}
        )
    return Decision(Verdict.CONFIRM, Reason.GOOD_PRICE, quantity, price, {"price": price, "floor": least})


def answer_request(
    rule: SellCriteria,
    request: OfferTerms,
    local: LocalWindow,
    me: bytes,
    spare_wh: int,
    price: int,
    now: int,
) -> Decision:
    """Decide about somebody's request: whether this home supplies it, or a part of it, at its price."""
    refusal = _refuse_request(rule, request, local, me, now)
    if refusal is not None:
        return refusal
    offered = request.price if request.auction is None else request.auction.ceiling
    if offered < price:
        return ignore(Reason.PRICE_BELOW_FLOOR, price=offered, floor=price)
    quantity = min(request.quantity_for(spare_wh), request.open)
    if quantity < request.open and (request.min_quantity is None or quantity < request.min_quantity):
        return ignore(Reason.NOTHING_TO_SPARE, spare_wh=spare_wh, asked=request.open)
    least = threshold(rule, request.start, request.end).on
    if request.energy_of(quantity) < least:
        return ignore(Reason.TOO_LITTLE, wanted=quantity, least=least)
    agreed = request.price if request.auction is None else price
    gain = request.cost_of(quantity, agreed)
    if gain < rule.min_gain:
        return ignore(Reason.TOO_SMALL_GAIN, gain=gain, least=rule.min_gain)
    verdict = Verdict.ACCEPT if request.auction is None else Verdict.BID
    return Decision(verdict, Reason.GOOD_PRICE, quantity, agreed, {"gain": gain, "price": agreed})


def _refuse_request(
    rule: SellCriteria, request: OfferTerms, local: LocalWindow, me: bytes, now: int
) -> Decision | None:
    if request.author == me:
        return ignore(Reason.OWN_OFFER)
    if request.side is not Side.BUY:
        return ignore(Reason.OTHER_SIDE)
    if request.carrier is not rule.carrier:
        return ignore(Reason.OTHER_CARRIER, carrier=request.carrier.value)
    if request.audience is not None and me not in request.audience:
        return ignore(Reason.NOT_FOR_US)
    closes = min(request.valid_until, request.start) if request.auction is None else request.auction.closes
    if closes - now < 1:
        return ignore(Reason.EXPIRED, valid_until=closes)
    if not rule.hours.hold(local):
        return ignore(Reason.OUTSIDE_HOURS, start=request.start, end=request.end)
    return None


def energy_of(offer: Draft | OpenOffer, basis: Basis) -> int:
    """Return the Wh that an offer promises when all of it is taken."""
    return energy(offer.quantity, offer.end - offer.start) if basis is Basis.CAPACITY else offer.quantity


def booked_power(offer: Draft, basis: Basis) -> int:
    """Return the W that an offer books when all of it is taken."""
    return offer.quantity if basis is Basis.CAPACITY else mean_power(offer.quantity, offer.end - offer.start)
