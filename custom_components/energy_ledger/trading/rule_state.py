"""How a rule stands, for its entity: active, in dry run, or paused and why; and what it decided last."""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from ledger_core.market.prices import PriceParts
from ledger_core.market.reasons import Decision
from ledger_core.market.surplus import StoreBudget

RECENT = 50


class RuleStatus(StrEnum):
    """The states of a rule."""

    ACTIVE = "active"
    DRY_RUN = "dry_run"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision of a rule about something, at a time."""

    rule: str
    time: int
    subject: str
    """Id of the offer, request or acceptance; or the window of an offer to make."""
    decision: Decision
    dry_run: bool
    record: str | None = None
    """The record that was signed."""
    refused: str | None = None
    """Code of the rule by which the ledger refused it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SellFigures:
    """Why a selling rule offers so much at such a price."""

    start: int
    """Of the next window, which the figures are about."""
    spare_wh: int
    """What is left for the rule in it."""
    offered_wh: int
    """In all windows."""
    price: PriceParts
    store: StoreBudget | None


@dataclass(slots=True)
class RuleState:
    """One rule's state."""

    rule_id: str
    name: str
    selling: bool
    status: RuleStatus = RuleStatus.DRY_RUN
    problem: str | None = None
    """Why it is paused: a code."""
    paused_since: int | None = None
    values: dict[str, str] = field(default_factory=dict)
    decisions: deque[Decided] = field(default_factory=lambda: deque(maxlen=RECENT))
    price: int | None = None
    """The asking price, or the ceiling, micro-currency per kWh."""
    figures: SellFigures | None = None

    def last(self) -> Decided | None:
        """Return the newest decision."""
        return self.decisions[-1] if self.decisions else None

    def note(self, decided: Decided) -> bool:
        """Add a decision unless the same was decided last about the same; whether it is new."""
        for known in reversed(self.decisions):
            if known.subject == decided.subject:
                same = (known.decision.verdict, known.decision.reason, known.dry_run, known.record)
                if same == (
                    decided.decision.verdict,
                    decided.decision.reason,
                    decided.dry_run,
                    decided.record,
                ):
                    return False
                break
        self.decisions.append(decided)
        return True
