"""What there is to show about a home at one moment, the same for every device and layout."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.physics.fuel_cell import FuelCellState
    from simulator.physics.home import Flows


@dataclass(frozen=True, slots=True)
class Identity:
    """What a device says about itself."""

    manufacturer: str = "Energy Ledger"
    model: str = "Simulated device"
    serial: str = "SIM-000001"
    firmware: str = "1.0.0"


@dataclass(frozen=True, slots=True)
class BatteryView:
    """The battery at a moment: shares in per mille, energy in Wh, power limits in W, voltage in mV."""

    soc_permille: int
    stored_wh: int
    available_wh: int
    capacity_wh: int
    min_soc_permille: int
    max_charge_w: int
    max_discharge_w: int


@dataclass(frozen=True, slots=True)
class FuelCellView:
    """The fuel cell at a moment: power limits in W, tank in mbar and per mille, fuel flow in mg per hour."""

    state: FuelCellState
    power_w: int
    rated_w: int
    bus_mv: int
    fuel_permille: int
    fuel_mg: int
    energy_available_wh: int
    tank_pressure_mbar: int
    fuel_flow_mg_per_h: int


@dataclass(frozen=True, slots=True)
class View:
    """A home at a moment. `energy_j`: lifetime counters in joules, named as in `Counters` without `_j`."""

    time_s: int
    flows: Flows
    energy_j: Mapping[str, int]
    rated_w: int
    pv_peak_w: int | None = None
    battery: BatteryView | None = None
    fuel_cell: FuelCellView | None = None
    ambient_mc: int = 25_000
