"""Homes open offers, requests and auctions, and take some of them back."""

from functools import partial
from typing import Any

from ledger_core.records.offers import Auction, Offer, Withdrawal
from ledger_core.records.types import AssetKind, Basis, Carrier, Side
from ledger_core.synthetic.desk import Desk
from ledger_core.synthetic.home import Home
from ledger_core.synthetic.needs import LEAST_W, needed_w, supplies
from ledger_core.synthetic.street import Street
from ledger_core.units import energy

SELLS_PERMILLE = {AssetKind.PV: 240, AssetKind.BATTERY: 220, AssetKind.FUEL_CELL: 120}
REQUESTS_PERMILLE = 80
AUCTIONS_PERMILLE = 120
WITHDRAWS_PERMILLE = 50
WINDOW_SLOTS = (1, 2, 4, 8)
PRICE = 200_000
"""Micro-currency per kWh around which prices lie."""


class Offering:
    """Decides, twice an hour of slots, what a home puts up."""

    def __init__(self, street: Street) -> None:
        self._street = street

    def consider(self, home: Home, desk: Desk) -> None:
        """Have a home look at a window ahead, and perhaps sell or ask for something."""
        street, chance = self._street, home.chance
        start = street.boundary_after(desk.time + 2 * street.slot_s)
        if (start // street.slot_s + home.index) % 2:
            return
        end = start + chance.pick(WINDOW_SLOTS) * street.slot_s
        for supply in supplies(home, desk, start, end):
            if chance.permille(street.config.eager(SELLS_PERMILLE[supply.kind])):
                capacity = supply.kind is not AssetKind.PV and chance.permille(400)
                self._open(
                    home,
                    desk,
                    side=Side.SELL,
                    asset=supply.asset,
                    basis=Basis.CAPACITY if capacity else Basis.ENERGY,
                    quantity=supply.watts if capacity else supply.watt_hours,
                    start=start,
                    end=end,
                )
        if chance.permille(street.config.eager(REQUESTS_PERMILLE)):
            watts = needed_w(home, desk, start, end)
            if watts >= LEAST_W:
                self._open(
                    home,
                    desk,
                    side=Side.BUY,
                    asset=chance.pick((None, home.meter, home.load)),
                    basis=Basis.ENERGY,
                    quantity=energy(watts, end - start),
                    start=start,
                    end=end,
                )

    def _open(self, home: Home, desk: Desk, **terms: Any) -> None:
        street, chance = self._street, home.chance
        price = PRICE * chance.between(700, 1300) // 1000
        start, quantity = terms["start"], terms["quantity"]
        selling = terms["side"] is Side.SELL
        auction = None
        if chance.permille(street.config.eager(AUCTIONS_PERMILLE)):
            auction = Auction(start - street.slot_s, price * 2, price * 3 // 4)
        record = street.record(
            desk,
            home,
            Offer,
            carrier=Carrier.ELECTRICITY,
            min_quantity=max(quantity // 4, 1) if chance.permille(600) else None,
            max_w=0,
            price=price,
            shortfall_price=price // 4 if selling and chance.permille(300) else 0,
            audience=self._audience(home) if chance.permille(80) else None,
            valid_until=start,
            auction=auction,
            **terms,
        )
        if desk.submit(record) and auction is None and chance.permille(WITHDRAWS_PERMILLE):
            when = desk.now + max((start - desk.now) // 2, 1)
            street.agenda.at(when, partial(self._withdraw, home, record.id))

    def _audience(self, home: Home) -> tuple[bytes, ...] | None:
        others = [other.id for other in self._street.live if other is not home]
        return tuple(sorted(home.chance.some(others, 3))) or None

    def _withdraw(self, home: Home, offer_id: bytes, desk: Desk) -> None:
        if offer_id in desk.state.offers:
            desk.submit(self._street.record(desk, home, Withdrawal, target=offer_id))
