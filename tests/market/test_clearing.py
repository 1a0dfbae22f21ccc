"""The uniform call auction: the defects seen in other markets, and its properties."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_core.market.clearing import Clearing, clear
from ledger_core.market.orders import Order
from ledger_core.records.types import Side

SEED = b"after the gate has closed"


def order(name: str, side: Side, quantity: int, price: int, owner: str = "") -> Order:
    return Order(name.encode(), (owner or name).encode(), side, quantity, price, 0, 900)


def bid(name: str, quantity: int, price: int, owner: str = "") -> Order:
    return order(name, Side.BUY, quantity, price, owner)


def ask(name: str, quantity: int, price: int, owner: str = "") -> Order:
    return order(name, Side.SELL, quantity, price, owner)


def test_one_price_holds_for_all() -> None:
    """Another market called its price uniform and booked two."""
    result = clear([bid("a", 10, 30), bid("b", 10, 28), ask("x", 10, 10), ask("y", 10, 20)], SEED)
    assert result == Clearing(20, 24, {b"a": 10, b"b": 10, b"x": 10, b"y": 10}, {})


def test_the_marginal_partial_fill_is_kept() -> None:
    """Bids 1 at 30 and 1 at 20 against 1.5 at 10: 1.5 is traded, at 20 (here in tenths)."""
    result = clear([bid("a", 10, 30), bid("b", 10, 20), ask("x", 15, 10)], SEED)
    assert result == Clearing(15, 20, {b"a": 10, b"b": 5, b"x": 15}, {})


def test_the_cheapest_offers_meet_the_dearest_bids() -> None:
    """Pairing the dearest offers with the dearest bids loses most of the surplus."""
    bids = [bid("a", 1, 100), bid("b", 1, 60), bid("c", 1, 20)]
    asks = [ask("x", 1, 10), ask("y", 1, 50), ask("z", 1, 90)]
    result = clear(bids + asks, SEED)
    assert set(result.fills) == {b"a", b"b", b"x", b"y"}
    assert result.price == (50 + 60) // 2


def test_nobody_trades_with_itself() -> None:
    """An owner's crossing orders are netted before the auction, and only as far as they cross."""
    result = clear([bid("a", 10, 30, "home"), ask("b", 4, 20, "home"), ask("x", 10, 25)], SEED)
    assert result.netted == {b"a": 4, b"b": 4}
    assert result.fills == {b"a": 6, b"x": 6}
    assert result.price == 25, "more is asked for at 25 than is left to buy"


def test_own_orders_that_do_not_cross_stay() -> None:
    result = clear([bid("a", 5, 20, "home"), ask("b", 5, 30, "home"), ask("x", 5, 10), bid("y", 5, 40)], SEED)
    assert result.netted == {}
    assert result.fills == {b"x": 5, b"y": 5}
    assert result.price == (20 + 30) // 2


def test_two_equal_bids_share_what_there_is() -> None:
    """Two identical bids of 100 Wh against 100 Wh: another market gave each of them 100 Wh."""
    result = clear([bid("a", 100, 30), bid("b", 100, 30), ask("x", 100, 10)], SEED)
    assert result.fills == {b"a": 50, b"b": 50, b"x": 100}
    assert result.price == 30


def test_an_odd_remainder_goes_by_the_hash_not_by_arrival() -> None:
    orders = [bid("a", 7, 30), bid("b", 7, 30), ask("x", 9, 10)]
    one = clear(orders, SEED)
    assert one == clear(orders[::-1], SEED)
    assert sorted(one.fills.values()) == [4, 5, 9]
    winners = {max((b"a", b"b"), key=lambda i: clear(orders, bytes([seed])).fills[i]) for seed in range(32)}
    assert winners == {b"a", b"b"}, "the seed decides"


def test_a_level_that_the_volume_ends_between_is_shared() -> None:
    """Three asks at one price, of which a greedy sweep would fill two wholly: each gets two thirds."""
    result = clear([bid("a", 20, 30), *(ask(name, 10, 10) for name in "xyz")], SEED)
    assert result.price == 10
    assert sorted(result.fills[name] for name in (b"x", b"y", b"z")) == [6, 7, 7]


def test_a_side_that_runs_out_ends_the_sweep() -> None:
    """Another market crashed when one tier was used up."""
    assert clear([bid("a", 5, 30)], SEED) == Clearing(0, None, {}, {})
    assert clear([ask("a", 5, 30)], SEED) == Clearing(0, None, {}, {})
    assert clear([], SEED) == Clearing(0, None, {}, {})
    both_gone = clear([bid("a", 5, 30), ask("x", 5, 11)], SEED)
    assert (both_gone.volume, both_gone.price) == (5, 20), "in the middle, rounded down"
    assert clear([bid("a", 5, 30), ask("x", 9, 10)], SEED).price == 10
    assert clear([bid("a", 9, 30), ask("x", 5, 10)], SEED).price == 30


def test_netting_may_leave_nothing() -> None:
    result = clear([bid("a", 5, 30, "h"), ask("b", 5, 10, "h")], SEED)
    assert result == Clearing(0, None, {}, {b"a": 5, b"b": 5})
    several = clear(
        [bid("a", 5, 30, "h"), bid("b", 5, 25, "h"), ask("c", 3, 10, "h"), ask("d", 9, 20, "h")], SEED
    )
    assert several.netted == {b"a": 5, b"b": 5, b"c": 3, b"d": 7}


@st.composite
def books(draw: st.DrawFn) -> list[Order]:
    count = draw(st.integers(0, 14))
    return [
        Order(
            bytes([number]),
            bytes([draw(st.integers(0, 5))]),
            draw(st.sampled_from([Side.BUY, Side.SELL])),
            draw(st.integers(1, 12)),
            draw(st.integers(0, 8)),
            0,
            900,
        )
        for number in range(count)
    ]


def net_by_unit(orders: list[Order]) -> tuple[list[int], list[int]]:
    """Give the prices of every Wh bid and asked for, own crossings taken out: slow, and plainly right."""
    bids: list[int] = []
    asks: list[int] = []
    for owner in {order.owner for order in orders}:
        own = [order for order in orders if order.owner == owner]
        buy = sorted((o.price for o in own for _ in range(o.quantity) if o.side is Side.BUY), reverse=True)
        sell = sorted(o.price for o in own for _ in range(o.quantity) if o.side is Side.SELL)
        crossing = sum(1 for b, a in zip(buy, sell, strict=False) if b >= a)
        bids += buy[crossing:]
        asks += sell[crossing:]
    return sorted(bids, reverse=True), sorted(asks)


@settings(max_examples=300, deadline=None)
@given(books(), st.randoms(use_true_random=False))
def test_properties(orders: list[Order], chance: random.Random) -> None:
    result = clear(orders, SEED)
    by_id = {o.id: o for o in orders}
    bought = sum(q for i, q in result.fills.items() if by_id[i].side is Side.BUY)
    sold = sum(q for i, q in result.fills.items() if by_id[i].side is Side.SELL)
    assert bought == sold == result.volume, "what is bought was sold"
    assert all(q > 0 for q in result.fills.values())
    taken = Counter(result.fills) + Counter(result.netted)
    assert all(taken[i] <= by_id[i].quantity for i in taken), "nobody gets more than asked for"
    net: Counter[bytes] = Counter()
    for i, q in result.netted.items():
        net[by_id[i].owner] += q if by_id[i].side is Side.BUY else -q
    assert not any(net.values()), "netting takes as much from both sides of an owner"
    bids, asks = net_by_unit(orders)
    assert result.volume == sum(1 for b, a in zip(bids, asks, strict=False) if b >= a), "all that can meet"
    buyers = {by_id[i].owner for i in result.fills if by_id[i].side is Side.BUY}
    sellers = {by_id[i].owner for i in result.fills if by_id[i].side is Side.SELL}
    assert not buyers & sellers, "nobody trades with itself"
    shuffled = list(orders)
    chance.shuffle(shuffled)
    assert clear(shuffled, SEED) == result, "the order of arrival counts for nothing"
    if result.price is None:
        return
    for i, quantity in result.fills.items():
        limit = by_id[i].price
        assert result.price <= limit if by_id[i].side is Side.BUY else result.price >= limit
        assert quantity <= by_id[i].quantity
    for o in orders:
        wished = o.price > result.price if o.side is Side.BUY else o.price < result.price
        if wished:
            assert taken[o.id] == o.quantity, "who would rather trade at this price is not left out"
