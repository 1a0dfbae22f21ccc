"""`energy-ledger status`, `peers` and `resume-voting`: how a node fares, and what it asks for."""

import argparse
from collections.abc import Sequence

from ledger_core.cli.connection import add_node, ask, plain
from ledger_core.cli.frame import Program
from ledger_core.cli.output import show, table
from ledger_core.cli.quantities import show_address, show_span, show_time
from ledger_core.cli.tables import columns
from ledger_core.client import NodeClient
from ledger_core.client.views import DialView, MiningView, StatusView


def register(program: Program) -> None:
    """Add the commands to the program."""
    add_node(program.single().command("status", _status, "tell how a node and its chain are", json=True))
    add_node(program.single().command("peers", _peers, "list a node's links to other homes", json=True))
    resume = "have a running node vote again, once no other copy of it runs"
    add_node(program.single().command("resume-voting", _resume_voting, resume, json=True))


def _status(arguments: argparse.Namespace) -> None:
    async def work(client: NodeClient) -> None:
        status, mining = await client.status(), await client.mining()
        dials = await client.dials() if knows_nobody(status) else []
        show(arguments, plain(status), table(status_rows(status, mining, dials)))

    ask(arguments, work)


def _resume_voting(arguments: argparse.Namespace) -> None:
    async def work(client: NodeClient) -> None:
        status = await client.resume_voting()
        result = {"voting_blocked": status.voting_blocked, "voting_hold": status.voting_hold}
        show(arguments, result, table({"voting": _voting(status)}))

    ask(arguments, work)


def _voting(status: StatusView) -> str:
    return f"no: {status.voting_blocked}" if status.voting_blocked else "yes"


def status_rows(status: StatusView, mining: MiningView, dials: Sequence[DialView] = ()) -> dict[str, object]:
    """Return a node's status by name, for people; `dials` tell why it has no links."""
    rows: dict[str, object] = {
        "community": f"{status.community} ({status.chain_id[:16]})",
        "version": status.version,
        "node": "-" if status.node is None else status.node.address,
        "height": f"{status.tip.height}, of {show_time(status.tip_time)}",
        "in step": "yes" if status.synced else f"no, {sync_text(status, dials)}",
        "final": f"{status.final}, never undone up to there",
        "settled until": show_time(status.settled_until),
        "peers": status.peers,
        "waiting records": status.waiting_records,
        "mining": _mining(status, mining),
        "voting": _voting(status),
    }
    if status.disk_trouble is not None:
        rows["disk"] = status.disk_trouble
    if status.parted:
        rows["parted"] = f"{status.parted} linked nodes have other final blocks"
    return rows


def knows_nobody(status: StatusView) -> bool:
    """Whether a node has no chain yet, and nobody who could tell it one."""
    return not status.synced and not status.peers and not status.tip.height


def sync_text(status: StatusView, dials: Sequence[DialView] = ()) -> str:
    """Return how far a node that is not in step has come, and what its dials met where it has no link."""
    if knows_nobody(status):
        why = next((f" ({_why(dial)})" for dial in dials if dial.last_error), "")
        return f"it is linked with no other node{why}"
    told = max(status.claimed_height, status.target_height)
    match status.sync_phase:
        case "headers":
            return f"{status.target_height} of {told} headers are here"
        case "snapshot":
            return f"fetching a state, all {status.target_height} headers are here"
        case _:
            return f"{told - status.tip.height} blocks behind"


def _why(dial: DialView) -> str:
    """Return what a dial met, and where the address came from where that may be the cause."""
    if dial.last_code not in ("unresolved", "unreachable", "no_node_there"):
        return dial.last_error
    return f"{dial.last_error}; the address is of the setting peers or of the invitation"


def _mining(status: StatusView, mining: MiningView) -> str:
    if not mining.on:
        return "no: switched off"
    return f"no: {status.mining_blocked}" if status.mining_blocked else "yes"


def _peers(arguments: argparse.Namespace) -> None:
    async def work(client: NodeClient) -> None:
        peers, dials = await client.peers(), await client.dials()
        lines = columns(
            ("node", "direction", "address", "up", "height"),
            [
                (
                    show_address(peer.node.address),
                    peer.direction,
                    peer.address,
                    show_span(peer.up_s),
                    "-" if peer.height is None else str(peer.height),
                )
                for peer in peers
            ],
            "no links to other homes",
        )
        if dials:
            lines += ["", *_dial_lines(dials)]
        show(arguments, {"items": plain(peers), "dialling": plain(dials)}, lines)

    ask(arguments, work)


def _dial_lines(dials: Sequence[DialView]) -> list[str]:
    """Return whom the node would like to be linked to, and why it is not."""
    return columns(
        ("not reached", "node", "tries", "again in", "because"),
        [
            (
                dial.location,
                "-" if dial.node is None else show_address(dial.node.address),
                str(dial.failures),
                show_span(dial.retry_in_s),
                dial.last_error or "-",
            )
            for dial in dials
        ],
        "",
    )
