"""`energy-ledger chain generate`: a valid synthetic chain, for tests and benchmarks."""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from ledger_core.chain.chain import Chain
from ledger_core.chain.store.blockfile import write_blocks
from ledger_core.chain.store.files import DATABASE
from ledger_core.chain.store.opening import open_store
from ledger_core.chain.verify import Verifier
from ledger_core.cli.frame import Group, UsageError, add_force
from ledger_core.cli.output import show, table
from ledger_core.cli.output_files import new_file
from ledger_core.cli.progress import Progress
from ledger_core.records.block import Block
from ledger_core.synthetic import Config, SyntheticChain
from ledger_core.synthetic.config import DEFAULT_START
from ledger_core.synthetic.weather import DAY

_OPTIONAL = ("slot_s", "block_spacing_s", "checkpoint_interval", "min_difficulty_bits", "reorg_blocks")


def add_command(group: Group) -> None:
    """Add the command to the group `chain`."""
    parser = group.command(
        "generate", _generate, "make a valid synthetic chain by simulating a street", json=True
    )
    parser.add_argument("--homes", type=int, required=True, metavar="N", help="homes in the street")
    parser.add_argument("--days", type=int, required=True, metavar="D", help="days of their life")
    parser.add_argument(
        "--seed", type=int, required=True, metavar="S", help="the same seed gives the same chain"
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--data", type=Path, metavar="DIR", help="store the chain in a new data directory")
    place.add_argument("--out", type=Path, metavar="FILE", help="write the chain's main branch to a file")
    add_force(parser)
    parser.add_argument("--slot", type=int, dest="slot_s", metavar="SECONDS", help="settlement interval")
    parser.add_argument(
        "--spacing", type=int, dest="block_spacing_s", metavar="SECONDS", help="mean time between blocks"
    )
    parser.add_argument(
        "--checkpoint", type=int, dest="checkpoint_interval", metavar="N", help="blocks between checkpoints"
    )
    parser.add_argument(
        "--bits", type=int, dest="min_difficulty_bits", metavar="N", help="floor of the difficulty"
    )
    parser.add_argument(
        "--reorg-every",
        type=int,
        dest="reorg_blocks",
        metavar="N",
        help="blocks between reorganisations, on average; 0: none",
    )
    parser.add_argument(
        "--start",
        type=date.fromisoformat,
        metavar="YYYY-MM-DD",
        help="first day (UTC); the last one must be over by now",
    )


def _generate(arguments: argparse.Namespace) -> None:
    synthetic = SyntheticChain(_config(arguments))
    expected = synthetic.config.duration_s // synthetic.config.spacing_s
    started = time.monotonic()
    with Progress("generating blocks", expected) as progress:
        if arguments.data is not None:
            _store(synthetic, arguments.data, progress.advance)
        elif arguments.out is not None:
            _write(synthetic, arguments.out, progress.advance, force=arguments.force)
        else:
            for _ in _blocks(synthetic, progress.advance, sides=False):
                pass
    _print(arguments, synthetic, time.monotonic() - started)


def _config(arguments: argparse.Namespace) -> Config:
    if not 1 <= arguments.days <= 3660:
        raise UsageError(f"--days must lie between 1 and 3660, not at {arguments.days}")
    start = DEFAULT_START
    if arguments.start is not None:
        start = int(
            datetime(arguments.start.year, arguments.start.month, arguments.start.day, tzinfo=UTC).timestamp()
        )
    given: dict[str, Any] = {
        name: getattr(arguments, name) for name in _OPTIONAL if getattr(arguments, name) is not None
    }
    config = Config(
        homes=arguments.homes, duration_s=arguments.days * DAY, seed=arguments.seed, start=start, **given
    )
    if config.end > time.time():
        raise UsageError(
            f"{arguments.days} days from {datetime.fromtimestamp(start, UTC):%Y-%m-%d} on end in the future, "
            "where no node takes blocks from; give an earlier --start"
        )
    return config


def _blocks(chain: SyntheticChain, advance: Callable[[], None], *, sides: bool) -> Iterator[Block]:
    """Yield the blocks and count them; those of side branches where they are wanted."""
    for item in chain.blocks():
        if not item.side:
            advance()
        if sides or not item.side:
            yield item.block


def _store(synthetic: SyntheticChain, directory: Path, advance: Callable[[], None]) -> None:
    """Have a chain take every block in order, as a node would that was there."""
    database = directory / DATABASE
    if os.path.lexists(database):
        raise UsageError(f"{directory} holds a chain already; give --data a directory without one")
    with open_store(directory, synthetic.genesis) as store, Verifier() as verifier:
        store.set_durable(durable=False)
        chain = Chain.open(store, verifier)
        chain.add_blocks(_blocks(synthetic, advance, sides=True), synthetic.config.end)
        store.set_durable(durable=True)
        if chain.tip_hash != synthetic.state.tip.hash:
            raise RuntimeError("the stored chain ends elsewhere than the generated one")


def _write(synthetic: SyntheticChain, path: Path, advance: Callable[[], None], *, force: bool) -> None:
    """Write the main branch to a file."""
    if path.is_dir():
        raise UsageError(f"{path} is a directory; --data stores a chain in a directory")
    with new_file(path, force=force) as file:
        write_blocks(file, synthetic.genesis, _blocks(synthetic, advance, sides=False))


def _print(arguments: argparse.Namespace, chain: SyntheticChain, seconds: float) -> None:
    tip = chain.state.tip
    tally = chain.tally.as_dict()
    summary: dict[str, Any] = {
        "chain_id": chain.genesis.chain_id.hex(),
        "height": tip.height,
        "tip": tip.hash.hex(),
        "final": tip.final,
        "state_hash": chain.state.hash().hex(),
    }
    rate = (chain.tally.blocks + chain.tally.side_blocks) / seconds
    lines = [*table(summary), "", f"{rate:.0f} blocks a second"]
    for name, value in tally.items():
        if isinstance(value, dict):
            if value:
                lines += ["", name.replace("_", " "), *(f"  {line}" for line in table(value))]
        else:
            lines.append(f"{value} {name.replace('_', ' ')}")
    show(arguments, {**summary, "tally": tally, "blocks_per_s": round(rate)}, lines)
