"""Settlement: what was agreed, sent, received, delivered and paid, for each trade and slot, by rule."""

from msgspec import Struct
from msgspec.structs import replace

from ledger_core.community import Parameters
from ledger_core.records.types import Basis
from ledger_core.rules.accounts import count_energy, move
from ledger_core.rules.context import Context
from ledger_core.rules.events import SlotSettled
from ledger_core.rules.reputation import count_delivery
from ledger_core.rules.rows import TradeRow
from ledger_core.rules.state import CHAIN
from ledger_core.rules.trades import close_trade, slot_agreed
from ledger_core.units import amount, share_out

EXPORTED = 0
IMPORTED = 1


class Line(Struct, gc=False):
    """One trade in one slot while it is being settled; all energies in Wh."""

    trade_id: bytes
    trade: TradeRow
    agreed: int
    sent: int | None = None
    received: int | None = None


def settle_due(ctx: Context) -> None:
    """Settle every slot whose grace has passed, earliest first."""
    slot = ctx.parameters.slot_s
    chain = ctx.state.tip
    last = (ctx.time - ctx.parameters.grace_s) // slot * slot
    if last <= chain.settled_until:
        return
    slot_end = chain.settled_until
    while slot_end < last and ctx.state.trades:
        starts = [trade.start for trade in ctx.state.trades.values()]
        slot_end = max(slot_end, min(starts)) + slot
        if slot_end > last:
            break
        _settle_slot(ctx, slot_end)
    ctx.put(ctx.state.chain, CHAIN, replace(ctx.state.tip, settled_until=last))


def _settle_slot(ctx: Context, slot_end: int) -> None:
    slot = ctx.parameters.slot_s
    running = [item for item in ctx.state.trades.items() if item[1].start < slot_end <= item[1].end]
    running.sort()
    lines = [Line(trade_id, trade, slot_agreed(trade, slot_end, slot)) for trade_id, trade in running]
    for line, share in _shares(ctx, lines, slot_end, IMPORTED):
        line.received = share
    for line, share in _shares(ctx, lines, slot_end, EXPORTED):
        line.sent = share
    for line in lines:
        _settle_line(ctx, line, slot_end)


def _shares(ctx: Context, lines: list[Line], slot_end: int, direction: int) -> list[tuple[Line, int | None]]:
    """Share each meter's energy of a slot over the trades that settle through it.

    Reserved power claims no more of the seller's export than its buyer wanted: what nobody drew was sent for
    another trade.
    """
    by_meter: dict[bytes, list[Line]] = {}
    for line in lines:
        meter = line.trade.seller_meter if direction == EXPORTED else line.trade.buyer_meter
        by_meter.setdefault(meter, []).append(line)
    result: list[tuple[Line, int | None]] = []
    for meter, group in by_meter.items():
        total = metered(ctx, meter, slot_end, direction)
        if total is None:
            result += [(line, None) for line in group]
        else:
            claims = [_export_claim(line) if direction == EXPORTED else line.agreed for line in group]
            shares = share_out(total, claims, [line.trade_id for line in group])
            result += list(zip(group, shares, strict=True))
    return result


def _export_claim(line: Line) -> int:
    """Return the Wh of the seller's export that a line claims, once the buyer's import is shared out."""
    if line.trade.basis is Basis.CAPACITY and line.received is not None:
        return min(line.agreed, line.received)
    return line.agreed


def metered(ctx: Context, meter: bytes, slot_end: int, direction: int) -> int | None:
    """Return the Wh that a meter counted in the slot ending at a boundary; None without both boundaries."""
    before = after = None
    slot_start = slot_end - ctx.parameters.slot_s
    for row in ctx.state.boundaries.get(meter, ()):
        if row.end == slot_start:
            before = row
        elif row.end >= slot_end:
            after = row
            break
    if before is None or after is None or after.end != slot_end:
        return None
    if direction == EXPORTED:
        return after.export_wh - before.export_wh
    return after.import_wh - before.import_wh


class Outcome(Struct, frozen=True, gc=False):
    """What the rule makes of one line; energies in Wh, money in micro-currency."""

    delivered: int
    paid: int
    shortfall_paid: int
    owed: int
    """What the seller owed in this slot: what was agreed, or of reserved power what was wanted."""
    supplied: int
    """What it sent of that."""
    disputed: bool


def settle_line(
    trade: TradeRow, agreed: int, sent: int | None, received: int | None, parameters: Parameters
) -> Outcome:
    """Settle one trade in one slot.

    `sent` and `received` are the trade's shares of the meters' energies, at most `agreed`; None where a
    reading is missing. Delivered, and paid, is the smaller of both; without both readings nothing is.
    Reserved power is paid in proportion to delivered over wanted (the buyer's import), and in full where
    nothing was wanted. A seller without readings proves nothing, and owes the shortfall price for it.
    """
    given, taken = sent or 0, received or 0
    known = sent is not None and received is not None
    delivered = min(given, taken) if known else 0
    if trade.basis is Basis.ENERGY:
        owed = agreed
        paid = amount(delivered, trade.price)
    else:
        owed = taken
        full = amount(agreed, trade.price)
        paid = (full * delivered // taken if taken else full) if known else 0
    supplied = min(given, owed)
    loss = max(given * parameters.loss_permille // 1000, parameters.loss_wh)
    return Outcome(
        delivered,
        paid,
        amount(owed - supplied, trade.shortfall_price),
        owed,
        supplied,
        known and abs(given - taken) > loss,
    )


def _settle_line(ctx: Context, line: Line, slot_end: int) -> None:
    trade = line.trade
    outcome = settle_line(trade, line.agreed, line.sent, line.received, ctx.parameters)
    reserved = amount(line.agreed, trade.price)
    collateral = amount(line.agreed, trade.shortfall_price)
    move(ctx, trade.buyer, trade.seller, outcome.paid, held=reserved)
    move(ctx, trade.seller, trade.buyer, outcome.shortfall_paid, held=collateral)
    count_energy(ctx, trade.seller, trade.buyer, trade.carrier, outcome.delivered)
    if line.sent is not None and line.received is not None and not outcome.disputed:
        count_delivery(ctx, trade.seller, outcome.owed, outcome.supplied)
    row = replace(
        trade,
        held_buyer=trade.held_buyer - reserved,
        held_seller=trade.held_seller - collateral,
        delivered_wh=trade.delivered_wh + outcome.delivered,
        paid=trade.paid + outcome.paid,
    )
    ctx.put(ctx.state.trades, line.trade_id, row)
    ctx.events.append(
        SlotSettled(
            line.trade_id,
            slot_end,
            trade.seller,
            trade.buyer,
            line.agreed,
            line.sent,
            line.received,
            outcome.delivered,
            outcome.paid,
            outcome.shortfall_paid,
            outcome.disputed,
        )
    )
    if slot_end >= trade.end:
        close_trade(ctx, line.trade_id)
