"""Why something is, or is not, sold or bought: stable codes with the figures behind them."""

from enum import StrEnum
from typing import Any

from msgspec import Struct


class Verdict(StrEnum):
    """What a rule does about an offer, a request, or changed terms."""

    ACCEPT = "accept"
    COUNTER = "counter"
    BID = "bid"
    CONFIRM = "confirm"
    REJECT = "reject"
    IGNORE = "ignore"


class Reason(StrEnum):
    """Codes that a user interface translates."""

    GOOD_PRICE = "good_price"
    WORTH_A_COUNTER = "worth_a_counter"
    WORTH_A_BID = "worth_a_bid"
    OWN_OFFER = "own_offer"
    OTHER_SIDE = "other_side"
    OTHER_CARRIER = "other_carrier"
    OTHER_BASIS = "other_basis"
    NOT_FOR_US = "not_for_us"
    EXPIRED = "expired"
    TOO_SOON = "too_soon"
    OUTSIDE_HOURS = "outside_hours"
    PARTNER_NOT_LISTED = "partner_not_listed"
    PARTNER_BLOCKED = "partner_blocked"
    SCORE_TOO_LOW = "score_too_low"
    DELIVERS_TOO_LITTLE = "delivers_too_little"
    PRICE_ABOVE_CEILING = "price_above_ceiling"
    PRICE_BELOW_FLOOR = "price_below_floor"
    COUNTERED_BEFORE = "countered_before"
    ALREADY_ANSWERED = "already_answered"
    NOTHING_NEEDED = "nothing_needed"
    NEED_UNKNOWN = "need_unknown"
    BUDGET_SPENT = "budget_spent"
    TOO_LITTLE = "too_little"
    ONLY_WHOLE = "only_whole"
    TOO_SMALL_GAIN = "too_small_gain"
    CONDITIONS_NOT_MET = "conditions_not_met"
    NOTHING_TO_SPARE = "nothing_to_spare"
    ANSWER_LATER = "answer_later"


class Decision(Struct, frozen=True):
    """What is done and why; `figures` are those that decided (wire units)."""

    verdict: Verdict
    reason: Reason
    quantity: int = 0
    price: int = 0
    figures: dict[str, Any] = {}

    @property
    def acts(self) -> bool:
        """Whether a record follows from it."""
        return self.verdict is not Verdict.IGNORE


def ignore(reason: Reason, **figures: Any) -> Decision:
    """Return the decision to do nothing."""
    return Decision(Verdict.IGNORE, reason, figures=figures)
