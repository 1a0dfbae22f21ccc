"""What the segments of the archive share: numbers for keys and asset ids, the compressor's dictionaries."""

from collections.abc import Iterable
from compression.zstd import ZstdDict

type Entry = tuple[int, bytes]
"""The space that a value stands in (who mines, who writes records of a kind, ...), and the value."""


class KeyBook:
    """Values numbered by space, in the order in which the archive first saw them; a number never changes."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: list[Entry] = []
        self._spaces: dict[int, list[bytes]] = {}
        self._numbers: dict[Entry, int] = {}
        self._first: dict[bytes, Entry] = {}
        self.dictionaries: list[ZstdDict] = []
        """For the compressor, oldest first; a segment names the one that it was made with."""
        for space, value in entries:
            self.learn(space, value)

    def __len__(self) -> int:
        return len(self._entries)

    def value(self, space: int, number: int) -> bytes:
        """Return the value with a number in a space; raises LookupError."""
        return self._spaces[space][number]

    def learn(self, space: int, value: bytes) -> int:
        """Return the number of a value in a space, giving it the next one if it has none."""
        entry = (space, value)
        number = self._numbers.get(entry)
        if number is None:
            values = self._spaces.setdefault(space, [])
            number = self._numbers[entry] = len(values)
            values.append(value)
            self._entries.append(entry)
            self._first.setdefault(value, entry)
        return number

    def find(self, value: bytes) -> tuple[int, int] | None:
        """Return a space that holds a value, and its number there, or None."""
        entry = self._first.get(value)
        return None if entry is None else (entry[0], self._numbers[entry])

    def since(self, count: int) -> list[Entry]:
        """Return what was learnt after the first `count` entries."""
        return self._entries[count:]

    def forget_after(self, count: int) -> None:
        """Forget all but the first `count` entries."""
        for entry in reversed(self._entries[count:]):
            space, value = entry
            del self._numbers[entry]
            self._spaces[space].pop()
            if self._first.get(value) == entry:
                del self._first[value]
        del self._entries[count:]
