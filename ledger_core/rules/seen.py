"""Ids of the records included lately, so that nothing is included twice."""

from collections.abc import Iterable
from hashlib import sha256

BUCKET_S = 3600
"""Ids are forgotten together with all others that were created in the same hour."""


class SeenIds:
    """Ids by the hour of their creation; each hour's digest chains its ids in order of inclusion."""

    __slots__ = ("_buckets", "_digests", "_floor", "_ids", "_parts")

    def __init__(self) -> None:
        self._buckets: dict[int, list[bytes]] = {}
        self._digests: dict[int, list[bytes]] = {}
        self._parts: dict[int, tuple[int, bytes]] = {}
        """By hour: a number of ids, and what they give to the digest."""
        self._ids: set[bytes] = set()
        self._floor = 0
        """No hour before it is kept."""

    def __contains__(self, record_id: bytes) -> bool:
        return record_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, record_id: bytes, created: int) -> None:
        """Remember an id that is not known yet."""
        hour = created // BUCKET_S
        bucket = self._buckets.get(hour)
        if bucket is None:
            bucket = self._buckets[hour] = []
            self._floor = min(self._floor, hour)
        bucket.append(record_id)
        self._ids.add(record_id)

    def remove_last(self, created: int) -> None:
        """Undo the latest `add` for a creation time."""
        hour = created // BUCKET_S
        bucket = self._buckets[hour]
        self._ids.discard(bucket.pop())
        self._parts.pop(hour, None)
        digests = self._digests.get(hour)
        if digests is not None:
            del digests[len(bucket) // _STRIDE :]
        if not bucket:
            del self._buckets[hour]
            self._digests.pop(hour, None)

    def forget_before(self, time: int) -> list[tuple[int, list[bytes]]]:
        """Drop the hours that lie wholly before a time; returns them for `restore`."""
        limit = time // BUCKET_S
        if limit <= self._floor:
            return []
        self._floor = limit
        gone = sorted(hour for hour in self._buckets if hour < limit)
        dropped = []
        for hour in gone:
            ids = self._buckets.pop(hour)
            self._digests.pop(hour, None)
            self._parts.pop(hour, None)
            self._ids.difference_update(ids)
            dropped.append((hour, ids))
        return dropped

    def restore(self, dropped: Iterable[tuple[int, list[bytes]]]) -> None:
        """Undo `forget_before`."""
        for hour, ids in dropped:
            self._buckets[hour] = list(ids)
            self._floor = min(self._floor, hour)
            self._ids.update(ids)

    def items(self) -> list[tuple[int, list[bytes]]]:
        """Return hours and their ids in order of inclusion, for a snapshot."""
        return [(hour, list(self._buckets[hour])) for hour in sorted(self._buckets)]

    def digest(self) -> bytes:
        """Return a digest of everything remembered.

        Full runs of ids are hashed once and kept, and so is what an hour gives while nothing is added to it:
        the cost follows what is new.
        """
        parts = []
        for hour in sorted(self._buckets):
            ids = self._buckets[hour]
            count, part = self._parts.get(hour, (0, b""))
            if count != len(ids):
                part = self._part(hour, ids)
                self._parts[hour] = (len(ids), part)
            parts.append(part)
        return sha256(b"".join(parts)).digest()

    def _part(self, hour: int, ids: list[bytes]) -> bytes:
        runs = self._digests.setdefault(hour, [])
        while (len(runs) + 1) * _STRIDE <= len(ids):
            start = len(runs) * _STRIDE
            runs.append(sha256(b"".join(ids[start : start + _STRIDE])).digest())
        tail = b"".join(ids[len(runs) * _STRIDE :])
        return hour.to_bytes(8) + len(ids).to_bytes(4) + b"".join(runs) + sha256(tail).digest()


_STRIDE = 64
