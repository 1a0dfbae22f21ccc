"""Tables of the state, and the journal that can undo every change."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from operator import itemgetter
from typing import Any

import msgspec

from ledger_core.rules.buckets import Buckets

_encoder = msgspec.msgpack.Encoder()
_key = itemgetter(0)


@lru_cache(maxsize=128)
def _decoders(
    key_type: Any, row_type: Any
) -> tuple[msgspec.msgpack.Decoder[Any], msgspec.msgpack.Decoder[Any], msgspec.msgpack.Decoder[Any]]:
    """Return the decoders of a table's rows, keys, and rows or None: made once for all states."""
    return (
        msgspec.msgpack.Decoder(list[tuple[key_type, row_type]]),
        msgspec.msgpack.Decoder(key_type),
        msgspec.msgpack.Decoder(row_type | None),
    )


class Table[K, V](dict[K, V]):
    """A mapping whose changes go through a `Journal`; its hash does not depend on the order of insertion."""

    __slots__ = (
        "_buckets",
        "_decoder",
        "_digest",
        "_key_decoder",
        "_row_decoder",
        "hashed",
        "name",
        "number",
    )

    def __init__(
        self, number: int, name: str, key_type: Any, row_type: Any, *, hashed: bool = True, big: bool = False
    ) -> None:
        super().__init__()
        self.number = number
        self.name = name
        self.hashed = hashed
        """False for an index that can be rebuilt from other tables."""
        self._digest: bytes | None = None
        self._buckets: Buckets[Any] | None = Buckets() if big else None
        """Of a table that holds much and changes little from one checkpoint to the next."""
        self._decoder, self._key_decoder, self._row_decoder = _decoders(key_type, row_type)

    def touch(self) -> None:
        """Forget all cached digests, after rows were changed without a journal."""
        self._digest = None
        if self._buckets is not None:
            self._buckets = Buckets()

    def row_changed(self, key: K) -> None:
        """Forget the cached digests that a row counts for."""
        self._digest = None
        if self._buckets is not None:
            self._buckets.changed.add(key)

    def sorted_items(self) -> list[tuple[K, V]]:
        """Return the rows in the order of their keys."""
        return sorted(self.items(), key=_key)

    def encode(self) -> bytes:
        """Return the table's canonical bytes."""
        return _encoder.encode(self.sorted_items())

    def digest(self) -> bytes:
        """Return the SHA-256 of the canonical bytes, or of the digests of its buckets."""
        if self._digest is None:
            if self._buckets is None:
                self._digest = sha256(self.encode()).digest()
            else:
                self._digest = self._buckets.digest(self, _encoder.encode)
        return self._digest

    def load(self, data: bytes) -> None:
        """Replace all rows by those in canonical bytes."""
        rows = self._decoder.decode(data)
        self.clear()
        self.update(rows)
        self.touch()

    def decode_change(self, key: msgspec.Raw, row: msgspec.Raw) -> tuple[K, V | None]:
        """Return a key and the row that stood there from undo data."""
        return self._key_decoder.decode(key), self._row_decoder.decode(row)


type Change = tuple[Table[Any, Any], Any, Any]
"""A table, a key, and the row that stood there before (None: none)."""


class Journal:
    """The changes of one block, newest last."""

    __slots__ = ("changes",)

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def put[K, V](self, table: Table[K, V], key: K, row: V) -> None:
        """Set a row."""
        self.changes.append((table, key, table.get(key)))
        table[key] = row
        table._digest = None  # noqa: SLF001 - the most frequent change of all: without a call
        if table._buckets is not None:  # noqa: SLF001
            table.row_changed(key)

    def put_all[K, V](self, table: Table[K, V], keys: Iterable[K], row: V) -> None:
        """Set the same row under many keys: what `put` does for each, at once."""
        new = dict.fromkeys(keys, row)
        get = table.get
        self.changes += [(table, key, get(key)) for key in new]
        table.update(new)
        for key in new if table._buckets is not None else ():  # noqa: SLF001
            table.row_changed(key)
        table._digest = None  # noqa: SLF001

    def drop[K, V](self, table: Table[K, V], key: K) -> V:
        """Remove a row that is there."""
        row = table.pop(key)
        self.changes.append((table, key, row))
        table.row_changed(key)
        return row

    def revert(self) -> None:
        """Undo every change, newest first."""
        self.revert_to(0)

    def revert_to(self, count: int) -> None:
        """Undo the newest changes until `count` are left."""
        revert(self.changes[count:])
        del self.changes[count:]


def revert(changes: Sequence[Change]) -> None:
    """Undo changes given oldest first."""
    for table, key, row in reversed(changes):
        if row is None:
            table.pop(key, None)
        else:
            table[key] = row
        table.row_changed(key)
