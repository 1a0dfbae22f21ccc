"""`energy-ledger community`: from a description to a genesis, and every way a description can be wrong."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ledger_core.cli import main
from ledger_core.community import Genesis, Parameters, decode_genesis, encode_genesis, parameters_as_dict
from ledger_core.keys import SoftwareSigner, address, save_key
from ledger_core.records.types import Role

MEMBER = SoftwareSigner(bytes([1]) * 32)
NODE = SoftwareSigner(bytes([2]) * 32)
CREATED = 1_800_000_000


def description() -> dict[str, Any]:
    return {
        "name": "Elm Street",
        "currency": "EUR",
        "created": CREATED,
        "founders": [
            {
                "member": address(MEMBER.public_key),
                "roles": ["home", "node", "authority"],
                "node": address(NODE.public_key),
                "name": "Elm Street 1",
                "location": {"latitude": 52.0907, "longitude": -5.121},
            }
        ],
        "parameters": {"slot_s": 60, "money_mode": "prepaid"},
    }


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that must fail, and give its one line."""
    assert main([*map(str, arguments)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("energy-ledger: error: ")
    assert err.count("\n") == 1
    return err.removeprefix("energy-ledger: error: ").rstrip("\n")


def done(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that must work, and give what it printed."""
    assert main([*map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


@pytest.fixture
def written(tmp_path: Path) -> Callable[[object], Path]:
    def write(content: object) -> Path:
        path = tmp_path / "community.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.fixture
def genesis_file(tmp_path: Path) -> Path:
    return tmp_path / "elm.genesis"


@pytest.fixture
def genesis(
    written: Callable[[object], Path], genesis_file: Path, capsys: pytest.CaptureFixture[str]
) -> Genesis:
    done(capsys, "community", "create", written(description()), genesis_file)
    return decode_genesis(genesis_file.read_bytes())


def test_create_writes_the_genesis_that_is_described(genesis: Genesis) -> None:
    founder = genesis.founders[0]
    assert (genesis.name, genesis.currency, genesis.created) == ("Elm Street", "EUR", CREATED)
    assert (founder.member, founder.node) == (MEMBER.public_key, NODE.public_key)
    assert founder.roles == Role.HOME | Role.NODE | Role.AUTHORITY
    assert founder.name_hash == sha256(b"Elm Street 1").digest()
    assert founder.location is not None
    assert (founder.location.latitude, founder.location.longitude) == (52_090_700, -5_121_000)
    expected = parameters_as_dict(Parameters()) | {"slot_s": 60, "money_mode": "prepaid"}
    assert parameters_as_dict(genesis.parameters) == expected


def test_the_same_description_gives_the_same_chain(
    genesis: Genesis,
    genesis_file: Path,
    written: Callable[[object], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    again = tmp_path / "again.genesis"
    shown = json.loads(done(capsys, "community", "create", written(description()), again, "--json"))
    assert again.read_bytes() == genesis_file.read_bytes()
    assert shown["chain_id"] == genesis.chain_id.hex()


def test_what_show_tells_can_be_created_again(
    genesis: Genesis,
    genesis_file: Path,
    written: Callable[[object], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = json.loads(done(capsys, "community", "show", genesis_file, "--json"))
    assert shown["chain_id"] == genesis.chain_id.hex()
    again = tmp_path / "again.genesis"
    done(capsys, "community", "create", written(shown["community"]), again)
    assert again.read_bytes() == genesis_file.read_bytes()


def test_show_as_lines(genesis: Genesis, genesis_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = done(capsys, "community", "show", genesis_file).splitlines()
    assert lines[:8] == [
        f"chain id  {genesis.chain_id.hex()}",
        "name      Elm Street",
        "currency  EUR",
        "created   2027-01-15 08:00:00 UTC",
        "",
        "founders",
        f"  {address(MEMBER.public_key)}  home, node, authority",
        f"    node  {address(NODE.public_key)}",
    ]
    assert [line.split() for line in lines[10:12]] == [["slot_s", "60"], ["block_spacing_s", "30"]]


@pytest.mark.parametrize("form", [bytes.hex, lambda data: data.hex().upper() + "\n"])
def test_show_reads_a_genesis_written_as_text(
    genesis: Genesis,
    genesis_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    form: Callable[[bytes], str],
) -> None:
    text = tmp_path / "genesis.txt"
    text.write_text(form(genesis_file.read_bytes()))
    assert genesis.chain_id.hex() in done(capsys, "community", "show", text)


def test_a_member_without_roles_and_a_late_time_are_shown(
    tmp_path: Path, genesis: Genesis, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.genesis"
    founders = (
        *genesis.founders,
        type(genesis.founders[0])(SoftwareSigner(bytes(32)).public_key, 0, None, bytes(32)),
    )
    path.write_bytes(
        encode_genesis(
            Genesis(genesis.name, genesis.currency, 2**40, genesis.parameters, founders),
        )
    )
    shown = done(capsys, "community", "show", path)
    assert "created   1099511627776 s" in shown
    assert "  no role" in shown


def test_a_template_is_filled_in_and_created(
    tmp_path: Path,
    written: Callable[[object], Path],
    genesis_file: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    key = tmp_path / "home.key"
    save_key(key, MEMBER)
    text = done(capsys, "community", "template", "--member", key, "--node", address(NODE.public_key))
    done(capsys, "community", "create", written(text), genesis_file)
    genesis = decode_genesis(genesis_file.read_bytes())
    assert genesis.founders[0].member == MEMBER.public_key
    assert genesis.founders[0].node == NODE.public_key
    assert genesis.parameters == Parameters()
    assert genesis.created > CREATED - 10**8


def test_a_template_left_as_it_was_is_refused_where_it_was_left(
    written: Callable[[object], Path], genesis_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(done(capsys, "community", "template"))
    assert refused(capsys, "community", "create", path, genesis_file) == (
        f"{path}: founders[0].node: an address starts with 'el1', this text does not"
    )
    assert not genesis_file.exists()


def test_create_replaces_a_genesis_only_by_force(
    genesis: Genesis,
    genesis_file: Path,
    written: Callable[[object], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = written(description() | {"name": "Oak Street"})
    assert refused(capsys, "community", "create", path, genesis_file) == (
        f"{genesis_file}: exists already (--force replaces it)"
    )
    assert decode_genesis(genesis_file.read_bytes()) == genesis
    done(capsys, "community", "create", path, genesis_file, "--force")
    assert decode_genesis(genesis_file.read_bytes()).name == "Oak Street"


def founder(**changes: object) -> dict[str, Any]:
    changed = description()
    for name, value in changes.items():
        if value is ...:
            del changed["founders"][0][name]
        else:
            changed["founders"][0][name] = value
    return changed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON: Expecting value: line 1 column 1 (char 0)"),
        ('{\n  "name": x\n}', "not JSON: Expecting value: line 2 column 11 (char 12)"),
        ("[" * 100_000, "not JSON: "),
        ('{"name": NaN}', "not JSON: NaN is not a number of JSON"),
        ([], "Expected `object`, got `array`"),
        ({}, "Object missing required field `name`"),
        (description() | {"nmae": 1}, "Object contains unknown field `nmae`"),
        (description() | {"name": 1}, "Expected `str`, got `int` - at `$.name`"),
        (description() | {"name": ""}, "name: Expected `str` of length >= 1"),
        (description() | {"currency": "EUROPEANS"}, "currency: Expected `str` of length <= 8"),
        (description() | {"created": -1}, "created: Expected `int` >= 0"),
        (description() | {"founders": []}, "founders: Expected `array` of length >= 1"),
        (
            description() | {"parameters": {"slots": 1}},
            "parameters.slots: no such parameter; known are slot_s,",
        ),
        (
            description() | {"parameters": {"slot_s": 59}},
            "parameters.slot_s: 59 is not a whole number from 60 to 86400",
        ),
        (
            description() | {"parameters": {"slot_s": 61}},
            "slot_s: a day is not a whole number of slots of 61 s",
        ),
        (
            description() | {"parameters": {"slot_s": "900"}},
            "parameters.slot_s: '900' is not a whole number from",
        ),
        (
            description() | {"parameters": {"money_mode": "gold"}},
            "parameters.money_mode: 'gold' is not one of mutual_credit, prepaid",
        ),
        (founder(member=5), "Expected `str`, got `int` - at `$.founders[0].member`"),
        (
            founder(member="el1"),
            "founders[0].member: an address has 61 characters, this one has 3: 58 missing",
        ),
        (founder(member="missing.key"), "founders[0].member: there is no key file missing.key"),
        (founder(node=address(NODE.public_key)[:-1] + "b"), "founders[0].node: character 'b' at position 61"),
        (founder(node=...), "founders: a member with the role node needs a node key"),
        (founder(roles=["home", "node"]), "founders: the first founding member must be an authority"),
        (founder(roles=["boss"]), "Invalid enum value 'boss' - at `$.founders[0].roles[0]`"),
        (founder(name=...), "founders[0]: needs either 'name' or 'name_hash'"),
        (founder(name_hash="00" * 32), "founders[0]: needs either 'name' or 'name_hash'"),
        (founder(name=" "), "founders[0].name: a member has a name of at least one letter"),
        (founder(name=..., name_hash="0"), "at `$.founders[0].name_hash`"),
        (
            founder(location={"latitude": 91, "longitude": 0}),
            "Expected `float` <= 90.0 - at `$.founders[0].location.latitude`",
        ),
    ],
)
def test_a_wrong_description_is_refused_naming_file_and_field(
    written: Callable[[object], Path],
    genesis_file: Path,
    capsys: pytest.CaptureFixture[str],
    content: object,
    message: str,
) -> None:
    path = written(content)
    line = refused(capsys, "community", "create", path, genesis_file)
    assert line.startswith(f"{path}: ")
    assert message in line
    assert not genesis_file.exists()


def test_a_missing_description_is_named(
    tmp_path: Path, genesis_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing.json"
    assert refused(capsys, "community", "create", missing, genesis_file) == (
        f"{missing}: no such file or directory"
    )


def test_a_description_larger_than_any_is_refused(
    tmp_path: Path, genesis_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(5 * 1024 * 1024)
    assert refused(capsys, "community", "create", path, genesis_file) == (
        f"{path} holds more than 4194304 bytes"
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:0], "not a genesis: "),
        (lambda data: data[:-1], "not a genesis: "),
        (lambda data: data + b"\0", "not a genesis: "),
        (lambda data: b"\xff" + data, "not a genesis: "),
    ],
)
def test_a_damaged_genesis_is_refused(
    genesis: Genesis,
    genesis_file: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[bytes], bytes],
    message: str,
) -> None:
    genesis_file.write_bytes(damage(encode_genesis(genesis)))
    assert refused(capsys, "community", "show", genesis_file).startswith(f"{genesis_file}: {message}")


def test_a_hostile_name_is_shown_escaped(
    written: Callable[[object], Path], genesis_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = done(
        capsys, "community", "create", written(description() | {"name": "a\x1b[2J\nb"}), genesis_file
    )
    assert "name      a\\u001b[2J\\nb\n" in shown
