"""Order book: insert, match and clear up to a million orders; one new offer against 50 buying rules."""

import gc
import random
import time
from collections.abc import Callable

from benchmarks.harness import Figures, interleaved, progress, run
from ledger_core.market.book import OrderBook
from ledger_core.market.buying import BuyCriteria, BuyWorld, decide_buy
from ledger_core.market.orders import Order
from ledger_core.market.terms import Hours, LocalWindow, OfferTerms, Standing
from ledger_core.records.types import Basis, Carrier, Side

_SEED = b"fixed after the gate has closed"
_WINDOW = (0, 900)


def make_orders(count: int) -> list[Order]:
    """Make as many bids as asks of one slot, at 0.05 to 0.35 per kWh; every 50th has both."""
    chance = random.Random(count)
    sides = (Side.BUY, Side.SELL)
    return [
        Order(
            number.to_bytes(32),
            (number - (number % 100 == 1)).to_bytes(32),
            sides[number % 2],
            chance.randrange(1, 2000),
            chance.randrange(50_000, 350_000),
            *_WINDOW,
        )
        for number in range(count)
    ]


def bare_sort_and_sweep(bids: list[tuple[int, int, int]], asks: list[tuple[int, int, int]]) -> list[int]:
    """Meet sorted bids (price, quantity, number) and asks: what any such auction has to do at the least."""
    bids.sort(reverse=True)
    asks.sort()
    fills = [0] * (len(bids) + len(asks))
    b = a = 0
    bid_price, bid_left, bid = bids[0]
    ask_price, ask_left, ask = asks[0]
    while bid_price >= ask_price:
        quantity = bid_left if bid_left < ask_left else ask_left  # noqa: FURB136 - as bare as can be
        fills[bid] += quantity
        fills[ask] += quantity
        bid_left -= quantity
        ask_left -= quantity
        if not bid_left:
            b += 1
            if b == len(bids):
                break
            bid_price, bid_left, bid = bids[b]
        if not ask_left:
            a += 1
            if a == len(asks):
                break
            ask_price, ask_left, ask = asks[a]
    return fills


def _phases(orders: list[Order]) -> tuple[float, float, float]:
    """Return the seconds to insert orders, to match them, and to take what was filled out of the book."""
    book = OrderBook()
    began = time.perf_counter()
    for order in orders:
        book.insert(order)
    inserted = time.perf_counter()
    clearing = book.clear(_WINDOW, _SEED)
    matched = time.perf_counter()
    book.settle(clearing)
    settled = time.perf_counter()
    assert clearing.volume > 0
    return inserted - began, matched - inserted, settled - matched


def _all_three(orders: list[Order]) -> Callable[[], float]:
    def measure() -> float:
        gc.collect()
        return sum(_phases(orders))

    return measure


def _matching(orders: list[Order]) -> Callable[[], float]:
    def measure() -> float:
        gc.collect()
        return _phases(orders)[1]

    return measure


def _bare(orders: list[Order]) -> Callable[[], float]:
    def measure() -> float:
        numbered = [(order.side, (order.price, order.quantity, n)) for n, order in enumerate(orders)]
        bids = [entry for side, entry in numbered if side is Side.BUY]
        asks = [entry for side, entry in numbered if side is Side.SELL]
        del numbered
        gc.collect()
        began = time.perf_counter()
        bare_sort_and_sweep(bids, asks)
        return time.perf_counter() - began

    return measure


def _continuous(count: int) -> float:
    """Return the orders per second that meet the book one by one, by price and time."""
    orders = make_orders(count)
    book = OrderBook()
    began = time.perf_counter()
    for order in orders:
        book.match(order)
    return count / (time.perf_counter() - began)


def _decision(rounds: int) -> float:
    """Return the milliseconds that one new offer takes against 50 rules, each reaching its last criterion."""
    members = [bytes([n]) * 32 for n in range(64)]
    rules = [
        BuyCriteria(
            hours=Hours(frozenset(range(7)), ((0, 600), (600, 1200 + n))),
            sellers=frozenset(members),
            blocked=frozenset(members[:1]),
            min_score_tenths=50,
            min_delivered_permille=800,
            daily_budget=10**9,
            counter_permille=100,
            min_gain=n,
        )
        for n in range(50)
    ]
    offer = OfferTerms(
        id=b"o" * 32,
        author=members[9],
        side=Side.SELL,
        carrier=Carrier.ELECTRICITY,
        basis=Basis.ENERGY,
        open=2000,
        min_quantity=100,
        start=7200,
        end=8100,
        price=200_000,
        audience=tuple(members),
        valid_until=7200,
    )
    world = BuyWorld(
        now=3600,
        me=members[3],
        window=LocalWindow(2, 720, 15),
        ceiling=250_000,
        need_wh=1500,
        standing=Standing(950, 9000, 80),
    )
    began = time.perf_counter()
    for _ in range(rounds):
        for rule in rules:
            assert decide_buy(rule, offer, world).quantity == 1500
    return (time.perf_counter() - began) / rounds * 1000


def main(figures: Figures) -> None:
    """Measure the book at 100 000 orders against the bare sweep, its growth, and a decision."""
    orders = make_orders(100_000)
    seconds = interleaved(
        {"all": _all_three(orders), "matching": _matching(orders), "bare": _bare(orders)}, 7
    )
    figures.add("seconds_100k", seconds["all"], "s", most=0.5)
    figures.add("match_seconds_100k", seconds["matching"], "s")
    figures.add("bare_seconds_100k", seconds["bare"], "s")
    figures.add("match_ratio", seconds["matching"] / seconds["bare"], "of bare", most=1.5)
    del orders
    figures.add("decision_ms", _decision(200), "ms", most=2)
    figures.add("continuous_per_second", _continuous(100_000), "orders/s")
    rows: list[tuple[float | str, ...]] = []
    for count in (1_000, 10_000, 100_000, 1_000_000):
        progress(f"growth: {count} orders")
        inserted, matched, settled = _phases(make_orders(count))
        total = inserted + matched + settled
        rows.append((count, inserted, matched, settled, total, total / count * 1e6))
        figures.add(f"seconds_{count}_orders", total, "s")
    figures.add_table(
        "Growth (seconds)", ("orders", "insert", "match", "take out", "all", "µs an order"), rows
    )


if __name__ == "__main__":
    run("market", main)
