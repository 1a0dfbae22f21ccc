"""A community as a file that people write (JSON), and its genesis as a file of canonical bytes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_type_hints

import msgspec
from msgspec import Meta, Struct, ValidationError

from ledger_core.cli.input_files import public_key_of, read_bounded, text_to_bytes
from ledger_core.cli.quantities import MICRO_DEGREES, location_at
from ledger_core.cli.record_view import role_names
from ledger_core.client.bodies import name_hash
from ledger_core.community import (
    Founder,
    Genesis,
    Parameters,
    decode_genesis,
    encode_genesis,
    parameters_as_dict,
    parse_parameters,
)
from ledger_core.errors import LedgerError
from ledger_core.keys import address
from ledger_core.records.types import Role

_BOUNDS = get_type_hints(Genesis, include_extras=True)


class LocationText(Struct, forbid_unknown_fields=True):
    """A place in degrees (WGS 84)."""

    latitude: Annotated[float, Meta(ge=-90, le=90)]
    longitude: Annotated[float, Meta(ge=-180, le=180)]


class FounderText(Struct, forbid_unknown_fields=True):
    """A founding member; keys are addresses, key files or hexadecimal."""

    member: str
    roles: list[Literal["home", "node", "authority", "operator"]]
    node: str | None = None
    name: str | None = None
    name_hash: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None
    location: LocationText | None = None


class CommunityText(Struct, forbid_unknown_fields=True):
    """A community as its founder describes it."""

    name: str
    currency: str
    founders: list[FounderText]
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    created: int | None = None


def read_description(path: Path, now: int) -> Genesis:
    """Return the genesis that a description file asks for; `now` (UTC seconds) stands in for its time.

    Raises LedgerError `community_file_invalid` or `parameter_invalid`, naming file and field; or OSError.
    """
    try:
        content = json.loads(read_bounded(path), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        _invalid(path, f"not JSON: {error}", error)
    try:
        described = msgspec.convert(content, CommunityText)
    except ValidationError as error:
        _invalid(path, str(error), error)
    try:
        parameters = parse_parameters(described.parameters)
    except LedgerError as error:
        raise LedgerError(error.code, f"{path}: parameters.{error.message}", **error.details) from error
    founders = tuple(_founder(path, index, text) for index, text in enumerate(described.founders))
    created = now if described.created is None else described.created
    genesis = Genesis(described.name, described.currency, created, parameters, founders)
    for field in ("name", "currency", "created", "founders"):
        try:
            msgspec.convert(getattr(genesis, field), _BOUNDS[field])
        except ValidationError as error:
            _invalid(path, f"{field}: {error}", error)
    try:
        return decode_genesis(encode_genesis(genesis))
    except LedgerError as error:
        _invalid(path, error.message, error)


def _founder(path: Path, index: int, text: FounderText) -> Founder:
    place = f"founders[{index}]"
    roles = Role(0)
    for role in text.roles:
        roles |= Role[role.upper()]
    match text.name, text.name_hash:
        case str(name), None:
            hashed = _within(path, f"{place}.name", name_hash, name)
        case None, str(digits):
            hashed = bytes.fromhex(digits)
        case _:
            _invalid(path, f"{place}: needs either 'name' or 'name_hash'")
    given = text.location
    location = None if given is None else location_at(given.latitude, given.longitude)
    node = None if text.node is None else _within(path, f"{place}.node", public_key_of, text.node)
    member = _within(path, f"{place}.member", public_key_of, text.member)
    return Founder(member, int(roles), node, hashed, location)


def _within(path: Path, place: str, read: Callable[[str], bytes], text: str) -> bytes:
    """Return what a text of the file stands for; a refusal names its place."""
    try:
        return read(text)
    except LedgerError as error:
        _invalid(path, f"{place}: {error.message}", error)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _invalid(path: Path, why: str, cause: Exception | None = None) -> NoReturn:
    raise LedgerError("community_file_invalid", f"{path}: {why}", path=str(path), reason=why) from cause


def describe(genesis: Genesis) -> dict[str, Any]:
    """Return what a description file of this genesis holds."""
    return {
        "name": genesis.name,
        "currency": genesis.currency,
        "created": genesis.created,
        "founders": [_describe_founder(founder) for founder in genesis.founders],
        "parameters": parameters_as_dict(genesis.parameters),
    }


def _describe_founder(founder: Founder) -> dict[str, Any]:
    described: dict[str, Any] = {
        "member": address(founder.member),
        "roles": role_names(founder.roles),
        "node": None if founder.node is None else address(founder.node),
        "name_hash": founder.name_hash.hex(),
    }
    if founder.location is not None:
        described["location"] = {
            "latitude": founder.location.latitude / MICRO_DEGREES,
            "longitude": founder.location.longitude / MICRO_DEGREES,
        }
    return described


def template(member: str, node: str) -> dict[str, Any]:
    """Return a description to fill in: one founder, every parameter with its default."""
    return {
        "name": "Elm Street",
        "currency": "EUR",
        "founders": [
            {"member": member, "roles": ["home", "node", "authority"], "node": node, "name": "Elm Street 1"}
        ],
        "parameters": parameters_as_dict(Parameters()),
    }


def read_genesis(path: Path) -> Genesis:
    """Return the genesis in a file: canonical bytes, or the same as hexadecimal or base64.

    Raises LedgerError with the codes of `decode_genesis`, naming the file; or OSError.
    """
    content = read_bounded(path)
    data = text_to_bytes(content)
    try:
        return decode_genesis(content if data is None else data)
    except LedgerError as error:
        raise LedgerError(error.code, f"{path}: {error.message}", **error.details) from error
