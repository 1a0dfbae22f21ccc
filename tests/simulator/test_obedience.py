"""Devices obey their control registers, written here by address as documented, and let go again."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from simulator.modbus.faults import Fault, FaultKind
from tests.simulator.support import (
    ModbusExceptionError,
    RawClient,
    device_of,
    every_profile,
    f32,
    i32,
    port_of,
    profiles,
    running,
)

if TYPE_CHECKING:
    from simulator.home import SimulatedHome

type Writes = list[tuple[int, list[int]]]

LOAD_W = 1000


@dataclass(frozen=True)
class Case:
    """What to write to charge and discharge 2000 W and to let go; after `hold_s` it lets go by itself."""

    profile: str
    variant: str
    unit: int
    charge: Writes
    discharge: Writes
    release: Writes
    hold_s: int | None = None


SE_REMOTE: Writes = [(0xE004, [4]), (0xE00A, [7]), (0xE00B, i32(120, little=True))]
SMA_OPEN: Writes = [(40_793, i32(0) + i32(5000) + i32(0) + i32(5000) + i32(0)), (40_236, i32(2424))]
CASES = [
    Case(
        "solaredge",
        "",
        1,
        [*SE_REMOTE, (0xE00E, f32(2000, little=True)), (0xE00D, [3])],
        [*SE_REMOTE, (0xE010, f32(2000, little=True)), (0xE00D, [4])],
        [(0xE00D, [7]), (0xE004, [1])],
        120,
    ),
    Case(
        "sma_hybrid",
        "bms",
        3,
        [(40_793, i32(2000) + i32(2000) + i32(0) + i32(0) + i32(0)), (40_236, i32(2289))],
        [(40_793, i32(0) + i32(0) + i32(2000) + i32(2000) + i32(0)), (40_236, i32(2424))],
        SMA_OPEN,
        60,
    ),
    Case(
        "sma_hybrid",
        "setpoint",
        3,
        [(40_149, i32(-2000)), (40_151, i32(802))],
        [(40_149, i32(2000)), (40_151, i32(802))],
        [(40_151, i32(803))],
    ),
    Case(
        "huawei_sun2000",
        "",
        1,
        [(47_246, [0]), (47_083, [2]), (47_247, i32(2000)), (47_100, [1])],
        [(47_246, [0]), (47_083, [2]), (47_249, i32(2000)), (47_100, [2])],
        [(47_100, [0])],
        120,
    ),
    Case(
        "goodwe_et",
        "",
        247,
        [(47_512, [2000]), (47_511, [11])],
        [(47_512, [2000]), (47_511, [12])],
        [(47_511, [1])],
    ),
    Case(
        "sungrow_sh",
        "signed",
        1,
        [(13_051, [2000]), (13_050, [0xAA]), (13_049, [2])],
        [(13_051, [2000]), (13_050, [0xBB]), (13_049, [2])],
        [(13_050, [0xCC]), (13_049, [0])],
    ),
    Case(
        "solax_gen4",
        "x3",
        1,
        [(0x7C, [1, 1, *i32(2000, little=True), 0, 0, 20, 0, 0, 0, 0, 0, 0])],
        [(0x7C, [1, 1, *i32(-2000, little=True), 0, 0, 20, 0, 0, 0, 0, 0, 0])],
        [(0x7C, [0] * 13)],
        20,
    ),
    Case(
        "kostal_plenticore",
        "little",
        71,
        [(1034, f32(-2000, little=True))],
        [(1034, f32(2000, little=True))],
        [(1034, f32(0, little=True)), (1038, f32(5000, little=True))],
        60,
    ),
    Case("kostal_plenticore", "big", 71, [(1034, f32(-2000))], [(1034, f32(2000))], [(1034, f32(0))], 60),
    # SunSpec maps: model 124 of a Fronius at 40000 (models 1, 103, 120, 121, 122, 123, 160 with four modules)
    Case(
        "fronius_gen24",
        "",
        1,
        [(40_359, [60]), (40_361, [1]), (40_356, [0x10000 - 4000]), (40_349, [2])],
        [(40_359, [60]), (40_357, [0x10000 - 4000]), (40_349, [1])],
        [(40_349, [0])],
        60,
    ),
]


def _ids(case: Case) -> str:
    return f"{case.profile}-{case.variant}".rstrip("-")


async def _write(client: RawClient, unit: int, writes: Writes) -> None:
    for address, values in writes:
        await client.write(unit, address, values)


def _let_alone(home: SimulatedHome) -> bool:
    """Whether the battery only serves the household."""
    flows = home.physics.flows
    return flows.charge_w == 0 and flows.import_w == 0 and 1000 <= flows.discharge_w <= 1040


@pytest.mark.parametrize("case", CASES, ids=_ids)
async def test_charge_discharge_and_release(case: Case) -> None:
    async with running(device_of(case.profile, case.variant)) as home:
        home.set_environment(pv_w=0, load_w=LOAD_W)
        async with RawClient(port_of(home)) as client:
            await _write(client, case.unit, case.charge)
            home.advance(2)
            assert (home.physics.flows.charge_w, home.physics.flows.discharge_w) == (2000, 0)
            await _write(client, case.unit, case.discharge)
            home.advance(2)
            assert (home.physics.flows.charge_w, home.physics.flows.discharge_w) == (0, 2000)
            await _write(client, case.unit, case.release)
            home.advance(61 if case.profile == "kostal_plenticore" else 2)
            assert _let_alone(home)
        assert all(seen.exception == 0 for seen in home.log.writes())


@pytest.mark.parametrize("case", CASES, ids=_ids)
async def test_a_command_that_is_not_renewed(case: Case) -> None:
    async with running(device_of(case.profile, case.variant)) as home:
        home.set_environment(pv_w=0, load_w=LOAD_W)
        async with RawClient(port_of(home)) as client:
            await _write(client, case.unit, case.discharge)
            if case.hold_s is None:
                home.advance(900)
                assert home.physics.flows.discharge_w == 2000
                return
            home.advance(case.hold_s - 1)
            assert home.physics.flows.discharge_w == 2000
            await _write(client, case.unit, case.discharge)  # renewed in time
            home.advance(case.hold_s - 1)
            assert home.physics.flows.discharge_w == 2000
            home.advance(3)
            assert _let_alone(home)


async def test_timers_may_follow_the_real_clock() -> None:
    async with running("fronius_gen24", timers="real") as home:
        home.set_environment(pv_w=0, load_w=LOAD_W)
        async with RawClient(port_of(home)) as client:
            await _write(client, 1, CASES[-1].charge)
            home.advance(3600)
            assert home.physics.flows.charge_w == 2000


async def _flows(profile: dict[str, Any] | str, unit: int, writes: Writes, **environment: int) -> Any:
    async with running(profile) as home:
        home.set_environment(**{"pv_w": 0, "load_w": LOAD_W} | environment)
        async with RawClient(port_of(home)) as client:
            await _write(client, unit, writes)
        home.advance(2)
        return home.physics.flows


@pytest.mark.parametrize(
    ("profile", "unit", "writes"),
    [
        ("solaredge", 1, [(0xE002, f32(1500, little=True)), (0xE000, [1])]),
        ("huawei_sun2000", 1, [(47_416, i32(1500)), (47_415, [6])]),
        ("huawei_sun2000", 1, [(47_418, [150]), (47_415, [7])]),
        ("goodwe_et", 247, [(47_510, [1500]), (47_509, [1])]),
        ("sungrow_sh", 1, [(13_073, [1500]), (13_086, [0xAA])]),
        ("victron_gx", 100, [(2722, i32(1500))]),
        ("victron_gx", 100, [(2706, [15])]),
        ({"profile": "solax_gen4", "variant": "x3"}, 1, [(0x42, [150])]),
        ({"profile": "solax_gen4", "variant": "x1"}, 1, [(0x42, [1500])]),
        ({"profile": "deye_3phase", "variant": "low_voltage"}, 1, [(143, [1500])]),
        ({"profile": "deye_3phase", "variant": "high_voltage"}, 1, [(143, [150])]),
    ],
)
async def test_export_limits(profile: dict[str, Any] | str, unit: int, writes: Writes) -> None:
    flows = await _flows(profile, unit, writes, pv_w=9500)
    assert 1490 <= flows.export_w <= 1500
    assert flows.pv_w < flows.pv_possible_w


async def test_huawei_export_can_be_forbidden() -> None:
    assert (await _flows("huawei_sun2000", 1, [(47_415, [5])], pv_w=9500)).export_w == 0


@pytest.mark.parametrize(
    ("profile", "unit", "writes"),
    [
        ("solaredge", 1, [(61_441, [30])]),
        ("kostal_plenticore", 71, []),
        ("fronius_gen24", 1, [(40_228 + 5, [300]), (40_228 + 9, [1])]),
    ],
)
async def test_production_limits(profile: str, unit: int, writes: Writes) -> None:
    async with running(profile) as home:
        home.set_environment(pv_w=9500, load_w=100)
        async with RawClient(port_of(home)) as client:
            if not writes:
                await client.write_one(unit, 533, 30)
            await _write(client, unit, writes)
        home.advance(2)
        assert 2990 <= home.physics.flows.ac_out_w <= 3000


@pytest.mark.parametrize(
    ("mode", "charge_w", "discharge_w", "export_w"),
    [
        (2, 500, 0, 0),  # charge from the sun alone
        (3, 0, 2000, 1396),
        (4, 2325, 0, 0),  # buy 2000 W
        (5, 0, 2593, 2000),  # sell 2000 W
        (6, 0, 0, 0),
        (8, 0, 0, 0),
    ],
)
async def test_goodwe_modes(mode: int, charge_w: int, discharge_w: int, export_w: int) -> None:
    flows = await _flows("goodwe_et", 247, [(47_512, [2000]), (47_511, [mode])], pv_w=500)
    if mode == 4:
        assert abs(flows.import_w - 2000) <= 1
    assert abs(flows.export_w - export_w) <= 60
    assert abs(flows.charge_w - charge_w) <= 900 if mode == 4 else flows.charge_w == charge_w
    assert abs(flows.discharge_w - discharge_w) <= 60


@pytest.mark.parametrize(
    ("command", "charge_w", "most_discharge_w"), [(0, 0, 0), (1, 0, 0), (2, 700, 0), (5, 0, 1035)]
)
async def test_solaredge_commands(command: int, charge_w: int, most_discharge_w: int) -> None:
    flows = await _flows("solaredge", 1, [*SE_REMOTE, (0xE00D, [command])], pv_w=700 if command == 2 else 0)
    assert flows.charge_w == charge_w
    assert flows.discharge_w <= most_discharge_w
    assert (flows.discharge_w > 0) is (command == 5)


async def test_victron_set_points() -> None:
    async with running("victron_gx") as home:
        home.set_environment(pv_w=0, load_w=LOAD_W)
        async with RawClient(port_of(home)) as client:
            await client.write(100, 2716, i32(3000))
            home.advance(2)
            assert 2995 <= home.physics.flows.import_w <= 3000
            await client.write(100, 2716, i32(-1000))
            home.advance(2)
            assert 1000 <= home.physics.flows.export_w <= 1002
            home.advance(60)
            assert _let_alone(home)
            await client.write_one(100, 2700, 500)  # the stored set point
            home.advance(2)
            assert 495 <= home.physics.flows.import_w <= 505
            await client.write_one(100, 2700, 0)
            await client.write(100, 2720, i32(300))
            home.advance(2)
            assert home.physics.flows.discharge_w == 300
            await client.write_one(100, 2705, 0)
            home.set_environment(pv_w=5000)
            home.advance(2)
            assert home.physics.flows.charge_w == 0


async def test_solax_manual_mode_and_its_write_only_block() -> None:
    async with running(device_of("solax_gen4", "x3")) as home, RawClient(port_of(home)) as client:
        home.set_environment(pv_w=0, load_w=LOAD_W)
        await client.write(1, 0x1F, [3, 1])
        home.advance(2)
        assert home.physics.flows.charge_w == 5000
        await client.write(1, 0x1F, [3, 2])
        home.advance(2)
        assert home.physics.flows.discharge_w == 5000
        await client.write(1, 0x1F, [3, 0])
        home.advance(2)
        assert home.physics.flows.discharge_w == 0
        with pytest.raises(ModbusExceptionError, match="exception 1"):
            await client.write_one(1, 0x7C, 1)  # function 6 is refused there
        with pytest.raises(ModbusExceptionError, match="exception 2"):
            await client.read(1, 0x7C, 1)
        await client.write_one(1, 0x42, 321)
        assert await client.read(1, 0xB6, 1) == [321]


@pytest.mark.parametrize(("variant", "unit_w", "volts"), [("low_voltage", 1, 52), ("high_voltage", 10, 400)])
async def test_deye_settings(variant: str, unit_w: int, volts: int) -> None:
    async with running(device_of("deye_3phase", variant)) as home, RawClient(port_of(home)) as client:
        home.set_environment(pv_w=0, load_w=LOAD_W)
        amps = 2000 // volts
        await _write(client, 1, [(128, [amps]), (127, [100]), (146, [0]), (130, [1])])
        home.advance(2)
        assert home.physics.flows.charge_w == amps * volts
        await _write(client, 1, [(130, [0]), (109, [2])])
        home.advance(2)
        assert home.physics.flows.discharge_w == min(2 * volts, home.physics.flows.discharge_w)
        table: Writes = [(154, [2000 // unit_w] * 6), (166, [10] * 6), (146, [255]), (109, [200])]
        await _write(client, 1, [*table, (142, [0])])
        home.advance(2)
        assert home.physics.flows.discharge_w == 2000
        await _write(client, 1, [(142, [1])])
        home.advance(2)
        assert _let_alone(home)
        await _write(client, 1, [(166, [90] * 6)])
        home.advance(2)
        assert home.physics.flows.discharge_w == 0
        await _write(client, 1, [(172, [1] * 6), (130, [1])])
        home.advance(2)
        assert home.physics.flows.charge_w == amps * volts


async def test_deye_row_of_the_hour() -> None:
    # At noon UTC plus an hour, rows start at 0, 4, 8, 12, 16 and 20 o'clock: the fourth is in force.
    async with running(device_of("deye_3phase", "low_voltage")) as home, RawClient(port_of(home)) as client:
        home.set_environment(pv_w=0, load_w=9000)
        await _write(client, 1, [(154, [100, 200, 300, 400, 500, 600]), (146, [255]), (142, [0])])
        home.advance(2)
        assert home.physics.flows.discharge_w == 400
        await _write(client, 1, [(148, [1300, 1400, 1500, 1600, 1700, 1800])])
        home.advance(2)
        assert home.physics.flows.discharge_w == 600  # before the first row the last one holds


# --- fuel cells ---------------------------------------------------------------------------------------------


def _until_running(home: SimulatedHome) -> int:
    home.advance(200)
    return home.physics.flows.fuel_cell_w


@pytest.mark.parametrize("variant", ["integer", "float"])
async def test_efoy_starts_below_its_limit_and_stops_from_outside(variant: str) -> None:
    words = f32 if variant == "float" else i32
    async with running(device_of("efoy_hydrogen", variant)) as home, RawClient(port_of(home)) as client:
        await client.write(121, 400, words(53_000) + words(54_000))
        assert await client.read(121, 100, 4) == words(53_000) + words(54_000)
        assert _until_running(home) == 2500
        voltage, current = await client.read(121, 4, 2), await client.read(121, 6, 2)
        assert voltage != current != [0, 0]
        await client.write_one(121, 451, 1)
        assert _until_running(home) == 0
        with pytest.raises(ModbusExceptionError, match="exception 1"):
            await client.write(121, 451, [0])
        home.inject("d0", Fault(FaultKind.REBOOT, seconds=60))
        assert _until_running(home) == 2500  # the external stop is forgotten, the limits are not


async def test_efoy_holds_between_its_limits() -> None:
    async with running("efoy_hydrogen", first_soc_permille=100) as home, RawClient(port_of(home)) as client:
        await client.write(121, 400, i32(47_000) + i32(48_000))
        home.set_environment(pv_w=0, load_w=0)
        assert _until_running(home) == 2500  # the bus stands at 46.8 V
        home.set_state_of_charge(200)
        assert _until_running(home) == 2500  # 47.6 V, above the low limit and below the high one
        home.set_state_of_charge(400)
        assert _until_running(home) == 0


async def test_cummins_needs_control_and_run() -> None:
    async with running("cummins_hydrogen") as home, RawClient(port_of(home)) as client:
        await client.write(1, 14_500, [0x8001, 2])
        assert _until_running(home) == 2000
        await client.write(1, 14_501, [1])
        assert _until_running(home) == 1000
        await client.write(1, 14_500, [0x0001])
        assert _until_running(home) == 0
        await client.write(1, 14_500, [0x8000])
        assert _until_running(home) == 0


@pytest.mark.parametrize(
    ("profile", "unit", "address"), [("fccu_pem", 1, 0x13), ("victron_dcgenset", 223, 5204)]
)
async def test_switched_fuel_cells(profile: str, unit: int, address: int) -> None:
    async with running(profile) as home, RawClient(port_of(home)) as client:
        await client.write_one(unit, address, 1)
        assert _until_running(home) == 2500
        assert await client.read(unit, address, 1) == [1]
        await client.write_one(unit, address, 0)
        assert _until_running(home) == 0


async def test_efoy_pro_needs_its_heartbeat() -> None:
    async with running(device_of("efoy_pro", "serial")) as home, RawClient(port_of(home)) as client:
        await client.write(1, 2003, [1])
        await client.write(1, 1029, [1])
        home.advance(10)
        assert home.truth()["fuel_cell"]["state"] == "starting"
        home.advance(10)
        assert home.truth()["fuel_cell"]["state"] == "stopping"


async def test_fuel_cell_runs_dry_and_is_refuelled() -> None:
    async with running("fccu_pem") as home, RawClient(port_of(home)) as client:
        home.refuel(5_000)
        await client.write_one(1, 0x13, 1)
        home.advance(600)
        assert home.truth()["fuel_cell"]["state"] == "no_fuel"
        home.refuel(2_000_000)
        assert _until_running(home) == 2500


# --- every profile ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("profile_id", "variant"), every_profile())
async def test_the_simulator_takes_every_write_of_the_profile(profile_id: str, variant: str) -> None:
    """A profile's settings and blocks are writable here, where the addresses come from the facts again."""
    async with running(device_of(profile_id, variant)) as home:
        device = home.devices[0]
        profile = profiles()[profile_id]
        chosen = profile.choose(variant) if variant else profile
        for setting in chosen.settings.values():
            write = getattr(setting, "write", None)
            if write is not None:
                assert write.address in device.settings, setting.name
                taken = device.family.functions.get(write.address)
                assert taken is None or int(write.function) in taken, setting.name
        for command in chosen.commands.values():
            for step in (*command.steps, *command.release):
                address = getattr(step, "address", None)
                assert address is None or address in device.settings
