"""A user's own profile, with everything that a profile may say, gets a layout that its reader understands."""

from fractions import Fraction
from pathlib import Path

import pytest

from custom_components.energy_ledger.devices.device import Availability, Device
from custom_components.energy_ledger.devices.profile.load import load_profile
from custom_components.energy_ledger.devices.profile.model import Range, Test
from custom_components.energy_ledger.devices.readings import Field
from custom_components.energy_ledger.devices.transport.base import LinkSettings
from custom_components.energy_ledger.devices.transport.link import Link
from simulator.config import build_config
from simulator.home import SimulatedHome
from simulator.layout.profile_layout import ProfileLayout
from simulator.layout.values import failing_value, passing_value
from simulator.layout.view import Identity
from simulator.modbus.registers import Space
from tests.simulator.support import NOON, running

PROFILE = """\
id: our_own
title: A hybrid of our own
manufacturer: Ours
models: [One]
kinds: [pv, battery, meter]
sources: [its manual]
unproven: [everything]
link: {tcp: 502, units: [7], max_registers: 60, max_gap: 4, nan: usual}
holes: [{fc: 3, first: 30, last: 31}]
detect: [{addr: 0, type: u16, equals: 0x4242}]
points:
  firmware: {addr: 1, type: str4, role: firmware, poll: once}
  pv_voltage: {addr: 10, type: u16, scale: 0.1, unit: V}
  pv_current: {addr: 11, type: s32, scale: 0.001, unit: A}
  pv_power: {product: [pv_voltage, pv_current], unit: W, role: pv_power}
  bus_voltage: {addr: 13, type: u32, unit: mV}
  bus_current: {addr: 15, type: s32, scale: 0.001, unit: A}
  bus_power: {product: [{point: bus_voltage, factor: 1/1000}, bus_current], unit: W, role: load_power}
  out_l1: {addr: 20, type: s16, unit: W}
  out_l2: {addr: 21, type: s16, unit: W}
  buy: {addr: 22, type: u16, unit: W}
  sell: {addr: 23, type: u16, unit: W}
  grid_power: {sum: [buy, -sell], unit: W, role: grid_power, positive: import}
  ac_power: {sum: [out_l1, out_l2], unit: W, role: ac_power, positive: generate}
  magnitude: {addr: 26, type: u16, unit: W}
  sense: {addr: 27, type: u16}
  battery_power:
    sign: magnitude
    negative_when: {point: sense, equals: 5}
    unit: W
    role: battery_power
    positive: discharge
  import_energy: {addr: 40, type: f64, unit: Wh, role: import_energy}
  label: {addr: 50, type: str2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "our_own.yaml").write_text(PROFILE, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("pv_w", "load_w"),
    [(0, 800), (6000, 800), (9000, 300), (0, 9000)],
    ids=["dark", "sun", "export", "import"],
)
async def test_its_reader_finds_the_truth(folder: Path, pv_w: int, load_w: int) -> None:
    links = [{"name": "bus", "devices": [{"profile": "our_own"}]}]
    values = {"factor": 0, "pv": True, "battery": True, "links": links}
    async with SimulatedHome(build_config(values, now_s=NOON, profile_folders=(folder,))) as home:
        home.set_environment(pv_w=pv_w, load_w=load_w)
        home.advance(5)
        reader = Link(LinkSettings(host="127.0.0.1", port=home.link("bus").port, timeout_s=2))
        device = Device(home.config.links[0].devices[0].profile, {"": reader.unit(7)})
        try:
            readings = await device.poll()
        finally:
            await reader.close()
        assert device.availability is Availability.ONLINE, device.error
        flows = home.physics.flows
        # Volts times milliamperes: within a watt.
        assert abs((readings.number(Field.PV_W) or 0) - flows.pv_w) <= 1
        assert abs((readings.number(Field.LOAD_W) or 0) - flows.load_w) <= 1
        assert readings.number(Field.IMPORT_W) == flows.import_w
        assert readings.number(Field.EXPORT_W) == flows.export_w
        assert readings.number(Field.GENERATE_W) == flows.ac_out_w
        assert readings.number(Field.CHARGE_W) == flows.charge_w
        assert readings.number(Field.DISCHARGE_W) == flows.discharge_w
        assert readings.number(Field.IMPORT_WH) == home.energy_wh()["import"]
        assert readings.text(Field.FIRMWARE) == "1.0.0"


def test_holes_and_missing_values(folder: Path) -> None:
    layout = ProfileLayout(load_profile(folder / "our_own.yaml"), Identity())
    space = next(iter(layout.spaces.values()))
    assert not space.is_mapped(30)
    layout.put("out_l1", None)
    layout.put("sense", None)
    layout.put("import_energy", None)
    assert space.read(20, 1) == [0x8000]
    assert space.read(27, 1) == [0xFFFF]
    layout.put("label", Fraction(12))
    assert space.read(50, 2) == [0x3132, 0]
    with pytest.raises(LookupError, match="our_own has no point at function 3, address 99"):
        layout.point_at(3, 99)


def test_values_for_tests_of_values() -> None:
    assert passing_value(Test(pattern="^B"), ("Alpha", "Beta")) == "Beta"
    assert passing_value(Test(bits_set=6)) == 6
    assert passing_value(Test(within=Range(minimum=Fraction(5)))) == 5
    with pytest.raises(ValueError, match="give the device a fitting model or serial"):
        passing_value(Test(pattern="^C"), ("Alpha",))
    assert failing_value(Test(equals=(Fraction(0), Fraction(1)))) == 2
    with pytest.raises(ValueError, match="every number is"):
        failing_value(Test())


@pytest.mark.parametrize("profile", ["sunspec", "goodwe_et", "fronius_gen24", "solaredge"])
async def test_homes_without_a_battery(profile: str) -> None:
    async with running(profile, battery=False, fuel_cell=False) as home:
        home.set_environment(pv_w=5000, load_w=300)
        home.advance(2)
        assert home.physics.flows.export_w == 4550
        device = home.devices[0]
        if device.sunspec is not None:
            address = device.sunspec_address(103, "W")
            assert int.from_bytes(device.read(Space.HOLDING, address, 1)) == 4850
