"""Acceptance: binding at equal terms, waiting at changed ones, a bid in an auction."""

from msgspec.structs import replace

from ledger_core.errors import RuleError
from ledger_core.records.acceptances import Acceptance, Confirmation, Rejection
from ledger_core.records.codec import Record
from ledger_core.records.types import Role, Side
from ledger_core.rules.accounts import hold, require_spendable
from ledger_core.rules.availability import check_connection, check_supply
from ledger_core.rules.context import Context, body_of
from ledger_core.rules.deadlines import WAITING, add_deadline
from ledger_core.rules.events import AcceptanceWaits, TradeAgreed
from ledger_core.rules.offers import (
    booked_energy,
    booked_watts,
    close_offer,
    end_waiting,
    meter_of,
    require_asset,
    require_supplier,
    require_window,
)
from ledger_core.rules.rows import OfferRow, TradeRow, WaitingRow
from ledger_core.rules.state import IMPORT, add_to_index, book, remove_from_index
from ledger_core.rules.trades import agreed_amount, shortfall_amount
from ledger_core.units import MAX_AMOUNT, MAX_WATTS

POSTED = "posted"
COUNTERED = "countered"
AUCTION = "auction"


def apply_acceptance(ctx: Context, record: Record) -> None:
    """Bind a trade, or have the acceptance wait."""
    body = body_of(record, Acceptance)
    ctx.require_role(body.author, Role.HOME)
    offer = require_open_offer(ctx, body.offer)
    _check_party(body, offer)
    require_window(ctx, body.start, body.end)
    check_quantity(offer, body.quantity)
    row = WaitingRow(
        body.author,
        body.offer,
        body.asset,
        body.quantity,
        body.start,
        body.end,
        body.price,
        body.valid_until,
        ctx.state.tip.sequence + ctx.sequence,
        0,
    )
    if offer.auction is not None:
        _bid(ctx, record.id, row, offer)
    elif (body.price, body.start, body.end) == (offer.price, offer.start, offer.end):
        bind(ctx, record.id, row, offer, POSTED)
    else:
        _check_sides(ctx, row, offer)
        _check_waiting_time(ctx, body.valid_until)
        wait(ctx, record.id, row, offer)
        add_deadline(ctx, min(body.valid_until, body.start) + 1, WAITING, record.id)


def require_open_offer(ctx: Context, offer_id: bytes) -> OfferRow:
    """Return an offer that can be accepted now; raises `offer_unknown` or `offer_expired`."""
    offer = ctx.state.offers.get(offer_id)
    if offer is None:
        raise RuleError("offer_unknown", "no such offer is open", offer=offer_id)
    if ctx.time > offer.valid_until:
        raise RuleError(
            "offer_expired",
            f"the offer was valid until {offer.valid_until}, the block's time is {ctx.time}",
            offer=offer_id,
            valid_until=offer.valid_until,
            time=ctx.time,
        )
    return offer


def _check_party(body: Acceptance, offer: OfferRow) -> None:
    if body.author == offer.author:
        raise RuleError("own_offer", "nobody accepts an own offer", offer=body.offer)
    if offer.audience is not None and body.author not in offer.audience:
        raise RuleError("not_in_audience", "the offer is for other members", offer=body.offer)


def check_quantity(offer: OfferRow, quantity: int) -> None:
    """Check a quantity against what is open and the minimum fill of an offer."""
    unit = "W" if offer.basis == "capacity" else "Wh"
    if quantity > offer.open:
        raise RuleError(
            "quantity_exceeds_open",
            f"{quantity} {unit} wanted, {offer.open} {unit} left",
            wanted=quantity,
            left=offer.open,
        )
    if quantity == offer.open:
        return
    if offer.min_quantity is None:
        raise RuleError(
            "partial_refused",
            f"the offer is for all of its {offer.open} {unit}",
            wanted=quantity,
            left=offer.open,
        )
    if quantity < offer.min_quantity:
        raise RuleError(
            "below_minimum_fill",
            f"at least {offer.min_quantity} {unit} must be accepted",
            wanted=quantity,
            minimum=offer.min_quantity,
        )


def _check_waiting_time(ctx: Context, valid_until: int) -> None:
    if valid_until < ctx.time:
        raise RuleError(
            "acceptance_expired",
            f"the changed terms were valid until {valid_until}, the block's time is {ctx.time}",
            valid_until=valid_until,
            time=ctx.time,
        )


def _check_sides(ctx: Context, row: WaitingRow, offer: OfferRow) -> None:
    """Check the accepting side's asset early, so that the offerer is not asked for what can't be."""
    if offer.side is Side.SELL:
        meter_of(ctx, row.asset, row.author, offer.carrier)
    else:
        require_supplier(ctx, row.asset, row.author, offer.carrier)


def wait(ctx: Context, waiting_id: bytes, row: WaitingRow, offer: OfferRow) -> None:
    """Have an acceptance wait for the offerer or for its auction."""
    ctx.put(ctx.state.waiting, waiting_id, row)
    add_to_index(ctx.journal, ctx.state.waiting_on, row.offer, waiting_id)
    ctx.events.append(
        AcceptanceWaits(waiting_id, row.author, row.offer, offer.author, offer.auction is not None)
    )


def _bid(ctx: Context, bid_id: bytes, row: WaitingRow, offer: OfferRow) -> None:
    auction = offer.auction
    if auction is None:
        raise TypeError("a bid needs an auction")
    if ctx.time >= auction.closes:
        raise RuleError(
            "auction_closed",
            f"bids closed at {auction.closes}, the block's time is {ctx.time}",
            closes=auction.closes,
            time=ctx.time,
        )
    if row.price > auction.ceiling:
        raise RuleError(
            "bid_above_ceiling",
            f"the bid of {row.price} exceeds the ceiling of {auction.ceiling}",
            price=row.price,
            ceiling=auction.ceiling,
        )
    if row.price < auction.reserve:
        raise RuleError(
            "bid_below_reserve",
            f"the bid of {row.price} is below the reserve of {auction.reserve}",
            price=row.price,
            reserve=auction.reserve,
        )
    if (row.start, row.end) != (offer.start, offer.end):
        raise RuleError(
            "bid_window", "a bid is for the auction's own window", start=offer.start, end=offer.end
        )
    _check_sides(ctx, row, offer)
    held = 0
    if offer.side is Side.SELL:
        held = agreed_amount(offer.basis, row.quantity, row.start, row.end, row.price)
    if held > MAX_AMOUNT:
        raise RuleError("amount_too_large", f"the amount of {held} exceeds {MAX_AMOUNT}", amount=held)
    hold(ctx, row.author, held)
    wait(ctx, bid_id, replace(row, held=held), offer)


def bind(ctx: Context, trade_id: bytes, row: WaitingRow, offer: OfferRow, origin: str) -> None:
    """Make a trade binding: check both sides once more, book it, hold the money.

    All checks come before the first change, so that a caller may go on after a refusal.
    """
    check_quantity(offer, row.quantity)
    selling = offer.side is Side.SELL
    seller, buyer = (offer.author, row.author) if selling else (row.author, offer.author)
    supply_asset, receiving_asset = (offer.asset, row.asset) if selling else (row.asset, offer.asset)
    ctx.require_role(seller, Role.HOME)
    ctx.require_role(buyer, Role.HOME)
    asset_id, asset = require_supplier(ctx, supply_asset, seller, offer.carrier)
    if receiving_asset is not None:
        require_asset(ctx, receiving_asset, buyer, offer.carrier)
    buyer_meter = meter_of(ctx, receiving_asset, buyer, offer.carrier)
    watts = booked_watts(offer, row.quantity, row.start, row.end)
    if watts > MAX_WATTS:
        raise RuleError(
            "power_too_large", f"{watts} W exceed the {MAX_WATTS} W of any window", wanted_w=watts
        )
    watt_hours = booked_energy(offer.basis, row.quantity, row.start, row.end)
    check_supply(ctx, asset_id, asset, watts, watt_hours, row.start, row.end)
    check_connection(ctx, buyer_meter, IMPORT, watts, row.start, row.end)
    amount = agreed_amount(offer.basis, row.quantity, row.start, row.end, row.price)
    collateral = shortfall_amount(offer.basis, row.quantity, row.start, row.end, offer.shortfall_price)
    if max(amount, collateral) > MAX_AMOUNT:
        raise RuleError(
            "amount_too_large", f"the amount of {max(amount, collateral)} exceeds {MAX_AMOUNT}", amount=amount
        )
    require_spendable(ctx, buyer, amount)
    require_spendable(ctx, seller, collateral)
    hold(ctx, buyer, amount)
    hold(ctx, seller, collateral)
    trade = TradeRow(
        row.offer,
        origin,
        seller,
        buyer,
        asset_id,
        asset.meter if asset.meter is not None else asset_id,
        buyer_meter,
        offer.carrier,
        offer.basis,
        row.quantity,
        watts,
        row.start,
        row.end,
        row.end,
        row.price,
        offer.shortfall_price,
        amount,
        collateral,
        0,
        0,
    )
    ctx.put(ctx.state.trades, trade_id, trade)
    book(ctx.journal, ctx.state, trade_id, trade)
    _reduce_offer(ctx, row.offer, offer, row.quantity)
    ctx.events.append(
        TradeAgreed(
            trade_id,
            row.offer,
            origin,
            seller,
            buyer,
            asset_id,
            str(offer.basis),
            row.quantity,
            watts,
            row.start,
            row.end,
            row.price,
        )
    )


def _reduce_offer(ctx: Context, offer_id: bytes, offer: OfferRow, quantity: int) -> None:
    left = replace(offer, open=offer.open - quantity)
    ctx.put(ctx.state.offers, offer_id, left)
    if not left.open and offer.auction is None:
        close_offer(ctx, offer_id, "taken")


def apply_confirmation(ctx: Context, record: Record) -> None:
    """Bind changed terms that the offerer agrees to."""
    body = body_of(record, Confirmation)
    row, offer = _require_waiting(ctx, body.acceptance, body.author)
    require_open_offer(ctx, row.offer)
    _check_waiting_time(ctx, row.valid_until)
    require_window(ctx, row.start, row.end)
    ctx.drop(ctx.state.waiting, body.acceptance)
    remove_from_index(ctx.journal, ctx.state.waiting_on, row.offer, body.acceptance)
    bind(ctx, body.acceptance, row, offer, COUNTERED)


def apply_rejection(ctx: Context, record: Record) -> None:
    """End changed terms that the offerer does not agree to."""
    body = body_of(record, Rejection)
    _require_waiting(ctx, body.acceptance, body.author)
    end_waiting(ctx, body.acceptance, "rejected")


def _require_waiting(ctx: Context, acceptance: bytes, author: bytes) -> tuple[WaitingRow, OfferRow]:
    row = ctx.state.waiting.get(acceptance)
    if row is None:
        raise RuleError("acceptance_unknown", "no acceptance waits under that id", acceptance=acceptance)
    offer = ctx.state.offers[row.offer]
    if offer.author != author:
        raise RuleError("not_author", "only the offerer answers changed terms", acceptance=acceptance)
    if offer.auction is not None:
        raise RuleError(
            "bid_not_answered", "bids are awarded by the auction, nobody confirms or rejects them"
        )
    return row, offer
