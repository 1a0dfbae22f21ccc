"""The hybrid inverter: how the DC bus, the household and the grid share power within the orders in force."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.physics.orders import Orders


@dataclass(frozen=True, slots=True)
class InverterSpec:
    """A hybrid inverter: rated AC power in W, both ways, and its efficiency in per mille."""

    rated_w: int = 10_000
    efficiency_permille: int = 970


@dataclass(frozen=True, slots=True)
class BusLimits:
    """What the parts can do in this step, in W: array and battery DC, fuel cell and household AC."""

    pv_w: int
    charge_w: int
    discharge_w: int
    fuel_cell_w: int
    load_w: int


@dataclass(frozen=True, slots=True)
class BusPlan:
    """What flows in this step, in W: array and battery at DC terminals, the inverter's AC side."""

    pv_w: int
    charge_w: int
    discharge_w: int
    ac_out_w: int
    ac_in_w: int


def dc_for_ac(ac_w: int, spec: InverterSpec) -> int:
    """Return the DC power in W that yields at least an AC power in W."""
    return -(-ac_w * 1000 // spec.efficiency_permille)


def ac_from_dc(dc_w: int, spec: InverterSpec) -> int:
    """Return the AC power in W that a DC power in W yields."""
    return dc_w * spec.efficiency_permille // 1000


def _battery_dc(limits: BusLimits, orders: Orders, spec: InverterSpec) -> int:
    """Return the battery's power in W, here alone as one number: discharge above 0, charge below."""
    order = orders.battery
    ac_need = limits.load_w - limits.fuel_cell_w - order.import_target_w + order.export_target_w
    if order.output_w is not None or order.absorb_w is not None:
        ac_need = (order.output_w or 0) - (order.absorb_w or 0)
    if ac_need >= 0:
        wanted = dc_for_ac(ac_need, spec) - limits.pv_w
    else:
        wanted = -limits.pv_w - ac_from_dc(-ac_need, spec)
    most_charge = limits.charge_w if order.max_charge_w is None else min(limits.charge_w, order.max_charge_w)
    most_discharge = (
        limits.discharge_w
        if order.max_discharge_w is None
        else min(limits.discharge_w, order.max_discharge_w)
    )
    if order.min_charge_w:
        wanted = min(wanted, -order.min_charge_w)
    elif order.min_discharge_w:
        wanted = max(wanted, order.min_discharge_w)
    if not order.to_grid:
        household = max(0, limits.load_w - limits.fuel_cell_w)
        most_discharge = min(most_discharge, max(0, dc_for_ac(household, spec) - limits.pv_w))
    if not order.from_grid:
        surplus_ac = max(0, limits.fuel_cell_w - limits.load_w)
        most_charge = min(most_charge, limits.pv_w + ac_from_dc(surplus_ac, spec))
    if not orders.connected:
        most_discharge = 0
        most_charge = min(most_charge, limits.pv_w)
    return max(-most_charge, min(most_discharge, wanted))


def plan_bus(limits: BusLimits, orders: Orders, spec: InverterSpec) -> BusPlan:
    """Share power for one step; every limit in `orders` and `spec` holds, and no power appears from nowhere.

    A limit on output takes from the battery's discharge first and then curtails the array; what the battery
    charges is served by the array before the grid.
    """
    battery = _battery_dc(limits, orders, spec)
    ac_limit = spec.rated_w
    if orders.production_limit_w is not None:
        ac_limit = min(ac_limit, max(0, orders.production_limit_w))
    if orders.export_limit_w is not None:
        ac_limit = min(ac_limit, max(0, limits.load_w - limits.fuel_cell_w + orders.export_limit_w))
    if not orders.connected:
        ac_limit = 0
    pv = limits.pv_w
    if battery < 0 and pv + battery < 0:
        # Charging beyond the sun: the rest comes through the inverter, within its rating.
        ac_in = min(spec.rated_w, dc_for_ac(-battery - pv, spec))
        return BusPlan(pv, min(-battery, pv + ac_from_dc(ac_in, spec)), 0, 0, ac_in)
    excess = max(0, pv + battery - _largest_dc(ac_limit, spec))
    if battery > 0:
        less = min(battery, excess)
        battery, excess = battery - less, excess - less
    pv -= excess
    return BusPlan(pv, max(0, -battery), max(0, battery), ac_from_dc(pv + battery, spec), 0)


def _largest_dc(ac_w: int, spec: InverterSpec) -> int:
    """Return the largest DC power in W whose AC power does not exceed a limit in W."""
    return ((ac_w + 1) * 1000 - 1) // spec.efficiency_permille
