"""Virtual time: what happens when, in one order for one seed."""

from collections.abc import Callable
from heapq import heappop, heappush

type Action = Callable[[], None]


class Schedule:
    """Actions by time, UTC seconds; equal times keep the order in which they were planned."""

    def __init__(self, start: float) -> None:
        self.now = start
        self._queue: list[tuple[float, int, Action]] = []
        self._count = 0
        self.done = 0
        """Actions that have happened."""

    def __len__(self) -> int:
        return len(self._queue)

    def at(self, time: float, action: Action) -> None:
        """Plan an action; one in the past happens next."""
        self._count += 1
        heappush(self._queue, (max(time, self.now), self._count, action))

    def after(self, delay: float, action: Action) -> None:
        """Plan an action in some seconds."""
        self.at(self.now + delay, action)

    def run_until(self, end: float) -> None:
        """Let everything happen up to a time."""
        queue = self._queue
        while queue and queue[0][0] <= end:
            self.now, _, action = heappop(queue)
            self.done += 1
            action()
        self.now = max(self.now, end)
