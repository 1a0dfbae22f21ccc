"""`energy-ledger simulate`: the node's real code, many times, over a virtual network and clock."""

import argparse
import time
from pathlib import Path
from typing import Any, Final, get_type_hints

import msgspec

from ledger_core.cli.frame import Program, UsageError, add_force
from ledger_core.cli.output import show
from ledger_core.cli.output_files import require_writable
from ledger_core.cli.progress import Progress
from ledger_core.errors import ChainError, wanted
from ledger_core.keys.whole_file import write_whole_file
from ledger_core.simulation.config import SimulationConfig
from ledger_core.simulation.plot import plot
from ledger_core.simulation.report import Report, make_report, table
from ledger_core.simulation.simulator import Simulator

STEPS: Final = 200

_OPTIONS: Final = (
    ("peers", int, "N", "connections that every node keeps"),
    ("latency", float, "SECONDS", "mean one-way delay between two nodes"),
    ("loss", float, "SHARE", "share of messages that get lost"),
    ("partitions", int, "N", "how often the street falls in two parts"),
    ("partition_share", float, "SHARE", "nodes in the smaller part"),
    ("partition_hours", float, "HOURS", "how long a partition lasts"),
    ("offline", float, "SHARE", "nodes that are away at any time"),
    ("skew", float, "SECONDS", "spread of the clocks"),
    ("wrong_clocks", float, "SHARE", "nodes whose clock is ten minutes off"),
    ("liars", float, "SHARE", "nodes that misbehave"),
    ("trades", float, "N", "offers of a home in an hour"),
    ("readings", float, "N", "readings of a home in an hour"),
    ("spacing", int, "SECONDS", "mean time between blocks"),
    ("checkpoint", int, "N", "blocks between checkpoints"),
    ("announce", float, "SECONDS", "how long a node gathers records before it tells its peers"),
    ("settle", float, "MINUTES", "quiet time at the end"),
)
_FIELDS: Final = {
    "latency": "latency_s",
    "offline": "offline_share",
    "skew": "skew_s",
    "trades": "trades_per_hour",
    "readings": "readings_per_hour",
    "spacing": "block_spacing_s",
    "checkpoint": "checkpoint_interval",
    "announce": "announce_interval_s",
    "settle": "settle_minutes",
}
"""Options whose name is shorter than the setting's."""
_HINTS: Final = get_type_hints(SimulationConfig, include_extras=True)


def register(program: Program) -> None:
    """Add the command to the program."""
    parser = program.single().command(
        "simulate", _simulate, "run many nodes over a virtual network and report how they fare", json=True
    )
    defaults = SimulationConfig()
    parser.add_argument(
        "--nodes",
        default=str(defaults.nodes),
        metavar="N[,N...]",
        help="homes; several: a run for each number",
    )
    parser.add_argument(
        "--hours",
        default=f"{defaults.hours:g}",
        metavar="H[,H...]",
        help="hours of the street's life; several: for each number of homes its own",
    )
    parser.add_argument(
        "--seed", type=int, default=defaults.seed, metavar="S", help="the same seed gives the same run"
    )
    for name, kind, metavar, text in _OPTIONS:
        default = getattr(defaults, _FIELDS.get(name, name))
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=f"{text} (otherwise {default:g})"
        )
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the figures")
    add_force(parser)


def _simulate(arguments: argparse.Namespace) -> None:
    nodes = _numbers("--nodes", arguments.nodes, int)
    hours = _numbers("--hours", arguments.hours, float)
    if len(hours) == 1:
        hours *= len(nodes)
    if len(hours) != len(nodes):
        raise UsageError(f"--hours gives {len(hours)} numbers for the {len(nodes)} of --nodes")
    configs = [_config(arguments, *each) for each in zip(nodes, hours, strict=True)]
    if arguments.plot is not None:
        require_writable(arguments.plot, force=arguments.force)
    reports = [_run(config) for config in configs]
    if arguments.plot is not None:
        write_whole_file(arguments.plot, plot(reports).encode(), force=arguments.force)
    sound = all(report.sound for report in reports)
    show(arguments, {"sound": sound, "runs": [report.as_dict() for report in reports]}, table(reports))
    if not sound:
        broken = [check.name for report in reports for check in report.checks if not check.holds]
        raise ChainError("simulation_broken", f"what must hold did not: {', '.join(broken)}", broken=broken)


def _run(config: SimulationConfig) -> Report:
    started = time.monotonic()
    with Progress(f"simulating {config.nodes} nodes", STEPS) as progress:
        run = Simulator(config)
        try:
            run.run(lambda part: progress.update(round(part * STEPS)), STEPS)
            return make_report(run, time.monotonic() - started)
        finally:
            run.close()


def _numbers[N: (int, float)](option: str, text: str, kind: type[N]) -> list[N]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(
            f"{option} takes a number, or several with commas between them, not {text!r}"
        ) from error


def _config(arguments: argparse.Namespace, nodes: int, hours: float) -> SimulationConfig:
    values: dict[str, Any] = {"nodes": nodes, "hours": hours, "seed": arguments.seed}
    for name, _, _, _ in _OPTIONS:
        given = getattr(arguments, name)
        if given is not None:
            values[_FIELDS.get(name, name)] = given
    options = {field: option for option, field in _FIELDS.items()}
    for field, value in values.items():
        try:
            msgspec.convert(value, _HINTS[field])
        except msgspec.ValidationError as error:
            option = options.get(field, field).replace("_", "-")
            raise UsageError(f"--{option}: {value} is not {wanted(_HINTS[field])}") from error
    return SimulationConfig(**values)
