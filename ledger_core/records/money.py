"""Money: from one member to another, into the community and out of it."""

from enum import StrEnum
from typing import ClassVar

from ledger_core.records.body import Body
from ledger_core.records.types import Amount, Hash, Key


class TransferKind(StrEnum):
    """Where the money comes from and goes to."""

    PAY = "pay"
    """From the author to a member."""
    ISSUE = "issue"
    """An authority tops a prepaid member up."""
    REDEEM = "redeem"
    """The author gives prepaid money back to an authority, which pays it out elsewhere."""


class Transfer(Body, frozen=True, tag=10):
    """Moves money of the author, or issues it as an authority."""

    KIND: ClassVar[str] = "transfer"

    kind: TransferKind
    to: Key
    amount: Amount
    reference: Hash | None
    """What it is for: a trade, an invoice's hash."""
