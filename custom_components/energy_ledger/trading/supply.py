"""What each device of the home can sell, with the figures behind it."""

from collections.abc import Sequence

from msgspec.structs import replace

from ledger_core.client.views import AssetView
from ledger_core.market.surplus import Balance, Origin, SlotForecast, StoreNow, balance
from ledger_core.units import energy

from ..data import DeviceRuntime, EnergyLedgerEntry
from ..devices.readings import Field
from .agreed import agreed_in
from .context import Desk
from .forecast import SUNNY
from .house import STORES, level_field
from .notebook import StoreOrigin
from .rule_config import RuleProblem, SellRule
from .sell_desk import Supply


def held_wh(runtime: DeviceRuntime, capacity_wh: int) -> int | None:
    """Return what a store holds; None when it does not tell."""
    if not runtime.coordinator.last_update_success:
        return None
    readings = runtime.coordinator.data
    told = readings.number(Field.ENERGY_AVAILABLE_WH)
    if told is not None:
        return max(told, 0)
    field = level_field(readings)
    level = None if field is None else readings.number(field)
    return None if level is None else capacity_wh * level // 1000


def follow_origins(desk: Desk, imported_wh: int | None) -> None:
    """Follow whose energy the home's stores hold; `imported_wh` is what the meter has counted from the grid.

    What a store held when it was first seen counts as the home's own. While meter or store are away nothing
    is decided: of all that came in meanwhile, at most what was drawn meanwhile is the grid's. Where nobody
    knows what was drawn (another meter counts from elsewhere) all of it is.
    """
    if imported_wh is None:
        return
    origins = desk.notebook.pages.origins
    for runtime, asset in _assets(desk.entry):
        if runtime.kind not in STORES or asset.capacity_wh is None:
            continue
        held = held_wh(runtime, asset.capacity_wh)
        if held is None:
            continue
        known = origins.get(asset.asset)
        if known is None:
            origin = Origin(held, 0)
        else:
            before = known.imported_wh
            drawn = held if before is None or before > imported_wh else imported_wh - before
            origin = Origin(known.own_wh, known.grid_wh).follow(held, drawn)
        origins[asset.asset] = StoreOrigin(origin.own_wh, origin.grid_wh, imported_wh)


def _own_permille(desk: Desk, asset: AssetView, held: int) -> int:
    """Return the part of what a store holds that is the home's own; not what nobody knows the origin of."""
    known = desk.notebook.pages.origins.get(asset.asset)
    return 1000 if known is None else Origin(known.own_wh, known.grid_wh).follow(held, held).own_permille


def supply_of(desk: Desk, rule: SellRule, forecast: Sequence[SlotForecast] | None, reserve: int) -> Supply:
    """Return what a rule's device can sell; raises RuleProblem when that is not known."""
    runtime = desk.entry.runtime_data.devices.get(rule.device)
    if runtime is None:
        raise RuleProblem("device_missing")
    asset = next((each for each in _views(desk.entry) if _is(runtime, each)), None)
    if asset is None:
        raise RuleProblem("asset_not_registered", device=runtime.name)
    if not runtime.coordinator.last_update_success:
        raise RuleProblem("device_away", device=runtime.name)
    if forecast is None:
        raise RuleProblem("consumption_unknown")
    if asset.capacity_wh is None:
        return Supply(asset=asset, plan=_sunny_plan(desk, asset, forecast))
    held = held_wh(runtime, asset.capacity_wh)
    if held is None:
        raise RuleProblem("level_unknown", device=runtime.name)
    home_store = runtime.kind in STORES
    store = StoreNow(
        held_wh=held,
        capacity_wh=asset.capacity_wh,
        reserve_wh=asset.capacity_wh * reserve // 1000,
        max_w=asset.rating_w,
        own_permille=1000 if rule.grid_energy or not home_store else _own_permille(desk, asset, held),
        keeps_for_home=home_store and rule.keep_for_home,
    )
    slots = [
        replace(
            slot,
            generation_wh=slot.generation_wh if home_store else 0,
            load_wh=slot.load_wh if home_store else 0,
            sold_wh=_sold(desk, asset, slot.start),
        )
        for slot in forecast
    ]
    plan = balance(slots, store, desk.slot_s)
    return Supply(asset=asset, plan=_without_direct(plan))


def _sunny_plan(desk: Desk, asset: AssetView, forecast: Sequence[SlotForecast]) -> Balance:
    """Return what is generated beyond the home's own use, once its batteries are full."""
    room, charge_wh = 0, 0
    for runtime, each in _assets(desk.entry):
        if runtime.kind in STORES and each.capacity_wh is not None and each.meter == asset.meter:
            held = held_wh(runtime, each.capacity_wh)
            room += 0 if held is None else max(each.capacity_wh - held, 0)
            charge_wh += energy(each.rating_w, desk.slot_s)
    slots = []
    for slot in forecast:
        charged = min(max(slot.generation_wh - slot.load_wh, 0), room, charge_wh)
        room -= charged
        slots.append(replace(slot, load_wh=slot.load_wh + charged, sold_wh=_sold(desk, asset, slot.start)))
    return balance(slots, None, desk.slot_s)


def _without_direct(plan: Balance) -> Balance:
    return replace(plan, slots=tuple(replace(slot, direct_wh=0) for slot in plan.slots))


def _sold(desk: Desk, asset: AssetView, start: int) -> int:
    trades = desk.entry.runtime_data.ledger.data.trades
    return sum(agreed_in(trade, start, desk.slot_s) for trade in trades if trade.asset == asset.asset)


def _views(entry: EnergyLedgerEntry) -> Sequence[AssetView]:
    return entry.runtime_data.ledger.data.assets


def _is(runtime: DeviceRuntime, asset: AssetView) -> bool:
    return runtime.asset_id is not None and runtime.asset_id.hex() == asset.asset


def _assets(entry: EnergyLedgerEntry) -> list[tuple[DeviceRuntime, AssetView]]:
    """Return the devices that are assets, with these."""
    return [
        (runtime, asset)
        for runtime in entry.runtime_data.devices.values()
        for asset in _views(entry)
        if _is(runtime, asset)
    ]


def home_plan(desk: Desk, forecast: Sequence[SlotForecast] | None, reserve: int) -> Balance | None:
    """Return the home's own balance: what it leaves over and needs, its batteries taken together."""
    if forecast is None:
        return None
    tanks = _tanks(desk)
    slots = [
        replace(slot, sold_wh=slot.sold_wh - sum(_sold(desk, tank, slot.start) for _, tank in tanks))
        for slot in forecast
    ]
    batteries = [(runtime, asset) for runtime, asset in _assets(desk.entry) if runtime.kind in STORES]
    return balance(slots, _together(desk, batteries, reserve, home=True), desk.slot_s)


def tank_plan(desk: Desk, forecast: Sequence[SlotForecast] | None, reserve: int) -> Balance | None:
    """Return what fuel cells and the like can sell, taken together: they serve nothing but sales."""
    tanks = _tanks(desk)
    store = _together(desk, tanks, reserve, home=False)
    if forecast is None or store is None:
        return None
    slots = [
        SlotForecast(
            start=slot.start,
            generation_wh=0,
            load_wh=0,
            sold_wh=sum(_sold(desk, tank, slot.start) for _, tank in tanks),
        )
        for slot in forecast
    ]
    return balance(slots, store, desk.slot_s)


def _tanks(desk: Desk) -> list[tuple[DeviceRuntime, AssetView]]:
    """Return the devices that are no batteries and run from a store."""
    return [
        (runtime, asset)
        for runtime, asset in _assets(desk.entry)
        if runtime.kind not in STORES and asset.capacity_wh is not None
    ]


def _together(
    desk: Desk, devices: Sequence[tuple[DeviceRuntime, AssetView]], reserve: int, *, home: bool
) -> StoreNow | None:
    """Return some stores as one; None where none of them tells how full it is."""
    held = capacity = power = own = 0
    for runtime, asset in devices:
        known = None if asset.capacity_wh is None else held_wh(runtime, asset.capacity_wh)
        if known is None or asset.capacity_wh is None:
            continue
        held, capacity, power = held + known, capacity + asset.capacity_wh, power + asset.rating_w
        own += known * (_own_permille(desk, asset, known) if home else 1000)
    if not capacity:
        return None
    return StoreNow(
        held_wh=held,
        capacity_wh=capacity,
        reserve_wh=capacity * reserve // 1000,
        max_w=power,
        own_permille=own // held if held else 1000,
        keeps_for_home=home,
    )


def has_sun(entry: EnergyLedgerEntry) -> bool:
    """Whether the home generates anything by itself."""
    return any(runtime.kind in SUNNY for runtime in entry.runtime_data.devices.values())
