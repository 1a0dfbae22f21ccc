"""The community: its parameters and founding members, fixed in the genesis; the chain id is its hash."""

from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any, get_type_hints

import msgspec
from msgspec import Meta, Struct, ValidationError

from ledger_core.errors import RecordError, wanted
from ledger_core.keys import is_valid_public_key
from ledger_core.records.block import MAX_BLOCK_BYTES
from ledger_core.records.codec import MAX_RECORD_BYTES
from ledger_core.records.types import Hash, Key, Location, Role, Roles, Time
from ledger_core.units import MAX_AMOUNT, MICRO

GENESIS_DOMAIN = b"energy-ledger/genesis/1\0"

FUTURE_LIMIT_S = 120
"""How far a block's time may be ahead of the clock, and a record's time ahead of its block."""

MAX_MEMBERS = 65_535
"""Members ever admitted: a vote names its node by a 16-bit index."""

_MAX_SHOWN = 60
"""Characters of a refused value that are told."""


class MoneyMode(StrEnum):
    """Where money comes from."""

    MUTUAL_CREDIT = "mutual_credit"
    """Balances sum to zero; each may go down to the credit limit."""
    PREPAID = "prepaid"
    """Authorities issue and redeem; no balance goes below zero."""


class AssetApproval(StrEnum):
    """Whose signature an asset needs."""

    OWNER = "owner"
    AUTHORITY = "authority"


class Parameters(Struct, frozen=True, kw_only=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """What the founder chooses once; every value has bounds and a default that suits a street."""

    slot_s: Annotated[int, Meta(ge=60, le=86_400)] = 900
    """Settlement interval; divides a day."""
    block_spacing_s: Annotated[int, Meta(ge=1, le=3600)] = 30
    """Mean time between blocks that the difficulty aims at."""
    checkpoint_interval: Annotated[int, Meta(ge=2, le=10_000)] = 30
    """Blocks between checkpoints."""
    difficulty_half_life_s: Annotated[int, Meta(ge=10, le=7 * 86_400)] = 3600
    """Time behind schedule after which the difficulty halves (ASERT)."""
    min_difficulty_bits: Annotated[int, Meta(ge=1, le=64)] = 12
    """Floor of the difficulty: leading zero bits of the easiest block hash."""
    grace_s: Annotated[int, Meta(ge=0, le=7 * 86_400)] = 1800
    """Time after a slot's end for readings to arrive before it is settled."""
    record_max_age_s: Annotated[int, Meta(ge=600, le=7 * 86_400)] = 86_400
    """How long after its creation a record may be included; ids are remembered that long."""
    record_max_bytes: Annotated[int, Meta(ge=1024, le=MAX_RECORD_BYTES)] = MAX_RECORD_BYTES
    block_max_bytes: Annotated[int, Meta(ge=64 * 1024, le=MAX_BLOCK_BYTES)] = MAX_BLOCK_BYTES
    window_max_slots: Annotated[int, Meta(ge=1, le=10_000)] = 672
    """Longest trade window, in slots."""
    horizon_s: Annotated[int, Meta(ge=3600, le=400 * 86_400)] = 31 * 86_400
    """How far ahead a window may end."""
    loss_permille: Annotated[int, Meta(ge=0, le=500)] = 20
    """Difference between sent and received that counts as loss on the line, in per mille of what was sent."""
    loss_wh: Annotated[int, Meta(ge=0, le=10_000)] = 20
    """The same in Wh; the larger of both holds."""
    money_mode: MoneyMode = MoneyMode.MUTUAL_CREDIT
    credit_limit: Annotated[int, Meta(ge=0, le=MAX_AMOUNT)] = 50 * MICRO
    """How far below zero a balance may go in mutual credit, micro-currency."""
    fee: Annotated[int, Meta(ge=0, le=MICRO)] = 0
    """Paid to the miner by the author of an offer, acceptance, or transfer but an issue, micro-currency."""
    termination_permille: Annotated[int, Meta(ge=0, le=1000)] = 100
    """Part of the remaining amount that an early end costs whoever ends a trade alone.

    Dear enough to keep one's word, cheap enough to tell early where one can't.
    """
    asset_approval: AssetApproval = AssetApproval.OWNER
    silence_s: Annotated[int, Meta(ge=600, le=90 * 86_400)] = 7 * 86_400
    """Chain time after which a node that does not vote leaves the quorum."""
    score_window_s: Annotated[int, Meta(ge=0, le=90 * 86_400)] = 7 * 86_400
    """How long after its last settlement a trade may be scored, and is kept in the state."""


class Founder(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A founding member; the first one is an authority."""

    member: Key
    roles: Roles
    node: Key | None
    name_hash: Hash
    location: Location | None = None


class Genesis(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """The first bytes of a chain; their hash is the chain id and the parent of block 1."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    currency: Annotated[str, Meta(min_length=1, max_length=8)]
    created: Time
    parameters: Parameters
    founders: Annotated[tuple[Founder, ...], Meta(min_length=1, max_length=256)]

    @property
    def chain_id(self) -> bytes:
        """SHA-256 of the genesis under its domain tag."""
        return sha256(GENESIS_DOMAIN + encode_genesis(self)).digest()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Genesis)


def encode_genesis(genesis: Genesis) -> bytes:
    """Return a genesis' canonical bytes."""
    return _encoder.encode(genesis)


def decode_genesis(data: bytes) -> Genesis:
    """Return the genesis in canonical bytes, checked.

    Raises RecordError `genesis_malformed`, `genesis_not_canonical` or `genesis_invalid`.
    """
    try:
        genesis = _decoder.decode(data)
    except (ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordError("genesis_malformed", f"not a genesis: {error}") from error
    if _encoder.encode(genesis) != data:
        raise RecordError("genesis_not_canonical", "the genesis does not re-encode to the same bytes")
    check_genesis(genesis)
    return genesis


def check_genesis(genesis: Genesis) -> None:
    """Check what the fields' own bounds can't say; raises RecordError `genesis_invalid`."""
    parameters = genesis.parameters
    if 86_400 % parameters.slot_s:
        raise _invalid("slot_s", f"a day is not a whole number of slots of {parameters.slot_s} s")
    if parameters.record_max_bytes * 2 > parameters.block_max_bytes:
        raise _invalid("block_max_bytes", "a block must hold at least two of the largest records")
    if parameters.horizon_s < parameters.window_max_slots * parameters.slot_s:
        raise _invalid("horizon_s", "the horizon is shorter than the longest window")
    if parameters.difficulty_half_life_s < parameters.block_spacing_s:
        raise _invalid("difficulty_half_life_s", "the half-life is shorter than the block spacing")
    _check_founders(genesis.founders)


def _check_founders(founders: tuple[Founder, ...]) -> None:
    if not founders:
        raise _invalid("founders", "a community needs at least one founding member")
    members = [founder.member for founder in founders]
    nodes = [founder.node for founder in founders if founder.node is not None]
    if len(set(members)) != len(members):
        raise _invalid("founders", "a member's key is listed twice")
    if len(set(nodes)) != len(nodes):
        raise _invalid("founders", "a node's key is listed twice")
    if not founders[0].roles & Role.AUTHORITY:
        raise _invalid("founders", "the first founding member must be an authority")
    if not any(founder.roles & Role.NODE for founder in founders):
        raise _invalid("founders", "at least one founding member must have the role node")
    for founder in founders:
        if founder.roles & Role.NODE and founder.node is None:
            raise _invalid("founders", "a member with the role node needs a node key")
    if not all(is_valid_public_key(key) for key in (*members, *nodes)):
        raise _invalid("founders", "a key is no valid Ed25519 public key")


def _invalid(field: str, message: str) -> RecordError:
    return RecordError("genesis_invalid", f"{field}: {message}", field=field)


def parse_parameters(values: dict[str, Any]) -> Parameters:
    """Return parameters from named values as a file gives them; missing ones take their defaults.

    Raises RecordError `parameter_invalid` that names the parameter and what would be right.
    """
    known = set(Parameters.__struct_fields__)
    for name in values:
        if name not in known:
            raise RecordError(
                "parameter_invalid",
                f"{name}: no such parameter; known are {', '.join(Parameters.__struct_fields__)}",
                field=name,
            )
    merged = {**msgspec.to_builtins(_as_dict(Parameters())), **values}
    checked = []
    for name, kind in _FIELD_TYPES.items():
        try:
            checked.append(msgspec.convert(merged[name], kind))
        except ValidationError as error:
            message = f"{name}: {_shown(values[name])} is not {wanted(kind)}"
            raise RecordError("parameter_invalid", message, field=name) from error
    return Parameters(**dict(zip(_FIELD_TYPES, checked, strict=True)))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _as_dict(parameters: Parameters) -> dict[str, Any]:
    return {name: getattr(parameters, name) for name in Parameters.__struct_fields__}


def parameters_as_dict(parameters: Parameters) -> dict[str, Any]:
    """Return parameters by name with plain values, for display and for parameter files."""
    result: dict[str, Any] = msgspec.to_builtins(_as_dict(parameters))
    return result


_FIELD_TYPES: dict[str, Any] = {
    name: hint
    for name, hint in get_type_hints(Parameters, include_extras=True).items()
    if name in Parameters.__struct_fields__
}
