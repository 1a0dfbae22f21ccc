"""`energy-ledger chain`: check, look into, repair, shorten, export and generate stored chains."""

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ledger_core.chain.rebuild import rebuild
from ledger_core.chain.recovery import quick_check, verify_store
from ledger_core.chain.store.blockfile import write_blocks
from ledger_core.chain.store.opening import open_store
from ledger_core.chain.store.store import SqliteStore
from ledger_core.chain.verify import Verifier
from ledger_core.cli import generate_command
from ledger_core.cli.chain_view import find_block, view_block, view_chain
from ledger_core.cli.community_file import read_genesis
from ledger_core.cli.frame import Group, Parser, Program, UsageError, add_force
from ledger_core.cli.output import as_json, note, show, table
from ledger_core.cli.output_files import new_file
from ledger_core.cli.progress import Progress
from ledger_core.errors import ChainError
from ledger_core.records.block import Block, decode_header

_DAY = 86_400


def register(program: Program) -> None:
    """Add the group to the program."""
    group = program.group("chain", "check, look into, repair, shorten, export and generate stored chains")
    _add_verify(group)
    _add_inspect(group)
    _add_rebuild(group)
    _add_prune(group)
    _add_export(group)
    generate_command.add_command(group)


def _add_data(parser: Parser) -> None:
    parser.add_argument(
        "--data", metavar="DIR", type=Path, required=True, help="the data directory of the node"
    )


def _add_workers(parser: Parser) -> None:
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        default=os.process_cpu_count() or 1,
        help="threads that verify signatures; as many as there are processors unless given",
    )


def _workers(arguments: argparse.Namespace) -> int:
    count: int = arguments.workers
    if not 1 <= count <= 64:
        raise UsageError(f"--workers must lie between 1 and 64, not at {count}")
    return count


# verify


def _add_verify(group: Group) -> None:
    verify = group.command(
        "verify", _verify, "check every block, signature and snapshot of a stored chain", json=True
    )
    _add_data(verify)
    _add_workers(verify)
    verify.add_argument("--quick", action="store_true", help="check only the last blocks, as a start does")


def _verify(arguments: argparse.Namespace) -> None:
    workers = _workers(arguments)
    with open_store(arguments.data) as store:
        head = store.head()
        if arguments.quick:
            quick_check(store)
            data: dict[str, Any] = {"height": head.tip[0], "hash": head.tip[1].hex(), "final": head.final[0]}
            show(arguments, {"ok": True, **data}, ["The last blocks are good.", *table(data)])
            return
        with Verifier(workers) as verifier, Progress("verifying blocks", head.tip[0]) as progress:
            report = verify_store(store, verifier, lambda done, _total: progress.update(done))
    data = {
        "height": report.height,
        "hash": report.hash.hex(),
        "state_hash": report.state_hash.hex(),
        "final": report.final_height,
        "blocks": report.blocks,
        "headers": report.headers,
        "side_blocks": report.side_blocks,
        "snapshots": report.snapshots,
    }
    lines = {
        "tip": f"{report.height}  {report.hash.hex()}",
        "final": report.final_height,
        "state hash": report.state_hash.hex(),
        "blocks verified": report.blocks,
        "headers verified": f"{report.headers} (of blocks whose bodies were pruned)",
        "side blocks": report.side_blocks,
        "snapshots": report.snapshots,
    }
    show(arguments, {"ok": True, **data}, ["The chain is good.", *table(lines)])


# inspect


def _add_inspect(group: Group) -> None:
    inspect = group.command("inspect", _inspect, "show where a stored chain stands, or one block", json=True)
    _add_data(inspect)
    inspect.add_argument(
        "--block",
        metavar="BLOCK",
        help="show this block with all its records: its height, or its hash in hexadecimal",
    )


def _inspect(arguments: argparse.Namespace) -> None:
    with open_store(arguments.data, writable=False) as store:
        if arguments.block is None:
            data, lines = view_chain(store)
            show(arguments, data, lines)
            return
        with Progress("searching headers", store.tip()[0]) as progress:
            found = find_block(store, arguments.block, progress.update)
        print(as_json(view_block(found, store), indent=None if arguments.json else 2))


# rebuild


def _add_rebuild(group: Group) -> None:
    remake = group.command(
        "rebuild",
        _rebuild,
        "make a damaged database anew from the blocks in it, keeping the old one aside",
        json=True,
    )
    _add_data(remake)
    remake.add_argument(
        "--import",
        dest="imports",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="take missing blocks from this file (of `chain export`) or database as well; may be repeated",
    )
    remake.add_argument(
        "--genesis",
        metavar="FILE",
        type=Path,
        help="the community's genesis file, where the database does not say any more whose it is",
    )
    _add_workers(remake)


def _rebuild(arguments: argparse.Namespace) -> None:
    workers = _workers(arguments)
    genesis = None if arguments.genesis is None else read_genesis(arguments.genesis)
    with Verifier(workers) as verifier, Progress("rebuilding blocks") as progress:
        report = rebuild(
            arguments.data,
            verifier,
            int(time.time()),
            genesis=genesis,
            imports=arguments.imports,
            progress=lambda done, _total: progress.update(done),
        )
    aside = None if report.kept_aside is None else str(report.kept_aside)
    data = {
        "height": report.height,
        "hash": report.hash.hex(),
        "final": report.final_height,
        "pruned": report.pruned,
        "old_height": report.old_height,
        "lost": report.lost,
        "kept_aside": aside,
        "notes": list(report.notes),
    }
    lost = "unknown: the old tip is not readable" if report.lost is None else str(report.lost)
    lines = table(
        {
            "saved up to": f"block {report.height}  {report.hash.hex()}",
            "final": report.final_height,
            "only headers up to": report.pruned,
            "blocks lost": lost,
            "old database": aside or "there was none",
        }
    )
    lines += [f"- {text}" for text in report.notes]
    if report.lost is None or report.lost:
        lines.append("The node gets what is missing from the other nodes; or name a file with --import FILE.")
    show(arguments, data, lines)


# prune


def _add_prune(group: Group) -> None:
    prune = group.command(
        "prune", _prune, "remove the bodies of old final blocks; their headers stay", json=True
    )
    _add_data(prune)
    which = prune.add_mutually_exclusive_group(required=True)
    which.add_argument("--before", metavar="HEIGHT", type=int, help="bodies of blocks below this height")
    which.add_argument("--days", metavar="N", type=int, help="bodies of blocks older than so many days")
    prune.add_argument(
        "--compact",
        action="store_true",
        help="give the room back to the disk; needs as much free space for a while",
    )


def _prune(arguments: argparse.Namespace) -> None:
    if arguments.days is not None and not 0 <= arguments.days <= 36_500:
        raise UsageError(f"--days must lie between 0 and 36500, not at {arguments.days}")
    if arguments.before is not None and not 0 <= arguments.before < 2**32:
        raise UsageError(f"--before must be a height between 0 and {2**32 - 1}, not {arguments.before}")
    with open_store(arguments.data) as store:
        before = arguments.before
        if before is None:
            before = _first_since(store, int(time.time()) - arguments.days * _DAY)
        start = store.head().pruned
        used = store.usage().database
        with Progress("pruning blocks", max(before - 1 - start, 0)) as progress:
            pruned = store.prune(before, lambda done, _total: progress.update(done))
        if arguments.compact:
            store.compact()
        usage = store.usage()
    data = {
        "pruned": pruned,
        "newly_pruned": pruned - start,
        "database_bytes": usage.database,
        "free_bytes": usage.free,
    }
    lines = {
        "bodies removed": f"{pruned - start} (up to block {pruned})",
        "database": f"{usage.database} bytes, {usage.free} of them free for new blocks (before: {used})",
    }
    show(arguments, data, table(lines))


def _first_since(store: SqliteStore, moment: int) -> int:
    """Return the height of the first block not older than a time, as far as block times ascend."""
    low, high = 1, store.tip()[0] + 1
    while low < high:
        middle = (low + high) // 2
        header = store.header_at(middle)
        if header is not None and decode_header(header).time < moment:
            low = middle + 1
        else:
            high = middle
    return low


# export


def _add_export(group: Group) -> None:
    export = group.command("export", _export, "write a stored chain's blocks to a file", json=True)
    _add_data(export)
    export.add_argument("--out", metavar="FILE", type=Path, required=True, help="the file to write")
    export.add_argument("--final", action="store_true", help="only final blocks, which never change")
    add_force(export)


def _export(arguments: argparse.Namespace) -> None:
    with open_store(arguments.data, writable=False) as store:
        head = store.head()
        last = head.final[0] if arguments.final else head.tip[0]
        if head.pruned:
            note(f"Bodies up to block {head.pruned} were pruned: the file begins above, and only fills gaps.")
        with (
            new_file(arguments.out, force=arguments.force) as file,
            Progress("exporting blocks", last - head.pruned) as progress,
        ):
            count = write_blocks(file, store.genesis, _branch(store, head.pruned + 1, last, progress))
    data = {"file": str(arguments.out), "first": head.pruned + 1, "last": last, "blocks": count}
    show(arguments, data, table({"file": arguments.out, "blocks": f"{count} (up to block {last})"}))


def _branch(store: SqliteStore, first: int, last: int, progress: Progress) -> Iterator[Block]:
    previous: bytes | None = None
    for height in range(first, last + 1):
        block = store.block_at(height)
        if block is None or previous not in (None, decode_header(block.header).previous):
            raise ChainError(
                "chain_changed",
                f"the node switched to another branch below block {height} meanwhile; run the command again, "
                "or with --final",
                height=height,
            )
        previous = block.hash
        yield block
        progress.advance()
