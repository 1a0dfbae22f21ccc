"""An offer as rules see it, and when its window lies in the home's own days."""

from msgspec import Struct

from ledger_core.records.offers import Auction
from ledger_core.records.types import Basis, Carrier, Side
from ledger_core.units import amount, energy

MINUTES_A_DAY = 24 * 60


class OfferTerms(Struct, frozen=True, kw_only=True):
    """The open part of an offer or request; units as in records."""

    id: bytes
    author: bytes
    side: Side
    carrier: Carrier
    basis: Basis
    open: int
    min_quantity: int | None
    """None: only all that is open."""
    start: int
    end: int
    price: int
    shortfall_price: int = 0
    audience: tuple[bytes, ...] | None = None
    valid_until: int
    auction: Auction | None = None

    def energy_of(self, quantity: int) -> int:
        """Return the Wh that a quantity of it is, of capacity at full use."""
        return energy(quantity, self.end - self.start) if self.basis is Basis.CAPACITY else quantity

    def cost_of(self, quantity: int, price: int) -> int:
        """Return what a quantity costs at a price, micro-currency."""
        return amount(self.energy_of(quantity), price)

    def quantity_for(self, watt_hours: int) -> int:
        """Return the quantity that gives at most so many Wh."""
        if self.basis is Basis.CAPACITY:
            return watt_hours * 3600 // (self.end - self.start)
        return watt_hours


class LocalWindow(Struct, frozen=True):
    """A window on the home's own clock, which alone knows time zone and daylight saving."""

    weekday: int
    """Of its start: Monday is 0."""
    start_minute: int
    """Minute of the day at which it starts."""
    minutes: int
    """How long it is."""


class Hours(Struct, frozen=True):
    """When a rule holds: weekdays, and spans of minutes of the day; a span may run over midnight."""

    weekdays: frozenset[int] = frozenset(range(7))
    spans: tuple[tuple[int, int], ...] = ()
    """Start and end, end excluded; none at all: the whole day."""

    def hold(self, window: LocalWindow) -> bool:
        """Whether a window lies wholly within one span of a day that counts."""
        if window.weekday not in self.weekdays:
            return False
        if not self.spans:
            return True
        return any(_within(window, start, end) for start, end in self.spans)


def _within(window: LocalWindow, start: int, end: int) -> bool:
    length = (end - start) % MINUTES_A_DAY or MINUTES_A_DAY
    offset = (window.start_minute - start) % MINUTES_A_DAY
    return offset + window.minutes <= length


class Standing(Struct, frozen=True):
    """What the ledger tells of a member: ratios in per mille, scores in tenths."""

    delivered_permille: int
    agreed_wh: int
    mean_score_tenths: int | None
