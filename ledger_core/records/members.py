"""Members: who belongs to the community, with which roles and which node."""

from typing import ClassVar

from msgspec import Struct

from ledger_core.records.body import Body
from ledger_core.records.types import Hash, Key, Location, Roles, Signature, Time


class Invitation(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """An authority's one-time right to join: whoever holds the secret of `key` may use it once."""

    authority: Key
    key: Key
    roles: Roles
    expires: Time
    signature: Signature
    """The authority's, over `codec.invitation_message`."""


class Member(Body, frozen=True, tag=1):
    """Sets what a member is: admitted, changed, or (without roles) revoked.

    Signed by an authority, or by the member itself with an authority's co-signature or with an invitation
    whose one-time key co-signs. A member may change its own node key, name and location alone.
    """

    KIND: ClassVar[str] = "member"

    member: Key
    roles: Roles
    node: Key | None
    """Key of the member's node; needed for the role `node`."""
    name_hash: Hash
    """SHA-256 of the name; the name itself is told to members outside the chain."""
    location: Location | None
    invitation: Invitation | None
