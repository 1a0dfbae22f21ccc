"""Numbers for the keys and asset ids that stand in block after block."""

from collections.abc import Iterable


class KeyBook:
    """Values by the order in which the archive first saw them; a number, once given, never changes."""

    def __init__(self, values: Iterable[bytes] = ()) -> None:
        self._values = list(values)
        self._numbers = {value: number for number, value in enumerate(self._values)}

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, number: int) -> bytes:
        return self._values[number]

    def get(self, value: bytes) -> int | None:
        """Return the number of a value, or None."""
        return self._numbers.get(value)

    def learn(self, value: bytes) -> int:
        """Return the number of a value, giving it the next one if it has none."""
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = len(self._values)
            self._values.append(value)
        return number

    def since(self, count: int) -> list[bytes]:
        """Return the values learnt after the first `count`."""
        return self._values[count:]

    def forget_after(self, count: int) -> None:
        """Forget all but the first `count` values."""
        for value in self._values[count:]:
            del self._numbers[value]
        del self._values[count:]
