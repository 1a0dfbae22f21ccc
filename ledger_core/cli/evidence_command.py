"""`energy-ledger evidence`: hand in the proof that a node voted in two ways."""

import argparse

from ledger_core.cli.connection import act, add_key, add_node
from ledger_core.cli.frame import Program
from ledger_core.cli.history_command import happened
from ledger_core.cli.output import show
from ledger_core.cli.quantities import show_address
from ledger_core.client import RefusedError
from ledger_core.client.evidence import EVENT, publish_evidence
from ledger_core.client.home import Home
from ledger_core.keys import address


def register(program: Program) -> None:
    """Add the command to the program."""
    evidence = program.single().command(
        "evidence",
        _evidence,
        "hand in the proof of every node that was seen to vote in two ways, which costs it its role",
        json=True,
    )
    for add in (add_key, add_node):
        add(evidence)


def _evidence(arguments: argparse.Namespace) -> None:
    async def work(home: Home) -> None:
        events = await happened(home.client, None)
        seen = {event.data["node"]: event for event in events if event.event == EVENT}
        items, lines = [], []
        for node, event in seen.items():
            name = show_address(address(bytes.fromhex(node)))
            try:
                record = await publish_evidence(home, event.data)
            except RefusedError as error:
                items.append({"node": node, "record": None, "code": error.code})
                lines.append(f"{name}: not taken: {error.message}")
                continue
            items.append({"node": node, "record": record, "code": None})
            lines.append(f"{name}: evidence {record}")
        show(arguments, {"items": items}, lines or ["no node was seen to vote in two ways"])

    act(arguments, work)
