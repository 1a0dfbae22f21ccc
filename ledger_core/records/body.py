"""What all record bodies share: who wrote it, when, and a random nonce."""

from typing import ClassVar

from msgspec import Struct

from ledger_core.records.types import Key, Nonce, Time


class Body(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """The signed part of a record: one tagged struct, positional on the wire.

    A kind is a subclass with a number of its own (`tag=`), which is its first element on the wire. Numbers
    are never given again.
    """

    KIND: ClassVar[str] = ""

    author: Key
    created: Time
    nonce: Nonce
