"""What happens to a trade after it was agreed: an early end, a score."""

from typing import Annotated, ClassVar

from msgspec import Meta

from ledger_core.records.body import Body
from ledger_core.records.types import Hash, Time
from ledger_core.units import MAX_AMOUNT


class Termination(Body, frozen=True, tag=8):
    """Ends a trade at an earlier slot boundary and hands back what was booked after it."""

    KIND: ClassVar[str] = "termination"

    trade: Hash
    end: Time
    """The new end of the trade's window; its start: nothing is delivered at all."""
    compensation: Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]
    """Paid by the author to the other side, micro-currency."""


class Score(Body, frozen=True, tag=11):
    """What one side of a settled trade thinks of the other, once."""

    KIND: ClassVar[str] = "score"

    trade: Hash
    score: Annotated[int, Meta(ge=0, le=10)]
