"""Memories that forget their oldest entries."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator


class RecentSet:
    """The last so many different values that were added."""

    __slots__ = ("_capacity", "_order", "_values")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: set[bytes] = set()
        self._order: deque[bytes] = deque()
        """The values as they came. A dict alone would search its own gaps for the oldest."""

    def __contains__(self, value: bytes) -> bool:
        return value in self._values

    def __len__(self) -> int:
        return len(self._values)

    def add(self, value: bytes) -> None:
        """Remember a value; one that is known becomes no younger."""
        if value in self._values:
            return
        self._values.add(value)
        self._order.append(value)
        if len(self._order) > self._capacity:
            self._values.discard(self._order.popleft())

    def update(self, values: Iterable[bytes]) -> None:
        """Remember several values."""
        for value in values:
            self.add(value)

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self._order.clear()


class RecentMap[V]:
    """Values by key, the oldest forgotten first: by number and, where sizes are given, by their sum."""

    __slots__ = ("_capacity", "_max_size", "_size", "_values")

    def __init__(self, capacity: int, max_size: int = 0) -> None:
        self._capacity = capacity
        self._max_size = max_size
        self._values: OrderedDict[bytes, tuple[V, int]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: bytes) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._values)

    def get(self, key: bytes) -> V | None:
        """Return the value of a key, or None."""
        found = self._values.get(key)
        return None if found is None else found[0]

    def put(self, key: bytes, value: V, size: int = 0) -> None:
        """Keep a value; a known key gets the new one."""
        self.pop(key)
        self._values[key] = (value, size)
        self._size += size
        while len(self._values) > self._capacity or (self._size > self._max_size and len(self._values) > 1):
            self.pop(next(iter(self._values)))

    def pop(self, key: bytes) -> V | None:
        """Forget a key; returns its value, or None."""
        found = self._values.pop(key, None)
        if found is None:
            return None
        self._size -= found[1]
        return found[0]
