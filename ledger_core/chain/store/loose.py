"""A segment as it comes: quick to write, packed later.

Packing takes about as long as the rules do. A node that syncs stores segments like this, and packs them when
it has nothing better to do.
"""

import zlib
from collections.abc import Sequence
from typing import Final

import msgspec

from ledger_core.chain.store.columns import ColumnsError
from ledger_core.chain.store.stored import StoredBlock

_MARK: Final = 0xFF
"""Where a packed segment has the number of its dictionary."""
_MARK_AT: Final = 4
_PREFIX_BYTES: Final = 5
"""Checksum and mark."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes, bytes, bytes | None]]).decode


def is_loose(data: bytes) -> bool:
    """Return whether a segment's bytes are not packed."""
    return len(data) > _MARK_AT and data[_MARK_AT] == _MARK


def encode_loose(blocks: Sequence[StoredBlock]) -> bytes:
    """Return the bytes of blocks as they are, with a checksum."""
    content = bytes((_MARK,)) + _encode([(block.header, block.signature, block.body) for block in blocks])
    return zlib.crc32(content).to_bytes(_MARK_AT) + content


def decode_loose(data: bytes) -> list[StoredBlock]:
    """Return the blocks of a loose segment; raises ColumnsError where the bytes are damaged."""
    if zlib.crc32(memoryview(data)[_MARK_AT:]) != int.from_bytes(data[:_MARK_AT]):
        raise ColumnsError("the checksum is wrong")
    try:
        rows = _decode(memoryview(data)[_PREFIX_BYTES:])
    except msgspec.DecodeError as error:
        raise ColumnsError(f"not a list of blocks: {error}") from error
    return [StoredBlock(*row) for row in rows]
