"""Compressed bytes with a checksum, as the database's rows hold them."""

from compression.zstd import CompressionParameter, ZstdDecompressor, ZstdError
from compression.zstd import compress as zstd_compress
from typing import Final

_OPTIONS: Final[dict[int, int]] = {
    CompressionParameter.compression_level: 3,
    CompressionParameter.checksum_flag: 1,
}
MAX_BYTES: Final = 1 << 30
"""No row unpacks to more."""


class RowError(ValueError):
    """A value of a row that is not what was written there."""


def blob(value: object) -> bytes:
    """Return a value that must be bytes; raises RowError."""
    if type(value) is not bytes:
        raise RowError(f"a {type(value).__name__} where bytes should be")
    return value


def compress(data: bytes) -> bytes:
    """Return data compressed, with a checksum."""
    return zstd_compress(data, options=_OPTIONS)


def decompress(data: bytes) -> bytes:
    """Return what was compressed; raises RowError."""
    frame = ZstdDecompressor()
    try:
        content = frame.decompress(data, MAX_BYTES)
    except ZstdError as error:
        raise RowError(f"compressed data that can't be read: {error}") from error
    if not frame.eof:
        raise RowError("compressed data that is incomplete")
    return content
