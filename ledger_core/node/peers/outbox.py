"""What waits to be sent on one link: bounded, paced by kind, urgent before bulky.

Messages of one kind leave in the order in which they were put; those of different kinds may overtake each
other.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import Final, NamedTuple

from ledger_core.node.peers.frames import Lane, frame_count, message_frames
from ledger_core.node.peers.limits import KindLimits, Pace

MAX_MESSAGES: Final = 4096
MAX_CONTROL_FRAMES: Final = 64

_URGENT_TURNS: Final = (Lane.URGENT, Lane.BULK)
_BULK_TURN: Final = (Lane.BULK, Lane.URGENT)
_TURNS: Final = 5
"""Every fifth chunk may be a bulky one: below a stream of urgent ones, a bulky message ends in time still."""


class OutboxBudget:
    """Bytes that the outboxes of all links may hold together; who holds most of them is dropped first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._outboxes: set[Outbox] = set()
        self.used = 0

    def take(self, size: int, asking: Outbox) -> bool:
        """Take some bytes, at the cost of fuller outboxes; tell whether that was possible."""
        while self.used + size > self._limit:
            fullest = max(self._outboxes, key=lambda each: each.bytes, default=asking)
            if fullest.bytes <= asking.bytes:
                return False
            fullest.overflow()
        self.used += size
        self._outboxes.add(asking)
        return True

    def give_back(self, size: int, giving: Outbox) -> None:
        """Return bytes that were sent or dropped."""
        self.used -= size
        if not giving.bytes:
            self._outboxes.discard(giving)


class _Waiting(NamedTuple):
    order: int
    kind: int
    payload: bytes


class _UnderWay:
    """A message whose chunks are leaving."""

    __slots__ = ("frames", "frames_left", "size")

    def __init__(self, frames: Iterator[bytes], frames_left: int, size: int) -> None:
        self.frames = frames
        self.frames_left = frames_left
        self.size = size


class Outbox:
    """The messages and control frames that wait; `next_frame` gives one plaintext frame after another."""

    def __init__(
        self,
        limits: KindLimits,
        max_bytes: int,
        budget: OutboxBudget,
        now: float,
        on_overflow: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin empty; `on_overflow` is called when what waits here is dropped in favour of others."""
        self._limits = limits
        self._on_overflow = on_overflow
        self._pace = Pace(limits, now)
        self._max_bytes = max_bytes
        self._budget = budget
        self._queues: dict[int, deque[_Waiting]] = {}
        self._control: deque[bytes] = deque()
        self._under_way: dict[Lane, _UnderWay] = {}
        self._order = count()
        self._messages = 0
        self._turn = 0
        self.bytes = 0
        """Payload bytes of the messages that have not left whole."""

    def put(self, kind: int, payload: bytes) -> bool:
        """Add a message; tell whether there was room for it.

        Raises ValueError for a kind that the limits do not name and a size that they do not allow: the
        sender's own mistake.
        """
        limit = self._limits.get(kind)
        if limit is None or not 1 <= len(payload) <= limit.max_bytes:
            raise ValueError(f"a message of kind {kind} with {len(payload)} bytes is not within the limits")
        size = len(payload)
        full = self._messages >= MAX_MESSAGES or self.bytes + size > self._max_bytes
        if full or not self._budget.take(size, self):
            return False
        self.bytes += size
        self._messages += 1
        self._queues.setdefault(kind, deque()).append(_Waiting(next(self._order), kind, payload))
        return True

    def put_control(self, frame: bytes) -> bool:
        """Add a control frame, which leaves before any chunk; tell whether there was room for it."""
        if len(self._control) >= MAX_CONTROL_FRAMES:
            return False
        self._control.append(frame)
        return True

    def next_frame(self, now: float) -> bytes | float | None:
        """Return the frame that leaves now, or in how many seconds one may, or None while nothing waits."""
        if self._control:
            return self._control.popleft()
        self._turn = (self._turn + 1) % _TURNS
        waits = []
        for lane in _URGENT_TURNS if self._turn else _BULK_TURN:
            if lane not in self._under_way:
                wait = self._begin(lane, now)
                if wait is not None:
                    waits.append(wait)
                    continue
            frame = self._chunk(lane)
            if frame is not None:
                return frame
        return min(waits, default=None)

    def _begin(self, lane: Lane, now: float) -> float | None:
        """Begin the lane's first message that may leave; return the shortest wait where there is none yet."""
        heads = sorted(
            queue[0] for kind, queue in self._queues.items() if queue and self._limits[kind].lane is lane
        )
        waits = []
        for head in heads:
            wait = self._pace.wait(head.kind, len(head.payload), now)
            if wait > 0:
                waits.append(wait)
                continue
            self._queues[head.kind].popleft()
            self._pace.spend(head.kind, len(head.payload), now)
            frames = message_frames(lane, head.kind, head.payload)
            self._under_way[lane] = _UnderWay(frames, frame_count(len(head.payload)), len(head.payload))
            return None
        return min(waits, default=None)

    def _chunk(self, lane: Lane) -> bytes | None:
        """Return the next chunk of the lane's message, if there is one."""
        message = self._under_way.get(lane)
        if message is None:
            return None
        message.frames_left -= 1
        if not message.frames_left:
            del self._under_way[lane]
            self._give_back(message.size)
        return next(message.frames)

    def _give_back(self, size: int) -> None:
        self._messages -= 1
        self.bytes -= size
        self._budget.give_back(size, self)

    def clear(self) -> None:
        """Drop everything that waits."""
        dropped, self.bytes, self._messages = self.bytes, 0, 0
        self._budget.give_back(dropped, self)
        self._queues.clear()
        self._under_way.clear()
        self._control.clear()

    def overflow(self) -> None:
        """Drop everything in favour of other links, and tell so."""
        self.clear()
        self._on_overflow()
