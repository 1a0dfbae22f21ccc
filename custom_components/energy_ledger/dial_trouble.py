"""Why the node of a newcomer finds nobody: what the homes that it calls answer, or that none does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger_core.client.views import DialView

from .const import ISSUE_INVITATION_REFUSED

REFUSALS: Final = {
    "invitation_used": "invitation_used",
    "invitation_expired": "invitation_expired",
    "invitation_unauthorised": ISSUE_INVITATION_REFUSED,
    "invitation_roles": ISSUE_INVITATION_REFUSED,
    "revoked": ISSUE_INVITATION_REFUSED,
    "key_replaced": ISSUE_INVITATION_REFUSED,
}
"""Codes with which a home's node refuses this one for good, and the translation that tells what to do."""
UNREACHABLE: Final = "inviter_unreachable"
FAILURES: Final = 5
"""Half a minute of tries: a node that is just starting again needs less."""


@dataclass(frozen=True, slots=True)
class DialTrouble:
    """What the user is told: a translation, and the reason in the node's words."""

    translation_key: str
    reason: str


def dial_trouble(dials: Sequence[DialView]) -> DialTrouble | None:
    """Return why a node without any link has none; None while it may still find somebody."""
    for dial in dials:
        if (key := REFUSALS.get(dial.last_code)) is not None:
            return DialTrouble(key, dial.last_error)
    if dials and all(dial.failures >= FAILURES for dial in dials):
        return DialTrouble(UNREACHABLE, dials[0].last_error)
    return None
