"""Offers and requests, and taking them back."""

from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from ledger_core.records.body import Body
from ledger_core.records.types import AssetId, Basis, Carrier, Hash, Key, Price, Quantity, Side, Time, Watts


class Auction(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """Turns an offer into an auction: acceptances are bids until `closes`."""

    closes: Time
    ceiling: Price
    """No bid above it."""
    reserve: Price
    """No bid below it."""


class Offer(Body, frozen=True, tag=3):
    """A signed willingness to sell (an offer) or to buy (a request)."""

    KIND: ClassVar[str] = "offer"

    side: Side
    asset: AssetId | None
    """What supplies (needed to sell), or the buyer's asset or meter that receives."""
    carrier: Carrier
    basis: Basis
    quantity: Quantity
    """Wh for the whole window (energy), or W throughout it (capacity)."""
    min_quantity: Quantity | None
    """The smallest part that may be accepted; None: only the whole."""
    max_w: Watts
    """Highest power while delivering energy; 0: the mean power of the window. Unused for capacity."""
    start: Time
    end: Time
    """The window: slot boundaries, `end` excluded."""
    price: Price
    """Asking price; in an auction, the price that the offerer expects."""
    shortfall_price: Price
    """What the seller pays the buyer per missing kWh; 0: nothing."""
    audience: Annotated[tuple[Key, ...], Meta(min_length=1, max_length=64)] | None
    """The members who may accept; None: all."""
    valid_until: Time
    auction: Auction | None


class Withdrawal(Body, frozen=True, tag=4):
    """Takes back the open part of one's own offer, or one's own acceptance that still waits."""

    KIND: ClassVar[str] = "withdrawal"

    target: Hash
