"""What a trade asks of one slot: pure arithmetic, as the ledger's rules spread it."""

from ledger_core.client.views import TradeView
from ledger_core.records.types import Basis
from ledger_core.units import energy, slot_share


def slot_of(now: float, slot_s: int) -> int:
    """Return the start of the slot that a time lies in."""
    return int(now) // slot_s * slot_s


def runs_in(trade: TradeView, slot: int) -> bool:
    """Whether a trade is to be delivered in the slot that starts then."""
    return trade.start <= slot < trade.end


def agreed_in(trade: TradeView, slot: int, slot_s: int) -> int:
    """Return the Wh agreed for the slot that starts then: spread evenly; of capacity, its full use."""
    if not runs_in(trade, slot):
        return 0
    if trade.basis == Basis.CAPACITY.value:
        index = (slot - trade.start) // slot_s
        whole = energy(trade.watts, (index + 1) * slot_s)
        return whole - energy(trade.watts, index * slot_s)
    count = (trade.agreed_end - trade.start) // slot_s
    return slot_share(trade.quantity, (slot - trade.start) // slot_s, count)


def agreed_from(trade: TradeView, slot: int, slot_s: int) -> int:
    """Return the Wh agreed for this slot and all later ones."""
    return sum(agreed_in(trade, start, slot_s) for start in range(max(slot, trade.start), trade.end, slot_s))
