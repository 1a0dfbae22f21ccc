"""`energy-ledger node`: run a node."""

import argparse
import os
from pathlib import Path
from typing import Any, Final

from ledger_core.cli.frame import Program, UsageError
from ledger_core.node import process
from ledger_core.node.config import (
    ConfigError,
    Setting,
    flag_source,
    load_settings,
    parse_text,
    settings_reference,
)

_DEST: Final = "setting_"


def register(program: Program) -> None:
    """Add the command to the program."""
    parser = program.single().command("node", _node, "run a node: mine, verify and share the chain")
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help="the node's data directory")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input closes")
    parser.add_argument(
        "--resume-voting",
        action="store_true",
        help="vote again: no other copy of this data directory runs",
    )
    parser.add_argument("--full", action="store_true", help="the same as --full-sync yes")
    settings = parser.add_argument_group(
        "settings", "also read from node.toml in the data directory, and from ENERGY_LEDGER_<NAME>"
    )
    for setting in settings_reference():
        settings.add_argument(
            setting.flag, dest=_DEST + setting.name, metavar=_metavar(setting), help=_help(setting)
        )


def _metavar(setting: Setting) -> str:
    return {"yes or no": "YES|NO", "a whole number": "N", "a number": "X"}.get(setting.kind, "TEXT")


def _help(setting: Setting) -> str:
    default = setting.default
    shown = {True: "yes", False: "no"}.get(default, default) if isinstance(default, bool) else default
    parts = [setting.bounds] if setting.bounds else []
    parts.append(f"otherwise {shown}" if shown not in ("", ()) else "otherwise none")
    return f"{setting.help.rstrip('.')} ({'; '.join(parts)})".replace("%", "%%")


def _node(arguments: argparse.Namespace) -> None:
    try:
        settings = load_settings(arguments.data, os.environ, _flags(arguments))
    except ConfigError as error:
        raise UsageError(error.message) from error
    process.run(
        arguments.data,
        settings,
        process.Orders(with_parent=arguments.with_parent, resume_voting=arguments.resume_voting),
    )


def _flags(arguments: argparse.Namespace) -> dict[str, Any]:
    flags: dict[str, Any] = {"full_sync": True} if arguments.full else {}
    for setting in settings_reference():
        text = getattr(arguments, _DEST + setting.name)
        if text is not None:
            flags[setting.name] = parse_text(setting.name, text, flag_source(setting.name))
    return flags
