"""Availability: what an asset, its connection and its store can still give, slot by slot."""

from collections.abc import Iterable, Iterator

from ledger_core.errors import RuleError
from ledger_core.records.types import Basis
from ledger_core.rules.context import Context
from ledger_core.rules.rows import AssetRow, TradeRow
from ledger_core.rules.state import EXPORT, IMPORT, SUPPLY
from ledger_core.units import energy


def rating_at(asset: AssetRow, time: int) -> int:
    """Return the power in W that an asset can give at a time: its rating, or less where its curve says so."""
    watts = asset.rating_w
    for step in asset.curve:
        if step.start > time:
            break
        watts = step.watts
    return watts


def agreed_until(trade: TradeRow, time: int, slot_s: int) -> int:
    """Return the Wh of a trade agreed for the slots that end at or before a slot boundary.

    Energy is spread evenly over the agreed window; capacity counts as full use of the reserved power.
    """
    until = min(max(time, trade.start), trade.end)
    if trade.basis is Basis.CAPACITY:
        return energy(trade.watts, until - trade.start)
    slots = (trade.agreed_end - trade.start) // slot_s
    return trade.quantity * ((until - trade.start) // slot_s) // slots


def outstanding_after(trade: TradeRow, time: int, slot_s: int) -> int:
    """Return the Wh of a trade agreed for the slots that end after a time."""
    return agreed_until(trade, trade.end, slot_s) - agreed_until(trade, time, slot_s)


def booked_trades(ctx: Context, subject: bytes, direction: str) -> list[TradeRow]:
    """Return the live trades booked on an asset (supply) or a connection (export, import)."""
    trades = ctx.state.trades
    return [trades[trade_id] for trade_id in ctx.state.booked.get((subject, direction), ())]


def booked_power(
    asset: AssetRow, booked: Iterable[TradeRow], start: int, end: int | None = None
) -> Iterator[tuple[int, int]]:
    """Yield each time at which an asset's rating or what is booked changes, and the W booked from then on.

    Power is constant in between. One pass over the sorted times: an asset may have thousands of trades.
    """
    used, changes = 0, {start: 0}
    for trade in booked:
        if trade.end <= start or (end is not None and trade.start >= end):
            continue
        if trade.start <= start:
            used += trade.watts
        else:
            changes[trade.start] = changes.get(trade.start, 0) + trade.watts
        if end is None or trade.end < end:
            changes[trade.end] = changes.get(trade.end, 0) - trade.watts
    for step in asset.curve:
        if start < step.start and (end is None or step.start < end):
            changes.setdefault(step.start, 0)
    for time in sorted(changes):
        used += changes[time]
        yield time, used


def power_left(asset: AssetRow, booked: Iterable[TradeRow], start: int, end: int) -> tuple[int, int]:
    """Return the least power in W left in a window, and the slot start at which it is least."""
    least, where = -1, start
    for point, used in booked_power(asset, booked, start, end):
        left = rating_at(asset, point) - used
        if least < 0 or left < least:
            least, where = max(left, 0), point
    return least, where


def energy_left(ctx: Context, asset_id: bytes) -> int | None:
    """Return the Wh an energy-limited asset can still sell; None for an asset without a store.

    Slots up to the time of the last known content have already drawn on it, later ones are outstanding. A
    store whose content nobody has stated yet has nothing to sell.
    """
    if ctx.state.assets[asset_id].capacity_wh is None:
        return None
    store = ctx.state.stores.get(asset_id)
    if store is None:
        return 0
    slot = ctx.parameters.slot_s
    at = store.at - store.at % slot
    booked = booked_trades(ctx, asset_id, SUPPLY)
    return store.energy_wh - sum(outstanding_after(trade, at, slot) for trade in booked)


def check_supply(
    ctx: Context, asset_id: bytes, asset: AssetRow, watts: int, watt_hours: int, start: int, end: int
) -> None:
    """Check that an asset, its connection and its store can give a power and an energy in a window.

    Raises RuleError `power_unavailable`, `connection_full` or `energy_unavailable` with what is left.
    """
    left, slot = power_left(asset, booked_trades(ctx, asset_id, SUPPLY), start, end)
    if watts > left:
        raise RuleError(
            "power_unavailable",
            f"{watts} W wanted in the slot from {slot}, {left} W left",
            asset=asset_id,
            wanted_w=watts,
            left_w=left,
            slot=slot,
        )
    if asset.meter is not None:
        check_connection(ctx, asset.meter, EXPORT, watts, start, end)
    stored = energy_left(ctx, asset_id)
    if stored is not None and watt_hours > stored:
        raise RuleError(
            "energy_unavailable",
            f"{watt_hours} Wh wanted, {max(stored, 0)} Wh left",
            asset=asset_id,
            wanted_wh=watt_hours,
            left_wh=max(stored, 0),
        )


def check_connection(ctx: Context, meter_id: bytes, direction: str, watts: int, start: int, end: int) -> None:
    """Check that a grid connection can carry a power besides what is booked; raises `connection_full`."""
    meter = ctx.state.assets[meter_id]
    left, slot = power_left(meter, booked_trades(ctx, meter_id, direction), start, end)
    if watts > left:
        raise RuleError(
            "connection_full",
            f"{watts} W wanted to {direction} in the slot from {slot}, {left} W left at the connection",
            meter=meter_id,
            wanted_w=watts,
            left_w=left,
            slot=slot,
        )


def check_rating_covers_bookings(ctx: Context, asset_id: bytes, row: AssetRow) -> None:
    """Check that a changed rating still covers what is booked from now on; raises `rating_below_booked`."""
    for direction in (SUPPLY, EXPORT, IMPORT):
        for point, used in booked_power(row, booked_trades(ctx, asset_id, direction), ctx.time):
            rating = rating_at(row, point)
            if used > rating:
                raise RuleError(
                    "rating_below_booked",
                    f"{used} W are booked at {point}, more than the new {rating} W; end those trades first",
                    asset=asset_id,
                    booked_w=used,
                    rating_w=rating,
                    slot=point,
                )
