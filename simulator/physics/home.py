"""A home's physics: one step from the weather, the household and the orders to closed energy counters."""

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from simulator.physics.battery import Battery, BatterySpec
from simulator.physics.fuel_cell import FuelCell, FuelCellSpec
from simulator.physics.inverter import BusLimits, InverterSpec, plan_bus
from simulator.physics.load import LoadProfile, load_power_w
from simulator.physics.noise import mix64
from simulator.physics.sun import PvArray, Site, pv_power_w

if TYPE_CHECKING:
    from simulator.physics.orders import Orders

_PV_SEED, _LOAD_SEED = 1, 2


@dataclass(frozen=True, slots=True)
class HomeSpec:
    """What a home has; None is a part that it lacks. The fuel cell's own rule starts it at a low battery."""

    seed: int = 1
    site: Site = field(default_factory=Site)
    inverter: InverterSpec = field(default_factory=InverterSpec)
    pv: PvArray | None = None
    battery: BatterySpec | None = None
    fuel_cell: FuelCellSpec | None = None
    load: LoadProfile | None = None
    first_soc_permille: int = 500
    first_fuel_permille: int = 1000
    fuel_cell_start_soc_permille: int = 150
    fuel_cell_stop_soc_permille: int = 400


@dataclass(frozen=True, slots=True)
class Flows:
    """Power of one step in W: `pv + discharge + fuel_cell + import == load + charge + export + losses`.

    `pv_w`, `charge_w`, `discharge_w` and `fuel_cell_w` are at DC terminals, the rest is AC; `pv_possible_w`
    is what the array could have given without curtailment, `ac_out_w`/`ac_in_w` the hybrid inverter's AC
    side, `fuel_cell_ac_w` the fuel cell's converter's. Losses are those of the two converters.
    """

    pv_w: int = 0
    pv_possible_w: int = 0
    charge_w: int = 0
    discharge_w: int = 0
    fuel_cell_w: int = 0
    fuel_cell_ac_w: int = 0
    ac_out_w: int = 0
    ac_in_w: int = 0
    load_w: int = 0
    import_w: int = 0
    export_w: int = 0
    losses_w: int = 0


@dataclass(slots=True)
class Counters:
    """Energy since the start in joules; the first eight close as the flows do, the rest are AC sides."""

    pv_j: int = 0
    charge_j: int = 0
    discharge_j: int = 0
    fuel_cell_j: int = 0
    load_j: int = 0
    import_j: int = 0
    export_j: int = 0
    losses_j: int = 0
    ac_out_j: int = 0
    ac_in_j: int = 0
    fuel_cell_ac_j: int = 0

    def add(self, flows: Flows, step_s: int) -> None:
        """Count a step."""
        self.pv_j += flows.pv_w * step_s
        self.charge_j += flows.charge_w * step_s
        self.discharge_j += flows.discharge_w * step_s
        self.fuel_cell_j += flows.fuel_cell_w * step_s
        self.load_j += flows.load_w * step_s
        self.import_j += flows.import_w * step_s
        self.export_j += flows.export_w * step_s
        self.losses_j += flows.losses_w * step_s
        self.ac_out_j += flows.ac_out_w * step_s
        self.ac_in_j += flows.ac_in_w * step_s
        self.fuel_cell_ac_j += flows.fuel_cell_ac_w * step_s

    def in_joules(self) -> dict[str, int]:
        """Return every counter in joules, by name without its unit."""
        return {name: getattr(self, attribute) for name, attribute in _COUNTER_NAMES}

    def in_wh(self) -> dict[str, int]:
        """Return every counter in Wh, rounded down, by name without its unit."""
        return {name: value // 3600 for name, value in self.in_joules().items()}


_COUNTER_NAMES = tuple((item.name.removesuffix("_j"), item.name) for item in fields(Counters))


@dataclass(frozen=True, slots=True)
class Environment:
    """Fixed values in W in place of the weather and the household, or None to let them be."""

    pv_w: int | None = None
    load_w: int | None = None


class Home:
    """A home at a time. The same seed, times, orders and environment give the same run, bit for bit."""

    def __init__(self, spec: HomeSpec, time_s: int) -> None:
        """Start at a UTC time in seconds."""
        self.spec = spec
        self.time_s = time_s
        self.environment = Environment()
        self.flows = Flows()
        self.counters = Counters()
        self.battery: Battery | None = None
        self.fuel_cell: FuelCell | None = None
        if spec.battery is not None:
            self.battery = Battery(
                spec.battery, stored_j=spec.battery.capacity_j * spec.first_soc_permille // 1000
            )
        if spec.fuel_cell is not None:
            self.fuel_cell = FuelCell(spec.fuel_cell)
            self.fuel_cell.refuel(spec.fuel_cell.tank_mg * spec.first_fuel_permille // 1000)
        self._fuel_cell_wanted = False

    def step(self, orders: Orders, step_s: int) -> Flows:
        """Advance by a step in seconds under the orders in force; return what flowed."""
        if step_s < 1:
            raise ValueError(f"a step lasts at least 1 s, not {step_s}")
        spec = self.spec
        pv_possible = self._pv_possible_w()
        load = self._load_w()
        fuel_cell = self._step_fuel_cell(orders, step_s)
        fuel_cell_ac = 0
        if spec.fuel_cell is not None:
            fuel_cell_ac = fuel_cell * spec.fuel_cell.converter_efficiency_permille // 1000
        battery = self.battery
        limits = BusLimits(
            pv_w=pv_possible,
            charge_w=battery.charge_limit_w(step_s) if battery else 0,
            discharge_w=battery.discharge_limit_w(step_s) if battery else 0,
            fuel_cell_w=fuel_cell_ac,
            load_w=load,
        )
        plan = plan_bus(limits, orders, spec.inverter)
        if battery:
            battery.step(plan.charge_w, plan.discharge_w, step_s)
        net = load + plan.ac_in_w - fuel_cell_ac - plan.ac_out_w
        bus_loss = plan.pv_w + plan.discharge_w + plan.ac_in_w - plan.charge_w - plan.ac_out_w
        self.flows = Flows(
            pv_w=plan.pv_w,
            pv_possible_w=pv_possible,
            charge_w=plan.charge_w,
            discharge_w=plan.discharge_w,
            fuel_cell_w=fuel_cell,
            fuel_cell_ac_w=fuel_cell_ac,
            ac_out_w=plan.ac_out_w,
            ac_in_w=plan.ac_in_w,
            load_w=load,
            import_w=max(0, net),
            export_w=max(0, -net),
            losses_w=bus_loss + fuel_cell - fuel_cell_ac,
        )
        self.counters.add(self.flows, step_s)
        self.time_s += step_s
        return self.flows

    def _pv_possible_w(self) -> int:
        if self.environment.pv_w is not None:
            return self.environment.pv_w
        if self.spec.pv is None:
            return 0
        return pv_power_w(self.time_s, mix64(self.spec.seed, _PV_SEED), self.spec.site, self.spec.pv)

    def _load_w(self) -> int:
        if self.environment.load_w is not None:
            return self.environment.load_w
        if self.spec.load is None:
            return 0
        return load_power_w(self.time_s, mix64(self.spec.seed, _LOAD_SEED), self.spec.load)

    def _step_fuel_cell(self, orders: Orders, step_s: int) -> int:
        """Return the fuel cell's DC power in W for this step."""
        if self.fuel_cell is None:
            return 0
        order = orders.fuel_cell
        if order.run is not None:
            self._fuel_cell_wanted = order.run
        elif self.battery is None:
            self._fuel_cell_wanted = False
        elif self.battery.soc_permille <= self.spec.fuel_cell_start_soc_permille:
            self._fuel_cell_wanted = True
        elif self.battery.soc_permille >= self.spec.fuel_cell_stop_soc_permille:
            self._fuel_cell_wanted = False
        target_w = self.fuel_cell.spec.rated_w if order.power_w is None else order.power_w
        return self.fuel_cell.step(self._fuel_cell_wanted, target_w, step_s)
