"""Carry out a read plan on a device: what answers, what is refused, what stays silent in this poll.

One unanswered request per unit and poll is all that a silent device may cost the others on its link: the
rest of its blocks wait for the next poll, which begins with them.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final

from .errors import DeviceBusy, DeviceError, ExceptionReply, GatewayError, LinkClosed, LinkError
from .planner import Block, Item, ReadBook, halves, items_for, plan
from .profile.model import RegisterPoint
from .transport.base import ModbusUnit

# How long a busy device is left alone before each further try, in seconds.
_BUSY_PAUSES: Final = (0.1, 0.3)


@dataclasses.dataclass(slots=True)
class Outcome:
    """What one poll brought. `registers`: by companion ("" for the device itself) and function."""

    registers: dict[tuple[str, int], dict[int, int]] = dataclasses.field(default_factory=dict)
    answered: set[str] = dataclasses.field(default_factory=set)  # companions that gave any answer at all
    silent: dict[str, DeviceError] = dataclasses.field(default_factory=dict)
    refused: list[ExceptionReply] = dataclasses.field(default_factory=list)
    link_down: LinkError | None = None
    requests: int = 0

    def of(self, point: RegisterPoint) -> Mapping[int, int]:
        """The registers among which `point` lies."""
        return self.registers.get((point.companion or "", int(point.function)), {})

    def reaches(self, companion: str) -> bool:
        """Whether it makes sense to ask that unit more in this poll."""
        return self.link_down is None and companion not in self.silent

    @property
    def error(self) -> DeviceError | None:
        """The most telling error of the poll."""
        if self.link_down is not None:
            return self.link_down
        for error in self.silent.values():
            return error
        return self.refused[0] if self.refused else None


class BlockReader:
    """Reads blocks from a device's units and keeps its `ReadBook`."""

    def __init__(self, units: Mapping[str, ModbusUnit], book: ReadBook) -> None:
        """`units` maps "" to the device's own unit and each companion's name to its unit."""
        self._units = units
        self.book = book
        self._late: dict[str, tuple[int, int]] = {}  # per unit, the block that was unanswered last

    async def read(self, points: Sequence[RegisterPoint]) -> Outcome:
        """Read everything that `points` need and that is due; never raises a DeviceError."""
        self.book.begin_poll()
        outcome = Outcome()
        refused: list[Block] = []
        for block in self._ordered(self.book.blocks(points)):
            if block.companion not in self._units or not outcome.reaches(block.companion):
                continue
            if not await self._try(block, outcome):
                refused.append(block)
        await self._examine(refused, points, outcome)
        return outcome

    def _ordered(self, blocks: list[Block]) -> list[Block]:
        """Blocks that were left unanswered last time come last."""
        return sorted(blocks, key=lambda block: self._late.get(block.companion) == _place(block))

    async def _try(self, block: Block, outcome: Outcome) -> bool:
        """Read one block into the outcome; False when the device refuses it."""
        try:
            values = await self._ask(block, outcome)
        except (GatewayError, DeviceBusy) as error:
            outcome.silent[block.companion] = error
        except ExceptionReply as error:
            outcome.refused.append(error)
            if error.refused:
                return False
        except LinkClosed as error:
            outcome.link_down = error
        except LinkError as error:
            outcome.silent[block.companion] = error
            self._late[block.companion] = _place(block)
            if block.companion in outcome.answered:
                self.book.failed(block.items)
        else:
            self._store(block, values, outcome)
        return True

    async def _ask(self, block: Block, outcome: Outcome) -> list[int]:
        """One request, repeated after a pause while the device says that it is busy."""
        unit = self._units[block.companion]
        for pause in _BUSY_PAUSES:
            outcome.requests += 1
            try:
                return await unit.read(block.function, block.address, block.count)
            except DeviceBusy:
                await asyncio.sleep(pause)
        outcome.requests += 1
        return await unit.read(block.function, block.address, block.count)

    def _store(self, block: Block, values: Sequence[int], outcome: Outcome) -> None:
        outcome.answered.add(block.companion)
        self.book.answered(block)
        self._late.pop(block.companion, None)
        area = outcome.registers.setdefault((block.companion, block.function), {})
        area.update(zip(range(block.address, block.end), values, strict=True))

    async def _examine(
        self, refused: Sequence[Block], points: Sequence[RegisterPoint], outcome: Outcome
    ) -> None:
        """Find what in the refused blocks is to blame, and remember it.

        A device that refuses everything, also what it has answered before, is out of order as a whole:
        then nothing is learnt.
        """
        by_name = {point.name: point for point in points}
        for block in refused:
            alone = block.companion not in outcome.answered
            if alone and self.book.known(block):
                continue
            before = len(outcome.refused)
            bad = await self._split(block, by_name, outcome)
            if block.companion in outcome.answered:
                self.book.failed(bad)
            elif alone:
                del outcome.refused[before:]

    async def _split(self, block: Block, points: Mapping[str, RegisterPoint], outcome: Outcome) -> list[Item]:
        """Read a refused block in parts; return the items that are refused on their own."""
        if not outcome.reaches(block.companion):
            return []
        pair = halves(block)
        if pair is None:
            return await self._part(block.items[0], points, outcome)
        bad: list[Item] = []
        whole = True
        for half in pair:
            if not outcome.reaches(half.companion):
                return bad
            if not await self._try(half, outcome):
                whole = False
                bad += await self._split(half, points, outcome)
        if whole and outcome.reaches(block.companion):
            self.book.cut(pair[1])
        return bad

    async def _part(self, item: Item, points: Mapping[str, RegisterPoint], outcome: Outcome) -> list[Item]:
        """A single item is refused: perhaps only because what lies between its parts can't be read."""
        served = [points[name] for name in item.points if name in points]
        parts = items_for(served, self.book.limits, joined=False)
        if len(parts) < 2 or not self.book.can_take_apart(item):
            return [item]
        bad: list[Item] = []
        for part in plan(parts, dataclasses.replace(self.book.limits, max_gap=0)):
            if not outcome.reaches(part.companion):
                return []
            if not await self._try(part, outcome):
                bad += part.items
        if not bad and outcome.reaches(item.companion):
            self.book.take_apart(item)
        return [item] if bad else []


def _place(block: Block) -> tuple[int, int]:
    return (block.function, block.address)
