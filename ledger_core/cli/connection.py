"""What every command that asks a node shares: where the node is, whose key signs, ids written in part."""

import argparse
import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from ledger_core.cli.frame import UsageError
from ledger_core.cli.input_files import public_key_of
from ledger_core.cli.passphrases import add_passphrase_file, passphrase_for, read_secret
from ledger_core.cli.quantities import duration
from ledger_core.client import NodeClient
from ledger_core.client.errors import TimedOutError, UnreachableError
from ledger_core.client.home import Home
from ledger_core.client.local import running_api
from ledger_core.client.waiting import wait_for_record
from ledger_core.errors import LedgerError
from ledger_core.keys import KeyFile, Signer, address

REPEATS_S: Final = (1.0, 3.0)
"""How long to wait before a record that was not answered is sent again."""
_ID_PART: Final = re.compile("[0-9a-f]{4,64}")

type Work = Callable[[NodeClient], Awaitable[None]]


def add_node(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which node is asked."""
    node = parser.add_argument_group("the node that is asked")
    node.add_argument("--data", metavar="DIR", type=Path, help="data directory of a node that runs here")
    node.add_argument("--url", metavar="URL", help="a node elsewhere, such as http://127.0.0.1:7945")
    token = node.add_mutually_exclusive_group()
    token.add_argument("--token", metavar="TOKEN", help="the token of that node's API (others may see it)")
    token.add_argument("--token-file", metavar="FILE", type=Path, help="a file whose first line is it")
    node.add_argument(
        "--timeout", metavar="SECONDS", type=float, default=10.0, help="for each answer (otherwise 10)"
    )


def add_key(parser: argparse.ArgumentParser, whose: str = "the member who signs") -> None:
    """Add the options for the key that signs."""
    parser.add_argument("--key", metavar="FILE", type=Path, required=True, help=f"the key file of {whose}")
    add_passphrase_file(parser)


def add_member(parser: argparse._ActionsContainer, what: str) -> None:
    """Add the option that names a member; `member_of` reads it."""
    parser.add_argument(
        "--member",
        metavar="KEY",
        help=f"{what}: an address, a public key or a key file (otherwise the member whose node is asked)",
    )


def add_wait(parser: argparse.ArgumentParser) -> None:
    """Add the options that wait for the record to stand in a block."""
    wait = parser.add_mutually_exclusive_group()
    wait.add_argument("--wait", action="store_true", help="wait until the record stands in a block")
    wait.add_argument("--final", action="store_true", help="wait until that block is never undone")
    add_span(parser, "--wait-for", default="10min", help="how long to wait (otherwise 10min)")


def add_span(parser: argparse.ArgumentParser, option: str, **more: Any) -> None:
    """Add an option for a time span, which is read to seconds before the command begins."""
    parser.add_argument(option, metavar="SPAN", type=partial(duration, name=option), **more)


def signer_of(arguments: argparse.Namespace) -> Signer:
    """Open the key file; raises KeyFileError."""
    key_file = KeyFile.read(arguments.key)
    return key_file.signer(passphrase_for(key_file, arguments.passphrase_file))


def node_client(arguments: argparse.Namespace) -> NodeClient:
    """Return a client of the node that the command line names."""
    if arguments.timeout <= 0:
        raise UsageError("--timeout: a time above zero is needed")
    if arguments.url is None:
        if arguments.data is None:
            raise UsageError("name the node: --data DIR, or --url URL with --token-file FILE")
        if arguments.token or arguments.token_file:
            raise UsageError("--token and --token-file go with --url; --data finds the token itself")
        find = partial(_place, arguments.data)
        return NodeClient(*find(), timeout_s=arguments.timeout, find=find)
    if arguments.data is not None:
        raise UsageError("--data and --url name two nodes: give one of them")
    token = arguments.token
    if arguments.token_file is not None:
        token = read_secret(arguments.token_file, "token")
    if not token:
        raise UsageError("--url needs the node's token: --token-file FILE, or --token TOKEN")
    return NodeClient(arguments.url, token, timeout_s=arguments.timeout)


def _place(directory: Path) -> tuple[str, str]:
    api = running_api(directory)
    return api.url, api.token


def ask(arguments: argparse.Namespace, work: Work) -> None:
    """Run a command's work with the node's client."""

    async def run() -> None:
        async with node_client(arguments) as client:
            await work(client)

    asyncio.run(run())


def act(arguments: argparse.Namespace, work: Callable[[Home], Awaitable[None]]) -> None:
    """Run a command's work as the member whose key is named."""
    signer = signer_of(arguments)

    async def run(client: NodeClient) -> None:
        try:
            await work(Home(client, signer, repeats_s=REPEATS_S))
        except (UnreachableError, TimedOutError) as error:
            record = error.details.get("record")
            if record is None:
                raise
            hint = (
                f"record {record} may have arrived: once the node answers, `energy-ledger history` tells; "
                "the same command again would make a second one"
            )
            raise type(error)(error.code, f"{error.message}; {hint}", **error.details) from error

    ask(arguments, run)


async def settled(arguments: argparse.Namespace, client: NodeClient, record: str) -> dict[str, Any]:
    """Wait for a record if the command line asks for it; return what is known of it."""
    if not (arguments.wait or arguments.final):
        return {"record": record, "state": "submitted", "height": None}
    found = await wait_for_record(client, record, final=arguments.final, timeout_s=arguments.wait_for)
    return {"record": record, "state": found.state, "height": found.height}


def told(result: dict[str, Any], what: str) -> str:
    """Return what happened to a record as a line."""
    match result["state"]:
        case "submitted":
            where = "the node has it and tells the others"
        case "final":
            where = f"in block {result['height']}, which is final"
        case _:
            where = f"in block {result['height']}"
    return f"{what}: {where}"


async def member_of(client: NodeClient, text: str | None) -> str:
    """Return the address of the member that is meant; without a text the one whose node is asked.

    Raises LedgerError `member_needed` where that node is no member's.
    """
    if text is not None:
        return address(public_key_of(text))
    node = (await client.status()).node
    for each in await client.all_members():
        if node is not None and each.node is not None and each.node.key == node.key:
            return each.member.address
    raise LedgerError("member_needed", "no member names the node that is asked as its own: give --member")


def whole_id(part: str, known: Iterable[str], what: str) -> str:
    """Return the one id that begins with a text of at least four digits.

    A whole id is not looked up. Raises LedgerError `id_invalid`, `id_unknown` or `id_ambiguous`.
    """
    part = part.lower()
    if not _ID_PART.fullmatch(part):
        raise LedgerError(
            "id_invalid", f"{part[:80]!a} is no id: give at least its first four hexadecimal digits"
        )
    found = sorted({each for each in known if each.startswith(part)})
    if not found:
        raise LedgerError("id_unknown", f"no {what} has an id that begins with {part}", id=part)
    if len(found) > 1:
        raise LedgerError(
            "id_ambiguous", f"{len(found)} ids begin with {part}: give more of its digits", matches=found[:8]
        )
    return found[0]


def plain(view: object) -> Any:
    """Return an answer as JSON-friendly data, in the API's units and names."""
    return msgspec.to_builtins(view)
