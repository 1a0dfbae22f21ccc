"""A node's own word on where it can be reached, signed with its node key, passed on by others unchanged."""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from ledger_core.keys import Signer, verify
from ledger_core.node.peers.errors import Misbehaviour
from ledger_core.node.peers.frames import MAX_ANNOUNCEMENT_BYTES
from ledger_core.node.peers.location import MAX_LOCATION_LENGTH
from ledger_core.records.types import Key, Signature

MAX_LOCATIONS: Final = 4
MAX_ANNOUNCEMENTS: Final = 24
"""Announcements in one frame: even the longest ones fit into it."""

_DOMAIN: Final = b"energy-ledger/peer-announcement/1\0"
_encoder = msgspec.msgpack.Encoder()

Locations = Annotated[
    tuple[Annotated[str, Meta(min_length=1, max_length=MAX_LOCATION_LENGTH)], ...],
    Meta(max_length=MAX_LOCATIONS),
]


class Announcement(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where one node can be reached; without locations: nowhere, it dials others."""

    node: Key
    sequence: Annotated[int, Meta(ge=0, le=2**53)]
    """Of two announcements by one node the higher one holds; about the UTC seconds of its making."""
    locations: Locations
    signature: Signature


_list_decoder = msgspec.msgpack.Decoder(
    Annotated[list[Announcement], Meta(min_length=1, max_length=MAX_ANNOUNCEMENTS)]
)


def _message(chain_id: bytes, node: bytes, sequence: int, locations: Sequence[str]) -> bytes:
    return _DOMAIN + chain_id + _encoder.encode((node, sequence, tuple(locations)))


def announce(signer: Signer, chain_id: bytes, sequence: int, locations: Sequence[str]) -> Announcement:
    """Sign where this node can be reached."""
    signature = signer.sign(_message(chain_id, signer.public_key, sequence, locations))
    return Announcement(signer.public_key, sequence, tuple(locations), signature)


def is_signed(announcement: Announcement, chain_id: bytes) -> bool:
    """Tell whether the announcement is its node's own."""
    message = _message(chain_id, announcement.node, announcement.sequence, announcement.locations)
    return verify(announcement.node, message, announcement.signature)


def encode_announcements(announcements: Sequence[Announcement]) -> bytes:
    """Return the content of a frame of addresses; at most `MAX_ANNOUNCEMENTS` fit."""
    return _encoder.encode(announcements)


def decode_announcements(content: bytes) -> list[Announcement]:
    """Return what a frame of addresses holds; raises Misbehaviour `frame_malformed`."""
    if len(content) > MAX_ANNOUNCEMENT_BYTES:
        raise Misbehaviour("frame_malformed", f"{len(content)} bytes of addresses in one frame")
    try:
        announcements: list[Announcement] = _list_decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Misbehaviour("frame_malformed", f"not a list of addresses: {error}") from error
    return announcements
