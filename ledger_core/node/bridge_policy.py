"""Who may have a link to this node: the members' nodes, and newcomers who bear a good invitation.

The policy answers on the event loop and must not wait, so it holds a picture of the members that the chain's
thread draws anew whenever they change.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from ledger_core.node.engine.engine import Engine
from ledger_core.node.peers import Refusal
from ledger_core.records.members import Invitation
from ledger_core.records.types import Role

CURRENT_S: Final = 3600
"""A chain whose tip is younger than this, on a synced node, tells who the members are now."""
_MAX_ANSWERED: Final = 64


class Membership(Struct, frozen=True, gc=False):
    """Who belongs to the community, as one state of the chain tells it."""

    nodes: frozenset[bytes]
    """Keys of the members' nodes."""
    revoked: frozenset[bytes]
    """Node keys of members without any role left."""
    replaced: frozenset[bytes]
    """Keys that members' nodes had before."""
    authorities: frozenset[bytes]
    used: frozenset[bytes]
    """One-time keys of invitations that were used and are not expired."""
    height: int
    """Height of the tip."""
    final: int
    """Height of the last final block."""
    current: bool
    """Whether the chain stood near the community's tip when this was drawn."""


def draw_membership(engine: Engine, now: float) -> Membership:
    """Return who belongs to the community; called in the chain's thread."""
    state = engine.chain.state
    members = state.members
    nodes = frozenset(row.node for row in members.values() if row.roles and row.node is not None)
    revoked = {row.node for row in members.values() if not row.roles and row.node is not None}
    replaced: set[bytes] = set()
    for key, former in state.former_nodes.items():
        owner = members.get(former.member)
        (replaced if owner is not None and owner.roles else revoked).add(key)
    return Membership(
        nodes,
        frozenset(revoked) - nodes,
        frozenset(replaced) - nodes,
        frozenset(key for key, row in members.items() if row.roles & Role.AUTHORITY),
        frozenset(state.invitations),
        state.tip.height,
        state.tip.final,
        engine.synced and state.tip.times[-1] >= now - CURRENT_S,
    )


class MemberPolicy:
    """Answers the peers' transport; see the module."""

    def __init__(
        self, own_key: bytes, membership: Membership, clock: Callable[[], float] = time.time
    ) -> None:
        self._own_key = own_key
        self._membership = membership
        self._clock = clock
        self._was_current = membership.current
        self._answered: OrderedDict[bytes, None] = OrderedDict()

    @property
    def is_member(self) -> bool:
        """Whether this node is a member's, as far as its chain tells."""
        return self._own_key in self._membership.nodes

    @property
    def final(self) -> int:
        """Height of the last final block."""
        return self._membership.final

    def update(self, membership: Membership) -> None:
        """Go on with another picture of the members."""
        self._membership = membership
        self._was_current = self._was_current or membership.current

    def answered(self, key: bytes) -> None:
        """Note the key of who answered at an address that the owner or the invitation named."""
        self._answered.pop(key, None)
        self._answered[key] = None
        if len(self._answered) > _MAX_ANSWERED:
            self._answered.popitem(last=False)

    @property
    def trusts_answers(self) -> bool:
        """Whether the chain here can't tell yet who is a member: those who were dialled by address count."""
        return not (self.is_member and self._was_current)

    def admit(self, node_key: bytes, invitation: Invitation | None) -> None:
        """Return for a node that may have a link; else raise Refusal with the reason.

        Codes: `revoked`, `key_replaced`, `not_a_member`, `invitation_unauthorised`, `invitation_expired`,
        `invitation_used`, `invitation_roles`.
        """
        known = self._membership
        if node_key in known.nodes:
            return
        if node_key in known.revoked:
            raise Refusal("revoked", "the member whose node this is was revoked")
        if invitation is not None:
            self._check(invitation)
            return
        if self.trusts_answers and node_key in self._answered:
            return
        if node_key in known.replaced:
            raise Refusal("key_replaced", "the member whose node this was has named another node's key since")
        raise Refusal(
            "not_a_member",
            "this node's key is that of no member, and it shows no invitation to the community",
        )

    def _check(self, invitation: Invitation) -> None:
        if invitation.authority not in self._membership.authorities:
            raise Refusal(
                "invitation_unauthorised", "the invitation is from a key that is no authority (now)"
            )
        if not invitation.roles:
            raise Refusal("invitation_roles", "the invitation gives no role")
        if self._clock() > invitation.expires:
            raise Refusal("invitation_expired", "the invitation has expired; ask for a new one")
        if invitation.key in self._membership.used:
            raise Refusal("invitation_used", "the invitation was used before; ask for a new one")
