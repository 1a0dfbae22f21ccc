"""The home's physics: energy closes at every step, limits hold, and a seed fixes the run."""

from dataclasses import astuple
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.physics.battery import Battery, BatterySpec
from simulator.physics.fuel_cell import FuelCell, FuelCellSpec, FuelCellState
from simulator.physics.home import Environment, Home, HomeSpec
from simulator.physics.inverter import BusLimits, InverterSpec, plan_bus
from simulator.physics.load import LoadProfile, load_power_w
from simulator.physics.noise import uniform, value_noise
from simulator.physics.orders import BatteryOrder, FuelCellOrder, Orders
from simulator.physics.sun import PvArray, Site, cloud_transmission, pv_power_w, sun_position

MIDSUMMER_NOON = 1_782_039_600  # 2026-06-21 11:00 UTC
MIDWINTER = 1_797_811_200  # 2026-12-21 00:00 UTC

watts = st.integers(0, 15_000)
some_watts = st.none() | watts
battery_orders = st.builds(
    BatteryOrder,
    min_charge_w=watts,
    max_charge_w=some_watts,
    min_discharge_w=watts,
    max_discharge_w=some_watts,
    import_target_w=watts,
    export_target_w=watts,
    from_grid=st.booleans(),
    to_grid=st.booleans(),
)
orders = st.builds(
    Orders,
    battery=battery_orders,
    fuel_cell=st.builds(FuelCellOrder, run=st.sampled_from([None, True, False]), power_w=some_watts),
    production_limit_w=some_watts,
    export_limit_w=some_watts,
    connected=st.booleans(),
)
homes = st.builds(
    HomeSpec,
    seed=st.integers(0, 1 << 32),
    inverter=st.builds(
        InverterSpec, rated_w=st.integers(500, 12_000), efficiency_permille=st.integers(850, 1000)
    ),
    pv=st.none() | st.builds(PvArray, peak_w=st.integers(500, 20_000)),
    battery=st.none()
    | st.builds(
        BatterySpec,
        capacity_wh=st.integers(1, 20_000),
        max_charge_w=watts,
        max_discharge_w=watts,
        charge_efficiency_permille=st.integers(800, 1000),
        discharge_efficiency_permille=st.integers(800, 1000),
        standby_w=st.integers(0, 50),
        min_soc_permille=st.integers(0, 300),
        taper_soc_permille=st.integers(800, 1000),
    ),
    fuel_cell=st.none()
    | st.builds(FuelCellSpec, tank_mg=st.integers(1_000, 100_000), start_s=st.integers(0, 200)),
    load=st.none() | st.builds(LoadProfile, annual_kwh=st.integers(100, 20_000)),
    first_soc_permille=st.integers(0, 1000),
    first_fuel_permille=st.integers(0, 1000),
)


@settings(max_examples=150, deadline=None)
@given(
    spec=homes,
    start_s=st.integers(1_700_000_000, 1_900_000_000),
    commands=st.lists(
        st.tuples(orders, st.integers(1, 900), st.builds(Environment, some_watts, some_watts)),
        min_size=1,
        max_size=12,
    ),
)
def test_energy_closes_and_limits_hold_at_every_step(
    spec: HomeSpec, start_s: int, commands: list[tuple[Orders, int, Environment]]
) -> None:
    home = Home(spec, start_s)
    first_stored = home.battery.stored_j if home.battery else 0
    first_fuel = home.fuel_cell.fuel_units if home.fuel_cell else 0
    for order, step_s, environment in commands:
        home.environment = environment
        before = home.counters.in_wh()
        flows = home.step(order, step_s)
        given_w = flows.pv_w + flows.discharge_w + flows.fuel_cell_w + flows.import_w
        assert given_w == flows.load_w + flows.charge_w + flows.export_w + flows.losses_w
        assert min(astuple(flows)) >= 0
        assert not (flows.import_w and flows.export_w)
        assert not (flows.charge_w and flows.discharge_w)
        assert flows.pv_w <= flows.pv_possible_w
        assert max(flows.ac_out_w, flows.ac_in_w) <= spec.inverter.rated_w
        assert all(value >= before[name] for name, value in home.counters.in_wh().items())
        if order.production_limit_w is not None:
            assert flows.ac_out_w <= order.production_limit_w
        if order.export_limit_w is not None:
            # Only the fuel cell, which no inverter limit reaches, may push the export above it.
            assert flows.export_w <= max(order.export_limit_w, flows.fuel_cell_ac_w - flows.load_w)
        if not order.connected:
            assert flows.ac_out_w == flows.ac_in_w == 0
        if home.battery:
            battery = home.battery
            assert 0 <= battery.stored_j <= battery.spec.capacity_j
            assert flows.charge_w <= battery.spec.max_charge_w
            assert flows.discharge_w <= battery.spec.max_discharge_w
            net_j = battery.charged_j - battery.discharged_j
            assert net_j == battery.stored_j - first_stored + battery.lost_j
        if home.fuel_cell:
            cell = home.fuel_cell
            used = first_fuel - cell.fuel_units
            assert cell.fuel_units >= 0
            assert used == cell.produced_j * cell.spec.fuel_mg_per_kwh
    counted = home.counters
    assert (
        counted.pv_j + counted.discharge_j + counted.fuel_cell_j + counted.import_j
        == counted.load_j + counted.charge_j + counted.export_j + counted.losses_j
    )
    assert home.time_s == start_s + sum(step_s for _, step_s, _ in commands)


@settings(max_examples=20, deadline=None)
@given(spec=homes, other_seed=st.integers(0, 1 << 32))
def test_same_seed_same_run(spec: HomeSpec, other_seed: int) -> None:
    one, two = Home(spec, MIDSUMMER_NOON), Home(spec, MIDSUMMER_NOON)
    for _ in range(30):
        assert one.step(Orders(), 60) == two.step(Orders(), 60)
    assert one.counters == two.counters


def test_another_seed_is_another_run() -> None:
    runs = []
    for seed in (1, 2):
        home = Home(HomeSpec(seed=seed, pv=PvArray(), load=LoadProfile()), MIDSUMMER_NOON)
        runs.append([home.step(Orders(), 60) for _ in range(30)])
    assert runs[0] != runs[1]


def test_sun_stands_where_almanacs_say() -> None:
    # Berlin, solstices: 90° - latitude ± 23.44° at solar noon, in the south.
    site = Site(52_520_000, 13_405_000)
    for day_start, degrees in ((MIDSUMMER_NOON - 11 * 3600, 60.9), (MIDWINTER, 14.1)):
        highest = max(
            (sun_position(day_start + s, site) for s in range(0, 86_400, 120)), key=lambda p: p.elevation_rad
        )
        assert abs(highest.elevation_rad * 57.29578 - degrees) < 0.3
        assert abs(highest.azimuth_rad * 57.29578 - 180) < 1.5
    morning = sun_position(MIDSUMMER_NOON - 4 * 3600, site)
    assert 80 < morning.azimuth_rad * 57.29578 < 110
    # South of the equator the noon sun stands in the north.
    sydney = Site(-33_870_000, 151_210_000)
    noon = max(
        (sun_position(MIDWINTER - 86_400 + s, sydney) for s in range(0, 86_400, 120)),
        key=lambda p: p.elevation_rad,
    )
    assert abs(noon.elevation_rad * 57.29578 - 79.6) < 0.4


def test_array_gives_nothing_at_night_and_a_plausible_year() -> None:
    array, site = PvArray(peak_w=10_000), Site()
    assert pv_power_w(MIDWINTER, 1, site, array) == 0
    year_kwh = sum(pv_power_w(MIDWINTER + i * 1800, 1, site, array) for i in range(17_520)) / 2000
    # Central Europe yields 900 to 1300 kWh per kWp.
    assert 9_000 < year_kwh < 13_000


def test_clouds_take_what_their_cover_says() -> None:
    times = range(MIDSUMMER_NOON, MIDSUMMER_NOON + 86_400, 300)
    clear = [cloud_transmission(1, t, 0) for t in times]
    overcast = [cloud_transmission(1, t, 1000) for t in times]
    mixed = [cloud_transmission(1, t, 700) for t in times]
    assert set(clear) == {1.0}
    assert set(overcast) == {0.25}
    assert 0.25 <= min(mixed) < max(mixed) <= 1.0


@given(seed=st.integers(0, 1 << 63), index=st.integers(-(1 << 40), 1 << 40))
def test_noise_stays_in_range_and_is_continuous(seed: int, index: int) -> None:
    assert 0.0 <= uniform(seed, index) < 1.0
    here, following = (value_noise(seed, index + offset, 600) for offset in (0, 1))
    assert 0.0 <= here < 1.0
    assert abs(here - following) < 0.01


def test_household_consumes_what_its_year_says() -> None:
    profile = LoadProfile(annual_kwh=4_000)
    # One sample in every quarter of an hour, at a second that moves through it.
    samples = (MIDWINTER + i * 900 + i * 137 % 900 for i in range(35_040))
    year_kwh = sum(load_power_w(time_s, 5, profile) for time_s in samples) / 4000
    assert 3_600 < year_kwh < 4_400
    assert min(load_power_w(MIDWINTER + i * 60, 5, profile) for i in range(1440)) >= profile.standby_w


def test_battery_refuses_what_it_cannot_do() -> None:
    battery = Battery(BatterySpec(capacity_wh=1000), stored_j=1800_000)
    with pytest.raises(ValueError, match="either charges or discharges"):
        battery.step(100, 100, 1)
    with pytest.raises(ValueError, match="either charges or discharges"):
        battery.step(-1, 0, 1)
    with pytest.raises(ValueError, match="more than the battery takes"):
        battery.step(6_000, 0, 1)
    with pytest.raises(ValueError, match="more than the battery takes"):
        battery.step(0, 6_000, 1)


def test_battery_tapers_fills_and_empties() -> None:
    spec = BatterySpec(capacity_wh=1000, max_charge_w=1000, max_discharge_w=1000, standby_w=0)
    battery = Battery(spec, stored_j=0)
    powers = []
    while limit := battery.charge_limit_w(10):
        battery.step(limit, 0, 10)
        powers.append(limit)
    assert powers[0] == 1000
    assert 100 <= powers[-2] < 500
    assert battery.soc_permille >= 999
    while limit := battery.discharge_limit_w(10):
        battery.step(0, limit, 10)
    assert battery.soc_permille == spec.min_soc_permille
    assert battery.available_wh == 0
    # A round trip costs both efficiencies, 0.975² here.
    out = battery.discharged_j + (spec.capacity_j * 50 // 1000) * 975 // 1000
    assert abs(Fraction(out, battery.charged_j) - Fraction(975**2, 1000**2)) < Fraction(1, 500)


def test_standby_drains_an_idle_battery() -> None:
    battery = Battery(BatterySpec(capacity_wh=10, standby_w=5), stored_j=3600)
    battery.step(0, 0, 3600)
    assert battery.stored_j == 0
    assert battery.lost_j == 3600


def _state(cell: FuelCell) -> FuelCellState:
    return cell.state


def test_fuel_cell_starts_ramps_stops_and_runs_dry() -> None:
    spec = FuelCellSpec(rated_w=2500, ramp_w_per_s=50, start_s=90, stop_s=30, tank_mg=10_000)
    cell = FuelCell(spec)
    cell.refuel(10_000)
    seen = [cell.step(True, 2500, 1) for _ in range(200)]
    assert cell.state is FuelCellState.RUNNING
    assert seen[:90] == [0] * 90
    assert all(later - earlier <= 50 for earlier, later in pairwise(seen))
    assert seen[-1] == 2500
    assert cell.fuel_flow_mg_per_h == 150_000  # 60 g/kWh at 2.5 kW
    for _ in range(100):
        cell.step(False, 2500, 1)
    assert _state(cell) == FuelCellState.OFF
    assert cell.power_w == 0
    assert cell.starts == 1
    while _state(cell) != FuelCellState.NO_FUEL:
        cell.step(True, 2500, 1)
    for _ in range(5):
        assert cell.step(True, 2500, 60) <= 2500
    assert cell.energy_available_wh == 0
    cell.refuel(10_000)
    cell.step(True, 2500, 1)
    assert _state(cell) == FuelCellState.OFF
    with pytest.raises(ValueError, match="fuel must be 0 to 10000 mg"):
        cell.refuel(10_001)


def test_fuel_cell_gives_up_a_start() -> None:
    cell = FuelCell(FuelCellSpec())
    cell.refuel(cell.spec.tank_mg)
    assert cell.fuel_permille == 1000
    assert abs(cell.tank_pressure_mbar - 237_600) < 10
    cell.step(True, 1000, 1)
    assert cell.state is FuelCellState.STARTING
    cell.step(False, 1000, 1)
    assert _state(cell) == FuelCellState.STOPPING


def test_fuel_cell_saves_a_low_battery_by_itself() -> None:
    spec = HomeSpec(battery=BatterySpec(), fuel_cell=FuelCellSpec(), first_soc_permille=140)
    home = Home(spec, MIDWINTER)
    for _ in range(200):
        home.step(Orders(), 60)
    assert home.battery is not None
    assert home.battery.soc_permille >= spec.fuel_cell_stop_soc_permille
    assert home.fuel_cell is not None
    assert home.fuel_cell.state is FuelCellState.OFF


def _plan(order: BatteryOrder, **limits: int) -> tuple[int, int]:
    """Return (charge_w, discharge_w) for an order, at efficiency 1."""
    bus = BusLimits(
        pv_w=limits.get("pv", 0),
        charge_w=limits.get("charge", 5000),
        discharge_w=limits.get("discharge", 5000),
        fuel_cell_w=limits.get("fuel_cell", 0),
        load_w=limits.get("load", 0),
    )
    plan = plan_bus(bus, Orders(battery=order), InverterSpec(efficiency_permille=1000))
    return plan.charge_w, plan.discharge_w


@pytest.mark.parametrize(
    ("order", "limits", "flows"),
    [
        (BatteryOrder(), {"pv": 3000, "load": 1000}, (2000, 0)),
        (BatteryOrder(), {"pv": 500, "load": 1000}, (0, 500)),
        (BatteryOrder(), {"fuel_cell": 1500, "load": 1000}, (500, 0)),
        (BatteryOrder(), {"load": 9000}, (0, 5000)),
        (BatteryOrder.charge(2500), {"load": 1000}, (2500, 0)),
        (BatteryOrder.charge(2500, from_grid=False), {"pv": 700, "load": 1000}, (700, 0)),
        (BatteryOrder.charge(2500), {"charge": 800}, (800, 0)),
        (BatteryOrder.discharge(2500), {"load": 1000}, (0, 2500)),
        (BatteryOrder.discharge(2500, to_grid=False), {"load": 1000}, (0, 1000)),
        (BatteryOrder.hold(), {"pv": 3000, "load": 9000}, (0, 0)),
        (BatteryOrder(max_charge_w=300), {"pv": 3000}, (300, 0)),
        (BatteryOrder(max_discharge_w=300), {"load": 3000}, (0, 300)),
        (BatteryOrder(export_target_w=2000), {"load": 1000}, (0, 3000)),
        (BatteryOrder(import_target_w=2000), {"load": 1000}, (1000, 0)),
    ],
)
def test_battery_orders(order: BatteryOrder, limits: dict[str, int], flows: tuple[int, int]) -> None:
    assert _plan(order, **limits) == flows


def test_export_limit_saves_the_battery_before_it_curtails_the_array() -> None:
    spec = InverterSpec(efficiency_permille=1000)
    bus = BusLimits(pv_w=3000, charge_w=5000, discharge_w=5000, fuel_cell_w=0, load_w=500)
    orders_in_force = Orders(battery=BatteryOrder.discharge(2000), export_limit_w=1000)
    plan = plan_bus(bus, orders_in_force, spec)
    assert (plan.pv_w, plan.discharge_w, plan.ac_out_w) == (1500, 0, 1500)
    assert plan_bus(bus, Orders(export_limit_w=1000), spec).charge_w == 2500


def test_orders_of_two_devices_combine() -> None:
    one = Orders(battery=BatteryOrder.charge(100), export_limit_w=500)
    two = Orders(
        fuel_cell=FuelCellOrder(run=True), export_limit_w=300, production_limit_w=900, connected=False
    )
    both = one.combined(two)
    assert both.battery == one.battery
    assert both.fuel_cell == two.fuel_cell
    assert (both.export_limit_w, both.production_limit_w, both.connected) == (300, 900, False)
    assert Orders().combined(Orders()) == Orders()


def test_a_step_needs_time() -> None:
    with pytest.raises(ValueError, match="at least 1 s"):
        Home(HomeSpec(), MIDWINTER).step(Orders(), 0)
