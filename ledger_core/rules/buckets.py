"""Digests of a table's rows by bucket: hashing a big table costs what changed in it, not what it holds."""

from collections.abc import Callable, Mapping
from hashlib import sha256

BUCKETS = 64
_NO_ROWS = bytes(32)


class Buckets[K: (bytes, int)]:
    """The keys of one table by bucket, and each bucket's digest.

    A key's bucket follows from the key alone: equal tables give equal digests, however they came about.
    """

    __slots__ = ("_digests", "_keys", "_known", "changed")

    def __init__(self) -> None:
        self.changed: set[K] = set()
        """Keys set or removed since the last digest."""
        self._keys: list[set[K]] = [set() for _ in range(BUCKETS)]
        self._digests = [_NO_ROWS] * BUCKETS
        self._known = 0

    def digest[V](self, rows: Mapping[K, V], encode: Callable[[list[tuple[K, V]]], bytes]) -> bytes:
        """Return the digest of all rows; `encode` gives the canonical bytes of some, ascending by key."""
        dirty: set[int] = set()
        for key in self.changed:
            number = _bucket_of(key)
            dirty.add(number)
            keys = self._keys[number]
            self._known -= len(keys)
            if key in rows:
                keys.add(key)
            else:
                keys.discard(key)
            self._known += len(keys)
        self.changed.clear()
        if self._known != len(rows):
            # Filled in one go, as from a snapshot.
            self._keys = [set() for _ in range(BUCKETS)]
            for key in rows:
                self._keys[_bucket_of(key)].add(key)
            self._known = len(rows)
            dirty.update(range(BUCKETS))
        for number in dirty:
            content = [(key, rows[key]) for key in sorted(self._keys[number])]
            self._digests[number] = sha256(encode(content)).digest() if content else _NO_ROWS
        return sha256(b"".join(self._digests)).digest()


def _bucket_of(key: bytes | int) -> int:
    return (key if isinstance(key, int) else key[0]) % BUCKETS
