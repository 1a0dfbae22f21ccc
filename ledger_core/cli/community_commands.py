"""`energy-ledger community`: found a community, look at its genesis."""

import argparse
import time
from pathlib import Path

from ledger_core.cli.community_file import describe, read_description, read_genesis, template
from ledger_core.cli.frame import Program, add_force
from ledger_core.cli.input_files import public_key_of
from ledger_core.cli.output import as_json, show, table
from ledger_core.cli.quantities import show_utc
from ledger_core.cli.record_view import role_names
from ledger_core.community import Genesis, encode_genesis, parameters_as_dict
from ledger_core.keys import address
from ledger_core.keys.whole_file import write_whole_file

_PLACEHOLDER = "(address or key file of the {})"


def register(program: Program) -> None:
    """Add the group to the program."""
    group = program.group("community", "found a community, look at its genesis")

    draft = group.command("template", _template, "print a description to fill in, with every parameter")
    draft.add_argument("--member", metavar="KEY", help="the founder's key file, public key or address")
    draft.add_argument("--node", metavar="KEY", help="the same of the founder's node")

    create = group.command("create", _create, "make the genesis that a description file asks for", json=True)
    create.add_argument("description", metavar="DESCRIPTION", type=Path, help="see: community template")
    create.add_argument("output", metavar="GENESIS", type=Path, help="the genesis file to write")
    add_force(create)

    look = group.command("show", _show, "show a genesis: chain id, founders, parameters", json=True)
    look.add_argument("genesis", metavar="GENESIS", type=Path, help="the genesis file")


def _template(arguments: argparse.Namespace) -> None:
    keys = {}
    for name in ("member", "node"):
        given = getattr(arguments, name)
        keys[name] = _PLACEHOLDER.format(name) if given is None else address(public_key_of(given))
    print(as_json(template(**keys), indent=2))


def _create(arguments: argparse.Namespace) -> None:
    genesis = read_description(arguments.description, int(time.time()))
    write_whole_file(arguments.output, encode_genesis(genesis), force=arguments.force)
    _print(arguments, genesis)


def _show(arguments: argparse.Namespace) -> None:
    _print(arguments, read_genesis(arguments.genesis))


def _print(arguments: argparse.Namespace, genesis: Genesis) -> None:
    data = {"chain_id": genesis.chain_id.hex(), "community": describe(genesis)}
    rows: dict[str, object] = {
        "chain id": genesis.chain_id.hex(),
        "name": genesis.name,
        "currency": genesis.currency,
        "created": show_utc(genesis.created),
    }
    lines = [*table(rows), "", "founders"]
    for founder in genesis.founders:
        lines.append(f"  {address(founder.member)}  {', '.join(role_names(founder.roles)) or 'no role'}")
        if founder.node is not None:
            lines.append(f"    node  {address(founder.node)}")
    lines += ["", "parameters"]
    lines += [f"  {line}" for line in table(parameters_as_dict(genesis.parameters))]
    show(arguments, data, lines)
