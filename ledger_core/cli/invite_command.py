"""`energy-ledger invite`: a one-time right to join, as a line of text and as a picture."""

import argparse
import shutil
import sys
import time
from pathlib import Path

from ledger_core.cli.connection import act, add_key, add_node, add_span
from ledger_core.cli.frame import Program, UsageError, add_force
from ledger_core.cli.input_files import roles_of
from ledger_core.cli.output import note, show
from ledger_core.cli.output_files import require_writable
from ledger_core.cli.picture import Picture, kind_of
from ledger_core.cli.quantities import show_time
from ledger_core.cli.record_view import role_names
from ledger_core.client.home import Home, checked_places
from ledger_core.errors import LedgerError
from ledger_core.keys import address
from ledger_core.keys.whole_file import write_whole_file
from ledger_core.records.invitations import InvitationLink, decode_link


def register(program: Program) -> None:
    """Add the command to the program."""
    invite = program.single().command(
        "invite", _invite, "make a one-time invitation: a line of text and a QR picture", json=True
    )
    invite.add_argument("--roles", default="home,node", help="what the newcomer may be (otherwise home,node)")
    add_span(invite, "--expires", default="7d", help="(otherwise 7d)")
    invite.add_argument(
        "--address",
        metavar="HOST:PORT",
        action="append",
        help="where a node of the community is reached (otherwise what the node tells of itself)",
    )
    invite.add_argument("--qr", metavar="FILE", type=Path, help="write the picture, as .svg or .png")
    add_force(invite)
    add_key(invite, "an authority")
    add_node(invite)


def _invite(arguments: argparse.Namespace) -> None:
    roles = roles_of(arguments.roles)
    if arguments.qr is not None:
        kind_of(arguments.qr)
        require_writable(arguments.qr, force=arguments.force)
    try:
        checked_places(arguments.address or ())
    except LedgerError as error:
        raise UsageError(f"--address: {error.message}") from error

    async def work(home: Home) -> None:
        if arguments.qr is not None:
            # What can't be drawn must fail before an invitation is made.
            Picture("")
        text = await home.make_invitation(int(time.time()) + arguments.expires, roles, arguments.address)
        link = decode_link(text)
        if arguments.qr is not None:
            picture = Picture(text).encoded(arguments.qr)
            # Whoever sees it can use it.
            write_whole_file(arguments.qr, picture, force=arguments.force, private=True)
        data = {
            "invitation": text,
            "community": link.community.name,
            "roles": role_names(roles),
            "expires": link.invitation.expires,
            "addresses": list(link.addresses),
            "one_time_key": address(link.invitation.key),
            "qr": None if arguments.qr is None else str(arguments.qr),
        }
        show(arguments, data, [text])
        if not arguments.json:
            _explain(link, text)

    act(arguments, work)


def _explain(link: InvitationLink, text: str) -> None:
    """Tell what the invitation is, beside the text that may be piped on."""
    if sys.stderr.isatty():
        _draw(text)
    note(
        f"lets one home into {link.community.name!r} until {show_time(link.invitation.expires)}: hand it on "
        "like a key, whoever sees it can use it"
    )
    if not link.addresses:
        note(
            "it names no address, for the node tells none: newcomers find the community on this local "
            "network only; to name one: --address HOST:PORT"
        )


def _draw(text: str) -> None:
    try:
        picture = Picture(text)
    except LedgerError as error:
        note(error.message)
        return
    room = shutil.get_terminal_size().columns
    if picture.width > room:
        note(f"the picture needs {picture.width} columns, there are {room}: write it with --qr FILE.svg")
        return
    for line in picture.lines():
        print(line, file=sys.stderr)
