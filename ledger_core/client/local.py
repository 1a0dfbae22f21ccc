"""Making the data directory of a node on this machine, before the node runs; and finding one that runs.

Founding: `prepare_founding`, then `found`; the node may start. Joining: `prepare_joining`; the node starts
and syncs, and then the newcomer's member record is submitted through the node (`home.Home.join`).

Nothing here asks a node, waits long or opens a network connection; call it off the event loop all the same,
for it reads and writes files.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

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
from ledger_core.errors import RecordError
from ledger_core.node import data_directory
from ledger_core.node.api.token import load_token
from ledger_core.node.config import Setting, settings_reference
from ledger_core.node.data_directory import DataDirectory, DirectoryError
from ledger_core.records.invitations import InvitationLink, decode_link
from ledger_core.records.types import Location, Role

__all__ = [
    "DirectoryError",
    "Founding",
    "Joining",
    "LocalApi",
    "default_parameters",
    "found",
    "founding_genesis",
    "local_api",
    "node_settings",
    "parameter_bounds",
    "prepare_founding",
    "prepare_joining",
    "running_api",
]

FOUNDER_ROLES: Final = int(Role.HOME | Role.NODE | Role.AUTHORITY | Role.OPERATOR)


class Founding(Struct, frozen=True, kw_only=True):
    """What a founder decides; everything in `parameters` is fixed for ever."""

    name: str
    """Of the community, 1 to 64 characters."""
    currency: str
    """1 to 8 characters."""
    founder_name: str
    """The founder's home; only its SHA-256 goes into the genesis."""
    parameters: Mapping[str, Any] = {}
    """By name, as `default_parameters`; what is missing takes its default."""
    location: tuple[int, int] | None = None
    """Latitude and longitude in microdegrees; None: not told."""
    roles: int = FOUNDER_ROLES


class Joining(Struct, frozen=True):
    """What an invitation says, and the node that will use it."""

    link: InvitationLink
    community: Genesis
    node_key: bytes
    """Public key of the newcomer's node; the member record names it."""


class LocalApi(Struct, frozen=True):
    """Where the API of a node on this machine is, and what opens it."""

    url: str
    token: str


def default_parameters() -> dict[str, Any]:
    """Return every parameter of a community by name with its default."""
    return parameters_as_dict(Parameters())


def parameter_bounds(name: str) -> tuple[int, int] | None:
    """Return the least and the greatest value of a parameter that is a number; None for any other."""
    described = msgspec.inspect.type_info(Parameters)
    for field in getattr(described, "fields", ()):
        if field.name == name and isinstance(field.type, msgspec.inspect.IntType):
            low, high = field.type.ge, field.type.le
            return None if low is None or high is None else (int(low), int(high))
    return None


def node_settings() -> list[Setting]:
    """Return every setting of a node with its default, bounds and help."""
    return settings_reference()


def prepare_founding(directory: Path) -> bytes:
    """Make a node's data directory with its key, where they are not there yet; return the public key.

    Raises LedgerError for a key that can't be read, OSError.
    """
    return data_directory.prepare(directory)


def founding_genesis(founding: Founding, founder: bytes, node: bytes, now: int) -> Genesis:
    """Return the genesis of a community with one founding member; `now` in UTC seconds.

    Raises RecordError `parameter_invalid` or `genesis_invalid`, which name the field and what is right, and
    IntentError `name_missing` for a founder without a name.
    """
    parameters = parse_parameters(dict(founding.parameters))
    location = None if founding.location is None else Location(*founding.location)
    member = Founder(founder, founding.roles, node, name_hash(founding.founder_name), location)
    genesis = Genesis(founding.name, founding.currency, now, parameters, (member,))
    try:
        return decode_genesis(encode_genesis(genesis))
    except RecordError as error:
        if error.code != "genesis_malformed":
            raise
        raise RecordError("genesis_invalid", _field_named(genesis, error.message)) from error


def found(directory: Path, founding: Founding, founder: bytes, now: int) -> Genesis:
    """Found a community: afterwards a node may start on the directory, and mine alone.

    `founder` is the public key of the founder's home. Raises as `founding_genesis` and
    `data_directory.found`.
    """
    node = data_directory.prepare(directory)
    genesis = founding_genesis(founding, founder, node, now)
    data_directory.found(directory, genesis)
    return genesis


def prepare_joining(directory: Path, text: str) -> Joining:
    """Make the data directory of a newcomer's node by an invitation's text.

    Raises InvitationError for a text that is none, and as `data_directory.join`.
    """
    link = decode_link(text)
    data_directory.join(directory, link)
    return Joining(link, link.community, data_directory.prepare(directory))


def local_api(directory: Path) -> LocalApi:
    """Return where the node that runs on a directory is reached.

    Raises DirectoryError `node_not_running`, TokenError.
    """
    return LocalApi(DataDirectory(directory).api_address(), load_token(directory))


def running_api(directory: Path) -> LocalApi:
    """Return as `local_api`, but no address that a killed node left: who listens there now is a stranger.

    Raises as `local_api`.
    """
    return LocalApi(DataDirectory(directory).running_api_address(), load_token(directory))


def _field_named(genesis: Genesis, message: str) -> str:
    """Put a field's name in the place of its number in a decoder's message."""
    for number, name in enumerate(genesis.__struct_fields__):
        message = message.replace(f"`$[{number}]`", f"`{name}`")
    return message
