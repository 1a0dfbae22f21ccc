"""What both desks work with: the home, its ledger, its rules' notebook, and the clock."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import date

from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util

from ledger_core.client import RefusedError
from ledger_core.client.views import OfferView
from ledger_core.errors import LedgerError
from ledger_core.market.pace import Pace
from ledger_core.market.reasons import Decision
from ledger_core.market.surplus import Balance
from ledger_core.market.terms import LocalWindow, OfferTerms, Standing
from ledger_core.records.offers import Auction
from ledger_core.records.types import Basis, Carrier, Side

from ..data import EnergyLedgerEntry
from ..quantities import moment
from .notebook import Answer, Notebook
from .rule_config import RuleProblem
from .rule_state import Decided, RuleState


@dataclass(slots=True)
class Desk:
    """Shared by selling and buying during one look at everything."""

    hass: HomeAssistant
    entry: EnergyLedgerEntry
    notebook: Notebook
    tell: Callable[[Decided], None]
    now: int = 0
    pace: Pace = field(default_factory=Pace)
    """How fast the community's blocks come."""
    standings: dict[str, Standing] = field(default_factory=dict)
    """By member's key, hexadecimal."""
    plan: Balance | None = None
    """Of the home as a whole; None: its consumption is not known yet."""
    tanks: Balance | None = None
    """Of its fuel cells and the like; None: there are none."""

    @property
    def me(self) -> bytes:
        """This home's key."""
        return self.entry.runtime_data.key.signer.public_key

    @property
    def slot_s(self) -> int:
        """The community's slot."""
        return self.entry.runtime_data.ledger.data.status.slot_s

    def note(
        self,
        state: RuleState,
        subject: str,
        decision: Decision,
        *,
        dry_run: bool,
        record: str | None = None,
        refused: str | None = None,
    ) -> None:
        """Note a decision of a rule, and tell it when it is new."""
        decided = Decided(
            rule=state.rule_id,
            time=self.now,
            subject=subject,
            decision=decision,
            dry_run=dry_run,
            record=record,
            refused=refused,
        )
        if state.note(decided):
            self.tell(decided)

    async def answer(
        self,
        state: RuleState,
        offer: OfferTerms,
        decision: Decision,
        sending: Awaitable[str],
        asset: str = "",
    ) -> None:
        """Send a rule's answer to an offer or request, remember it, and note what came of it."""
        record, refused = await sent(sending)
        self.notebook.pages.answers[offer.id.hex()] = Answer(
            rule=state.rule_id,
            record=record or "",
            kind=decision.verdict.value,
            energy_wh=offer.energy_of(decision.quantity),
            cost=offer.cost_of(decision.quantity, decision.price),
            start=offer.start,
            end=offer.end,
            at=self.now,
            day=local_day(self.now),
            state="lost" if record is None else "pending",
            asset=asset,
        )
        self.note(state, offer.id.hex(), decision, dry_run=False, record=record, refused=refused)


async def sent(sending: Awaitable[str]) -> tuple[str | None, str | None]:
    """Return the record that is, or may be, on its way; and the code where the node did not just take it."""
    try:
        return await sending, None
    except RefusedError as error:
        return error.details.get("record") if error.may_pass else None, error.code
    except LedgerError as error:
        return error.details.get("record"), error.code


def terms_of(view: OfferView) -> OfferTerms:
    """Return an offer of the node's API as rules see it."""
    auction = view.auction
    return OfferTerms(
        id=bytes.fromhex(view.offer),
        author=bytes.fromhex(view.author.key),
        side=Side(view.side),
        carrier=Carrier(view.carrier),
        basis=Basis(view.basis),
        open=view.open,
        min_quantity=view.min_quantity,
        start=view.start,
        end=view.end,
        price=view.price,
        shortfall_price=view.shortfall_price,
        audience=None if view.audience is None else tuple(bytes.fromhex(each.key) for each in view.audience),
        valid_until=view.valid_until,
        auction=None if auction is None else Auction(auction.closes, auction.ceiling, auction.reserve),
    )


def local_window(start: int, end: int) -> LocalWindow:
    """Return when a window lies on the home's own clock."""
    local = dt_util.as_local(moment(start))
    return LocalWindow(local.weekday(), local.hour * 60 + local.minute, (end - start) // 60)


def local_day(seconds: int) -> str:
    """Return the day of a time on the home's own clock."""
    return dt_util.as_local(moment(seconds)).date().isoformat()


def require_day(last: date | None, now: int) -> None:
    """Refuse a rule whose last day is over; raises RuleProblem."""
    if last is not None and dt_util.as_local(moment(now)).date() > last:
        raise RuleProblem("window_past", last_day=last.isoformat())
