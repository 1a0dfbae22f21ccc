"""From a meter's samples to its registers at slot boundaries, sans I/O.

A sample within a second of a boundary counts as measured there. Otherwise the register is taken on the
straight line between the samples around the boundary, rounded down: interpolated, or estimated when the
samples lie far apart. A register that runs backwards or faster than the connection can carry is not taken:
readings pause until the meter tells plausible figures again, and nothing is made up meanwhile.

Where it never will (a counter that began anew, a jump that stays), the user may accept the new count: what is
signed goes on from the last plausible registers, as if nothing had flowed at the jump, and every boundary up
to the next one is marked estimated.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any

from ledger_core.records.readings import Quality, ReadingRow
from ledger_core.units import energy

MEASURED_S = 1.0
"""A sample this near to a boundary is the boundary's."""
INTERPOLATED_S = 120.0
"""Between samples further apart than this, and than half a slot, a register is only estimated."""
JUMP_PERMILLE = 1250
"""A register moves no faster than at this part of the connection's rating."""
JUMP_WH = 100
"""Beside that, from sample to sample: resolution of coarse meters."""
LEDGER_WH = 20
"""The same from boundary to boundary, where the ledger holds it against this and `JUMP_PERMILLE`."""
MAX_PENDING = 192 * 16
"""Boundaries kept for a node that is away; older ones were settled without them long ago."""


class Problem(StrEnum):
    """Why a meter's readings pause."""

    BACKWARDS = "meter_backwards"
    JUMP = "meter_jump"
    CLOCK = "clock_backwards"


@dataclass(frozen=True, slots=True)
class Sample:
    """A meter's registers at one moment: UTC seconds, Wh."""

    at: float
    import_wh: int
    export_wh: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Why readings pause: the register, what it told last, and what it tells now (Wh)."""

    problem: Problem
    register: str
    before_wh: int
    after_wh: int
    since: float


@dataclass(slots=True)
class Boundaries:
    """One meter's boundaries: taken from samples, kept until the chain has them."""

    slot_s: int
    rating_w: int
    last: Sample | None = None
    pause: Pause | None = None
    pending: list[ReadingRow] = field(default_factory=list)
    """Not in the chain yet, oldest first."""
    offset: tuple[int, int] = (0, 0)
    """Added to what the meter tells of import and export, Wh: its count was accepted anew."""
    boundary: ReadingRow | None = None
    """The newest one, also once the chain has it."""
    _raw: Sample | None = field(default=None, compare=False)
    """The newest sample, as the meter told it."""
    _accepted_at: float | None = None
    """Boundaries before this time, and the next one after it, are estimated."""

    def accept(self) -> bool:
        """Go on from the new count of a meter that jumped or fell; False: there is nothing to accept."""
        if not self.can_accept or self._raw is None or self.last is None:
            return False
        self.offset = (
            self.last.import_wh - self._raw.import_wh,
            self.last.export_wh - self._raw.export_wh,
        )
        self.pause = None
        self._accepted_at = self._raw.at
        return True

    def rate(self, rating_w: int) -> None:
        """Take over the connection's rating; where it was raised, a jump may have been none."""
        if rating_w > self.rating_w and self.pause is not None and self.pause.problem is Problem.JUMP:
            self.pause = None
        self.rating_w = rating_w

    @property
    def can_accept(self) -> bool:
        """Whether readings pause for a register, rather than for the clock."""
        return self.pause is not None and self.pause.problem is not Problem.CLOCK

    def take(self, raw: Sample) -> list[ReadingRow]:
        """Take a sample; returns the boundaries that it completes, which are pending from now on."""
        self._raw = raw
        sample = Sample(raw.at, raw.import_wh + self.offset[0], raw.export_wh + self.offset[1])
        last = self.last
        if last is None:
            self.last = sample
            return self._first(sample)
        if sample.at <= last.at:
            if sample.at < last.at - self.slot_s:
                self.pause = Pause(Problem.CLOCK, "clock", int(last.at), int(sample.at), sample.at)
            return []
        rows = [self._at(end, last, sample) for end in self._ends(last.at, sample.at)]
        if not self._plausible(last, sample, rows):
            return []
        self.pause = None
        self.last = sample
        return self._complete([self._honest(row) for row in rows])

    def _complete(self, rows: list[ReadingRow]) -> list[ReadingRow]:
        if rows:
            self.boundary = rows[-1]
        self.pending += rows
        del self.pending[:-MAX_PENDING]
        return rows

    def confirm(self, end: int) -> None:
        """The chain holds the boundaries up to this one."""
        self.pending = [row for row in self.pending if row.end > end]

    def _honest(self, row: ReadingRow) -> ReadingRow:
        """Mark what a count that was accepted anew makes uncertain: up to the next boundary after it."""
        if self._accepted_at is None:
            return row
        if row.end >= self._accepted_at:
            self._accepted_at = None
        return ReadingRow(row.end, row.import_wh, row.export_wh, Quality.ESTIMATED)

    def _first(self, sample: Sample) -> list[ReadingRow]:
        """A first sample gives a boundary only if it lies on one."""
        near = round(sample.at / self.slot_s) * self.slot_s
        if abs(sample.at - near) > MEASURED_S or near > sample.at:
            return []
        return self._complete([ReadingRow(near, sample.import_wh, sample.export_wh, Quality.MEASURED)])

    def _ends(self, after: float, until: float) -> range:
        """Return the boundaries after one time, up to another."""
        first = (int(after) // self.slot_s + 1) * self.slot_s
        return range(first, int(until) + 1, self.slot_s)

    def _at(self, end: int, before: Sample, after: Sample) -> ReadingRow:
        if after.at - end <= MEASURED_S:
            return ReadingRow(end, after.import_wh, after.export_wh, Quality.MEASURED)
        if end - before.at <= MEASURED_S:
            return ReadingRow(end, before.import_wh, before.export_wh, Quality.MEASURED)
        # Milliseconds, so that no float enters what is signed.
        whole, part = int((after.at - before.at) * 1000), int((end - before.at) * 1000)
        gap = after.at - before.at
        near = gap <= max(INTERPOLATED_S, self.slot_s / 2)
        return ReadingRow(
            end,
            before.import_wh + (after.import_wh - before.import_wh) * part // whole,
            before.export_wh + (after.export_wh - before.export_wh) * part // whole,
            Quality.INTERPOLATED if near else Quality.ESTIMATED,
        )

    def _plausible(self, last: Sample, sample: Sample, rows: list[ReadingRow]) -> bool:
        """Whether a sample may follow, with the boundaries that it completes; if not, readings pause."""
        steps = list(self._steps(last, sample, rows))
        for register in ("import", "export"):
            now: int = getattr(sample, f"{register}_wh")
            for before, after, limit in steps:
                old: int = getattr(before, f"{register}_wh")
                rise = getattr(after, f"{register}_wh") - old
                problem = None
                if rise < 0:
                    problem = Problem.BACKWARDS
                elif rise > limit or self._still_jumped(register, now):
                    problem = Problem.JUMP
                if problem is not None:
                    since = sample.at if self.pause is None else self.pause.since
                    first = now if self.pause is None else self.pause.after_wh
                    self.pause = Pause(problem, register, old, first, since)
                    return False
        return True

    def _steps(
        self, last: Sample, sample: Sample, rows: list[ReadingRow]
    ) -> Iterator[tuple[Sample | ReadingRow, Sample | ReadingRow, int]]:
        """Return pairs of what the meter told, and how far a register may rise between them, Wh."""
        # Coarse registers move in steps, so a step is held against what a whole slot could carry.
        seconds = max(int(sample.at - last.at) + 1, self.slot_s)
        yield last, sample, self._carried(seconds) + JUMP_WH
        # The ledger holds each boundary against the one before: so does this, and the sample with its slot's
        # end, that no boundary can follow which the ledger would refuse.
        slot_end = (int(sample.at) // self.slot_s + 1) * self.slot_s
        known = [] if self.boundary is None else [self.boundary]
        coming = ReadingRow(slot_end, sample.import_wh, sample.export_wh, Quality.MEASURED)
        for before, after in pairwise([*known, *rows, coming]):
            yield before, after, self._carried(after.end - before.end) + LEDGER_WH

    def _carried(self, seconds: int) -> int:
        return energy(self.rating_w, seconds) * JUMP_PERMILLE // 1000

    def _still_jumped(self, register: str, after: int) -> bool:
        """A jump does not become true by waiting until it might have been: the register must come back."""
        pause = self.pause
        if pause is None or pause.problem is not Problem.JUMP or pause.register != register:
            return False
        return after >= pause.after_wh

    # --- over restarts ----------------------------------------------------------------------------------

    def kept(self) -> dict[str, Any]:
        """Return what must survive a restart, JSON-friendly."""
        last, pause = self.last, self.pause
        return {
            "last": None if last is None else [last.at, last.import_wh, last.export_wh],
            "pause": None
            if pause is None
            else [pause.problem.value, pause.register, pause.before_wh, pause.after_wh, pause.since],
            "offset": list(self.offset),
            "accepted_at": self._accepted_at,
            "rating_w": self.rating_w,
            "boundary": None if self.boundary is None else _row_kept(self.boundary),
            "pending": [_row_kept(row) for row in self.pending],
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Go on from what `kept` gave."""
        last: Sequence[Any] | None = kept.get("last")
        if last is not None:
            self.last = Sample(float(last[0]), int(last[1]), int(last[2]))
        pause: Sequence[Any] | None = kept.get("pause")
        if pause is not None:
            self.pause = Pause(
                Problem(pause[0]), str(pause[1]), int(pause[2]), int(pause[3]), float(pause[4])
            )
        imported, exported = kept.get("offset", (0, 0))
        self.offset = (int(imported), int(exported))
        self._accepted_at = kept.get("accepted_at")
        boundary: Sequence[int] | None = kept.get("boundary")
        self.boundary = None if boundary is None else _row_of(boundary)
        self.pending = [_row_of(row) for row in kept.get("pending", [])]
        now, self.rating_w = self.rating_w, int(kept.get("rating_w", self.rating_w))
        self.rate(now)


def _row_kept(row: ReadingRow) -> list[int]:
    return [row.end, row.import_wh, row.export_wh, int(row.quality)]


def _row_of(kept: Sequence[int]) -> ReadingRow:
    end, imported, exported, quality = map(int, kept)
    return ReadingRow(end, imported, exported, Quality(quality))
