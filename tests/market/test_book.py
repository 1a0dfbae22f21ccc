"""The order book: price, then time; windows apart; minimum fills; own orders passed over."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ledger_core.market.book import OrderBook
from ledger_core.market.orders import Fill, Order, OrderError
from ledger_core.records.types import Side

SEED = b"seed"


def order(
    name: str, side: Side, quantity: int, price: int, owner: str = "", start: int = 0, least: int = 1
) -> Order:
    return Order(name.encode(), (owner or name).encode(), side, quantity, price, start, start + 900, least)


def bid(name: str, quantity: int, price: int, owner: str = "", start: int = 0, least: int = 1) -> Order:
    return order(name, Side.BUY, quantity, price, owner, start, least)


def ask(name: str, quantity: int, price: int, owner: str = "", start: int = 0, least: int = 1) -> Order:
    return order(name, Side.SELL, quantity, price, owner, start, least)


def test_price_goes_before_time() -> None:
    book = OrderBook()
    for resting in (ask("late", 5, 20), ask("cheap", 5, 10), ask("same", 5, 20)):
        book.insert(resting)
    fills = book.match(bid("b", 12, 25))
    assert fills == [
        Fill(b"b", b"cheap", 5, 10),
        Fill(b"b", b"late", 5, 20),
        Fill(b"b", b"same", 2, 20),
    ]
    assert book.left(b"same") == 3
    assert b"b" not in book
    assert len(book) == 1


def test_a_seller_meets_the_dearest_bid_first() -> None:
    book = OrderBook()
    book.insert(bid("low", 5, 10))
    book.insert(bid("high", 5, 30))
    assert book.match(ask("s", 8, 20)) == [Fill(b"high", b"s", 5, 30)]
    assert book.left(b"s") == 3, "the rest waits in the book"


def test_windows_do_not_mix() -> None:
    book = OrderBook()
    book.insert(ask("later", 5, 10, start=900))
    assert book.match(bid("b", 5, 30)) == []
    assert book.windows() == [(0, 900), (900, 1800)]
    assert [o.id for o in book.side((0, 900), Side.BUY)] == [b"b"]
    assert book.side((1800, 2700), Side.BUY) == []
    assert book.clear((1800, 2700), SEED).volume == 0


def test_minimum_fills_are_kept_on_both_sides() -> None:
    book = OrderBook()
    book.insert(ask("whole", 10, 5, least=10))
    book.insert(ask("small", 3, 6))
    assert book.match(bid("b", 4, 30)) == [Fill(b"b", b"small", 3, 6)], "no part of an order sold whole"
    assert book.match(bid("picky", 30, 30, least=20)) == [], "too little for the bid's own minimum"
    assert book.left(b"picky") == 30
    assert book.left(b"whole") == 10


def test_a_rest_below_the_minimum_may_be_taken() -> None:
    book = OrderBook()
    book.insert(ask("a", 10, 5, least=6))
    assert book.match(bid("b", 7, 9)) == [Fill(b"b", b"a", 7, 5)]
    assert book.match(bid("c", 3, 9)) == [Fill(b"c", b"a", 3, 5)]


def test_own_orders_are_passed_over() -> None:
    book = OrderBook()
    book.insert(ask("mine", 5, 1, "home"))
    book.insert(ask("other", 5, 2))
    assert book.match(bid("b", 9, 30, "home")) == [Fill(b"b", b"other", 5, 2)]
    assert book.left(b"mine") == 5


def test_removed_orders_are_gone_and_ids_may_come_again() -> None:
    book = OrderBook()
    book.insert(ask("a", 5, 1))
    assert book.remove(b"a") == 5
    book.insert(ask("a", 7, 3))
    assert book.match(bid("b", 5, 2)) == []
    assert [(o.quantity, o.price) for o in book.side((0, 900), Side.SELL)] == [(7, 3)]
    book.take(b"a", 2)
    assert [o.quantity for o in book.side((0, 900), Side.SELL)] == [5]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (ask("a", 0, 1), "quantity"),
        (ask("a", 5, -1), "price"),
        (ask("a", 5, 1, least=6), "min_quantity"),
        (ask("a", 5, 1, start=-900), "start"),
        (Order(b"a", b"o", Side.BUY, 1, 1, 900, 900), "end"),
        (Order(b"a", b"o", Side.BUY, 1.5, 1, 0, 900), "quantity"),  # type: ignore[arg-type]
    ],
)
def test_impossible_orders_are_refused_by_name(wrong: Order, field: str) -> None:
    for way_in in (OrderBook().insert, OrderBook().match):
        with pytest.raises(OrderError, match=f"^{field} is") as refused:
            way_in(wrong)
        assert refused.value.code == "order_invalid"
        assert refused.value.details["field"] == field


def test_an_id_stands_once_in_the_book() -> None:
    book = OrderBook()
    book.insert(ask("a", 5, 1))
    for way_in in (book.insert, book.match):
        with pytest.raises(OrderError) as refused:
            way_in(bid("a", 5, 1))
        assert refused.value.code == "order_known"
    for gone in (lambda: book.remove(b"z"), lambda: book.take(b"z", 1)):
        with pytest.raises(OrderError) as refused:
            gone()
        assert refused.value.code == "order_unknown"
    with pytest.raises(OrderError, match="6 Wh wanted, 5 Wh left"):
        book.take(b"a", 6)


def test_a_cleared_window_keeps_what_was_not_filled() -> None:
    book = OrderBook()
    book.insert(bid("a", 10, 30))
    book.insert(ask("x", 15, 10))
    book.insert(ask("own", 2, 5, "a"))
    book.take(b"x", 3)
    result = book.clear((0, 900), SEED)
    assert result.fills == {b"a": 8, b"x": 8}
    assert len(book) == 3, "clearing alone changes nothing"
    book.settle(result)
    assert book.left(b"x") == 4
    assert len(book) == 1


class Continuous(RuleBasedStateMachine):
    """Random orders against the book: energy is conserved, limits are kept, the book never stays crossed."""

    def __init__(self) -> None:
        super().__init__()
        self.book = OrderBook()
        self.orders: dict[bytes, Order] = {}
        self.taken: dict[bytes, int] = {}

    @rule(
        side=st.sampled_from([Side.BUY, Side.SELL]),
        quantity=st.integers(1, 9),
        price=st.integers(0, 5),
        owner=st.integers(0, 3),
    )
    def match(self, side: Side, quantity: int, price: int, owner: int) -> None:
        new = Order(len(self.orders).to_bytes(4), bytes([owner]), side, quantity, price, 0, 900)
        self.orders[new.id] = new
        last = None
        for fill in self.book.match(new):
            bought, sold = self.orders[fill.bid], self.orders[fill.ask]
            assert sold.price <= fill.price <= bought.price
            assert bought.owner != sold.owner
            worse = last is not None and (fill.price < last if side is Side.BUY else fill.price > last)
            assert not worse, "the best price first"
            last = fill.price
            for name in (fill.bid, fill.ask):
                self.taken[name] = self.taken.get(name, 0) + fill.quantity

    @rule(number=st.integers(0, 40))
    def remove(self, number: int) -> None:
        name = number.to_bytes(4)
        if name in self.book:
            left = self.book.remove(name)
            assert left + self.taken.get(name, 0) == self.orders[name].quantity
            self.taken[name] = self.orders[name].quantity

    @invariant()
    def adds_up(self) -> None:
        for name, known in self.orders.items():
            assert self.book.left(name) + self.taken.get(name, 0) == known.quantity

    @invariant()
    def is_not_crossed(self) -> None:
        for bought in self.book.side((0, 900), Side.BUY):
            for sold in self.book.side((0, 900), Side.SELL):
                assert bought.price < sold.price or bought.owner == sold.owner


TestContinuous = Continuous.TestCase
TestContinuous.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
