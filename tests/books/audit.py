"""Holds a chain's state and events against recomputed books, and the books against themselves."""

from collections import defaultdict
from collections.abc import Iterable

from ledger_core.community import Genesis
from ledger_core.records.block import Block
from ledger_core.rules.apply import apply_block
from ledger_core.rules.events import AcceptanceEnded, Event, SlotSettled, TradeAgreed
from ledger_core.rules.genesis import genesis_state
from ledger_core.rules.prepare import prepare_block
from ledger_core.rules.state import State

from .recompute import Books, Line, Sale

ROOM = ("power_unavailable", "connection_full", "energy_unavailable", "funds_insufficient")


def without_room(events: Iterable[Event]) -> frozenset[bytes]:
    """The bids that lost because no power, energy or money was left."""
    lost = {f"lost: {code}" for code in ROOM}
    return frozenset(
        event.acceptance for event in events if isinstance(event, AcceptanceEnded) and event.reason in lost
    )


def replay(genesis: Genesis, blocks: Iterable[Block]) -> tuple[State, list[Event]]:
    """Apply a main branch by the ledger's own rules; signatures were made a moment ago."""
    state = genesis_state(genesis)
    events: list[Event] = []
    for block in blocks:
        nodes = {index: node.key for index, node in state.nodes.items()}
        prepared = prepare_block(block, genesis, genesis.chain_id, nodes)
        prepared.verified = True
        events += apply_block(state, prepared, prepared.header.time).events
    return state, events


def assert_agrees(books: Books, state: State, events: Iterable[Event]) -> None:
    """Every trade, settlement line and balance is the same, to the last Wh and micro-currency."""
    events = list(events)
    agreed = {event.trade: event for event in events if isinstance(event, TradeAgreed)}
    assert books.sales.keys() == agreed.keys()
    for name, event in agreed.items():
        sale = books.sales[name]
        told = (event.seller, event.buyer, event.asset, event.quantity, event.watts, event.start, event.end)
        assert (*told, event.price) == _terms(sale)
    lines = {
        (event.trade, event.slot_end): _line(event) for event in events if isinstance(event, SlotSettled)
    }
    assert books.lines == lines
    assert_balances(books, state)


def _terms(sale: Sale) -> tuple[object, ...]:
    parties = (sale.seller, sale.buyer, sale.asset)
    return (*parties, sale.quantity, sale.watts, sale.start, sale.agreed_end, sale.price)


def _line(event: SlotSettled) -> Line:
    return Line(
        event.agreed_wh,
        event.sent_wh,
        event.received_wh,
        event.delivered_wh,
        event.paid,
        event.shortfall_paid,
        event.disputed,
    )


def assert_balances(books: Books, state: State) -> None:
    """Balances differ by earned fees alone, and with waiting fees all sums to what was issued."""
    earned = 0
    for member in books.balances.keys() | state.accounts.keys():
        row = state.accounts.get(member)
        income = (0 if row is None else row.balance) - books.balances[member]
        assert income >= 0
        assert books.fee or income == 0
        earned += income
    waiting = sum(row.amount for row in state.fees.values())
    assert earned + waiting == books.fees
    assert sum(row.balance for row in state.accounts.values()) + waiting == state.tip.issued


def assert_sound(books: Books) -> None:
    """Hold every slot against the meters: nothing is sold twice, nothing is delivered that nobody counted."""
    slots: defaultdict[int, list[tuple[Sale, Line]]] = defaultdict(list)
    for (name, slot_end), line in books.lines.items():
        slots[slot_end].append((books.sales[name], line))
    for slot_end, rows in slots.items():
        _assert_slot(books, slot_end, rows)


def _assert_slot(books: Books, slot_end: int, rows: list[tuple[Sale, Line]]) -> None:
    sold: defaultdict[bytes, int] = defaultdict(int)
    bought: defaultdict[bytes, int] = defaultdict(int)
    money: defaultdict[bytes, int] = defaultdict(int)
    watts: defaultdict[bytes, int] = defaultdict(int)
    for sale, line in rows:
        assert 0 <= line.delivered <= line.agreed
        assert line.delivered <= min(line.sent or 0, line.received or 0)
        sold[sale.seller_meter] += line.delivered
        bought[sale.buyer_meter] += line.delivered
        paid = line.paid - line.shortfall_paid
        money[sale.seller] += paid
        money[sale.buyer] -= paid
        watts[sale.asset] += sale.watts
    assert sum(sold.values()) == sum(bought.values())
    assert sum(money.values()) == 0
    for meter, watt_hours in sold.items():
        assert watt_hours <= (books.counted(meter, slot_end, 1) or 0)
    for meter, watt_hours in bought.items():
        assert watt_hours <= (books.counted(meter, slot_end, 0) or 0)
    for asset, booked in watts.items():
        start = slot_end - books.slot_s
        rating = next(rated for since, rated in reversed(books.ratings[asset]) if since <= slot_end)
        assert booked <= rating, f"{booked} W booked of {rating} W in the slot from {start}"
