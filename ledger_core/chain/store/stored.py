"""A block as the archive holds it."""

from msgspec import Struct


class StoredBlock(Struct, frozen=True, gc=False):
    """A block of which the body may be gone."""

    header: bytes
    signature: bytes
    body: bytes | None
