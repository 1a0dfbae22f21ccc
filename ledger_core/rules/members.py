"""Members and roles: admission, change, revocation."""

from msgspec.structs import replace

from ledger_core.community import MAX_MEMBERS
from ledger_core.errors import RuleError
from ledger_core.keys import verify
from ledger_core.records.codec import Record, invitation_message
from ledger_core.records.members import Invitation, Member
from ledger_core.records.types import Role
from ledger_core.rules.admitted_keys import require_valid_key
from ledger_core.rules.context import Context, body_of
from ledger_core.rules.deadlines import FORMER_NODE, INVITATION, add_deadline
from ledger_core.rules.events import MemberChanged
from ledger_core.rules.rows import FormerNodeRow, MemberRow, NodeRow


def apply_member(ctx: Context, record: Record) -> None:
    """Admit, change or revoke a member."""
    body = body_of(record, Member)
    known = ctx.state.members.get(body.member)
    if known is None:
        require_valid_key(body.member, "member")
        _check_admission(ctx, record, body)
    else:
        _check_change(ctx, record, body, known)
    _check_node(ctx, body)
    if known is not None:
        _check_last_authority(ctx, body, known)
        if known.roles & Role.NODE and not body.roles & Role.NODE:
            _check_last_node(ctx, known.index)
        row = replace(
            known, roles=body.roles, node=body.node, name_hash=body.name_hash, location=body.location
        )
    else:
        index = len(ctx.state.members)
        if index >= MAX_MEMBERS:
            raise RuleError(
                "members_full", f"a community admits at most {MAX_MEMBERS} members", limit=MAX_MEMBERS
            )
        row = MemberRow(index, body.roles, body.node, body.name_hash, body.location)
    set_member(ctx, body.member, row)
    ctx.events.append(MemberChanged(body.member, body.roles, known is None))


def set_member(ctx: Context, key: bytes, row: MemberRow) -> None:
    """Store a member and keep its node in step; joining counts later, leaving at once."""
    ctx.put(ctx.state.members, key, row)
    old = ctx.state.nodes.get(row.index)
    wanted = row.node if row.roles & Role.NODE else None
    if old is not None and old.key != wanted:
        ctx.drop(ctx.state.nodes, row.index)
        ctx.drop(ctx.state.node_keys, old.key)
        _remember_key(ctx, old)
        if row.index in ctx.state.last_votes:
            ctx.drop(ctx.state.last_votes, row.index)
        _clear_votes(ctx, row.index)
        old = None
    if old is None and wanted is not None:
        ctx.put(ctx.state.nodes, row.index, NodeRow(key, wanted, ctx.height, False))
        ctx.put(ctx.state.node_keys, wanted, row.index)
        ctx.put(ctx.state.last_votes, row.index, ctx.time)
        if wanted in ctx.state.former_nodes:
            ctx.drop(ctx.state.former_nodes, wanted)


def _remember_key(ctx: Context, node: NodeRow) -> None:
    """Keep a leaving node's key as long as silence lasts: changing it must not wash off what it signed."""
    until = ctx.time + ctx.parameters.silence_s
    ctx.put(ctx.state.former_nodes, node.key, FormerNodeRow(node.member, until))
    add_deadline(ctx, until, FORMER_NODE, node.key)


def forget_former_node(ctx: Context, key: bytes) -> None:
    """Drop a former node's key when its time is over, unless it left again since."""
    row = ctx.state.former_nodes.get(key)
    if row is not None and row.until <= ctx.time:
        ctx.drop(ctx.state.former_nodes, key)


def owner_of_node(ctx: Context, key: bytes) -> bytes | None:
    """Return the member whose node votes with a key, or did so lately."""
    index = ctx.state.node_keys.get(key)
    if index is not None:
        return ctx.state.nodes[index].member
    former = ctx.state.former_nodes.get(key)
    return None if former is None else former.member


def punish_node(ctx: Context, owner: bytes) -> None:
    """Take the role `node`; what the member's keys signed until now is settled with it."""
    row = ctx.state.members[owner]
    _check_last_node(ctx, row.index)
    set_member(ctx, owner, replace(row, roles=row.roles & ~Role.NODE))
    for key in sorted(key for key, former in ctx.state.former_nodes.items() if former.member == owner):
        ctx.drop(ctx.state.former_nodes, key)


def _clear_votes(ctx: Context, index: int) -> None:
    """Take a leaving node's votes out of the open tallies, so that its index starts afresh."""
    for key in sorted(ctx.state.tallies):
        votes = int.from_bytes(ctx.state.tallies[key])
        if votes >> index & 1:
            votes &= ~(1 << index)
            ctx.put(ctx.state.tallies, key, votes.to_bytes((votes.bit_length() + 7) // 8))


def _check_admission(ctx: Context, record: Record, body: Member) -> None:
    if not body.roles:
        raise RuleError("roles_missing", "a new member needs at least one role", member=body.member)
    signers = record.signers
    if body.member not in signers:
        raise RuleError(
            "member_signature_missing", "a new member signs its own admission", member=body.member
        )
    if body.invitation is not None:
        _use_invitation(ctx, signers, body, body.invitation)
    else:
        ctx.require_authority_among(signers)


def _use_invitation(ctx: Context, signers: tuple[bytes, ...], body: Member, invitation: Invitation) -> None:
    ctx.require_role(invitation.authority, Role.AUTHORITY)
    message = invitation_message(
        ctx.state.chain_id, invitation.authority, invitation.key, invitation.roles, invitation.expires
    )
    if not verify(invitation.authority, message, invitation.signature):
        raise RuleError(
            "invitation_forged", "the invitation was not signed by that authority for this community"
        )
    if invitation.key not in signers:
        raise RuleError("invitation_unproven", "the invitation's one-time key must co-sign")
    if invitation.key in ctx.state.invitations:
        raise RuleError("invitation_used", "the invitation was used before; ask for a new one")
    if ctx.time > invitation.expires:
        raise RuleError(
            "invitation_expired",
            f"the invitation expired at {invitation.expires}, the block's time is {ctx.time}",
            expires=invitation.expires,
            time=ctx.time,
        )
    if body.roles & ~invitation.roles:
        raise RuleError(
            "invitation_roles",
            f"the invitation gives the roles {invitation.roles}, not {body.roles}",
            allowed=invitation.roles,
            wanted=body.roles,
        )
    ctx.put(ctx.state.invitations, invitation.key, invitation.expires)
    add_deadline(ctx, invitation.expires + 1, INVITATION, invitation.key)


def _check_change(ctx: Context, record: Record, body: Member, known: MemberRow) -> None:
    if body.invitation is not None:
        raise RuleError("member_known", "an invitation is for new members", member=body.member)
    if body.roles == known.roles and known.roles and body.author == body.member:
        return
    ctx.require_authority_among(record.signers)


def _check_node(ctx: Context, body: Member) -> None:
    if body.roles & Role.NODE and body.node is None:
        raise RuleError(
            "node_key_missing", "a member with the role node names its node's key", member=body.member
        )
    if body.node is None:
        return
    require_valid_key(body.node, "node")
    if owner_of_node(ctx, body.node) not in (None, body.member):
        raise RuleError("node_key_taken", "that node's key belongs to another member", key=body.node)


def _check_last_node(ctx: Context, index: int) -> None:
    if not any(other != index for other in ctx.state.nodes):
        raise RuleError(
            "last_node", "without its last node the chain would stand still; name another one first"
        )


def _check_last_authority(ctx: Context, body: Member, known: MemberRow) -> None:
    if not known.roles & Role.AUTHORITY or body.roles & Role.AUTHORITY:
        return
    others = any(row.roles & Role.AUTHORITY for key, row in ctx.state.members.items() if key != body.member)
    if not others:
        raise RuleError("last_authority", "the last authority can't give its role up; name another one first")
