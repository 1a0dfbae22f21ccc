"""`energy-ledger members` and `revoke`: who belongs to the community."""

import argparse

from ledger_core.cli.connection import act, add_key, add_node, add_wait, ask, plain, settled, told
from ledger_core.cli.frame import Program
from ledger_core.cli.input_files import public_key_of
from ledger_core.cli.output import show
from ledger_core.cli.tables import columns
from ledger_core.client import NodeClient
from ledger_core.client.home import Home
from ledger_core.client.views import MemberView
from ledger_core.keys import address


def register(program: Program) -> None:
    """Add the commands to the program."""
    add_node(program.single().command("members", _members, "list the community's members", json=True))
    revoke = program.single().command("revoke", _revoke, "take all roles from a member", json=True)
    revoke.add_argument("member", metavar="KEY", help="an address, a public key or a key file")
    add_key(revoke, "an authority")
    for add in (add_wait, add_node):
        add(revoke)


def _members(arguments: argparse.Namespace) -> None:
    async def work(client: NodeClient) -> None:
        members = await client.all_members()
        show(arguments, {"items": plain(members)}, member_table(members))

    ask(arguments, work)


def member_table(members: list[MemberView]) -> list[str]:
    """Return members as lines, with whole addresses: they are what other commands take."""
    return columns(
        ("member", "roles"),
        [(each.member.address, ", ".join(each.roles) or "revoked") for each in members],
        "no members",
    )


def _revoke(arguments: argparse.Namespace) -> None:
    who = public_key_of(arguments.member)

    async def work(home: Home) -> None:
        record = await home.revoke(who)
        result = await settled(arguments, home.client, record)
        line = told(result, f"revocation of {address(who)} ({record})")
        show(arguments, {**result, "member": address(who)}, [line])

    act(arguments, work)
