"""When to try again: the waiting time doubles with each failure and is spread at random."""

from random import Random


class Backoff:
    """The failures of one target; times are seconds of one monotonic clock."""

    __slots__ = ("_base_s", "_cap_s", "_random", "failures", "not_before")

    def __init__(self, random: Random, base_s: float, cap_s: float) -> None:
        self._random = random
        self._base_s = base_s
        self._cap_s = cap_s
        self.failures = 0
        self.not_before = 0.0
        """When the next try may be made."""

    def failed(self, now: float, at_least_s: float = 0.0) -> None:
        """Note a failure; `at_least_s` is what the other side asked for, within the cap."""
        wait = min(self._cap_s, self._base_s * 2 ** min(self.failures, 32))
        self.failures += 1
        # Half of it is left to chance: nodes that lost the same peer do not come back together.
        wait *= self._random.uniform(0.5, 1.0)
        self.not_before = now + max(wait, min(at_least_s, self._cap_s))

    def succeeded(self) -> None:
        """Note that the target is well: forget the failures."""
        self.failures = 0
        self.not_before = 0.0

    def is_due(self, now: float) -> bool:
        """Tell whether a try may be made now."""
        return now >= self.not_before
