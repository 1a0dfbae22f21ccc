"""`energy-ledger found`: make the data directory of a community's first node."""

import argparse
import json
import time
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from ledger_core.cli.community_file import read_genesis
from ledger_core.cli.frame import Program, UsageError
from ledger_core.cli.input_files import public_key_of
from ledger_core.cli.output import note, show, table
from ledger_core.client.local import Founding, default_parameters, found, founding_genesis, prepare_founding
from ledger_core.community import Genesis
from ledger_core.errors import wanted
from ledger_core.keys import SoftwareSigner, address
from ledger_core.node import data_directory

_TERMINATION = "termination_permille"
_PERMILLE_OF_PERCENT = 10
_BOUNDS = get_type_hints(Genesis, include_extras=True)


def register(program: Program) -> None:
    """Add the command to the program."""
    parser = program.single().command(
        "found", _found, "found a community and prepare its first node", json=True
    )
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help="the node's data directory")
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--name", help="the community's name")
    how.add_argument("--genesis", metavar="FILE", type=Path, help="a genesis made with: community create")
    founder = parser.add_argument_group("with --name")
    founder.add_argument("--currency", default="EUR", help="(otherwise EUR)")
    founder.add_argument("--key", metavar="KEY", help="the founder's key file, address or public key")
    founder.add_argument("--home", metavar="NAME", help="the founder's home; the chain keeps its hash only")
    part = default_parameters()[_TERMINATION] // _PERMILLE_OF_PERCENT
    founder.add_argument(
        "--termination",
        metavar="PERCENT",
        type=int,
        help="what ending a trade alone costs: so much of the price of its rest, which the other side gets; "
        f"0: nothing, 100: all of it (otherwise {part})",
    )
    founder.add_argument(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a parameter, such as slot_s=900 (all of them: community template)",
    )


def _found(arguments: argparse.Namespace) -> None:
    # Everything is read and checked before a directory is made.
    if arguments.genesis is not None:
        genesis = read_genesis(arguments.genesis)
        node = prepare_founding(arguments.data)
        data_directory.found(arguments.data, genesis)
    else:
        if arguments.key is None or arguments.home is None:
            raise UsageError("a new community needs its founder: --key KEY and --home NAME")
        for option, field in (("--name", "name"), ("--currency", "currency")):
            _require_within(option, getattr(arguments, field), _BOUNDS[field])
        founding = Founding(
            name=arguments.name,
            currency=arguments.currency,
            founder_name=arguments.home,
            parameters=_parameters(arguments),
        )
        founder, now = public_key_of(arguments.key), int(time.time())
        # The node's own key is made with its directory.
        founding_genesis(founding, founder, SoftwareSigner.generate().public_key, now)
        genesis = found(arguments.data, founding, founder, now)
        node = prepare_founding(arguments.data)
    _tell(arguments, genesis, node)


def _require_within(option: str, value: str, kind: Any) -> None:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{option}: {value!r} is not {wanted(kind)}") from error


def _parameters(arguments: argparse.Namespace) -> dict[str, Any]:
    parameters = dict(map(_parameter, arguments.set))
    if arguments.termination is None:
        return parameters
    if _TERMINATION in parameters:
        raise UsageError(f"--termination and --set {_TERMINATION} say the same: give one of them")
    if not 0 <= arguments.termination <= 100:
        raise UsageError(f"--termination {arguments.termination}: a percentage is 0 to 100")
    return parameters | {_TERMINATION: arguments.termination * _PERMILLE_OF_PERCENT}


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text}: write NAME=VALUE, such as slot_s=900")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _tell(arguments: argparse.Namespace, genesis: Genesis, node: bytes) -> None:
    data = {
        "community": genesis.name,
        "chain_id": genesis.chain_id.hex(),
        "node": address(node),
        "data": str(arguments.data),
    }
    show(arguments, data, table({name.replace("_", " "): value for name, value in data.items()}))
    if node not in {founder.node for founder in genesis.founders}:
        note("the node in this directory is none of the founders': it may follow the chain, not mine it")
    if not arguments.json:
        note(f"start it with: energy-ledger node --data {arguments.data}")
