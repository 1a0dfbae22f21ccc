"""What a rule works with while a block is applied."""

from collections.abc import Callable

from ledger_core.community import MoneyMode, Parameters
from ledger_core.errors import RuleError
from ledger_core.records.body import Body
from ledger_core.records.codec import Record
from ledger_core.records.types import Role
from ledger_core.rules.events import Event
from ledger_core.rules.rows import MemberRow
from ledger_core.rules.state import State
from ledger_core.rules.table import Journal


class Context:
    """The state at one block, the block's own figures, and what has happened so far."""

    __slots__ = ("drop", "events", "height", "journal", "parameters", "put", "sequence", "state", "time")

    def __init__(self, state: State, journal: Journal, height: int, time: int) -> None:
        self.state = state
        self.parameters: Parameters = state.parameters
        self.journal = journal
        self.put = journal.put
        self.drop = journal.drop
        self.height = height
        self.time = max(time, state.tip.deadline)
        """The only `now` that rules about records know, UTC seconds: the block's time, or the highest of the
        blocks before it. A block may be older than its parent; what was forgotten, closed or settled by then
        must not come back."""
        self.sequence = 0
        self.events: list[Event] = []

    def require_role(self, key: bytes, role: Role) -> MemberRow:
        """Return the member; raises RuleError `member_unknown`, `member_revoked` or `role_missing`."""
        member = self.state.members.get(key)
        if member is None:
            raise RuleError("member_unknown", "the key is not a member of this community", key=key)
        if not member.roles & int(role):
            if not member.roles:
                raise RuleError("member_revoked", "the member was revoked", key=key)
            raise RuleError(
                "role_missing", f"the member does not have the role {role.name}", key=key, role=str(role.name)
            )
        return member

    def require_authority_among(self, keys: tuple[bytes, ...]) -> bytes:
        """Return the first of the signers that is an authority; raises RuleError `authority_missing`."""
        for key in keys:
            if self.state.member_with(key, Role.AUTHORITY):
                return key
        raise RuleError("authority_missing", "an authority's signature is needed")

    def require_slot_boundary(self, time: int, name: str) -> None:
        """Raise RuleError `slot_misaligned` unless a time lies on a slot boundary."""
        slot = self.parameters.slot_s
        if time % slot:
            raise RuleError(
                "slot_misaligned",
                f"{name} must be a multiple of the slot of {slot} s; the last before is {time - time % slot}",
                field=name,
                slot_s=slot,
            )

    @property
    def credit_limit(self) -> int:
        """How far below zero a balance may go, micro-currency."""
        return self.parameters.credit_limit if self.parameters.money_mode is MoneyMode.MUTUAL_CREDIT else 0


type Rule = Callable[[Context, Record], None]
"""Applies one record; raises RuleError and leaves what it changed to the journal."""


def body_of[B: Body](record: Record, kind: type[B]) -> B:
    """Return the record's body as the kind that the rule is registered for."""
    body = record.body
    if not isinstance(body, kind):
        raise TypeError(f"a rule for {kind.__name__} was given a {type(body).__name__}")
    return body
