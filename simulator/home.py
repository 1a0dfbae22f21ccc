"""A home that lives: its physics driven by a clock, its devices on their links, its truth on demand."""

import asyncio
import contextlib
from collections import deque
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from simulator.clock import SimulatedClock
from simulator.device import SimulatedDevice, Surroundings
from simulator.layout.settings import Ratings
from simulator.layout.view import BatteryView, FuelCellView, View
from simulator.modbus.faults import Fault, FaultKind
from simulator.modbus.server import Link
from simulator.modbus.wire_log import WireLog
from simulator.physics.fuel_cell import FuelCellState
from simulator.physics.home import Home
from simulator.physics.noise import mix64
from simulator.physics.orders import Orders

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.config import HomeConfig

_BOUNDARIES_KEPT = 50_000
_MOST_STEPS_AT_ONCE = 2_000
_SHORTEST_TICK_S, _LONGEST_TICK_S = 0.02, 1.0
# A 48 V battery's voltage from empty to full; the DC bus without a battery.
_BUS_EMPTY_MV, _BUS_PER_PERMILLE_MV, _BUS_ALONE_MV = 46_000, 8, 52_000


@dataclass(frozen=True, slots=True)
class Boundary:
    """The physical counters in Wh at a boundary of simulated time, in UTC seconds."""

    time_s: int
    energy_wh: Mapping[str, int]
    stored_wh: int | None
    fuel_mg: int | None


class SimulatedHome:
    """One home. `start` and `stop` it in a running event loop, or use it as an async context manager."""

    def __init__(self, config: HomeConfig) -> None:
        """Build the home; raises ValueError where a device can't be laid out."""
        self.config = config
        self.physics = Home(config.spec, config.start_s)
        self.clock = SimulatedClock(config.start_s, config.factor)
        self.log = WireLog(lambda: self.physics.time_s)
        self.orders = Orders()
        self.boundaries: deque[Boundary] = deque(maxlen=_BOUNDARIES_KEPT)
        self._base_j = {name: wh * 3600 for name, wh in config.first_counters_wh.items()}
        self._version = 0
        self._view = self._look()
        self._ticker: asyncio.Task[None] | None = None
        self.devices: list[SimulatedDevice] = []
        self.links: dict[str, Link] = {}
        self._units: dict[str, dict[int, SimulatedDevice]] = {}
        for number, link_config in enumerate(config.links):
            self._add_link(number, link_config)

    def _add_link(self, number: int, link_config: Any) -> None:
        surroundings = Surroundings(self._current_view, lambda: self._version, self._ratings, self._timer_now)
        units: dict[int, SimulatedDevice] = {}
        for device_config in link_config.devices:
            for companion, unit in device_config.units.items():
                units[unit] = SimulatedDevice(
                    unit,
                    device_config.profile,
                    device_config.family,
                    device_config.identity,
                    surroundings,
                    companion=companion or None,
                    sleeps_at_night=device_config.sleeps_at_night,
                    variant_checks=device_config.variant_checks,
                )
        link = Link(
            link_config.settings,
            units,
            self.log,
            seed=mix64(self.config.spec.seed, 1000 + number),
            before_write=self.catch_up,
        )
        for device in units.values():
            device.faults = link.faults
        self.devices.extend(units.values())
        self.links[link_config.settings.name] = link
        self._units[link_config.settings.name] = units

    async def __aenter__(self) -> SimulatedHome:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def start(self) -> None:
        """Open every link; raises OSError if one can't be opened, with none left open."""
        try:
            for link in self.links.values():
                await link.start()
        except OSError:
            await self.stop()
            raise
        self._ticker = asyncio.get_running_loop().create_task(self._tick())

    async def stop(self) -> None:
        """Close every link and end every task."""
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
            self._ticker = None
        for link in self.links.values():
            await link.stop()

    # --- time ---------------------------------------------------------------------------------------------

    def advance(self, seconds: int) -> None:
        """Let simulated time pass at once, also while the clock stands still."""
        self.clock.advance(seconds)
        self.catch_up()

    def catch_up(self) -> None:
        """Step the physics up to the clock's time."""
        while self._step_some():
            pass

    def _step_some(self) -> bool:
        """Take at most so many steps that the event loop is not held up; return whether more are due."""
        step_s, target = self.config.step_s, self.clock.now()
        for _ in range(_MOST_STEPS_AT_ONCE):
            if self.physics.time_s + step_s > target:
                return False
            self.orders = self._combined_orders()
            self.physics.step(self.orders, step_s)
            self._version += 1
            if self.physics.time_s % self.config.boundary_s < step_s:
                self._keep_boundary()
        return True

    async def _tick(self) -> None:
        while True:
            more = self._step_some()
            factor = self.clock.factor
            pause = self.config.step_s / factor / 2 if factor else _LONGEST_TICK_S
            await asyncio.sleep(0 if more else max(_SHORTEST_TICK_S, min(_LONGEST_TICK_S, pause)))

    def _timer_now(self) -> float:
        """Return the seconds that devices' timers see: simulated ones, or real ones if so configured."""
        if self.config.timers == "real":
            return asyncio.get_running_loop().time()
        return float(self.physics.time_s)

    # --- what is true -------------------------------------------------------------------------------------

    def energy_j(self) -> dict[str, int]:
        """Return the physical lifetime counters in joules, by name."""
        counters = self.physics.counters.in_joules()
        return {name: value + self._base_j.get(name, 0) for name, value in counters.items()}

    def energy_wh(self) -> dict[str, int]:
        """Return the physical lifetime counters in Wh, rounded down, by name."""
        return {name: value // 3600 for name, value in self.energy_j().items()}

    def truth(self) -> dict[str, Any]:
        """Return the physical truth as a JSON object: powers, counters, stores, and the orders in force."""
        self.catch_up()
        battery, fuel_cell = self.physics.battery, self.physics.fuel_cell
        truth: dict[str, Any] = {
            "name": self.config.name,
            "time_s": self.physics.time_s,
            "factor": self.clock.factor,
            "power_w": asdict(self.physics.flows),
            "energy_wh": self.energy_wh(),
            "energy_j": self.energy_j(),
            "orders": asdict(self._combined_orders()),
            "writes": self.log.last_sequence,
            "reads": dict(self.log.read_count),
        }
        if battery is not None:
            truth["battery"] = {
                "soc_permille": battery.soc_permille,
                "stored_wh": battery.stored_wh,
                "available_wh": battery.available_wh,
                "capacity_wh": battery.spec.capacity_wh,
                "lost_j": battery.lost_j,
            }
        if fuel_cell is not None:
            truth["fuel_cell"] = {
                "state": fuel_cell.state.name.lower(),
                "fuel_mg": fuel_cell.fuel_mg,
                "fuel_permille": fuel_cell.fuel_permille,
                "starts": fuel_cell.starts,
                "run_s": fuel_cell.run_s,
            }
        return truth

    def _keep_boundary(self) -> None:
        battery, fuel_cell = self.physics.battery, self.physics.fuel_cell
        self.boundaries.append(
            Boundary(
                self.physics.time_s,
                self.energy_wh(),
                battery.stored_wh if battery else None,
                fuel_cell.fuel_mg if fuel_cell else None,
            )
        )

    # --- what happens to it -------------------------------------------------------------------------------

    def inject(self, link_name: str, fault: Fault) -> int | None:
        """Switch a fault on a link on; return its number, None for one that happens once and is over.

        Raises LookupError for a link that is not there.
        """
        link = self.link(link_name)
        if fault.kind in (FaultKind.COUNTER_RESET, FaultKind.COUNTER_ROLLOVER):
            for unit, device in self._units[link_name].items():
                if fault.unit in (None, unit):
                    device.happen(fault)
            return None
        return link.inject(fault)

    def link(self, name: str) -> Link:
        """Return a link by name; raises LookupError naming the links."""
        try:
            return self.links[name]
        except KeyError:
            raise LookupError(f"no link {name!r}; known: {', '.join(self.links)}") from None

    def set_environment(self, **watts: int | None) -> None:
        """Fix `pv_w` or `load_w`, in W, or let them be with None; raises TypeError for other names."""
        self.catch_up()
        self.physics.environment = replace(self.physics.environment, **watts)

    def set_state_of_charge(self, soc_permille: int) -> None:
        """Set the battery's state of charge; raises ValueError without a battery or outside 0 to 1000."""
        self.catch_up()
        battery = self.physics.battery
        if battery is None or not 0 <= soc_permille <= 1000:
            raise ValueError(
                f"soc_permille must be 0 to 1000 of a battery that the home has, not {soc_permille}"
            )
        battery.stored_j = battery.spec.capacity_j * soc_permille // 1000
        self._version += 1

    def refuel(self, fuel_mg: int) -> None:
        """Set the fuel in mg; raises ValueError without a fuel cell or beyond its tank."""
        self.catch_up()
        if self.physics.fuel_cell is None:
            raise ValueError("the home has no fuel cell")
        self.physics.fuel_cell.refuel(fuel_mg)
        self._version += 1

    def units_of(self, name: str) -> dict[int, SimulatedDevice]:
        """Return the devices on a link by unit id; raises LookupError for a link that is not there."""
        return self._units[self.link(name).settings.name]

    # --- what devices see ---------------------------------------------------------------------------------

    def _combined_orders(self) -> Orders:
        orders = Orders()
        for device in self.devices:
            orders = orders.combined(device.orders())
        return orders

    def _current_view(self) -> View:
        if self._view_version != self._version:
            self._view = self._look()
        return self._view

    def _look(self) -> View:
        self._view_version = self._version
        physics = self.physics
        return View(
            time_s=physics.time_s,
            flows=physics.flows,
            energy_j=self.energy_j(),
            rated_w=physics.spec.inverter.rated_w,
            pv_peak_w=physics.spec.pv.peak_w if physics.spec.pv else None,
            battery=self._battery_view(),
            fuel_cell=self._fuel_cell_view(),
        )

    def _battery_view(self) -> BatteryView | None:
        battery = self.physics.battery
        if battery is None:
            return None
        return BatteryView(
            soc_permille=battery.soc_permille,
            stored_wh=battery.stored_wh,
            available_wh=battery.available_wh,
            capacity_wh=battery.spec.capacity_wh,
            min_soc_permille=battery.spec.min_soc_permille,
            max_charge_w=battery.spec.max_charge_w,
            max_discharge_w=battery.spec.max_discharge_w,
        )

    def _fuel_cell_view(self) -> FuelCellView | None:
        cell = self.physics.fuel_cell
        if cell is None:
            return None
        return FuelCellView(
            state=cell.state,
            power_w=cell.power_w,
            rated_w=cell.spec.rated_w,
            bus_mv=self._bus_mv(),
            fuel_permille=cell.fuel_permille,
            fuel_mg=cell.fuel_mg,
            energy_available_wh=cell.energy_available_wh,
            tank_pressure_mbar=cell.tank_pressure_mbar,
            fuel_flow_mg_per_h=cell.fuel_flow_mg_per_h,
        )

    def _bus_mv(self) -> int:
        battery = self.physics.battery
        return (
            _BUS_ALONE_MV if battery is None else _BUS_EMPTY_MV + _BUS_PER_PERMILLE_MV * battery.soc_permille
        )

    def _ratings(self, battery_mv: int) -> Ratings:
        physics = self.physics
        battery, cell = physics.battery, physics.fuel_cell
        offset_s = physics.spec.load.utc_offset_s if physics.spec.load else 0
        return Ratings(
            rated_w=physics.spec.inverter.rated_w,
            max_charge_w=battery.spec.max_charge_w if battery else 0,
            max_discharge_w=battery.spec.max_discharge_w if battery else 0,
            battery_mv=battery_mv,
            soc_permille=battery.soc_permille if battery else 0,
            bus_mv=self._bus_mv(),
            fuel_cell_running=cell is not None
            and cell.state in (FuelCellState.STARTING, FuelCellState.RUNNING),
            local_s=(physics.time_s + offset_s) % 86_400,
        )
