"""Points to block reads; pure.

`plan` finds the fewest blocks within a device's limits. `ReadBook` remembers what the device taught us:
where a block must be cut, and which points it refuses or leaves unanswered, to be tried again later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from .profile.model import Function, Hole, RegisterPoint

# A point that failed this often in a row is no longer asked for in every poll. One that has been read
# before gets more patience: it exists, so its failure is likely to pass.
_PATIENCE_NEW: Final = 3
_PATIENCE_KNOWN: Final = 10
_LONGEST_REST_NEW: Final = 120
_LONGEST_REST_KNOWN: Final = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a device answers: longest block, largest useless gap, addresses no block may touch."""

    max_registers: int
    max_gap: int
    holes: tuple[Hole, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Item:
    """Registers `first`..`last` that must come from one request; `points` are the names they serve."""

    companion: str
    function: int
    first: int
    last: int
    points: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, int, int, int]:
        """What is read, whoever needs it."""
        return (self.companion, self.function, self.first, self.last)


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """One request: `count` registers from `address` on of a unit (`companion`, "" for the device itself)."""

    companion: str
    function: int
    address: int
    count: int
    items: tuple[Item, ...]

    @property
    def end(self) -> int:
        """The first address after the block."""
        return self.address + self.count


def items_for(points: Iterable[RegisterPoint], limits: Limits, *, joined: bool = True) -> list[Item]:
    """What must be read for `points`.

    A value and its scale register, or its two separate words, belong together (`joined`), so that they
    are of the same moment, if one block can hold them.
    """
    needed: dict[tuple[str, int, int, int], list[str]] = {}
    for point in points:
        runs = [(address, address + count - 1) for address, count in point.addresses()]
        first = min(run[0] for run in runs)
        last = max(run[1] for run in runs)
        whole = last - first < limits.max_registers and not _in_hole(point.function, first, last, limits)
        if joined and whole:
            runs = [(first, last)]
        for run in runs:
            key = (point.companion or "", int(point.function), *run)
            needed.setdefault(key, []).append(point.name)
    return sorted(Item(*key, points=tuple(names)) for key, names in needed.items())


def _in_hole(function: int, first: int, last: int, limits: Limits) -> bool:
    """Whether first..last touches an address that no block may cover."""
    return any(
        hole.function == function and hole.first <= last and first <= hole.last for hole in limits.holes
    )


def plan(items: Sequence[Item], limits: Limits, cuts: Collection[tuple[str, int, int]] = ()) -> list[Block]:
    """The fewest blocks that read all `items`, in address order.

    Taking from the lowest address as many items as one block may hold is optimal, because a block that
    begins later can't reach less far. `cuts` are (companion, function, address) that no block may cross:
    the address would be the first of a new block.
    """
    blocks: list[Block] = []
    group: list[Item] = []
    for item in sorted(items):
        if group and not _fits(group, item, limits, cuts):
            blocks.append(_block(group))
            group = []
        group.append(item)
    if group:
        blocks.append(_block(group))
    return blocks


def _fits(group: Sequence[Item], item: Item, limits: Limits, cuts: Collection[tuple[str, int, int]]) -> bool:
    """Whether `item` can join the block of `group`."""
    start = group[0]
    if (item.companion, item.function) != (start.companion, start.function):
        return False
    end = max(member.last for member in group)
    if item.last <= end:
        return True
    if item.last - start.first >= limits.max_registers or item.first - end - 1 > limits.max_gap:
        return False
    if item.first > end + 1 and _in_hole(item.function, end + 1, item.first - 1, limits):
        return False
    return not any(
        (companion, function) == (item.companion, item.function) and start.first < address <= item.first
        for companion, function, address in cuts
    )


def _block(group: Sequence[Item]) -> Block:
    first, last = group[0].first, max(item.last for item in group)
    return Block(group[0].companion, group[0].function, first, last - first + 1, tuple(group))


def halves(block: Block) -> tuple[Block, Block] | None:
    """Two smaller blocks that read the same items; None for a block of a single item."""
    if len(block.items) < 2:
        return None
    middle = len(block.items) // 2
    return _block(block.items[:middle]), _block(block.items[middle:])


@dataclasses.dataclass(slots=True)
class _Record:
    """What is known of one item: read before? failures in a row, and the poll at which to try again."""

    known: bool = False
    failures: int = 0
    retry_at: int = 0


class ReadBook:
    """What has been learnt about reading one device. Polls are numbered by `begin_poll`."""

    def __init__(self, limits: Limits) -> None:
        """Start knowing the limits only."""
        self.limits = limits
        self.poll = 0
        self._cuts: set[tuple[str, int, int]] = set()
        self._cut_once: set[tuple[str, int, int]] = set()
        self._records: dict[tuple[str, int, int, int], _Record] = {}
        self._apart: set[str] = set()  # points whose parts one block can't hold after all
        self._plans: dict[tuple[object, ...], list[Block]] = {}

    def begin_poll(self) -> int:
        """Count one more poll."""
        self.poll += 1
        return self.poll

    def blocks(self, points: Sequence[RegisterPoint]) -> list[Block]:
        """What to read in this poll for `points`: first what is known to answer, then what is on trial."""
        key = tuple((point.name, point.companion) for point in points)
        if key in self._plans:
            return self._plans[key]
        together = [point for point in points if point.name not in self._apart]
        apart = [point for point in points if point.name in self._apart]
        items = items_for(together, self.limits) + items_for(apart, self.limits, joined=False)
        sound: list[Item] = []
        trial: list[Item] = []
        bad: list[Item] = []
        for item in items:
            record = self._records.get(item.key)
            if record is None or not record.failures:
                sound.append(item)
                continue
            bad.append(item)
            if record.retry_at <= self.poll:
                trial.append(item)
        limits = dataclasses.replace(
            self.limits, holes=self.limits.holes + tuple(_hole(item) for item in bad)
        )
        blocks = plan(sound, limits, self._cuts) + [_block([item]) for item in trial]
        if not bad:
            self._plans[key] = blocks
        return blocks

    def absent(self, point: RegisterPoint) -> bool:
        """Whether the device has never answered for this point, but has refused it."""
        for item in items_for([point], self.limits, joined=point.name not in self._apart):
            record = self._records.get(item.key)
            if record is not None and record.failures and not record.known:
                return True
        return False

    def known(self, block: Block) -> bool:
        """Whether the device has answered for all of this block before."""
        records = [self._records.get(item.key) for item in block.items]
        return all(record is not None and record.known for record in records)

    def answered(self, block: Block) -> None:
        """The device answered this block."""
        for item in block.items:
            record = self._records.get(item.key)
            if record is None:
                self._records[item.key] = _Record(known=True)
            elif record.failures or not record.known:
                record.known, record.failures, record.retry_at = True, 0, 0
                self._plans.clear()

    def failed(self, items: Iterable[Item]) -> None:
        """The device refused these items, or left them unanswered, while it answered others."""
        for item in items:
            record = self._records.setdefault(item.key, _Record())
            record.failures += 1
            patience = _PATIENCE_KNOWN if record.known else _PATIENCE_NEW
            longest = _LONGEST_REST_KNOWN if record.known else _LONGEST_REST_NEW
            rest = 1 if record.failures <= patience else min(2 ** (record.failures - patience), longest)
            record.retry_at = self.poll + rest
        self._plans.clear()

    def cut(self, block: Block) -> None:
        """Both sides of this block's first register answered, but not in one request.

        Seen twice at the same place, it is a limit of the device rather than a passing fault: no block will
        cross that place again.
        """
        place = (block.companion, block.function, block.address)
        if place in self._cut_once:
            self._cuts.add(place)
            self._plans.clear()
        self._cut_once.add(place)

    def take_apart(self, item: Item) -> None:
        """Read the parts of this item's points with requests of their own."""
        self._apart.update(item.points)
        self._plans.clear()

    def can_take_apart(self, item: Item) -> bool:
        """Whether this item joins registers that could be read apart."""
        return not self._apart.issuperset(item.points)


def _hole(item: Item) -> Hole:
    return Hole(function=Function(item.function), first=item.first, last=item.last)
