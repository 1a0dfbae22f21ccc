"""The program: runs one command, and ends every failure with one line and an exit code.

Exit codes: 0 done, 1 failed, 2 the command line was wrong, 130 interrupted, 141 nobody read the output.
"""

import sys

try:
    import argparse
    import io
    import os
    import traceback
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Final

    from ledger_core.cli import (
        answer_commands,
        asset_commands,
        chain_commands,
        community_commands,
        evidence_command,
        find_command,
        found_command,
        history_command,
        invite_command,
        join_command,
        keys_commands,
        member_commands,
        money_commands,
        node_command,
        offer_commands,
        record_commands,
        simulate_command,
        status_commands,
        trade_commands,
        watch_command,
    )
    from ledger_core.cli.frame import PROGRAM, Program, UsageError
    from ledger_core.cli.output import as_json, one_line
    from ledger_core.errors import LedgerError
except KeyboardInterrupt:
    # All this takes a moment to load. `main` does not run yet, and what says it there may not be loaded.
    as_told = '{"code": "interrupted", "message": "interrupted", "details": {}}'
    print(as_told if "--json" in sys.argv else "energy-ledger: error: interrupted", file=sys.stderr)
    sys.exit(128 + 2)

FAILED: Final = 1
WRONG_USAGE: Final = 2
INTERRUPTED: Final = 128 + 2
NOT_READ: Final = 128 + 13

GROUPS: Final = (
    keys_commands.register,
    community_commands.register,
    record_commands.register,
    chain_commands.register,
    simulate_command.register,
    node_command.register,
    found_command.register,
    invite_command.register,
    join_command.register,
    status_commands.register,
    member_commands.register,
    asset_commands.register,
    offer_commands.register,
    answer_commands.register,
    trade_commands.register,
    money_commands.register,
    find_command.register,
    history_command.register,
    evidence_command.register,
    watch_command.register,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _prepare_streams()
    exit_code = _run(argv, argparse.Namespace(debug=False, json=False))
    _settle_output()
    return exit_code


def _run(argv: Sequence[str] | None, arguments: argparse.Namespace) -> int:
    try:
        try:
            Program("Homes in one neighbourhood trade energy and share one ledger.").with_groups(
                *GROUPS
            ).parser.parse_args(argv, arguments)
            arguments.handler(arguments)
        except SystemExit:
            # After --help and --version; a wrong command line is a UsageError.
            pass
        # What can't be written must fail here, not after the exit code is given.
        sys.stdout.flush()
    except UsageError as error:
        return _fail(arguments, WRONG_USAGE, "usage", str(error))
    except LedgerError as error:
        return _fail(arguments, FAILED, error.code, error.message, error)
    except BrokenPipeError:
        return NOT_READ
    except OSError as error:
        return _fail(arguments, FAILED, "os_error", _os_message(error))
    except KeyboardInterrupt:
        return _fail(arguments, INTERRUPTED, "interrupted", "interrupted")
    except Exception as error:  # noqa: BLE001 - the last resort: a user gets a line, not a traceback
        return _fail(
            arguments,
            FAILED,
            "internal_error",
            f"a mistake in the program, please report it: {type(error).__name__}: {error}",
        )
    return 0


def _fail(
    arguments: argparse.Namespace, exit_code: int, code: str, message: str, error: LedgerError | None = None
) -> int:
    if arguments.debug:
        traceback.print_exc()
    if arguments.json:
        details = error.details if error is not None else {}
        line = as_json({"code": code, "message": message, "details": details})
    else:
        line = f"{PROGRAM}: error: {one_line(message)}"
    print(line, file=sys.stderr)
    return exit_code


def _prepare_streams() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        # Closed by the caller: nothing to read, and nobody to write to.
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - open to the program's end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that can't show a character must not stop the command.
            stream.reconfigure(errors="backslashreplace")


def _settle_output() -> None:
    """Throw away what could not be written: Python tries again at its end, and would complain there."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _os_message(error: OSError) -> str:
    reason = (error.strerror or str(error)).lower()
    if isinstance(error, FileExistsError):
        reason = "exists already (--force replaces it)"
    return f"{error.filename}: {reason}" if error.filename is not None else reason
