"""The genesis: bytes, bounds, and what its fields can't say alone."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from msgspec.structs import replace

from ledger_core.community import (
    Founder,
    Genesis,
    Parameters,
    check_genesis,
    decode_genesis,
    encode_genesis,
    parameters_as_dict,
    parse_parameters,
)
from ledger_core.errors import RecordError
from ledger_core.records.types import Role
from tests.core.attempts import attempt
from tests.core.samples import AUTHOR, OTHER, digest
from tests.core.strategies import PROFILE, geneses
from tests.core.world import START

FOUNDER = Founder(
    AUTHOR.public_key, int(Role.HOME | Role.NODE | Role.AUTHORITY), AUTHOR.public_key, digest("name")
)
GOOD = Genesis("Street", "EUR", START, Parameters(), (FOUNDER,))


def code_of(data: bytes) -> str:
    with pytest.raises(RecordError) as refused:
        decode_genesis(data)
    return refused.value.code


@PROFILE
@given(geneses())
def test_round_trip(genesis: Genesis) -> None:
    data = encode_genesis(genesis)
    result = attempt(decode_genesis, data)
    assert result == genesis or (isinstance(result, RecordError) and result.code == "genesis_invalid")


def test_every_flipped_bit_is_refused_or_gives_another_chain_id() -> None:
    data = encode_genesis(GOOD)
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        other = attempt(decode_genesis, bytes(flipped))
        if isinstance(other, Genesis):
            assert other.chain_id != GOOD.chain_id
        else:
            assert other.code.startswith("genesis_")


def test_defaults_are_valid_and_their_ids_differ_by_any_field() -> None:
    check_genesis(GOOD)
    others = [
        replace(GOOD, name="Street 2"),
        replace(GOOD, currency="CHF"),
        replace(GOOD, created=START + 1),
        replace(GOOD, parameters=Parameters(fee=1)),
        replace(GOOD, founders=(FOUNDER, replace(FOUNDER, member=OTHER.public_key, node=None, roles=1))),
    ]
    assert len({genesis.chain_id for genesis in [GOOD, *others]}) == 6


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": Parameters(slot_s=1000)},
        {"parameters": Parameters(horizon_s=3600)},
        {"parameters": Parameters(difficulty_half_life_s=10, block_spacing_s=11)},
        {"founders": (FOUNDER, FOUNDER)},
        {"founders": (FOUNDER, replace(FOUNDER, member=OTHER.public_key))},
        {"founders": (replace(FOUNDER, roles=int(Role.HOME | Role.NODE)),)},
        {"founders": (replace(FOUNDER, roles=int(Role.HOME | Role.AUTHORITY)),)},
        {"founders": (replace(FOUNDER, node=None),)},
    ],
)
def test_inconsistent_genesis(change: dict[str, Any]) -> None:
    with pytest.raises(RecordError) as refused:
        check_genesis(replace(GOOD, **change))
    assert refused.value.code == "genesis_invalid"
    assert refused.value.message.startswith(refused.value.details["field"])
    assert code_of(encode_genesis(replace(GOOD, **change))) == "genesis_invalid"


def test_block_must_hold_two_of_the_largest_records() -> None:
    tight = Parameters(block_max_bytes=64 * 1024, record_max_bytes=16 * 1024)
    check_genesis(replace(GOOD, parameters=tight))


@pytest.mark.parametrize("name", sorted(set(Parameters.__struct_fields__) - {"money_mode", "asset_approval"}))
def test_every_parameter_has_bounds(name: str) -> None:
    for value in (-1, 2**63, "many", 1.5, True, None):
        with pytest.raises(RecordError) as refused:
            parse_parameters({name: value})
        assert refused.value.code == "parameter_invalid"
        assert refused.value.details["field"] == name
        parts: list[Any] = msgspec.msgpack.decode(encode_genesis(GOOD))
        parts[3][Parameters.__struct_fields__.index(name)] = value
        assert code_of(msgspec.msgpack.encode(parts)) == "genesis_malformed"


@pytest.mark.parametrize("name", ["money_mode", "asset_approval"])
def test_every_choice_is_named(name: str) -> None:
    with pytest.raises(RecordError) as refused:
        parse_parameters({name: "whatever"})
    assert refused.value.code == "parameter_invalid"
    assert name in refused.value.message


def test_unknown_parameter_is_named_with_those_that_exist() -> None:
    with pytest.raises(RecordError) as refused:
        parse_parameters({"slots": 900})
    assert refused.value.code == "parameter_invalid"
    assert "slot_s" in refused.value.message


def test_parameters_pass_through_a_file() -> None:
    chosen = Parameters(slot_s=300, fee=7, horizon_s=86_400 * 3)
    assert parse_parameters(parameters_as_dict(chosen)) == chosen
    assert parse_parameters({}) == Parameters()


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (b"", "genesis_malformed"),
        (b"\x80", "genesis_malformed"),
        (encode_genesis(GOOD)[:-1], "genesis_malformed"),
        (encode_genesis(GOOD) + b"\0", "genesis_malformed"),
        (encode_genesis(GOOD).replace(b"Street", b"Str\xffet"), "genesis_malformed"),
        (encode_genesis(GOOD).replace(b"\xa6Street", b"\xd9\x06Street"), "genesis_not_canonical"),
        (encode_genesis(replace(GOOD, name="")), "genesis_malformed"),
        (encode_genesis(replace(GOOD, name="x" * 65)), "genesis_malformed"),
        (encode_genesis(replace(GOOD, founders=())), "genesis_malformed"),
        (encode_genesis(replace(GOOD, created=2**40 + 1)), "genesis_malformed"),
    ],
)
def test_damaged_genesis(damage: bytes, code: str) -> None:
    assert code_of(damage) == code
