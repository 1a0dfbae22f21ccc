"""A home over time: its clock, its counters at boundaries, its stores, and the same run from a seed."""

import asyncio

import pytest

from simulator.clock import SimulatedClock
from simulator.home import SimulatedHome
from simulator.modbus.faults import Fault, FaultKind
from tests.simulator.support import NOON, RawClient, config, port_of, running


def test_clock_runs_by_its_factor() -> None:
    now = [100.0]
    clock = SimulatedClock(1000, 60, monotonic=lambda: now[0])
    now[0] += 2
    assert clock.now() == 1120
    clock.factor = 0
    now[0] += 50
    assert clock.now() == 1120
    clock.advance(80)
    assert clock.now() == 1200
    clock.factor = 0.5
    now[0] += 10
    assert clock.now() == 1205
    with pytest.raises(ValueError, match="time can't go back by 1 s"):
        clock.advance(-1)
    for factor in (-1.0, 2e6):
        with pytest.raises(ValueError, match="time factor must be 0 to 1000000"):
            clock.factor = factor


def test_same_seed_same_run_whatever_the_pace() -> None:
    homes = [SimulatedHome(config("goodwe_et", seed=5)) for _ in range(2)]
    homes[0].advance(3000)
    for seconds in (1, 17, 982, 2000):
        homes[1].advance(seconds)
    assert homes[0].truth() == homes[1].truth()
    assert list(homes[0].boundaries) == list(homes[1].boundaries)
    other = SimulatedHome(config("goodwe_et", seed=6))
    other.advance(3000)
    assert other.truth()["power_w"] != homes[0].truth()["power_w"]


def test_boundaries_keep_the_physical_counters() -> None:
    home = SimulatedHome(config("goodwe_et", boundary_s=300))
    seen = {}
    for _ in range(5):
        home.advance(300)
        seen[home.physics.time_s] = home.energy_wh()
    kept = {boundary.time_s: boundary.energy_wh for boundary in home.boundaries}
    assert kept == seen
    assert list(kept) == [NOON + 300 * place for place in range(1, 6)]
    last = home.boundaries[-1]
    assert home.physics.battery is not None
    assert home.physics.fuel_cell is not None
    assert (last.stored_wh, last.fuel_mg) == (home.physics.battery.stored_wh, home.physics.fuel_cell.fuel_mg)


def test_boundaries_of_a_coarse_step() -> None:
    home = SimulatedHome(config("goodwe_et", boundary_s=900, step_s=60, battery=False, fuel_cell=False))
    home.advance(3600)
    assert [boundary.time_s - NOON for boundary in home.boundaries] == [900, 1800, 2700, 3600]
    assert home.boundaries[0].stored_wh is None


def test_counters_start_where_they_are_told() -> None:
    home = SimulatedHome(config("goodwe_et", first_counters_wh={"pv": 5, "import": 7_000_000}))
    energy = home.energy_wh()
    assert (energy["pv"], energy["import"], energy["export"]) == (5, 7_000_000, 0)
    drawn = SimulatedHome(config("goodwe_et")).energy_wh()
    assert all(drawn[name] >= 100_000 for name in ("pv", "import", "export", "charge", "discharge", "load"))


async def test_time_passes_by_itself() -> None:
    async with SimulatedHome(config("goodwe_et", factor=1000)) as home:
        async with asyncio.timeout(10):
            while home.physics.time_s < NOON + 100:
                await asyncio.sleep(0.01)
        async with RawClient(port_of(home)) as client:
            assert await client.read(247, 37_007, 1)
        assert home.physics.flows.pv_w > 0


async def test_a_home_behind_its_clock_catches_up() -> None:
    async with SimulatedHome(config("goodwe_et", factor=0)) as home:
        home.clock.advance(5000)
        async with asyncio.timeout(10):
            while home.physics.time_s < NOON + 5000:
                await asyncio.sleep(0.01)


async def test_stores_and_weather_can_be_set() -> None:
    async with running("goodwe_et") as home:
        home.set_state_of_charge(900)
        home.set_environment(pv_w=123, load_w=456)
        home.advance(1)
        truth = home.truth()
        assert truth["battery"]["soc_permille"] in (899, 900)
        assert (truth["power_w"]["pv_w"], truth["power_w"]["load_w"]) == (123, 456)
        home.refuel(1_000_000)
        assert home.truth()["fuel_cell"]["fuel_permille"] == 500
        home.set_environment(pv_w=None)
        home.advance(1)
        assert home.truth()["power_w"]["pv_w"] > 1000
        with pytest.raises(ValueError, match="soc_permille must be 0 to 1000"):
            home.set_state_of_charge(1001)
    async with running("eastron_sdm630", battery=False, fuel_cell=False, pv=False, load=False) as bare:
        assert "battery" not in bare.truth()
        assert bare.truth()["power_w"]["load_w"] == 0
        with pytest.raises(ValueError, match="battery that the home has"):
            bare.set_state_of_charge(500)
        with pytest.raises(ValueError, match="no fuel cell"):
            bare.refuel(1)


async def test_a_taken_port_is_an_error_and_leaves_nothing_open() -> None:
    async with running("goodwe_et") as home:
        taken = port_of(home)
        other = config("goodwe_et", links=[
            {"name": "free", "transport": "tcp", "devices": [{"profile": "goodwe_et"}]},
            {"name": "taken", "transport": "tcp", "port": taken, "devices": [{"profile": "goodwe_et"}]},
        ])  # fmt: skip
        second = SimulatedHome(other)
        with pytest.raises(OSError, match="address already in use"):
            await second.start()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", second.link("free").port)


async def test_stopping_in_the_middle_of_a_fault() -> None:
    home = SimulatedHome(config("goodwe_et"))
    await home.start()
    home.inject("d0", Fault(FaultKind.LATE, delay_s=60))
    home.inject("d0", Fault(FaultKind.REBOOT, seconds=60))
    await home.stop()
    await home.stop()
    async with running("goodwe_et") as again, RawClient(port_of(again)) as client:
        again.inject("d0", Fault(FaultKind.LATE, delay_s=60))
        await client.send(client.frame(247, b"\x03\x90\x8f\x00\x01"))
        await asyncio.sleep(0.05)


def test_links_and_units_are_known_by_name() -> None:
    home = SimulatedHome(config("fronius_gen24", "goodwe_et"))
    assert sorted(home.units_of("d0")) == [1, 200]
    with pytest.raises(LookupError, match="no link 'd9'; known: d0, d1"):
        home.link("d9")
    with pytest.raises(LookupError, match="goodwe_et has no SunSpec map"):
        home.devices[-1].sunspec_address(103, "W")
