"""Lifetime energy counters that only ever grow, whatever the device's own register does; pure.

A device's counter may start again from 0 (service, exchange), roll over at the end of its register, read 0
for a moment while the device boots, or show one wild value. The total follows the energy, not the register.
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Final

# Energy that a register may hold after a reset beyond what the rated power explains: it counts in steps.
_SLACK_WH: Final = 1000
# A step forward of up to this much is always energy, however short the time: clocks may stand or run fast.
_FORWARD_WH: Final = 100_000
# Power assumed for a device that does not say its own; above any home connection.
_UNKNOWN_RATING_W: Final = 100_000
# A backward step this small is the device's own rounding, not a reset.
_JITTER_WH: Final = 100
# So many readings in a row must confirm an unexplained jump before it becomes the new base.
_CONFIRMATIONS: Final = 3


@dataclasses.dataclass(frozen=True, slots=True)
class CounterState:
    """All that must be kept over a restart: total and register in Wh, Unix time of the last reading."""

    total_wh: int
    raw_wh: int
    at: float


class LifetimeCounter:
    """Follows one register. `modulus_wh` is where it rolls over, None when that is not known."""

    def __init__(self, *, modulus_wh: int | None = None, state: CounterState | None = None) -> None:
        """Start afresh (the first reading becomes the total), or go on from a kept state."""
        self.modulus_wh = modulus_wh
        self.state = state
        self._high: CounterState | None = None  # the reading before a drop, should it come back
        self._odd: list[int] = []  # the readings in a row that show an unexplained jump
        self._fast = False  # the register has been seen to run ahead of our clock, steadily

    def update(self, raw_wh: int, now: float, rated_w: int | None = None) -> int:
        """Take in a reading (Wh, at Unix time `now`) and return the total in Wh.

        `rated_w` bounds what can have been counted since the last reading.
        """
        last = self.state
        if last is None:
            self.state = CounterState(raw_wh, raw_wh, now)
            return raw_wh
        gained = self._gain(last, raw_wh, now, rated_w or _UNKNOWN_RATING_W)
        if gained is not None:
            self.state = CounterState(last.total_wh + gained, raw_wh, now)
            self._odd = []
        return self.state.total_wh if self.state is not None else raw_wh

    def _gain(self, last: CounterState, raw_wh: int, now: float, rated_w: int) -> int | None:
        """Wh since the last reading; None to leave the total and the base as they are."""
        likely = _likely_wh(rated_w, now - last.at)
        most = _FORWARD_WH + likely
        step = raw_wh - last.raw_wh
        if 0 <= step <= most:
            self._fast = False
            return step
        if step > 0:
            return self._jump(last, raw_wh, now, rated_w)
        if -step <= _JITTER_WH and raw_wh > _JITTER_WH:
            return None
        if self.modulus_wh is not None and step + self.modulus_wh <= most:
            return step + self.modulus_wh
        if self._high is None:
            self._high = last
        return raw_wh if raw_wh <= _SLACK_WH + likely else 0

    def _jump(self, last: CounterState, raw_wh: int, now: float, rated_w: int) -> int | None:
        """An upward step that the rated power can't explain."""
        high = self._high
        if high is not None:
            back = raw_wh - high.raw_wh
            counted = last.total_wh - high.total_wh
            if 0 <= back <= _FORWARD_WH + _likely_wh(rated_w, now - high.at):
                self._high = None
                return max(back - counted, 0)
        if self._odd and raw_wh < self._odd[-1] - _JITTER_WH:
            self._odd = []
        self._odd.append(raw_wh)
        if len(self._odd) < _CONFIRMATIONS and not self._fast:
            return None
        self._high = None
        if self._fast or _steady([last.raw_wh, *self._odd]):
            self._fast = True
            return raw_wh - last.raw_wh  # it goes on like this: time runs faster than our clock
        return 0  # a new base: what the register did in between is not energy


def _steady(readings: list[int]) -> bool:
    """Whether every step is too large to be explained, and like the others: no wild values, no new base."""
    steps = [after - before for before, after in pairwise(readings)]
    return min(steps) > _FORWARD_WH and max(steps) <= 2 * min(steps)


def _likely_wh(rated_w: int, seconds: float) -> int:
    """The most that a device of that rating can have counted in that time, with a margin of two."""
    return int(2 * rated_w * max(seconds, 0.0) / 3600)
