"""`energy-ledger record decode`: every form of input, every kind of field, and wrong signatures."""

import base64
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger_core.cli import main
from ledger_core.cli.input_files import text_to_bytes
from ledger_core.cli.record_view import view_struct
from ledger_core.community import Founder, Genesis, Parameters, encode_genesis
from ledger_core.keys import SoftwareSigner, address
from ledger_core.records.codec import (
    Cosignature,
    Envelope,
    encode_envelope,
    invite,
    record_id,
    sign_record,
)
from ledger_core.records.members import Member
from ledger_core.records.offers import Auction, Offer
from ledger_core.records.readings import Quality, Reading, ReadingRow, Stored
from ledger_core.records.types import Basis, Carrier, Location, Role, Side

AUTHOR = SoftwareSigner(bytes([1]) * 32)
OTHER = SoftwareSigner(bytes([2]) * 32)
NONCE = bytes(range(8))
GENESIS = Genesis(
    "Elm Street",
    "EUR",
    1_800_000_000,
    Parameters(),
    (Founder(AUTHOR.public_key, Role.AUTHORITY | Role.NODE, OTHER.public_key, bytes(32)),),
)
OFFER = Offer(
    author=AUTHOR.public_key,
    created=1_800_000_000,
    nonce=NONCE,
    side=Side.SELL,
    asset=bytes(16),
    carrier=Carrier.ELECTRICITY,
    basis=Basis.ENERGY,
    quantity=7000,
    min_quantity=None,
    max_w=0,
    start=1_800_000_900,
    end=1_800_001_800,
    price=250_000,
    shortfall_price=0,
    audience=(OTHER.public_key,),
    valid_until=1_800_000_900,
    auction=Auction(1_800_000_800, 300_000, 200_000),
)
SIGNED = sign_record(OFFER, GENESIS.chain_id, AUTHOR, [OTHER])
DATA = encode_envelope(SIGNED)
VIEW: dict[str, Any] = {
    "kind": "offer",
    "id": None,
    "author": address(AUTHOR.public_key),
    "body": {
        "author": address(AUTHOR.public_key),
        "created": 1_800_000_000,
        "nonce": "0001020304050607",
        "side": "sell",
        "asset": "00" * 16,
        "carrier": "electricity",
        "basis": "energy",
        "quantity": 7000,
        "min_quantity": None,
        "max_w": 0,
        "start": 1_800_000_900,
        "end": 1_800_001_800,
        "price": 250_000,
        "shortfall_price": 0,
        "audience": [address(OTHER.public_key)],
        "valid_until": 1_800_000_900,
        "auction": {"closes": 1_800_000_800, "ceiling": 300_000, "reserve": 200_000},
    },
    "signatures": [
        {"by": address(AUTHOR.public_key), "signature": SIGNED.signature.hex(), "valid": None},
        {
            "by": address(OTHER.public_key),
            "signature": SIGNED.cosignatures[0].signature.hex(),
            "valid": None,
        },
    ],
}


@pytest.fixture
def genesis_file(tmp_path: Path) -> Path:
    path = tmp_path / "elm.genesis"
    path.write_bytes(encode_genesis(GENESIS))
    return path


def done(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that must work, and give what it printed."""
    assert main([*map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[str, str]:
    """Run a command that must fail, and give its output and its one line."""
    assert main([*map(str, arguments)]) == 1
    out, err = capsys.readouterr()
    assert err.startswith("energy-ledger: error: ")
    assert err.count("\n") == 1
    return out, err.removeprefix("energy-ledger: error: ").rstrip("\n")


FORMS: list[Callable[[bytes], bytes]] = [
    lambda data: data,
    lambda data: data.hex().encode(),
    lambda data: data.hex().upper().encode() + b"\n",
    base64.b64encode,
    base64.encodebytes,
    base64.urlsafe_b64encode,
    lambda data: base64.b64encode(data).rstrip(b"="),
]


@pytest.mark.parametrize("form", FORMS)
def test_a_record_in_a_file_or_on_standard_input(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: Callable[[bytes], bytes],
) -> None:
    path = tmp_path / "record"
    path.write_bytes(form(DATA))
    assert json.loads(done(capsys, "record", "decode", path)) == VIEW
    for arguments in ([], ["-"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(form(DATA))))
        assert json.loads(done(capsys, "record", "decode", *arguments)) == VIEW


@pytest.mark.parametrize("form", FORMS[1:])
def test_a_record_on_the_command_line(
    capsys: pytest.CaptureFixture[str], form: Callable[[bytes], bytes]
) -> None:
    assert json.loads(done(capsys, "record", "decode", form(DATA).decode())) == VIEW


def test_the_real_command_reads_a_pipe() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "ledger_core.cli", "record", "decode", "--json"],
        input=DATA,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.count(b"\n") == 1
    assert json.loads(ended.stdout) == VIEW


def test_with_a_community_comes_the_id_and_the_verdict(
    genesis_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = json.loads(done(capsys, "record", "decode", DATA.hex(), "--community", genesis_file))
    assert shown["id"] == record_id(GENESIS.chain_id, SIGNED.body).hex()
    assert [signature["valid"] for signature in shown["signatures"]] == [True, True]


def flipped(signature: bytes) -> bytes:
    return bytes([signature[0] ^ 1]) + signature[1:]


@pytest.mark.parametrize(
    ("envelope", "verdicts", "message"),
    [
        (
            Envelope(SIGNED.body, flipped(SIGNED.signature), SIGNED.cosignatures),
            [False, True],
            "the author's signature is not valid",
        ),
        (
            Envelope(
                SIGNED.body,
                SIGNED.signature,
                (Cosignature(OTHER.public_key, flipped(SIGNED.cosignatures[0].signature)),),
            ),
            [True, False],
            "a co-signature is not valid",
        ),
        (sign_record(OFFER, bytes(32), AUTHOR), [False], "the author's signature is not valid"),
    ],
)
def test_a_wrong_signature_is_shown_and_ends_with_a_failure(
    genesis_file: Path,
    capsys: pytest.CaptureFixture[str],
    envelope: Envelope,
    verdicts: list[bool],
    message: str,
) -> None:
    out, line = refused(
        capsys, "record", "decode", encode_envelope(envelope).hex(), "--community", genesis_file
    )
    assert [signature["valid"] for signature in json.loads(out)["signatures"]] == verdicts
    assert line == message


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("zz!", "'zz!' is neither an existing file nor hexadecimal nor base64"),
        ("a.b" * 100, f"'{('a.b' * 100)[:40]}...' is neither an existing file nor hexadecimal nor base64"),
        ("a\0b", "'a\\u0000b' is neither an existing file nor hexadecimal nor base64"),
        ("A", "'A' is neither an existing file nor hexadecimal nor base64"),
        ("00", "the argument: not a record envelope: Expected `array`, got `int`"),
        (DATA[:-1].hex(), "the argument: not a record envelope: Input data was truncated"),
        ((DATA + b"\0").hex(), "the argument: not a record envelope: "),
        (bytes(20_000).hex(), "the argument: the record has 20000 bytes; at most 16384 are allowed"),
        (
            encode_envelope(Envelope(SIGNED.body[:-1], SIGNED.signature)).hex(),
            "the argument: not a record body: ",
        ),
    ],
)
def test_a_damaged_record_is_refused(capsys: pytest.CaptureFixture[str], argument: str, message: str) -> None:
    out, line = refused(capsys, "record", "decode", argument)
    assert out == ""
    assert line.startswith(message)


def test_a_damaged_record_in_a_file_is_refused_naming_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "record"
    path.write_bytes(DATA[:100])
    assert refused(capsys, "record", "decode", path)[1].startswith(f"{path}: not a record envelope: ")


def test_endless_input_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(4 * 1024 * 1024 + 1))))
    assert refused(capsys, "record", "decode")[1] == "standard input holds more than 4194304 bytes"


def test_a_genesis_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "elm.genesis"
    path.write_bytes(DATA)
    out, line = refused(capsys, "record", "decode", DATA.hex(), "--community", path)
    assert out == ""
    assert line.startswith(f"{path}: not a genesis: ")


def test_fields_of_a_member_by_name() -> None:
    invitation = invite(GENESIS.chain_id, AUTHOR, OTHER.public_key, Role.HOME, 1_800_086_400)
    shown = view_struct(
        Member(
            author=OTHER.public_key,
            created=1_800_000_000,
            nonce=NONCE,
            member=OTHER.public_key,
            roles=Role.HOME | Role.OPERATOR,
            node=None,
            name_hash=bytes(32),
            location=Location(52_090_700, -5_121_000),
            invitation=invitation,
        )
    )
    assert shown == {
        "author": address(OTHER.public_key),
        "created": 1_800_000_000,
        "nonce": "0001020304050607",
        "member": address(OTHER.public_key),
        "roles": ["home", "operator"],
        "node": None,
        "name_hash": "00" * 32,
        "location": {"latitude": 52_090_700, "longitude": -5_121_000},
        "invitation": {
            "authority": address(AUTHOR.public_key),
            "key": address(OTHER.public_key),
            "roles": ["home"],
            "expires": 1_800_086_400,
            "signature": invitation.signature.hex(),
        },
    }


def test_rows_of_a_reading_by_name() -> None:
    shown = view_struct(
        Reading(
            author=AUTHOR.public_key,
            created=1_800_000_000,
            nonce=NONCE,
            meter=bytes(16),
            rows=(ReadingRow(1_800_000_000, 5, 6, Quality.INTERPOLATED),),
            stored=(Stored(bytes(16), 7000, None),),
        )
    )
    assert shown["rows"] == [
        {"end": 1_800_000_000, "import_wh": 5, "export_wh": 6, "quality": "interpolated"}
    ]
    assert shown["stored"] == [{"asset": "00" * 16, "energy_wh": 7000, "fuel_g": None}]


@given(st.binary(min_size=1, max_size=50))
def test_bytes_come_back_from_any_text_form(data: bytes) -> None:
    assert text_to_bytes(data.hex().encode()) == data
    # With a length that hexadecimal can't have, or a letter beyond f, base64 can't be mistaken for it.
    text = base64.b64encode(data)
    try:
        bytes.fromhex(text.decode())
    except ValueError:
        assert text_to_bytes(text) == data
        assert text_to_bytes(base64.urlsafe_b64encode(data)) == data
