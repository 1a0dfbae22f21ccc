"""Auctions: bids awarded in the first block at or after the close; offers that run out."""

from msgspec.structs import replace

from ledger_core.errors import RuleError
from ledger_core.records.types import Side
from ledger_core.rules.acceptances import AUCTION, bind
from ledger_core.rules.accounts import unhold
from ledger_core.rules.context import Context
from ledger_core.rules.offers import close_offer, end_waiting
from ledger_core.rules.rows import WaitingRow


def end_offer(ctx: Context, offer_id: bytes) -> None:
    """Close an offer whose time has come; an auction is awarded first."""
    offer = ctx.state.offers.get(offer_id)
    if offer is None:
        return
    if offer.auction is None:
        close_offer(ctx, offer_id, "expired")
    else:
        award(ctx, offer_id)
        close_offer(ctx, offer_id, "auctioned")


def award(ctx: Context, offer_id: bytes) -> None:
    """Award an auction's bids at their own prices: the best price first, earlier inclusion on ties.

    A seller's auction takes the highest bids, a buyer's (a request) the lowest. A bid that asks for more than
    is left, or that a rule refuses by now, loses; the next one is tried.
    """
    offer = ctx.state.offers[offer_id]
    direction = -1 if offer.side is Side.SELL else 1

    def rank(item: tuple[bytes, WaitingRow]) -> tuple[int, int]:
        return direction * item[1].price, item[1].sequence

    bids = [(bid_id, ctx.state.waiting[bid_id]) for bid_id in ctx.state.waiting_on.get(offer_id, ())]
    for bid_id, row in sorted(bids, key=rank):
        end = "lost"
        current = ctx.state.offers[offer_id]
        if current.open and ctx.time <= row.start:
            _release_hold(ctx, bid_id, row)
            try:
                bind(ctx, bid_id, row, current, AUCTION)
                end = "awarded"
            except RuleError as refusal:
                end = f"lost: {refusal.code}"
        end_waiting(ctx, bid_id, end)


def _release_hold(ctx: Context, bid_id: bytes, row: WaitingRow) -> None:
    unhold(ctx, row.author, row.held)
    ctx.put(ctx.state.waiting, bid_id, replace(row, held=0))


def end_acceptance(ctx: Context, waiting_id: bytes) -> None:
    """End changed terms that nobody answered in time: silence rejects."""
    if waiting_id in ctx.state.waiting:
        end_waiting(ctx, waiting_id, "expired")
