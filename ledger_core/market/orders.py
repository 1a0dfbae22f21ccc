"""One order of a book: so much energy in a slot or window at a limit price."""

from typing import Any

from msgspec import Struct

from ledger_core.errors import LedgerError
from ledger_core.records.types import Side
from ledger_core.units import MAX_PRICE, MAX_TIME, MAX_WATT_HOURS


class OrderError(LedgerError):
    """An order that the book can't take: `order_invalid`, `order_known` or `order_unknown`."""


class Order(Struct, frozen=True, gc=False):
    """A bid (side buy) or an ask (side sell); Wh and micro-currency per kWh.

    The price of a bid is its highest, of an ask its lowest, with every fee inside.
    """

    id: bytes
    owner: bytes
    side: Side
    quantity: int
    price: int
    start: int
    end: int
    """The window, UTC seconds; orders meet only within the same window."""
    min_quantity: int = 1
    """The smallest part that may be taken at a time, unless less is left."""


class Fill(Struct, frozen=True, gc=False):
    """Two orders that met: Wh, and the price that holds for both."""

    bid: bytes
    ask: bytes
    quantity: int
    price: int


def check_order(order: Order) -> None:
    """Check an order's figures; raises OrderError `order_invalid` that names the figure and its bounds."""
    quantity, price, least, start, end = (
        order.quantity,
        order.price,
        order.min_quantity,
        order.start,
        order.end,
    )
    if (
        type(quantity) is type(price) is type(least) is type(start) is type(end) is int
        and 0 < least <= quantity <= MAX_WATT_HOURS
        and 0 <= price <= MAX_PRICE
        and 0 <= start < end <= MAX_TIME
    ):
        return
    _within(order, "quantity", quantity, 1, MAX_WATT_HOURS)
    _within(order, "price", price, 0, MAX_PRICE)
    _within(order, "min_quantity", least, 1, quantity)
    _within(order, "start", start, 0, MAX_TIME)
    _within(order, "end", end, start + 1, MAX_TIME)


def _within(order: Order, name: str, value: Any, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise OrderError(
            "order_invalid",
            f"{name} is {value!r}; a whole number from {least} to {most} is right",
            order=order.id,
            field=name,
            value=value,
            least=least,
            most=most,
        )
