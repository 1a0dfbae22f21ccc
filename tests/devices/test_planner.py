"""The fewest blocks within a device's limits, and what is learnt from refusals."""

import functools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custom_components.energy_ledger.devices.planner import (
    Block,
    Item,
    Limits,
    ReadBook,
    halves,
    items_for,
    plan,
)
from custom_components.energy_ledger.devices.profile.model import Function, Hole, RegisterPoint, ValueType


def point(address: int, length: int = 1, **more: object) -> RegisterPoint:
    base: dict[str, object] = {
        "name": f"p{address}",
        "function": Function.READ_HOLDING,
        "address": address,
        "type": ValueType.U16 if length == 1 else ValueType.STR,
        "length": length,
    }
    return RegisterPoint(**{**base, **more})  # type: ignore[arg-type]


def spans(blocks: Sequence[Block]) -> list[tuple[int, int]]:
    return [(block.address, block.count) for block in blocks]


LIMITS = Limits(max_registers=10, max_gap=3)


@pytest.mark.parametrize(
    ("points", "limits", "expected"),
    [
        ([point(1), point(2), point(3)], LIMITS, [(1, 3)]),
        ([point(1), point(5)], LIMITS, [(1, 5)]),
        ([point(1), point(6)], LIMITS, [(1, 1), (6, 1)]),
        ([point(address) for address in range(25)], LIMITS, [(0, 10), (10, 10), (20, 5)]),
        ([point(1, 4), point(5, 4), point(9, 4)], LIMITS, [(1, 8), (9, 4)]),
        ([point(1), point(1, name="again")], LIMITS, [(1, 1)]),
        (
            [point(1), point(4)],
            Limits(10, 3, (Hole(function=Function.READ_HOLDING, first=2, last=2),)),
            [(1, 1), (4, 1)],
        ),
        (
            [point(1), point(4)],
            Limits(10, 3, (Hole(function=Function.READ_INPUT, first=2, last=2),)),
            [(1, 4)],
        ),
        ([point(1), point(2, function=Function.READ_INPUT)], LIMITS, [(1, 1), (2, 1)]),
        ([point(1), point(2, companion="meter")], LIMITS, [(1, 1), (2, 1)]),
    ],
)
def test_blocks(points: list[RegisterPoint], limits: Limits, expected: list[tuple[int, int]]) -> None:
    assert spans(plan(items_for(points, limits), limits)) == expected


def test_a_value_and_its_scale_or_high_word_come_from_one_request() -> None:
    limits = Limits(20, 0)
    scaled = point(10, scale_register=25)
    assert spans(plan(items_for([scaled], limits), limits)) == [(10, 16)]
    split = point(10, type=ValueType.S32, high_word=28)
    assert spans(plan(items_for([split], limits), limits)) == [(10, 19)]
    assert spans(plan(items_for([split], limits, joined=False), limits)) == [(10, 1), (28, 1)]
    far = point(10, scale_register=60)
    assert spans(plan(items_for([far], limits), limits)) == [(10, 1), (60, 1)]
    holes = (Hole(function=Function.READ_HOLDING, first=20, last=21),)
    assert spans(plan(items_for([scaled], Limits(20, 0, holes)), Limits(20, 0, holes))) == [(10, 1), (25, 1)]


def fewest(items: Sequence[Item], limits: Limits) -> int:
    """The least number of blocks, found by trying every way to divide the items (a different method)."""
    ordered = sorted(items)

    def possible(first: int, last: int) -> bool:
        group = ordered[first : last + 1]
        start, end = group[0].first, group[0].last
        for item in group:
            if item.first - end - 1 > limits.max_gap:
                return False
            between = range(end + 1, item.first)
            if any(hole.first <= address <= hole.last for hole in limits.holes for address in between):
                return False
            end = max(end, item.last)
        return end - start < limits.max_registers

    @functools.cache
    def best(count: int) -> int:
        if count == 0:
            return 0
        return min(1 + best(first) for first in range(count) if possible(first, count - 1))

    return best(len(ordered))


@settings(max_examples=200)
@given(
    places=st.lists(
        st.tuples(st.integers(0, 120), st.integers(1, 5)), min_size=1, max_size=14, unique_by=lambda p: p[0]
    ),
    longest=st.integers(5, 40),
    gap=st.integers(0, 12),
    holes=st.lists(st.integers(0, 120), max_size=3),
)
def test_the_plan_is_minimal_and_keeps_the_limits(
    places: list[tuple[int, int]], longest: int, gap: int, holes: list[int]
) -> None:
    limits = Limits(
        longest, gap, tuple(Hole(function=Function.READ_HOLDING, first=at, last=at) for at in holes)
    )
    items = [Item("", 3, first, first + count - 1, (f"p{first}",)) for first, count in places]
    blocks = plan(items, limits)
    assert len(blocks) == fewest(items, limits)
    read = [item for block in blocks for item in block.items]
    assert sorted(read) == sorted(items)
    for block in blocks:
        assert block.count <= limits.max_registers
        needed = {address for item in block.items for address in range(item.first, item.last + 1)}
        useless = [address for address in range(block.address, block.end) if address not in needed]
        assert not set(useless) & set(holes)
        assert all(block.address <= item.first and item.last < block.end for item in block.items)


def test_halves() -> None:
    block = plan(items_for([point(n) for n in (1, 2, 3)], LIMITS), LIMITS)[0]
    pair = halves(block)
    assert pair is not None
    assert spans(pair) == [(1, 1), (2, 2)]
    assert halves(pair[0]) is None


class TestReadBook:
    points = tuple(point(n) for n in (1, 2, 3, 4, 5))

    def blocks(self, book: ReadBook) -> list[tuple[int, int]]:
        return spans(book.blocks(self.points))

    def test_a_refused_register_is_left_out_and_tried_again(self) -> None:
        book = ReadBook(LIMITS)
        book.begin_poll()
        assert self.blocks(book) == [(1, 5)]
        bad = items_for([point(3)], LIMITS)
        book.failed(bad)
        assert self.blocks(book) == [(1, 2), (4, 2)]
        assert book.absent(point(3))
        assert not book.absent(point(4))
        tried = []
        for _ in range(40):
            poll = book.begin_poll()
            if (3, 1) in self.blocks(book):
                tried.append(poll)
                book.failed(bad)
        assert tried == [2, 3, 4, 6, 10, 18, 34]

    def test_a_register_that_comes_back_joins_its_block_again(self) -> None:
        book = ReadBook(LIMITS)
        book.begin_poll()
        book.failed(items_for([point(3)], LIMITS))
        book.begin_poll()
        trial = next(block for block in book.blocks(self.points) if block.address == 3)
        book.answered(trial)
        assert self.blocks(book) == [(1, 5)]
        assert not book.absent(point(3))

    def test_what_was_read_before_is_tried_in_every_poll_for_long(self) -> None:
        book = ReadBook(LIMITS)
        book.begin_poll()
        whole = book.blocks(self.points)[0]
        assert not book.known(whole)
        book.answered(whole)
        assert book.known(whole)
        for _ in range(10):
            book.failed(items_for([point(3)], LIMITS))
            book.begin_poll()
            assert (3, 1) in self.blocks(book)
        waits = []
        for _ in range(3):
            book.failed(items_for([point(3)], LIMITS))
            waited = 0
            while True:
                book.begin_poll()
                waited += 1
                if (3, 1) in self.blocks(book):
                    break
            waits.append(waited)
        assert waits == [2, 4, 4]

    def test_a_cut_counts_when_it_is_seen_twice(self) -> None:
        book = ReadBook(LIMITS)
        second = halves(book.blocks(self.points)[0])
        assert second is not None
        book.cut(second[1])
        assert self.blocks(book) == [(1, 5)]
        book.cut(second[1])
        assert self.blocks(book) == [(1, 2), (3, 3)]

    def test_parts_are_read_apart_once_that_is_known_to_help(self) -> None:
        scaled = point(1, scale_register=4)
        book = ReadBook(Limits(10, 0))
        assert spans(book.blocks([scaled])) == [(1, 4)]
        item = items_for([scaled], book.limits)[0]
        assert book.can_take_apart(item)
        book.take_apart(item)
        assert not book.can_take_apart(item)
        assert spans(book.blocks([scaled])) == [(1, 1), (4, 1)]
