"""The yes to an offer, and the other side's answer when the terms were changed."""

from typing import ClassVar

from ledger_core.records.body import Body
from ledger_core.records.types import AssetId, Hash, Price, Quantity, Time


class Acceptance(Body, frozen=True, tag=5):
    """Accepts an offer, or bids in its auction.

    With the offer's own price and window, and a quantity that is open, it binds when it is included. Any
    other terms wait for the offerer's confirmation.
    """

    KIND: ClassVar[str] = "acceptance"

    offer: Hash
    asset: AssetId | None
    """The accepting side's asset or meter; None: its only meter."""
    quantity: Quantity
    start: Time
    end: Time
    price: Price
    valid_until: Time
    """Until when changed terms may be confirmed; silence rejects."""


class Confirmation(Body, frozen=True, tag=6):
    """The offerer's yes to changed terms."""

    KIND: ClassVar[str] = "confirmation"

    acceptance: Hash


class Rejection(Body, frozen=True, tag=7):
    """The offerer's no to changed terms."""

    KIND: ClassVar[str] = "rejection"

    acceptance: Hash
