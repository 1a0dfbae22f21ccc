"""`energy-ledger keys`: make, look at, move and seal key files."""

import argparse
import sys
from pathlib import Path

from ledger_core.cli.frame import Program, UsageError, add_force
from ledger_core.cli.input_files import public_key_of
from ledger_core.cli.output import note, show, table
from ledger_core.cli.passphrases import (
    add_passphrase_file,
    add_seal,
    ask_secret,
    new_passphrase,
    passphrase_for,
    read_secret,
)
from ledger_core.keys import (
    KeyFile,
    SoftwareSigner,
    address,
    parse_seed_text,
    save_key,
    seed_text,
)
from ledger_core.keys.whole_file import write_whole_file


def register(program: Program) -> None:
    """Add the group to the program."""
    group = program.group("keys", "make, look at, move and seal key files")

    new = group.command("new", _new, "make a key and write its key file", json=True)
    new.add_argument("file", metavar="FILE", type=Path, help="the key file to write")
    add_seal(new)
    add_force(new)

    look = group.command("show", _show, "show what a key file holds, without its secret", json=True)
    look.add_argument("file", metavar="FILE", type=Path, help="the key file to read")
    look.add_argument("--open", action="store_true", help="ask for the passphrase and check the seed")
    add_passphrase_file(look)

    find = group.command("address", _address, "give the address of a key file or public key", json=True)
    find.add_argument(
        "key", metavar="KEY", help="a key file, a public key in hexadecimal, or an address, which is checked"
    )

    take = group.command("import", _import, "write a key file from a seed (elsec1...)", json=True)
    take.add_argument("file", metavar="FILE", type=Path, help="the key file to write")
    take.add_argument(
        "--seed-file",
        metavar="FILE",
        type=Path,
        help="a file whose first line is the seed; else it is asked for",
    )
    add_seal(take)
    add_force(take)

    give = group.command("export", _export, "print a key's secret seed (elsec1...), for a backup")
    give.add_argument("file", metavar="FILE", type=Path, help="the key file to read")
    give.add_argument("--output", metavar="FILE", type=Path, help="write it to a file of mode 0600 instead")
    add_passphrase_file(give)
    add_force(give)

    seal = group.command("passphrase", _passphrase, "set, change or remove a passphrase", json=True)
    seal.add_argument("file", metavar="FILE", type=Path, help="the key file to change")
    add_passphrase_file(seal, "the present passphrase")
    choice = seal.add_mutually_exclusive_group()
    choice.add_argument("--remove", action="store_true", help="leave the key file without a passphrase")
    choice.add_argument(
        "--new-passphrase-file",
        metavar="FILE",
        type=Path,
        help="a file whose first line is the new one",
    )


def _new(arguments: argparse.Namespace) -> None:
    passphrase = new_passphrase(arguments.seal, arguments.passphrase_file)
    _write(arguments, SoftwareSigner.generate(), passphrase, force=arguments.force)


def _import(arguments: argparse.Namespace) -> None:
    if arguments.seed_file is not None:
        text = read_secret(arguments.seed_file, "seed")
    else:
        text = ask_secret("Seed (elsec1...): ")
    signer = SoftwareSigner(parse_seed_text(text.strip()))
    passphrase = new_passphrase(arguments.seal, arguments.passphrase_file)
    _write(arguments, signer, passphrase, force=arguments.force)


def _passphrase(arguments: argparse.Namespace) -> None:
    key_file = KeyFile.read(arguments.file)
    if arguments.remove and not key_file.is_sealed:
        raise UsageError(f"{arguments.file} has no passphrase to remove")
    signer = key_file.signer(passphrase_for(key_file, arguments.passphrase_file))
    passphrase = new_passphrase(not arguments.remove, arguments.new_passphrase_file)
    _write(arguments, signer, passphrase, force=True)


def _write(
    arguments: argparse.Namespace, signer: SoftwareSigner, passphrase: str | None, *, force: bool
) -> None:
    save_key(arguments.file, signer, passphrase=passphrase, force=force)
    _show_key_file(arguments, KeyFile.read(arguments.file))


def _show(arguments: argparse.Namespace) -> None:
    key_file = KeyFile.read(arguments.file)
    if arguments.open or arguments.passphrase_file is not None or not key_file.is_sealed:
        key_file.signer(passphrase_for(key_file, arguments.passphrase_file))
    _show_key_file(arguments, key_file)


def _show_key_file(arguments: argparse.Namespace, key_file: KeyFile) -> None:
    data = {
        "file": str(key_file.path),
        "address": address(key_file.public_key),
        "public_key": key_file.public_key.hex(),
        "sealed": key_file.is_sealed,
    }
    lines = table(
        {
            "file": data["file"],
            "address": data["address"],
            "public key": data["public_key"],
            "passphrase": "yes" if key_file.is_sealed else "no",
        }
    )
    show(arguments, data, lines)


def _address(arguments: argparse.Namespace) -> None:
    public_key = public_key_of(arguments.key)
    text = address(public_key)
    show(arguments, {"address": text, "public_key": public_key.hex()}, [text])


def _export(arguments: argparse.Namespace) -> None:
    key_file = KeyFile.read(arguments.file)
    signer = key_file.signer(passphrase_for(key_file, arguments.passphrase_file))
    text = seed_text(signer.export_seed())
    if arguments.output is not None:
        write_whole_file(arguments.output, text.encode() + b"\n", force=arguments.force, private=True)
        return
    if sys.stdout.isatty():
        note("Whoever sees this seed owns the key:")
    print(text)
