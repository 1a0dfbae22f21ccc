"""A fuel cell: start-up, ramp, fuel used and a tank that empties, in whole watts and exact fuel."""

from dataclasses import dataclass, field
from enum import IntEnum

_J_PER_KWH = 3_600_000
# Ideal gas: p V = m R T / M for hydrogen at 288 K, in µbar litre per mg.
_UBAR_LITRE_PER_MG = 11_880


class FuelCellState(IntEnum):
    """What the fuel cell is doing."""

    OFF = 0
    STARTING = 1
    RUNNING = 2
    STOPPING = 3
    NO_FUEL = 4


@dataclass(frozen=True, slots=True)
class FuelCellSpec:
    """What a fuel cell can do.

    Powers in W at its DC terminals; `ramp_w_per_s` both ways; `start_s` from the order to the first power,
    `stop_s` to blow out; fuel in mg per kWh (hydrogen 60 000, the SFC module's data sheet; methanol about
    710 000); `tank_mg` when full in `tank_litre`; its output voltage in mV; efficiency of its converter.
    """

    rated_w: int = 2_500
    min_w: int = 250
    ramp_w_per_s: int = 50
    start_s: int = 90
    stop_s: int = 30
    fuel_mg_per_kwh: int = 60_000
    tank_mg: int = 2_000_000
    tank_litre: int = 100
    nominal_mv: int = 48_000
    converter_efficiency_permille: int = 950


@dataclass(slots=True)
class FuelCell:
    """A fuel cell. Fuel is kept in mg/kWh times J (3.6 million a mg): nothing is rounded away."""

    spec: FuelCellSpec = field(default_factory=FuelCellSpec)
    fuel_units: int = 0
    state: FuelCellState = FuelCellState.OFF
    state_s: int = 0
    power_w: int = 0
    produced_j: int = 0
    run_s: int = 0
    starts: int = 0

    @property
    def fuel_mg(self) -> int:
        """Fuel left in mg, rounded down."""
        return self.fuel_units // _J_PER_KWH

    @property
    def fuel_permille(self) -> int:
        """Fuel left in per mille of a full tank."""
        return self.fuel_mg * 1000 // self.spec.tank_mg

    @property
    def energy_available_wh(self) -> int:
        """Energy in Wh that the fuel left can give at the DC terminals."""
        return self.fuel_units // self.spec.fuel_mg_per_kwh // 3600

    @property
    def tank_pressure_mbar(self) -> int:
        """Tank pressure in mbar for hydrogen at 15 °C, as an ideal gas."""
        return self.fuel_mg * _UBAR_LITRE_PER_MG // self.spec.tank_litre // 1000

    @property
    def fuel_flow_mg_per_h(self) -> int:
        """Fuel flow at the present power in mg per hour."""
        return self.power_w * self.spec.fuel_mg_per_kwh // 1000

    def refuel(self, fuel_mg: int) -> None:
        """Set the fuel in the tank in mg; raises ValueError outside 0 to a full tank."""
        if not 0 <= fuel_mg <= self.spec.tank_mg:
            raise ValueError(f"fuel must be 0 to {self.spec.tank_mg} mg, not {fuel_mg}")
        self.fuel_units = fuel_mg * _J_PER_KWH

    def step(self, run: bool, target_w: int, step_s: int) -> int:
        """Advance one step towards running (or not) at a target in W; return the step's DC power in W."""
        self._change_state(run, step_s)
        wanted_w = 0
        if self.state is FuelCellState.RUNNING:
            wanted_w = max(self.spec.min_w, min(self.spec.rated_w, target_w))
            self.run_s += step_s
        reach = self.spec.ramp_w_per_s * step_s
        power_w = max(self.power_w - reach, min(self.power_w + reach, wanted_w))
        affordable_w = self.fuel_units // (self.spec.fuel_mg_per_kwh * step_s)
        if power_w > affordable_w:
            power_w = affordable_w
            self._enter(FuelCellState.NO_FUEL)
        self.power_w = power_w
        self.fuel_units -= power_w * step_s * self.spec.fuel_mg_per_kwh
        self.produced_j += power_w * step_s
        return power_w

    def _enter(self, state: FuelCellState) -> None:
        if self.state is not state:
            self.state, self.state_s = state, 0

    def _change_state(self, run: bool, step_s: int) -> None:
        """Move the state machine: off, starting, running, stopping, and out of fuel until refuelled."""
        before = self.state
        enough = self.fuel_units >= self.spec.min_w * self.spec.fuel_mg_per_kwh * 60
        self.state_s += step_s
        match before:
            case FuelCellState.OFF if run and enough:
                self._enter(FuelCellState.STARTING)
                self.starts += 1
            case FuelCellState.STARTING if not run:
                self._enter(FuelCellState.STOPPING)
            case FuelCellState.STARTING if self.state_s >= self.spec.start_s:
                self._enter(FuelCellState.RUNNING)
            case FuelCellState.RUNNING if not run:
                self._enter(FuelCellState.STOPPING)
            case FuelCellState.STOPPING if self.state_s >= self.spec.stop_s and self.power_w == 0:
                self._enter(FuelCellState.OFF)
            case FuelCellState.NO_FUEL if enough:
                self._enter(FuelCellState.OFF)
            case _:
                pass
