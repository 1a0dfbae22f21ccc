"""Numbers that look random and follow from a seed alone: the same on every machine and Python version."""

from collections.abc import Sequence
from hashlib import sha512

_WORD_BITS = 64
_WORD = (1 << _WORD_BITS) - 1


class Chance:
    """A stream of numbers: SHA-512 over a key and a counter."""

    __slots__ = ("_count", "_key", "_left", "_pool")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._count = 0
        self._pool = 0
        self._left = 0

    def child(self, *names: str | int) -> Chance:
        """Return another stream that depends on this one's key and the names, not on what was drawn."""
        return Chance(sha512(self._key + repr(names).encode()).digest()[:32])

    def word(self) -> int:
        """Return a number of 64 bits."""
        if not self._left:
            block = sha512(self._key + self._count.to_bytes(8)).digest()
            self._count += 1
            self._pool = int.from_bytes(block)
            self._left = 512 // _WORD_BITS
        self._left -= 1
        word = self._pool & _WORD
        self._pool >>= _WORD_BITS
        return word

    def below(self, limit: int) -> int:
        """Return a number from 0 to one below the limit."""
        return self.word() * limit >> _WORD_BITS

    def between(self, least: int, most: int) -> int:
        """Return a number from `least` to `most`, both included."""
        return least + self.below(most - least + 1)

    def permille(self, chances: int) -> bool:
        """Return True in so many of 1000 cases."""
        return self.below(1000) < chances

    def pick[T](self, items: Sequence[T]) -> T:
        """Return one of the items."""
        return items[self.below(len(items))]

    def some[T](self, items: Sequence[T], count: int) -> list[T]:
        """Return up to `count` different items in a drawn order."""
        rest = list(items)
        taken: list[T] = []
        while rest and len(taken) < count:
            position = self.below(len(rest))
            taken.append(rest[position])
            rest[position] = rest[-1]
            rest.pop()
        return taken

    def octets(self, count: int) -> bytes:
        """Return so many bytes."""
        words = -(-count * 8 // _WORD_BITS)
        return b"".join(self.word().to_bytes(8) for _ in range(words))[:count]
