"""`energy-ledger find`: where a record stands, and what it says."""

import argparse
from pathlib import Path

from ledger_core.cli.connection import add_node, ask, plain
from ledger_core.cli.frame import Program, add_force
from ledger_core.cli.output import as_json, show, table
from ledger_core.client import NodeClient
from ledger_core.client.bodies import id_of
from ledger_core.keys.whole_file import write_whole_file


def register(program: Program) -> None:
    """Add the command to the program."""
    find = program.single().command("find", _find, "tell where a record stands, and what it says", json=True)
    find.add_argument("id", metavar="ID", help="the record's whole id")
    find.add_argument(
        "--height", type=int, metavar="N", help="its block, if that is not among the newest 128"
    )
    find.add_argument(
        "--write", metavar="FILE", type=Path, help="write the signed record, for: record decode"
    )
    add_force(find)
    add_node(find)


def _find(arguments: argparse.Namespace) -> None:
    record_id = id_of(arguments.id).hex()

    async def work(client: NodeClient) -> None:
        record = await client.record(record_id, arguments.height)
        if arguments.write is not None:
            write_whole_file(arguments.write, bytes.fromhex(record.envelope), force=arguments.force)
        rows = {
            "record": record.record,
            "kind": record.kind,
            "state": record.state,
            "block": "-" if record.height is None else record.height,
            "author": record.author.address,
            "signed by": ", ".join(each.by.address for each in record.signatures),
            **{
                name: value if isinstance(value, str) else as_json(value)
                for name, value in record.body.items()
            },
        }
        show(arguments, plain(record), table(rows))

    ask(arguments, work)
