"""`energy-ledger record`: look into records."""

import argparse
from pathlib import Path

from ledger_core.cli.community_file import read_genesis
from ledger_core.cli.frame import Program
from ledger_core.cli.input_files import read_source
from ledger_core.cli.output import as_json
from ledger_core.cli.record_view import view_record
from ledger_core.errors import RecordError
from ledger_core.records.codec import Record, decode_envelope, open_envelope, record_prefix, verify_envelope
from ledger_core.rules import registry

# Importing the rules makes the record kinds known that they bring along.
_ = registry


def register(program: Program) -> None:
    """Add the group to the program."""
    group = program.group("record", "look into records")

    decode = group.command("decode", _decode, "print a record as JSON, fields by name", json=True)
    decode.add_argument(
        "record",
        metavar="RECORD",
        nargs="?",
        default="-",
        help="the signed record as hexadecimal or base64, or a file that holds it; otherwise standard input",
    )
    decode.add_argument(
        "--community",
        metavar="GENESIS",
        type=Path,
        help="the genesis file: gives the record's id and verifies its signatures (a wrong one: code 1)",
    )


def _decode(arguments: argparse.Namespace) -> None:
    chain_id = None if arguments.community is None else read_genesis(arguments.community).chain_id
    record = _read_record(arguments.record, chain_id)
    print(as_json(view_record(record, chain_id), indent=None if arguments.json else 2))
    if chain_id is not None:
        verify_envelope(record, chain_id)


def _read_record(source: str, chain_id: bytes | None) -> Record:
    data, place = read_source(source)
    try:
        return open_envelope(decode_envelope(data), record_prefix(chain_id or b""))
    except RecordError as error:
        raise RecordError(error.code, f"{place}: {error.message}", **error.details) from error
