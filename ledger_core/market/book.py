"""The order book: orders by window and side, the best price first, then the earlier one."""

from heapq import heapify, heappop, heappush

from msgspec import Struct

from ledger_core.market.clearing import Clearing, Entry, clear_ranked, enter, rank
from ledger_core.market.orders import Fill, Order, OrderError, check_order
from ledger_core.records.types import Side

type Window = tuple[int, int]


type Heap = list[tuple[int, int, Entry]]
"""Entries with the rank of their price and a number that grows with time."""


class _Side(Struct):
    """One side of a window: its entries, some of them maybe without anything left, and their owners."""

    side: Side
    entries: list[Entry]
    first: dict[bytes, Entry]
    """Each owner's first entry …"""
    more: dict[bytes, list[Entry]]
    """… and its further ones; few have any."""
    dead: int = 0
    """Entries without anything left."""
    heap: Heap | None = None
    """Made when an order is first matched at once."""

    def add(self, entry: Entry) -> None:
        """Add an entry at the end."""
        self.entries.append(entry)
        if self.first.setdefault(entry.owner, entry) is not entry:
            self.more.setdefault(entry.owner, []).append(entry)

    def own(self, owner: bytes) -> list[Entry]:
        """Return an owner's entries."""
        return [self.first[owner], *self.more.get(owner, ())]

    def ranked(self) -> list[Entry]:
        """Return the live entries, the best price first, then the earlier one."""
        if self.dead:
            live = [entry for entry in self.entries if entry.left]
            self.entries, self.first, self.more, self.dead = [], {}, {}, 0
            for entry in live:
                self.add(entry)
        rank(self.entries, self.side)
        return self.entries


class _Window(Struct):
    """Both sides of a window."""

    buy: _Side
    sell: _Side

    def of(self, side: Side) -> _Side:
        """Return one side."""
        return self.buy if side is Side.BUY else self.sell


class OrderBook:
    """Holds orders of many windows. Nothing in it depends on the order of dicts or sets."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._windows: dict[Window, _Window] = {}
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, order_id: bytes) -> bool:
        return order_id in self._entries

    def insert(self, order: Order) -> None:
        """Put an order at the end of the queue of its price.

        Raises OrderError `order_invalid`, or `order_known` when the id is in the book.
        """
        check_order(order)
        self._insert(order, order.quantity)

    def _insert(self, order: Order, left: int) -> None:
        order_id = order.id
        if order_id in self._entries:
            raise OrderError("order_known", "the order is in the book", order=order_id)
        self._sequence = sequence = self._sequence + 1
        self._entries[order_id] = entry = enter(order, left)
        key = (order.start, order.end)
        window = self._windows.get(key)
        if window is None:
            window = _Window(_Side(Side.BUY, [], {}, {}), _Side(Side.SELL, [], {}, {}))
            self._windows[key] = window
        side = window.buy if order.side is Side.BUY else window.sell
        side.add(entry)
        if side.heap is not None:
            heappush(side.heap, (_rank(entry), sequence, entry))

    def remove(self, order_id: bytes) -> int:
        """Take an order out; returns the Wh that were left. Raises OrderError `order_unknown`."""
        entry = self._entry(order_id)
        left = entry.left
        self._drop(entry, left)
        return left

    def take(self, order_id: bytes, quantity: int) -> None:
        """Take a part of an order; the whole of it leaves the book.

        Raises OrderError `order_unknown`, or `order_invalid` for more than is left.
        """
        entry = self._entry(order_id)
        if not 0 < quantity <= entry.left:
            raise OrderError(
                "order_invalid",
                f"{quantity} Wh wanted, {entry.left} Wh left",
                order=order_id,
                wanted=quantity,
                left=entry.left,
            )
        self._drop(entry, quantity)

    def _entry(self, order_id: bytes) -> Entry:
        entry = self._entries.get(order_id)
        if entry is None:
            raise OrderError("order_unknown", "no such order is in the book", order=order_id)
        return entry

    def _drop(self, entry: Entry, quantity: int) -> None:
        entry.left -= quantity
        if not entry.left:
            del self._entries[entry.id]
            order = entry.order
            self._windows[order.start, order.end].of(order.side).dead += 1

    def left(self, order_id: bytes) -> int:
        """Return the Wh left of an order; 0 when it is not in the book."""
        entry = self._entries.get(order_id)
        return entry.left if entry is not None else 0

    def windows(self) -> list[Window]:
        """Return the windows that hold orders, earliest first."""
        return sorted({(entry.order.start, entry.order.end) for entry in self._entries.values()})

    def side(self, window: Window, side: Side) -> list[Order]:
        """Return one side of a window, best first, with the quantities that are left."""
        found = self._windows.get(window)
        return [] if found is None else [_rest(entry) for entry in found.of(side).ranked()]

    def match(self, order: Order) -> list[Fill]:
        """Meet an order with the book at once, by price, then time, at the resting orders' prices.

        What is left of it rests in the book. Own orders are passed over, and so are orders whose minimum is
        not reached; an order whose own minimum is not reached takes nothing.
        """
        check_order(order)
        if order.id in self._entries:
            raise OrderError("order_known", "the order is in the book", order=order.id)
        fills = self._plan(order)
        taken = sum(fill.quantity for fill in fills)
        if taken < order.min_quantity:
            fills, taken = [], 0
        buying = order.side is Side.BUY
        for fill in fills:
            self.take(fill.ask if buying else fill.bid, fill.quantity)
        if taken < order.quantity:
            self._insert(order, order.quantity - taken)
        return fills

    def _plan(self, order: Order) -> list[Fill]:
        window = self._windows.get((order.start, order.end))
        if window is None:
            return []
        buying = order.side is Side.BUY
        heap = _heap(window.sell if buying else window.buy)
        fills: list[Fill] = []
        met: Heap = []
        wanted = order.quantity
        while heap and wanted:
            entry = heap[0][2]
            if not entry.left:
                heappop(heap)
                continue
            price = entry.price
            if price > order.price if buying else price < order.price:
                break
            met.append(heappop(heap))
            quantity = min(wanted, entry.left)
            if entry.owner == order.owner or quantity < min(entry.order.min_quantity, entry.left):
                continue
            bid, ask = (order.id, entry.id) if buying else (entry.id, order.id)
            fills.append(Fill(bid, ask, quantity, price))
            wanted -= quantity
        for item in met:
            heappush(heap, item)
        return fills

    def clear(self, window: Window, seed: bytes) -> Clearing:
        """Clear a window by the uniform call auction; the orders stay in the book as they are."""
        found = self._windows.get(window)
        if found is None:
            return Clearing(0, None, {}, {})
        buy, sell = found.buy, found.sell
        bids, asks = buy.ranked(), sell.ranked()
        own = [(buy.own(owner), sell.own(owner)) for owner in buy.first.keys() & sell.first.keys()]
        return clear_ranked(bids, asks, own, seed)

    def settle(self, clearing: Clearing) -> None:
        """Take out what a clearing filled or netted."""
        entries = self._entries
        for quantities in (clearing.fills, clearing.netted):
            for order_id, quantity in quantities.items():
                self._drop(entries[order_id], quantity)


def _rank(entry: Entry) -> int:
    return -entry.price if entry.order.side is Side.BUY else entry.price


def _heap(side: _Side) -> Heap:
    """Return a side as a heap. Ranking keeps equal prices in the order of time, so places tell time."""
    if side.heap is None:
        side.heap = [(_rank(entry), place, entry) for place, entry in enumerate(side.entries)]
        heapify(side.heap)
    return side.heap


def _rest(entry: Entry) -> Order:
    """Return an order with what is left of it."""
    order, left = entry.order, entry.left
    if left == order.quantity:
        return order
    least = min(order.min_quantity, left)
    return Order(order.id, order.owner, order.side, left, order.price, order.start, order.end, least)
