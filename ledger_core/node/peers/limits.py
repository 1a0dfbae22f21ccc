"""How much of each kind of message a peer may send: size, number and bytes per time, time per message.

Both sides of a link hold the same table. The sender keeps to it by waiting (`Pace`); the receiver ends the
link when a peer exceeds it (`Allowance`). A link may stall and then deliver at once what was sent
meanwhile, so the receiver grants what `slack_s` seconds more would have allowed: an honest peer is never
taken for a flood.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from ledger_core.node.peers.errors import Misbehaviour
from ledger_core.node.peers.frames import MAX_MESSAGE_BYTES, Lane

MAX_KIND: Final = 255
_CONTROL_PER_SECOND: Final = 2.0
_CONTROL_BURST: Final = 60
_ROUNDING: Final = 1e-6
"""Part of a token that arithmetic may lose: after the wait that it asked for, a bucket has what was asked."""

_CLOCK_TOLERANCE: Final = 1.02
"""Two clocks may run differently fast; the receiver allows that much more."""


class KindLimit(Struct, frozen=True, kw_only=True):
    """What a peer may send of one kind of message; raises ValueError for a limit that allows nothing."""

    name: str
    """For logs and errors."""
    max_bytes: int
    """Of one message; at most 2 MiB."""
    per_second: float
    burst: int
    """Messages that may come at once, after a pause."""
    bytes_per_second: float
    burst_bytes: int
    """Bytes that may come at once, after a pause; at least `max_bytes`."""
    max_seconds: float = 60.0
    """From a message's first chunk to its last, without the time in which the receiver did not read."""
    bulk: bool = False
    """Bulky messages travel in a lane of their own and wait for the others, chunk by chunk."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_bytes <= MAX_MESSAGE_BYTES:
            raise ValueError(f"{self.name}: max_bytes must be 1 to {MAX_MESSAGE_BYTES}, not {self.max_bytes}")
        if self.burst_bytes < self.max_bytes:
            raise ValueError(f"{self.name}: burst_bytes must be at least max_bytes ({self.max_bytes})")
        if self.burst < 1 or min(self.per_second, self.bytes_per_second, self.max_seconds) <= 0:
            raise ValueError(f"{self.name}: every rate, burst and time must be above 0")

    @property
    def lane(self) -> Lane:
        """The lane in which messages of this kind travel."""
        return Lane.BULK if self.bulk else Lane.URGENT


type KindLimits = Mapping[int, KindLimit]
"""Limits by the number (0 to 255) that a frame carries for a message's kind."""


class TokenBucket:
    """Tokens that come at a rate up to a capacity; times are seconds of one monotonic clock."""

    __slots__ = ("_capacity", "_level", "_rate", "_seen")

    def __init__(self, rate: float, capacity: float, now: float) -> None:
        self._rate = rate
        self._capacity = capacity
        self._level = capacity
        self._seen = now

    def _refill(self, now: float) -> None:
        if self._level < self._capacity:
            self._level = min(self._capacity, self._level + max(now - self._seen, 0.0) * self._rate)
        self._seen = now

    def take(self, amount: float, now: float) -> bool:
        """Take tokens if there are enough; tell whether there were."""
        self._refill(now)
        if amount > self._level + _ROUNDING:
            return False
        self._level -= amount
        return True

    def wait(self, amount: float, now: float) -> float:
        """Return in how many seconds there will be enough tokens; 0 if there are."""
        self._refill(now)
        missing = min(amount, self._capacity) - self._level
        return missing / self._rate if missing > _ROUNDING else 0.0

    def credit(self, seconds: float, now: float) -> None:
        """Refill, for once up to what the capacity and those seconds hold together."""
        most = max(self._level, self._capacity + seconds * self._rate)
        self._level = min(most, self._level + (now - self._seen) * self._rate)
        self._seen = now


class _Buckets:
    """Messages and bytes of one kind."""

    __slots__ = ("bytes", "messages")

    def __init__(self, limit: KindLimit, now: float, slack_s: float, tolerance: float) -> None:
        rate, byte_rate = limit.per_second * tolerance, limit.bytes_per_second * tolerance
        self.messages = TokenBucket(rate, limit.burst + slack_s * rate, now)
        self.bytes = TokenBucket(byte_rate, limit.burst_bytes + slack_s * byte_rate, now)


class Pace:
    """The sender's side: when the next message of a kind may leave."""

    def __init__(self, limits: KindLimits, now: float) -> None:
        self._buckets = {kind: _Buckets(limit, now, 0.0, 1.0) for kind, limit in limits.items()}

    def wait(self, kind: int, size: int, now: float) -> float:
        """Return for how many seconds a message must wait still."""
        buckets = self._buckets[kind]
        return max(buckets.messages.wait(1, now), buckets.bytes.wait(size, now))

    def spend(self, kind: int, size: int, now: float) -> None:
        """Note that a message leaves now."""
        buckets = self._buckets[kind]
        buckets.messages.take(1, now)
        buckets.bytes.take(size, now)


class Allowance:
    """The receiver's side: what a peer may still send."""

    def __init__(self, limits: KindLimits, now: float, slack_s: float) -> None:
        self._limits = limits
        self._slack_s = slack_s
        self._buckets: dict[int, _Buckets] = {}
        self._control = TokenBucket(_CONTROL_PER_SECOND, _CONTROL_BURST + slack_s * _CONTROL_PER_SECOND, now)

    def message(self, kind: int, size: int, now: float) -> KindLimit:
        """Count a message that begins to arrive; return its kind's limit.

        Raises Misbehaviour `frame_malformed` (unknown kind, empty), `oversized` or `flooding`.
        """
        limit = self._limits.get(kind)
        if limit is None or size < 1:
            raise Misbehaviour(
                "frame_malformed", f"a message of kind {kind} with {size} bytes is not known here"
            )
        if size > limit.max_bytes:
            raise Misbehaviour(
                "oversized",
                f"a {limit.name} of {size} bytes; at most {limit.max_bytes} are allowed",
                size=size,
                limit=limit.max_bytes,
            )
        buckets = self._buckets.get(kind)
        if buckets is None:
            buckets = self._buckets[kind] = _Buckets(limit, now, self._slack_s, _CLOCK_TOLERANCE)
        if not (buckets.messages.take(1, now) and buckets.bytes.take(size, now)):
            raise Misbehaviour(
                "flooding",
                f"more {limit.name} than {limit.per_second:g} and {limit.bytes_per_second:g} bytes a second",
            )
        return limit

    def control(self, now: float) -> None:
        """Count a ping, pong or frame of addresses; raises Misbehaviour `flooding`."""
        if not self._control.take(1, now):
            raise Misbehaviour("flooding", f"more than {_CONTROL_PER_SECOND:g} pings or addresses a second")

    def credit(self, seconds: float, now: float) -> None:
        """Allow what the peer could have sent in the seconds before `now`, in which nothing was read."""
        self._control.credit(seconds, now)
        for buckets in self._buckets.values():
            buckets.messages.credit(seconds, now)
            buckets.bytes.credit(seconds, now)
