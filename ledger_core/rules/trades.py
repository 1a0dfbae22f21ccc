"""Trades: what they cost, and ending them early."""

from msgspec.structs import replace

from ledger_core.errors import RuleError
from ledger_core.records.codec import Record
from ledger_core.records.trades import Termination
from ledger_core.records.types import Basis, Role
from ledger_core.rules.accounts import move as move_money
from ledger_core.rules.accounts import require_spendable, unhold
from ledger_core.rules.availability import agreed_until, outstanding_after
from ledger_core.rules.context import Context, body_of
from ledger_core.rules.deadlines import CLOSED, add_deadline
from ledger_core.rules.events import TradeClosed, TradeTerminated
from ledger_core.rules.rows import ClosedRow, TradeRow
from ledger_core.rules.state import release
from ledger_core.units import amount, energy


def agreed_amount(basis: Basis, quantity: int, start: int, end: int, price: int) -> int:
    """Return what a whole trade costs, micro-currency, rounded down."""
    return amount(energy(quantity, end - start) if basis is Basis.CAPACITY else quantity, price)


def shortfall_amount(basis: Basis, quantity: int, start: int, end: int, price: int) -> int:
    """Return what a seller pays at most for delivering nothing, micro-currency."""
    return agreed_amount(basis, quantity, start, end, price)


def require_trade(ctx: Context, trade_id: bytes, party: bytes) -> TradeRow:
    """Return a live trade of a party; raises `trade_unknown` or `not_party`."""
    trade = ctx.state.trades.get(trade_id)
    if trade is None:
        raise RuleError("trade_unknown", "no such trade is running", trade=trade_id)
    if party not in (trade.seller, trade.buyer):
        raise RuleError("not_party", "the member is no side of the trade", trade=trade_id)
    return trade


def apply_termination(ctx: Context, record: Record) -> None:
    """End a trade early: any compensation when both sides sign, else at least the community's part."""
    body = body_of(record, Termination)
    ctx.require_role(body.author, Role.HOME)
    trade = require_trade(ctx, body.trade, body.author)
    _check_end(ctx, body, trade)
    other = trade.buyer if body.author == trade.seller else trade.seller
    slot = ctx.parameters.slot_s
    remaining = amount(outstanding_after(trade, body.end, slot), trade.price)
    if other not in record.signers:
        least = -(-remaining * ctx.parameters.termination_permille // 1000)
        if body.compensation < least:
            raise RuleError(
                "compensation_too_low",
                f"ending alone costs at least {least} micro-currency, or the other side co-signs",
                compensation=body.compensation,
                least=least,
            )
    shorter = _shorten(trade, body.end, slot)
    unhold(ctx, trade.buyer, trade.held_buyer - shorter.held_buyer)
    unhold(ctx, trade.seller, trade.held_seller - shorter.held_seller)
    require_spendable(ctx, body.author, body.compensation)
    move_money(ctx, body.author, other, body.compensation)
    ctx.put(ctx.state.trades, body.trade, shorter)
    ctx.events.append(TradeTerminated(body.trade, body.author, body.end, body.compensation))
    if shorter.end == shorter.start or shorter.end <= ctx.state.tip.settled_until:
        close_trade(ctx, body.trade)


def _check_end(ctx: Context, body: Termination, trade: TradeRow) -> None:
    ctx.require_slot_boundary(body.end, "end")
    earliest = max(trade.start, ctx.time)
    if not earliest <= body.end < trade.end:
        raise RuleError(
            "termination_end",
            f"the new end must lie from {earliest} on and before {trade.end}",
            end=body.end,
            earliest=earliest,
            trade_end=trade.end,
        )


def _shorten(trade: TradeRow, end: int, slot_s: int) -> TradeRow:
    """Return the trade with an earlier end, holding only what is left to settle."""
    gone = outstanding_after(trade, end, slot_s)
    return replace(
        trade,
        end=end,
        held_buyer=max(trade.held_buyer - amount(gone, trade.price), 0),
        held_seller=max(trade.held_seller - amount(gone, trade.shortfall_price), 0),
    )


def slot_agreed(trade: TradeRow, slot_end: int, slot_s: int) -> int:
    """Return the Wh agreed for the slot that ends at a boundary."""
    return agreed_until(trade, slot_end, slot_s) - agreed_until(trade, slot_end - slot_s, slot_s)


def close_trade(ctx: Context, trade_id: bytes) -> None:
    """Free what a finished trade still holds and booked, and keep its sides for scores.

    A trade that ended before it began showed nothing that could be scored.
    """
    trade = ctx.drop(ctx.state.trades, trade_id)
    _draw_store(ctx, trade)
    release(ctx.journal, ctx.state, trade_id, trade)
    unhold(ctx, trade.buyer, trade.held_buyer)
    unhold(ctx, trade.seller, trade.held_seller)
    if trade.end > trade.start:
        ctx.put(ctx.state.closed, trade_id, ClosedRow(trade.seller, trade.buyer, False, False))
        add_deadline(ctx, ctx.time + ctx.parameters.score_window_s + 1, CLOSED, trade_id)
    ctx.events.append(TradeClosed(trade_id, trade.seller, trade.buyer, trade.delivered_wh, trade.paid))


def _draw_store(ctx: Context, trade: TradeRow) -> None:
    """Take what a finished trade delivered after the last known content of its store off that content."""
    store = ctx.state.stores.get(trade.asset)
    if store is None:
        return
    slot = ctx.parameters.slot_s
    drawn = min(outstanding_after(trade, store.at - store.at % slot, slot), trade.delivered_wh)
    if drawn:
        left = max(store.energy_wh - drawn, 0)
        ctx.put(ctx.state.stores, trade.asset, replace(store, energy_wh=left))


def forget_closed(ctx: Context, trade_id: bytes) -> None:
    """Drop a closed trade that can no longer be scored."""
    if trade_id in ctx.state.closed:
        ctx.drop(ctx.state.closed, trade_id)
