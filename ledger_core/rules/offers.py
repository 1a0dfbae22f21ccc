"""Offers and requests: opening, withdrawal, expiry."""

from ledger_core.errors import RuleError
from ledger_core.records.codec import Record
from ledger_core.records.offers import Offer, Withdrawal
from ledger_core.records.types import Basis, Role, Side
from ledger_core.rules.accounts import unhold
from ledger_core.rules.assets import SUPPLIERS
from ledger_core.rules.availability import check_supply
from ledger_core.rules.context import Context, body_of
from ledger_core.rules.deadlines import OFFER, add_deadline
from ledger_core.rules.events import AcceptanceEnded, OfferClosed, OfferOpened
from ledger_core.rules.rows import AssetRow, OfferRow
from ledger_core.rules.state import remove_from_index
from ledger_core.units import MAX_WATTS, energy, mean_power


def booked_watts(offer: OfferRow, quantity: int, start: int, end: int) -> int:
    """Return the power in W that accepting a quantity of an offer books."""
    if offer.basis is Basis.CAPACITY:
        return quantity
    return max(mean_power(quantity, end - start), -(-offer.max_w * quantity // offer.quantity))


def booked_energy(basis: Basis, quantity: int, start: int, end: int) -> int:
    """Return the Wh that a quantity may draw from a store over a window."""
    return energy(quantity, end - start) if basis is Basis.CAPACITY else quantity


def require_window(ctx: Context, start: int, end: int) -> None:
    """Check a window: slot boundaries, in the future, not too long and not too far ahead."""
    ctx.require_slot_boundary(start, "start")
    ctx.require_slot_boundary(end, "end")
    limit = ctx.parameters.window_max_slots * ctx.parameters.slot_s
    if not 0 < end - start <= limit:
        raise RuleError(
            "window_invalid",
            f"a window ends after its start and spans at most {limit} s",
            start=start,
            end=end,
            limit_s=limit,
        )
    if start < ctx.time:
        raise RuleError(
            "window_started",
            f"the window starts at {start}, the block's time is {ctx.time}",
            start=start,
            time=ctx.time,
        )
    if end > ctx.time + ctx.parameters.horizon_s:
        raise RuleError(
            "window_too_far",
            f"the window ends at {end}; at most {ctx.time + ctx.parameters.horizon_s} is allowed",
            end=end,
            horizon_s=ctx.parameters.horizon_s,
        )


def require_asset(ctx: Context, asset_id: bytes, owner: bytes, carrier: str) -> AssetRow:
    """Return a member's own asset of a carrier; raises `asset_unknown`, `not_owner` or `carrier_mismatch`."""
    asset = ctx.state.assets.get(asset_id)
    if asset is None:
        raise RuleError("asset_unknown", "there is no such asset", asset=asset_id)
    if asset.owner != owner:
        raise RuleError("not_owner", "the asset belongs to another member", asset=asset_id, owner=asset.owner)
    if asset.carrier != carrier:
        raise RuleError(
            "carrier_mismatch",
            f"the asset's carrier is {asset.carrier}, not {carrier}",
            asset=asset_id,
            carrier=str(asset.carrier),
        )
    return asset


def require_supplier(
    ctx: Context, asset_id: bytes | None, owner: bytes, carrier: str
) -> tuple[bytes, AssetRow]:
    """Return the asset that supplies; raises as `require_asset`, `asset_missing`, `asset_not_a_supplier`."""
    if asset_id is None:
        raise RuleError("asset_missing", "selling names the asset that supplies")
    asset = require_asset(ctx, asset_id, owner, carrier)
    if asset.kind not in SUPPLIERS:
        raise RuleError(
            "asset_not_a_supplier", f"a {asset.kind} supplies nothing", asset=asset_id, kind=str(asset.kind)
        )
    return asset_id, asset


def meter_of(ctx: Context, asset_id: bytes | None, owner: bytes, carrier: str) -> bytes:
    """Return the meter that a member's side of a trade settles through.

    It is the asset's meter, the asset itself where it is one, or the member's only meter of the carrier that
    is not retired; raises `meter_ambiguous` or `meter_missing` where there are several or none.
    """
    if asset_id is not None:
        asset = require_asset(ctx, asset_id, owner, carrier)
        return asset_id if asset.meter is None else asset.meter
    meters = ((meter_id, ctx.state.assets[meter_id]) for meter_id in ctx.state.meters_of.get(owner, ()))
    own = [meter_id for meter_id, meter in meters if meter.carrier == carrier and meter.rating_w]
    if not own:
        raise RuleError("meter_missing", f"the member has no {carrier} meter to settle through", member=owner)
    if len(own) > 1:
        raise RuleError(
            "meter_ambiguous",
            f"the member has {len(own)} {carrier} meters; name one as the asset",
            member=owner,
        )
    return own[0]


def apply_offer(ctx: Context, record: Record) -> None:
    """Open an offer or a request."""
    body = body_of(record, Offer)
    ctx.require_role(body.author, Role.HOME)
    require_window(ctx, body.start, body.end)
    _check_terms(ctx, body)
    row = OfferRow(
        body.author,
        body.side,
        body.asset,
        body.carrier,
        body.basis,
        body.quantity,
        body.quantity,
        body.min_quantity,
        body.max_w,
        body.start,
        body.end,
        body.price,
        body.shortfall_price,
        body.audience,
        body.valid_until,
        body.auction,
    )
    watts = booked_watts(row, body.quantity, body.start, body.end)
    if watts > MAX_WATTS:
        raise RuleError(
            "power_too_large", f"{watts} W exceed the {MAX_WATTS} W of any window", wanted_w=watts
        )
    if body.side is Side.SELL:
        asset_id, asset = require_supplier(ctx, body.asset, body.author, body.carrier)
        watt_hours = booked_energy(body.basis, body.quantity, body.start, body.end)
        check_supply(ctx, asset_id, asset, watts, watt_hours, body.start, body.end)
    else:
        meter_of(ctx, body.asset, body.author, body.carrier)
    ctx.put(ctx.state.offers, record.id, row)
    due = body.auction.closes if body.auction else min(body.valid_until, body.start) + 1
    add_deadline(ctx, due, OFFER, record.id)
    ctx.events.append(OfferOpened(record.id, body.author))


def _check_terms(ctx: Context, body: Offer) -> None:
    if body.min_quantity is not None and body.min_quantity > body.quantity:
        raise RuleError(
            "minimum_above_quantity",
            f"the smallest part of {body.min_quantity} exceeds the quantity of {body.quantity}",
            min_quantity=body.min_quantity,
            quantity=body.quantity,
        )
    if body.valid_until < ctx.time:
        raise RuleError(
            "offer_expired",
            f"the offer was valid until {body.valid_until}, the block's time is {ctx.time}",
            valid_until=body.valid_until,
            time=ctx.time,
        )
    if body.audience is not None and any(
        a >= b for a, b in zip(body.audience, body.audience[1:], strict=False)
    ):
        raise RuleError("audience_unordered", "an audience ascends by key, each member once")
    auction = body.auction
    if auction is None:
        return
    if not auction.reserve <= body.price <= auction.ceiling:
        raise RuleError(
            "auction_limits",
            f"the price of {body.price} must lie between the reserve of {auction.reserve} and the ceiling "
            f"of {auction.ceiling}",
            price=body.price,
            reserve=auction.reserve,
            ceiling=auction.ceiling,
        )
    if not ctx.time < auction.closes <= min(body.valid_until, body.start):
        raise RuleError(
            "auction_closes",
            "an auction closes after its offer is included and not after the validity or the window's start",
            closes=auction.closes,
            time=ctx.time,
            valid_until=body.valid_until,
            start=body.start,
        )


def apply_withdrawal(ctx: Context, record: Record) -> None:
    """Take back one's own offer, or one's own acceptance of changed terms; a bid stays."""
    body = body_of(record, Withdrawal)
    offer = ctx.state.offers.get(body.target)
    if offer is not None:
        if offer.author != body.author:
            raise RuleError("not_author", "only its author withdraws an offer", target=body.target)
        close_offer(ctx, body.target, "withdrawn")
        return
    waiting = ctx.state.waiting.get(body.target)
    if waiting is None:
        raise RuleError("target_unknown", "nothing is open under that id", target=body.target)
    if waiting.author != body.author:
        raise RuleError("not_author", "only its author withdraws an acceptance", target=body.target)
    if ctx.state.offers[waiting.offer].auction is not None:
        raise RuleError(
            "bid_binding", "a bid can't be taken back before its auction closes", target=body.target
        )
    end_waiting(ctx, body.target, "withdrawn")


def close_offer(ctx: Context, offer_id: bytes, reason: str) -> None:
    """Close an offer; whatever waits on it ends."""
    for waiting_id in ctx.state.waiting_on.get(offer_id, ()):
        end_waiting(ctx, waiting_id, "offer " + reason)
    offer = ctx.drop(ctx.state.offers, offer_id)
    ctx.events.append(OfferClosed(offer_id, offer.author, reason))


def end_waiting(ctx: Context, waiting_id: bytes, reason: str) -> None:
    """End an acceptance that waits, and free what its bid held."""
    row = ctx.drop(ctx.state.waiting, waiting_id)
    remove_from_index(ctx.journal, ctx.state.waiting_on, row.offer, waiting_id)
    unhold(ctx, row.author, row.held)
    ctx.events.append(AcceptanceEnded(waiting_id, row.author, row.offer, reason))
