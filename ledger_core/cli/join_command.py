"""`energy-ledger join`: use an invitation, before the node runs and while it does."""

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any, Final

from ledger_core.chain.start import load_start
from ledger_core.chain.store.opening import open_store
from ledger_core.cli.connection import add_key, add_span, add_wait, settled, signer_of, told
from ledger_core.cli.frame import Program, UsageError
from ledger_core.cli.input_files import roles_of
from ledger_core.cli.output import note, show
from ledger_core.cli.quantities import location_at, show_time
from ledger_core.cli.status_commands import knows_nobody, sync_text
from ledger_core.client import ClientError, NodeClient, RefusedError
from ledger_core.client.bodies import name_hash
from ledger_core.client.home import Home
from ledger_core.client.local import prepare_joining, running_api
from ledger_core.client.views import StatusView
from ledger_core.errors import ChainError, LedgerError
from ledger_core.keys import Signer, address
from ledger_core.records.invitations import InvitationError, InvitationLink, decode_link
from ledger_core.records.types import Location

_MAX_TEXT: Final = 100_000
_MAX_SHOWN: Final = 80
_LOOK_AGAIN_S: Final = 0.25
_REFUSED_FOR_GOOD: Final = frozenset(
    {
        "invitation_used",
        "invitation_expired",
        "invitation_unauthorised",
        "invitation_roles",
        "revoked",
        "key_replaced",
    }
)
"""Codes with which others' nodes refuse this one however long it waits."""


def register(program: Program) -> None:
    """Add the command to the program."""
    join = program.single().command(
        "join", _join, "join a community by an invitation: prepare the node, then become a member", json=True
    )
    join.add_argument(
        "invitation", metavar="INVITATION", help="its text (ELINVITE-1-...), a file that holds it, or -"
    )
    join.add_argument("--data", metavar="DIR", type=Path, required=True, help="the new node's data directory")
    join.add_argument("--name", required=True, help="of this home; the chain keeps its hash only")
    join.add_argument("--roles", help="fewer than the invitation gives, such as home")
    join.add_argument("--location", metavar="LAT,LON", help="in degrees, as coarse as you like")
    add_span(
        join,
        "--start-within",
        default="0s",
        help="wait so long for the node to run and be in step (otherwise it must run for the second part)",
    )
    add_key(join, "the new member")
    add_wait(join)


def _join(arguments: argparse.Namespace) -> None:
    text = _text(arguments.invitation)
    link = decode_link(text)
    if link.invitation.expires < time.time():
        raise InvitationError(
            "invitation_expired",
            f"this invitation expired at {show_time(link.invitation.expires)}: ask for a new one",
            expires=link.invitation.expires,
        )
    name_hash(arguments.name)
    location = _location(arguments.location)
    roles = None if arguments.roles is None else roles_of(arguments.roles)
    signer = signer_of(arguments)
    if _client(arguments.data) is None:
        _require_not_stored(arguments.data, signer.public_key)
    node, in_use = _prepared(arguments.data, text)
    result = asyncio.run(_member(arguments, link, signer, roles, location))
    if result is None and in_use is not None:
        raise in_use
    data: dict[str, Any] = {
        "community": link.community.name,
        "chain_id": link.chain_id.hex(),
        "member": address(signer.public_key),
        "node": node,
        **(result or {"record": None, "state": "prepared", "height": None}),
    }
    if result is None:
        line = (
            f"{arguments.data} is ready for {link.community.name!r}. Start the node (energy-ledger node "
            f"--data {arguments.data}), and give the same command again to become a member"
        )
    else:
        line = told(result, f"membership of {address(signer.public_key)} ({result['record']})")
    show(arguments, data, [line])


def _text(source: str) -> str:
    if source == "-":
        return sys.stdin.read(_MAX_TEXT)
    if not source.upper().lstrip().startswith("ELINVITE") and Path(source).is_file():
        with Path(source).open(encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_TEXT)
    if not source.upper().lstrip().startswith("ELINVITE"):
        raise InvitationError(
            "invitation_text_prefix",
            f"{source[:_MAX_SHOWN]!a} is neither an invitation (ELINVITE-1-...) nor a file that holds one",
        )
    return source


def _location(text: str | None) -> Location | None:
    if text is None:
        return None
    try:
        latitude, longitude = map(float, text.split(","))
        return location_at(latitude, longitude)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--location: {text!a} is not LAT,LON such as 48.137,11.576") from error


def _prepared(directory: Path, text: str) -> tuple[str | None, LedgerError | None]:
    """Prepare the directory; return the node's address, or why not: its node runs, as it should by then."""
    try:
        return address(prepare_joining(directory, text).node_key), None
    except LedgerError as error:
        if error.code != "store_in_use":
            raise
        return None, error


async def _member(
    arguments: argparse.Namespace,
    link: InvitationLink,
    signer: Signer,
    roles: int | None,
    location: Location | None,
) -> dict[str, Any] | None:
    """Submit the member record once the node is in step; None where no node runs."""
    deadline = time.monotonic() + arguments.start_within
    while True:
        client = _client(arguments.data)
        if client is not None:
            async with client:
                if await _in_step(client, link, deadline):
                    await _require_new(client, address(signer.public_key))
                    home = Home(client, signer, chain_id=link.chain_id)
                    record = await home.join(link, arguments.name, roles=roles, location=location)
                    return await settled(arguments, client, record)
        if time.monotonic() >= deadline:
            return None
        await asyncio.sleep(_LOOK_AGAIN_S)


async def _require_new(client: NodeClient, who: str) -> None:
    """Refuse to join again; raises LedgerError `member_known`."""
    try:
        member = await client.member(who)
    except RefusedError as error:
        if error.code != "member_unknown":
            raise
        return
    remedy = "" if member.roles else "; its roles were taken away, and an authority gives them back"
    raise _known(who, remedy)


def _known(who: str, remedy: str) -> LedgerError:
    message = f"{who} is a member already: an invitation is for new members, this one stays unused{remedy}"
    return LedgerError("member_known", message, member=who)


def _require_not_stored(directory: Path, key: bytes) -> None:
    """Refuse who is a member by the chain of a node that does not run; raises LedgerError `member_known`."""
    try:
        with open_store(directory, writable=False) as store:
            known = key in load_start(store).state.members
    except ChainError:
        # No chain yet; where it is damaged the node tells so when it is started.
        return
    if known:
        raise _known(address(key), f"; start the node: energy-ledger node --data {directory}")


def _client(directory: Path) -> NodeClient | None:
    try:
        api = running_api(directory)
    except LedgerError as error:
        if error.code in ("node_not_running", "token_missing"):
            return None
        raise
    return NodeClient(api.url, api.token)


async def _in_step(client: NodeClient, link: InvitationLink, deadline: float) -> bool:
    """Wait until the node has the others' chain; tell whether a node answers at all.

    Raises LedgerError `node_behind` with what holds it back, or at once where waiting can't help:
    `community_mismatch`, `invitation_refused`.
    """
    told_once = False
    while True:
        try:
            status = await client.status()
            dials = await client.dials() if knows_nobody(status) else []
        except ClientError as error:
            if error.code == "unreachable":
                return False
            raise
        _require_community(status, link)
        if status.synced:
            return True
        refused = next((dial for dial in dials if dial.last_code in _REFUSED_FOR_GOOD), None)
        if refused is not None:
            raise LedgerError(
                "invitation_refused",
                f"{refused.last_error}; with a new invitation, give this command again (the node stopped)",
                reason=refused.last_code,
            )
        if time.monotonic() >= deadline:
            raise LedgerError(
                "node_behind",
                f"the node runs, but is not in step with the others yet: {sync_text(status, dials)}; try "
                "again later, or wait with --start-within 10min",
                height=status.tip.height,
                target=status.target_height,
                peers=status.peers,
            )
        if not told_once:
            note("waiting for the node to be in step with the others")
            told_once = True
        await asyncio.sleep(_LOOK_AGAIN_S)


def _require_community(status: StatusView, link: InvitationLink) -> None:
    if status.chain_id != link.chain_id.hex():
        raise ClientError(
            "community_mismatch",
            f"the invitation is for {link.community.name!r}, the node belongs to {status.community!r}: use "
            "another data directory",
            node=status.chain_id,
            invitation=link.chain_id,
        )
