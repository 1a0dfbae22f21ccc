"""What the homes of a simulated street have planned, by time."""

import heapq
from collections.abc import Callable


class Agenda[T]:
    """Actions by time; equal times in the order they were planned."""

    __slots__ = ("_heap", "_planned")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[T], None]]] = []
        self._planned = 0

    def at(self, time: int, action: Callable[[T], None]) -> None:
        """Plan an action."""
        self._planned += 1
        heapq.heappush(self._heap, (time, self._planned, action))

    def due(self, time: int) -> tuple[int, Callable[[T], None]] | None:
        """Take the earliest action out if its time has come by `time`."""
        if not self._heap or self._heap[0][0] > time:
            return None
        when, _, action = heapq.heappop(self._heap)
        return when, action
