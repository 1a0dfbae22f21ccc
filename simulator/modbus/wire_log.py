"""What was seen on the wire: every write with its outcome, and every read, countable."""

import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WRITES_KEPT = 100_000
_READS_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class WriteSeen:
    """A write request at the machine's UTC `time`, `simulated_s` in the home; `exception` 0: done."""

    sequence: int
    time: float
    simulated_s: int
    link: str
    unit: int
    function: int
    address: int
    values: tuple[int, ...]
    exception: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ReadSeen:
    """A read request."""

    link: str
    unit: int
    function: int
    address: int
    count: int


class WireLog:
    """The latest writes and reads of a home's links, oldest first."""

    def __init__(self, simulated_s: Callable[[], int]) -> None:
        """Stamp writes with the home's simulated time."""
        self._simulated_s = simulated_s
        self._writes: deque[WriteSeen] = deque(maxlen=_WRITES_KEPT)
        self._sequence = 0
        self.reads: deque[ReadSeen] = deque(maxlen=_READS_KEPT)
        self.read_count: Counter[str] = Counter()
        self.write_listener: Callable[[WriteSeen], None] | None = None

    @property
    def last_sequence(self) -> int:
        """Number of the latest write, 0 before the first."""
        return self._sequence

    def read(self, link: str, unit: int, function: int, address: int, count: int) -> None:
        """Note a read request."""
        self.read_count[link] += 1
        self.reads.append(ReadSeen(link, unit, function, address, count))

    def write(
        self, link: str, unit: int, function: int, address: int, values: tuple[int, ...], exception: int
    ) -> None:
        """Note a write request and whether it was done (0) or refused with an exception code."""
        self._sequence += 1
        seen = WriteSeen(
            self._sequence, time.time(), self._simulated_s(), link, unit, function, address, values, exception
        )
        self._writes.append(seen)
        if self.write_listener is not None:
            self.write_listener(seen)

    def writes(self, since: int = 0) -> Iterator[WriteSeen]:
        """Return the writes numbered above `since`."""
        return (seen for seen in self._writes if seen.sequence > since)
