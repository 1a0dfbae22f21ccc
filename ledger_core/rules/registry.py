"""Which rule applies which record kind: a further kind is one line here."""

from ledger_core.records.acceptances import Acceptance, Confirmation, Rejection
from ledger_core.records.assets import Asset
from ledger_core.records.body import Body
from ledger_core.records.codec import register_kind
from ledger_core.records.members import Member
from ledger_core.records.money import Transfer
from ledger_core.records.offers import Offer, Withdrawal
from ledger_core.records.readings import Reading
from ledger_core.records.trades import Score, Termination
from ledger_core.records.votes import Evidence, Vote
from ledger_core.rules import (
    acceptances,
    accounts,
    assets,
    finality,
    members,
    offers,
    readings,
    reputation,
    trades,
)
from ledger_core.rules.context import Rule

RULES: dict[type[Body], Rule] = {}
FEE_KINDS: set[type[Body]] = set()


def register(kind: type[Body], rule: Rule, *, fee: bool = False) -> None:
    """Have a rule apply a record kind; `fee`: its author pays the community's fee to the miner."""
    RULES[register_kind(kind)] = rule
    if fee:
        FEE_KINDS.add(kind)


register(Member, members.apply_member)
register(Asset, assets.apply_asset)
register(Offer, offers.apply_offer, fee=True)
register(Withdrawal, offers.apply_withdrawal)
register(Acceptance, acceptances.apply_acceptance, fee=True)
register(Confirmation, acceptances.apply_confirmation)
register(Rejection, acceptances.apply_rejection)
register(Termination, trades.apply_termination)
register(Reading, readings.apply_reading)
register(Transfer, accounts.apply_transfer, fee=True)
register(Score, reputation.apply_score)
register(Vote, finality.apply_vote)
register(Evidence, finality.apply_evidence)
