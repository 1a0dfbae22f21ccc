"""Assets: registration, update, change of owner, retirement."""

from ledger_core.community import AssetApproval
from ledger_core.errors import RuleError
from ledger_core.records.assets import Asset
from ledger_core.records.codec import Record
from ledger_core.records.types import AssetKind, Role
from ledger_core.rules.admitted_keys import require_valid_key
from ledger_core.rules.availability import check_rating_covers_bookings
from ledger_core.rules.context import Context, body_of
from ledger_core.rules.events import AssetChanged
from ledger_core.rules.rows import AssetRow, StoreRow
from ledger_core.rules.state import add_to_index, remove_from_index

STORES = frozenset({AssetKind.BATTERY, AssetKind.FUEL_CELL, AssetKind.EV, AssetKind.PORTABLE})
"""Kinds whose energy is limited by what they hold."""

SUPPLIERS = frozenset(
    {
        AssetKind.PV,
        AssetKind.WIND,
        AssetKind.BATTERY,
        AssetKind.FUEL_CELL,
        AssetKind.GENERATOR,
        AssetKind.EV,
        AssetKind.CHARGE_POINT,
        AssetKind.PORTABLE,
    }
)
"""Kinds that can deliver what is sold."""


def apply_asset(ctx: Context, record: Record) -> None:
    """Register an asset, or replace what is known of it."""
    body = body_of(record, Asset)
    ctx.require_role(body.author, Role.HOME)
    if ctx.parameters.asset_approval is AssetApproval.AUTHORITY:
        ctx.require_authority_among(record.signers)
    known = ctx.state.assets.get(body.asset)
    if known is None:
        if body.supersedes is not None:
            raise RuleError("asset_unknown", "there is no such asset to supersede", asset=body.asset)
    else:
        _check_update(record, body, known)
    _check_figures(ctx, body)
    _check_meter(ctx, body, known)
    row = AssetRow(
        record.id,
        body.author,
        body.kind,
        body.carrier,
        body.rating_w,
        body.curve,
        body.capacity_wh,
        body.meter,
        body.meter_key,
        body.location,
    )
    if known is not None:
        check_rating_covers_bookings(ctx, body.asset, row)
    ctx.put(ctx.state.assets, body.asset, row)
    _index_meter(ctx, body, known)
    store = ctx.state.stores.get(body.asset)
    if body.energy_wh is not None and (store is None or store.at <= body.created):
        ctx.put(ctx.state.stores, body.asset, StoreRow(body.energy_wh, body.created))
    ctx.events.append(AssetChanged(body.asset, body.author, body.rating_w))


def _check_update(record: Record, body: Asset, known: AssetRow) -> None:
    if body.supersedes != known.record:
        raise RuleError(
            "asset_superseded",
            "the update must name the asset's latest record",
            asset=body.asset,
            latest=known.record,
        )
    if known.owner not in record.signers:
        raise RuleError(
            "not_owner",
            "the asset belongs to another member, who must sign",
            asset=body.asset,
            owner=known.owner,
        )
    if body.kind is not known.kind or body.carrier is not known.carrier:
        raise RuleError(
            "asset_kind_changed",
            "an asset keeps its kind and carrier; register a new one instead",
            kind=str(known.kind),
            carrier=str(known.carrier),
        )


def _check_figures(ctx: Context, body: Asset) -> None:
    is_meter = body.kind is AssetKind.METER
    if is_meter != (body.meter_key is not None) or is_meter != (body.meter is None):
        raise RuleError(
            "asset_meter_fields", "a meter has a key and no meter; any other asset has a meter and no key"
        )
    if body.kind in STORES:
        if body.capacity_wh is None:
            raise RuleError(
                "asset_capacity_missing", f"a {body.kind} needs its capacity in Wh", kind=str(body.kind)
            )
        if body.energy_wh is not None and body.energy_wh > body.capacity_wh:
            raise RuleError(
                "asset_energy_above_capacity",
                f"{body.energy_wh} Wh available exceed the capacity of {body.capacity_wh} Wh",
                energy_wh=body.energy_wh,
                capacity_wh=body.capacity_wh,
            )
    elif body.energy_wh is not None or body.capacity_wh is not None:
        raise RuleError("asset_not_a_store", f"a {body.kind} has no stored energy", kind=str(body.kind))
    last = -1
    for step in body.curve:
        ctx.require_slot_boundary(step.start, "curve")
        if step.start <= last or step.watts > body.rating_w:
            raise RuleError(
                "asset_curve_invalid",
                "a curve ascends by time and stays at or below the rating",
                start=step.start,
                watts=step.watts,
                rating_w=body.rating_w,
            )
        last = step.start


def _check_meter(ctx: Context, body: Asset, known: AssetRow | None) -> None:
    if body.meter is not None:
        meter = ctx.state.assets.get(body.meter)
        if meter is None or meter.kind is not AssetKind.METER:
            raise RuleError("meter_unknown", "the asset's meter is not registered", meter=body.meter)
        if meter.owner != body.author:
            raise RuleError("meter_not_own", "the asset's meter belongs to another member", meter=body.meter)
        if meter.carrier is not body.carrier:
            raise RuleError(
                "meter_carrier",
                f"the meter counts {meter.carrier}, not {body.carrier}",
                meter=body.meter,
                carrier=str(meter.carrier),
            )
    if body.meter_key is not None:
        require_valid_key(body.meter_key, "meter_key")
        holder = ctx.state.meter_keys.get(body.meter_key)
        if holder is not None and holder != body.asset:
            raise RuleError("meter_key_taken", "that key belongs to another meter", key=body.meter_key)
    if known is None or (known.meter, known.owner) == (body.meter, body.author):
        return
    if _has_bookings(ctx, body.asset):
        raise RuleError(
            "asset_booked", "neither meter nor owner can change while trades are booked", asset=body.asset
        )
    if known.owner != body.author and any(row.meter == body.asset for row in ctx.state.assets.values()):
        raise RuleError(
            "meter_in_use", "the meter can't change hands while assets settle through it", asset=body.asset
        )


def _has_bookings(ctx: Context, asset: bytes) -> bool:
    return any(key in ctx.state.booked for key in ((asset, "supply"), (asset, "export"), (asset, "import")))


def _index_meter(ctx: Context, body: Asset, known: AssetRow | None) -> None:
    if body.kind is AssetKind.METER and (known is None or known.owner != body.author):
        if known is not None:
            remove_from_index(ctx.journal, ctx.state.meters_of, known.owner, body.asset)
        add_to_index(ctx.journal, ctx.state.meters_of, body.author, body.asset)
    if known is not None and known.meter_key is not None and known.meter_key != body.meter_key:
        ctx.drop(ctx.state.meter_keys, known.meter_key)
    if body.meter_key is not None:
        ctx.put(ctx.state.meter_keys, body.meter_key, body.asset)
