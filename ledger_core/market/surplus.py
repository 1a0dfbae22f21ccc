"""What a home can spare or needs, slot by slot: plain figures, so that every one can be told.

First the sun (or whatever runs anyway) covers the home; what is over in a slot can be sold. What a store
holds above its reserve, after what the home itself will need until the sun returns, can be sold in any slot,
up to its power. What is sold already is taken off first.
"""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from ledger_core.units import energy


class SlotForecast(Struct, frozen=True, kw_only=True):
    """What is expected of one slot, Wh."""

    start: int
    generation_wh: int
    load_wh: int
    sold_wh: int = 0
    """Agreed sales of the home in this slot."""
    bought_wh: int = 0


class StoreNow(Struct, frozen=True, kw_only=True):
    """A battery, or a fuel cell's tank, that may be sold from."""

    held_wh: int
    capacity_wh: int
    reserve_wh: int
    max_w: int
    own_permille: int = 1000
    """The part of what it holds that was not bought from the grid."""
    keeps_for_home: bool = True
    """Keep what the home needs until its own generation returns."""


class SlotBalance(Struct, frozen=True, kw_only=True):
    """What a slot leaves over or lacks, Wh, and where it comes from."""

    start: int
    generation_wh: int
    load_wh: int
    sold_wh: int
    bought_wh: int
    direct_wh: int
    """To spare of what is generated in the slot itself."""
    room_wh: int
    """What the store's power could add, whatever it holds."""
    need_wh: int
    """What the home will draw from the grid, beyond what it has bought."""


class StoreBudget(Struct, frozen=True, kw_only=True):
    """How what a store holds is divided, Wh."""

    held_wh: int
    reserve_wh: int
    bought_from_grid_wh: int
    for_home_wh: int
    outstanding_wh: int
    """Sold already, to be drawn from it."""
    free_wh: int


class Balance(Struct, frozen=True, kw_only=True):
    """The slots ahead, and the store's division behind them.

    What is free in the store can be sold in any slot, but once: not in this one and in the next.
    """

    slots: tuple[SlotBalance, ...]
    store: StoreBudget | None

    def at(self, start: int) -> SlotBalance | None:
        """Return the slot that starts then."""
        return next((slot for slot in self.slots if slot.start == start), None)

    def surplus_between(self, start: int, end: int) -> int:
        """Return the Wh that can be sold in the slots of a window, if the store gives to no other."""
        inside = [slot for slot in self.slots if start <= slot.start < end]
        free = 0 if self.store is None else self.store.free_wh
        return sum(slot.direct_wh for slot in inside) + min(free, sum(slot.room_wh for slot in inside))

    def sold_between(self, start: int, end: int) -> int:
        """Return the Wh that are sold already in the slots of a window."""
        return sum(slot.sold_wh for slot in self.slots if start <= slot.start < end)

    def need_between(self, start: int, end: int) -> int:
        """Return the Wh that the home lacks in the slots of a window."""
        return sum(slot.need_wh for slot in self.slots if start <= slot.start < end)

    def without(self, start: int, end: int, sold_wh: int) -> Balance:
        """Return what is left once so much is sold in a window: first what is generated in it."""
        left, slots = sold_wh, list(self.slots)
        inside = [number for number, slot in enumerate(slots) if start <= slot.start < end]
        for number in inside:
            taken = min(left, slots[number].direct_wh)
            slots[number] = replace(slots[number], direct_wh=slots[number].direct_wh - taken)
            left -= taken
        if self.store is None:
            return Balance(slots=tuple(slots), store=None)
        free = max(self.store.free_wh - left, 0)
        for number in inside:
            taken = min(left, slots[number].room_wh)
            slots[number] = replace(slots[number], room_wh=slots[number].room_wh - taken)
            left -= taken
        return Balance(slots=tuple(slots), store=replace(self.store, free_wh=free))


def balance(slots: Sequence[SlotForecast], store: StoreNow | None, slot_s: int) -> Balance:
    """Return what can be sold and what is needed."""
    budget = _budget(slots, store) if store is not None else None
    home = 0 if budget is None else max(budget.held_wh - budget.reserve_wh - budget.outstanding_wh, 0)
    result = []
    for slot in slots:
        direct = max(slot.generation_wh - slot.load_wh - slot.sold_wh, 0)
        room = 0 if store is None else max(energy(store.max_w, slot_s) - slot.sold_wh, 0)
        lack = max(slot.load_wh - slot.generation_wh, 0)
        covered = min(lack, home)
        home -= covered
        result.append(
            SlotBalance(
                start=slot.start,
                generation_wh=slot.generation_wh,
                load_wh=slot.load_wh,
                sold_wh=slot.sold_wh,
                bought_wh=slot.bought_wh,
                direct_wh=direct,
                room_wh=room,
                need_wh=max(lack - covered - slot.bought_wh, 0),
            )
        )
    return Balance(slots=tuple(result), store=budget)


def _budget(slots: Sequence[SlotForecast], store: StoreNow) -> StoreBudget:
    """Divide what a store holds: reserve, what the grid gave, the home, what is sold, what is free."""
    outstanding = sum(max(slot.sold_wh - max(slot.generation_wh - slot.load_wh, 0), 0) for slot in slots)
    above = max(store.held_wh - store.reserve_wh, 0)
    from_grid = min(store.held_wh * (1000 - store.own_permille) // 1000, above)
    own_need = 0
    if store.keeps_for_home:
        # The longest shortage from now on: so much must be there before generation makes up for it.
        running = 0
        for slot in slots:
            running += slot.load_wh - slot.generation_wh
            own_need = max(own_need, running)
    for_home = min(own_need, above)
    # What the grid gave serves the home first.
    free = max(above - max(for_home, from_grid) - outstanding, 0)
    return StoreBudget(
        held_wh=store.held_wh,
        reserve_wh=store.reserve_wh,
        bought_from_grid_wh=from_grid,
        for_home_wh=for_home,
        outstanding_wh=outstanding,
        free_wh=free,
    )


class Threshold(Struct, frozen=True):
    """A threshold with hysteresis: on at `on`, off below `off`."""

    on: int
    off: int

    def step(self, was_on: bool, value: int) -> bool:
        """Return whether it is on now."""
        return value >= (self.off if was_on else self.on)


class Origin(Struct, frozen=True):
    """Whose energy a store holds, Wh: generated here, or drawn from the grid. Taken out in proportion."""

    own_wh: int = 0
    grid_wh: int = 0

    @property
    def own_permille(self) -> int:
        """The part that was generated here; of an empty store all of it."""
        total = self.own_wh + self.grid_wh
        return 1000 if not total else self.own_wh * 1000 // total

    def follow(self, held_wh: int, drawn_wh: int) -> Origin:
        """Return the content after a while: what it holds now, and what the home drew meanwhile.

        Of what came in, at most what was drawn from the grid in the same time counts as the grid's.
        """
        total = self.own_wh + self.grid_wh
        if held_wh >= total:
            gained = held_wh - total
            from_grid = min(gained, max(drawn_wh, 0))
            return Origin(self.own_wh + gained - from_grid, self.grid_wh + from_grid)
        own = self.own_wh * held_wh // total
        return Origin(own, held_wh - own)
