"""The uniform call auction of one slot: every trade at one price, in exact integers.

Orders are divisible. Bids from the highest, asks from the lowest, until they no longer meet: that volume is
traded. The price is the middle, rounded down, of the interval in which nobody who trades would rather not
and nobody who would rather trade is left out. Where the volume ends within orders of one price, they share
pro rata, largest remainder first, then by a hash with a seed that is fixed only after the gate has closed;
when an order came never counts. An owner's own bids and asks that would meet are netted first.
"""

from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from operator import attrgetter

from msgspec import Struct

from ledger_core.market.orders import Order
from ledger_core.records.types import Side
from ledger_core.units import share_out


class Clearing(Struct, frozen=True):
    """The result: one price for all, and what each order got. Wh; micro-currency per kWh."""

    volume: int
    price: int | None
    """None: nothing met."""
    fills: dict[bytes, int]
    """Wh by order id, of those that got something."""
    netted: dict[bytes, int]
    """Wh by order id that met an order of the same owner, and were taken out before the auction."""


class Entry(Struct, gc=False):
    """An order that takes part, and what is left of it."""

    order: Order
    left: int
    id: bytes
    price: int
    owner: bytes


def enter(order: Order, left: int) -> Entry:
    """Return an order's entry."""
    return Entry(order, left, order.id, order.price, order.owner)


_price = attrgetter("price")


def clear(orders: Iterable[Order], seed: bytes) -> Clearing:
    """Clear the orders of one window; `seed` is fixed after the gate has closed."""
    bids: list[Entry] = []
    asks: list[Entry] = []
    for order in orders:
        (bids if order.side is Side.BUY else asks).append(enter(order, order.quantity))
    rank(bids, Side.BUY)
    rank(asks, Side.SELL)
    buyers, sellers = by_owner(bids), by_owner(asks)
    own = [(buyers[owner], sellers[owner]) for owner in buyers.keys() & sellers.keys()]
    return clear_ranked(bids, asks, own, seed)


def by_owner(entries: list[Entry]) -> dict[bytes, list[Entry]]:
    """Return one side's entries by owner."""
    owners: dict[bytes, list[Entry]] = {}
    for entry in entries:
        owners.setdefault(entry.owner, []).append(entry)
    return owners


def rank(entries: list[Entry], side: Side) -> None:
    """Sort one side, the best price first; equal prices stay in their order."""
    entries.sort(key=_price, reverse=side is Side.BUY)


type Own = Collection[tuple[Sequence[Entry], Sequence[Entry]]]
"""Bids and asks of each owner that stands on both sides."""


def clear_ranked(bids: list[Entry], asks: list[Entry], own: Own, seed: bytes) -> Clearing:
    """Clear ranked sides; the entries are as they were when it returns."""
    before: dict[bytes, tuple[Entry, int]] = {}
    for own_bids, own_asks in own:
        _net(sorted(own_bids, key=_best_bid), sorted(own_asks, key=_best_ask), before)
    if not before:
        return _clear(bids, asks, {}, seed)
    netted = {name: left - entry.left for name, (entry, left) in before.items()}
    try:
        bids = [entry for entry in bids if entry.left]
        asks = [entry for entry in asks if entry.left]
        return _clear(bids, asks, netted, seed)
    finally:
        for entry, left in before.values():
            entry.left = left


def _clear(bids: list[Entry], asks: list[Entry], netted: dict[bytes, int], seed: bytes) -> Clearing:
    if not bids or not asks or bids[0].price < asks[0].price:
        return Clearing(0, None, {}, netted)
    fills: dict[bytes, int] = {}
    b, a, bid_left, ask_left, bid_price, ask_price = _sweep(bids, asks, fills)
    # What is left now was rejected, wholly or in part: the price must not make it wish to trade.
    low = ask_price if b == len(bids) else max(ask_price, bids[b].price)
    high = bid_price if a == len(asks) else min(bid_price, asks[a].price)
    if b < len(bids):
        _share_marginal(bids, b, bid_price, bid_left, fills, seed)
    if a < len(asks):
        _share_marginal(asks, a, ask_price, ask_left, fills, seed)
    return Clearing(sum(fills.values()) // 2, (low + high) // 2, fills, netted)


def _sweep(
    bids: list[Entry], asks: list[Entry], fills: dict[bytes, int]
) -> tuple[int, int, int, int, int, int]:
    """Meet both sides as long as prices allow; note what is filled wholly.

    Returns where each side stands, what is left of that order, and the last prices that met.
    """
    bid_count, ask_count = len(bids), len(asks)
    b = a = 0
    bid, ask = bids[0], asks[0]
    bid_price, bid_left, ask_price, ask_left = bid.price, bid.left, ask.price, ask.left
    last_bid, last_ask = bid_price, ask_price
    while bid_price >= ask_price:
        last_bid, last_ask = bid_price, ask_price
        if bid_left < ask_left:
            ask_left -= bid_left
            bid_left = 0
        else:
            bid_left -= ask_left
            fills[ask.id] = ask.left
            a += 1
            if a < ask_count:
                ask = asks[a]
                ask_price, ask_left = ask.price, ask.left
        if not bid_left:
            fills[bid.id] = bid.left
            b += 1
            if b == bid_count:
                break
            bid = bids[b]
            bid_price, bid_left = bid.price, bid.left
        if a == ask_count:
            break
    return b, a, bid_left, ask_left, last_bid, last_ask


def _share_marginal(
    side: list[Entry], position: int, price: int, left: int, fills: dict[bytes, int], seed: bytes
) -> None:
    """Share what the orders of the marginal price got, when the volume ends among them."""
    if side[position].price != price:
        return  # it ends exactly between two prices
    total = side[position].left - left
    first = position
    while first and side[first - 1].price == price:
        first -= 1
        total += fills.pop(side[first].id)
    last = position
    while last < len(side) and side[last].price == price:
        last += 1
    level = side[first:last]
    ties = [sha256(seed + entry.id).digest() for entry in level]
    for entry, share in zip(level, share_out(total, [entry.left for entry in level], ties), strict=True):
        if share:
            fills[entry.id] = share


def _best_bid(entry: Entry) -> tuple[int, bytes]:
    return -entry.price, entry.id


def _best_ask(entry: Entry) -> tuple[int, bytes]:
    return entry.price, entry.id


def _net(bids: list[Entry], asks: list[Entry], before: dict[bytes, tuple[Entry, int]]) -> None:
    """Take one owner's crossing orders out, the best of both sides first; notes what was left before."""
    b = a = 0
    while b < len(bids) and a < len(asks) and bids[b].price >= asks[a].price:
        bid, ask = bids[b], asks[a]
        amount = min(bid.left, ask.left)
        if amount:
            for entry in (bid, ask):
                before.setdefault(entry.id, (entry, entry.left))
                entry.left -= amount
        b += not bid.left
        a += not ask.left
