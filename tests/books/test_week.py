"""The books of a week: what was sold, delivered and paid, against meters, physics and another program."""

import io

from ledger_core.chain.store.blockfile import write_blocks

from .audit import assert_agrees, assert_sound, without_room
from .recompute import Books, recompute
from .week import SLOT, Week

SLOTS = 7 * 96


def books_of(week: Week) -> Books:
    file = io.BytesIO()
    write_blocks(file, week.world.genesis, week.world.blocks)
    return recompute(file.getvalue(), without_room(week.events))


def test_a_week_adds_up() -> None:
    week = Week(seed=2027)
    begin = week.world.now
    week.run(SLOTS)
    books = books_of(week)
    assert_agrees(books, week.world.state, week.events)
    assert_sound(books)
    # Everything is settled: nothing is held, and each trade has a line for its slot.
    assert not week.world.state.trades
    assert all(row.held == 0 for row in week.world.state.accounts.values())
    assert {(name, sale.end) for name, sale in books.sales.items()} == books.lines.keys()
    assert max(slot_end for _, slot_end in books.lines) <= begin + SLOTS * SLOT + SLOT
    assert_physical(week, books)
    assert_lively(week, books)


def assert_physical(week: Week, books: Books) -> None:
    """Delivered is no more than what physically left and came in; nothing ran without a trade."""
    for direction in (0, 1):
        for name, house in week.houses.items():
            by_slot: dict[int, int] = {}
            for (trade, slot_end), line in books.lines.items():
                sale = books.sales[trade]
                side = sale.seller if direction else sale.buyer
                if side == week.world[name].id:
                    by_slot[slot_end] = by_slot.get(slot_end, 0) + line.delivered
            for slot_end, delivered in by_slot.items():
                if not delivered:
                    continue
                moved = house.truths[slot_end][direction] - house.truths[slot_end - SLOT][direction]
                assert delivered <= moved, f"{name}: {delivered} Wh of {moved} Wh in the slot to {slot_end}"
    for house in week.houses.values():
        assert house.unasked == 0
        assert not house.commanded


def assert_lively(week: Week, books: Books) -> None:
    """The week had everything in it that the books could get wrong."""
    lines = list(books.lines.values())
    assert len(lines) > 300
    assert {event.origin for event in week.events if type(event).__name__ == "TradeAgreed"} == {
        "posted",
        "countered",
        "auction",
    }
    assert any(sale.capacity for sale in books.sales.values())
    assert any(line.sent is None or line.received is None for line in lines), "a reading was missing"
    assert any(line.shortfall_paid for line in lines), "something was not delivered"
    assert any(0 < line.delivered < line.agreed for line in lines)
    energy = [(books.lines[key], books.sales[key[0]]) for key in books.lines]
    agreed = sum(line.agreed for line, sale in energy if not sale.capacity)
    delivered = sum(line.delivered for line, sale in energy if not sale.capacity)
    assert delivered * 100 >= agreed * 60, f"{delivered} Wh of {agreed} Wh"


def test_the_same_seed_gives_the_same_books() -> None:
    one, two, other = (Week(seed) for seed in (5, 5, 6))
    for week in (one, two, other):
        week.run(24)
    assert one.world.state.hash() == two.world.state.hash() != other.world.state.hash()
