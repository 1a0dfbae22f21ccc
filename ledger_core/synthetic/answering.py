"""Homes answer offers: whole, in part, with changed terms, with bids; and offerers answer back."""

from functools import partial
from typing import Any

from ledger_core.records.acceptances import Acceptance, Confirmation, Rejection
from ledger_core.records.offers import Withdrawal
from ledger_core.records.types import Basis, Side
from ledger_core.rules.events import AcceptanceWaits, OfferOpened
from ledger_core.rules.rows import OfferRow
from ledger_core.rules.state import State
from ledger_core.synthetic.desk import Desk
from ledger_core.synthetic.home import Home
from ledger_core.synthetic.needs import LEAST_W, needed_w, supplies
from ledger_core.synthetic.street import Street
from ledger_core.units import energy

LOOKERS = 12
"""Homes that look at an offer."""

CHANGES_PERMILLE = 150
CONFIRMS_PERMILLE = 550
REJECTS_PERMILLE = 250
WITHDRAWS_PERMILLE = 100
UNAWARE_PERMILLE = 40
"""Of those who come too late, the ones who do not know yet that the offer is gone."""


class Answering:
    """Reacts to offers that were opened and to acceptances that wait."""

    def __init__(self, street: Street) -> None:
        self._street = street
        self._chance = street.chance.child("lookers")

    def on_offer(self, event: OfferOpened, state: State, time: int) -> None:
        """Have some homes look at a new offer, each at its own time."""
        offer = state.offers.get(event.offer)
        if offer is None:
            return
        street = self._street
        audience = offer.audience
        homes = [
            home
            for home in street.live
            if home.id != event.author and (audience is None or home.id in audience)
        ]
        for home in self._chance.some(homes, LOOKERS):
            delay = self._chance.between(1, max(street.slot_s // 2, 2))
            street.agenda.at(time + delay, partial(self._look, home, event.offer, offer))

    def _look(self, home: Home, offer_id: bytes, opened: OfferRow, desk: Desk) -> None:
        offer = desk.state.offers.get(offer_id)
        chance = home.chance
        if offer is None:
            if chance.permille(UNAWARE_PERMILLE):
                terms = self._terms(home, opened, opened.quantity, None)
                late = self._street.record(desk, home, Acceptance, offer=offer_id, **terms)
                desk.submit_late(late, "offer_unknown")
            return
        wanted, asset = self._wish(home, offer, desk)
        quantity = _fill(offer, wanted)
        if quantity:
            terms = self._terms(home, offer, quantity, asset)
            if offer.auction is not None:
                if desk.time >= offer.auction.closes:
                    return
                terms["price"] = chance.between(offer.auction.reserve, offer.auction.ceiling)
            elif chance.permille(self._street.config.eager(CHANGES_PERMILLE)):
                self._change(offer, terms)
            desk.submit(self._street.record(desk, home, Acceptance, offer=offer_id, **terms))

    def _wish(self, home: Home, offer: OfferRow, desk: Desk) -> tuple[int, bytes | None]:
        """Return the quantity that a home would take or give, and its asset for it."""
        start, end = offer.start, offer.end
        if offer.side is Side.SELL:
            watts = needed_w(home, desk, start, end)
            asset = home.chance.pick((None, home.meter, home.load))
            watt_hours = energy(max(watts, 0), end - start)
        else:
            found = supplies(home, desk, start, end)
            if not found:
                return 0, None
            supply = home.chance.pick(found)
            watts, watt_hours, asset = supply.watts, supply.watt_hours, supply.asset
        if watts < LEAST_W:
            return 0, None
        return watts if offer.basis is Basis.CAPACITY else watt_hours, asset

    def _terms(self, home: Home, offer: OfferRow, quantity: int, asset: bytes | None) -> dict[str, Any]:
        return {
            "asset": home.meter if asset is None and home.index % 2 else asset,
            "quantity": quantity,
            "start": offer.start,
            "end": offer.end,
            "price": offer.price,
            "valid_until": offer.start,
        }

    def _change(self, offer: OfferRow, terms: dict[str, Any]) -> None:
        """Ask for another price or, where the window allows it, for a shorter window."""
        if offer.end - offer.start > self._street.slot_s and self._chance.permille(300):
            terms["end"] = offer.end - self._street.slot_s
        else:
            terms["price"] = offer.price * (9 if offer.side is Side.SELL else 11) // 10

    def on_waiting(self, event: AcceptanceWaits, time: int) -> None:
        """Have the offerer answer changed terms, or stay silent; now and then they are withdrawn before."""
        if event.bid:
            return
        street, chance = self._street, self._chance
        reach = max(street.slot_s // 3, 2)
        if chance.permille(WITHDRAWS_PERMILLE):
            accepter = street.by_id[event.author]
            street.agenda.at(
                time + chance.between(1, reach), partial(self._withdraw, accepter, event.acceptance)
            )
        draw = chance.below(1000)
        if draw < CONFIRMS_PERMILLE + REJECTS_PERMILLE:
            kind = Confirmation if draw < CONFIRMS_PERMILLE else Rejection
            offerer = street.by_id[event.offerer]
            street.agenda.at(
                time + chance.between(1, reach), partial(self._answer, offerer, event.acceptance, kind)
            )

    def _withdraw(self, home: Home, acceptance: bytes, desk: Desk) -> None:
        if acceptance in desk.state.waiting:
            desk.submit(self._street.record(desk, home, Withdrawal, target=acceptance))

    def _answer(
        self, home: Home, acceptance: bytes, kind: type[Confirmation | Rejection], desk: Desk
    ) -> None:
        if acceptance in desk.state.waiting:
            desk.submit(self._street.record(desk, home, kind, acceptance=acceptance))


def _fill(offer: OfferRow, wanted: int) -> int:
    """Return how much of an offer a home takes that wants a quantity: all, a part that it allows, or 0."""
    if wanted >= offer.open:
        return offer.open
    if offer.min_quantity is None:
        return offer.open if wanted * 3 >= offer.open * 2 else 0
    return wanted if wanted >= offer.min_quantity else 0
