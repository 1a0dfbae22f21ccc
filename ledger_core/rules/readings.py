"""Readings: signed cumulative registers at slot boundaries, and what stores hold."""

from itertools import pairwise

from ledger_core.errors import RuleError
from ledger_core.records.codec import Record
from ledger_core.records.readings import Reading, ReadingRow
from ledger_core.records.types import AssetKind
from ledger_core.rules.context import Context, body_of
from ledger_core.rules.events import ReadingTaken
from ledger_core.rules.rows import AssetRow, StoreRow
from ledger_core.units import energy

TOLERANCE_PERMILLE = 1250
"""A connection may be overloaded for a while; more than this part of its rating is no reading."""

TOLERANCE_WH = 20
"""Resolution of coarse meters."""


def apply_reading(ctx: Context, record: Record) -> None:
    """Take a meter's boundaries and what its assets store."""
    body = body_of(record, Reading)
    meter = ctx.state.assets.get(body.meter)
    if meter is None or meter.kind is not AssetKind.METER:
        raise RuleError("meter_unknown", "the meter is not registered", meter=body.meter)
    if meter.meter_key != body.author:
        raise RuleError("meter_key_wrong", "the reading is not signed with the meter's key", meter=body.meter)
    _check_times(ctx, body)
    known = ctx.state.boundaries.get(body.meter, ())
    new = body.rows
    if not known or known[-1].end < new[0].end:
        merged = known + new
        changed = known[-1:] + new
    else:
        merged = _merge(known, new)
        changed = merged[len(known) - 1 :] if merged[: len(known)] == known else merged
    for before, after in pairwise(changed):
        _check_step(before, after, meter)
    settled = ctx.state.tip.settled_until
    kept = merged if merged[0].end >= settled else tuple([row for row in merged if row.end >= settled])
    ctx.put(ctx.state.boundaries, body.meter, kept or merged[-1:])
    if body.stored:
        _take_stores(ctx, body, meter)
    ctx.events.append(ReadingTaken(body.meter, body.rows[-1].end, len(body.rows)))


def _check_times(ctx: Context, body: Reading) -> None:
    slot = ctx.parameters.slot_s
    last = -1
    for row in body.rows:
        end = row.end
        if end % slot:
            ctx.require_slot_boundary(end, "end")
        if end <= last:
            raise RuleError("rows_unordered", "boundaries ascend, each once", end=end, previous=last)
        last = end
    if last > body.created:
        raise RuleError(
            "reading_early", f"the boundary {last} lies after the reading's creation {body.created}", end=last
        )


def _merge(known: tuple[ReadingRow, ...], new: tuple[ReadingRow, ...]) -> tuple[ReadingRow, ...]:
    rows = {row.end: row for row in known}
    for row in new:
        other = rows.setdefault(row.end, row)
        if (other.import_wh, other.export_wh) != (row.import_wh, row.export_wh):
            raise RuleError(
                "reading_conflict",
                f"the boundary {row.end} is known with other registers",
                end=row.end,
                known_import_wh=other.import_wh,
                known_export_wh=other.export_wh,
            )
    return tuple(rows[end] for end in sorted(rows))


def _check_step(before: ReadingRow, after: ReadingRow, meter: AssetRow) -> None:
    """Check that registers run forward, and not faster than the connection allows."""
    limit = energy(meter.rating_w, after.end - before.end) * TOLERANCE_PERMILLE // 1000 + TOLERANCE_WH
    if 0 <= after.import_wh - before.import_wh <= limit and 0 <= after.export_wh - before.export_wh <= limit:
        return
    for name, old, new in (
        ("import", before.import_wh, after.import_wh),
        ("export", before.export_wh, after.export_wh),
    ):
        if new < old:
            raise RuleError(
                "register_backwards",
                f"the {name} register falls from {old} to {new} Wh; a replaced meter is a new asset",
                register=name,
                before_wh=old,
                after_wh=new,
                end=after.end,
            )
        if new - old > limit:
            raise RuleError(
                "register_jump",
                f"the {name} register rises by {new - old} Wh, the connection allows {limit} Wh",
                register=name,
                rise_wh=new - old,
                limit_wh=limit,
                end=after.end,
            )


def _take_stores(ctx: Context, body: Reading, meter: AssetRow) -> None:
    at = body.rows[-1].end
    last = b""
    for item in body.stored:
        if item.asset <= last:
            raise RuleError(
                "stored_unordered", "stored energies ascend by asset, each once", asset=item.asset
            )
        last = item.asset
        asset = ctx.state.assets.get(item.asset)
        if asset is None or asset.owner != meter.owner or asset.meter != body.meter:
            raise RuleError("stored_not_behind_meter", "the asset is not behind this meter", asset=item.asset)
        if asset.capacity_wh is None:
            raise RuleError("asset_not_a_store", f"a {asset.kind} has no stored energy", asset=item.asset)
        if item.energy_wh > asset.capacity_wh:
            raise RuleError(
                "asset_energy_above_capacity",
                f"{item.energy_wh} Wh stored exceed the capacity of {asset.capacity_wh} Wh",
                asset=item.asset,
                energy_wh=item.energy_wh,
                capacity_wh=asset.capacity_wh,
            )
        store = ctx.state.stores.get(item.asset)
        if store is None or store.at <= at:
            ctx.put(ctx.state.stores, item.asset, StoreRow(item.energy_wh, at))
