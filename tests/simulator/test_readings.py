"""The integration's devices read every simulated one over the wire and find the physical truth."""

from typing import Any

import pytest

from custom_components.energy_ledger.devices.device import Availability, Device
from custom_components.energy_ledger.devices.readings import COUNTER_FIELDS, Field, Quality
from custom_components.energy_ledger.devices.transport.base import LinkKind, LinkSettings
from custom_components.energy_ledger.devices.transport.link import Link
from simulator.config import build_config
from simulator.home import SimulatedHome
from simulator.modbus.faults import Fault, FaultKind
from simulator.modbus.registers import Space
from tests.simulator.support import NOON, device_of, every_profile

# Coarsest step of each kind of figure among the profiles: tens of watts, a tenth of an ampere at 400 V ...
_POWERS = {
    Field.PV_W: "pv_w",
    Field.CHARGE_W: "charge_w",
    Field.DISCHARGE_W: "discharge_w",
    Field.IMPORT_W: "import_w",
    Field.EXPORT_W: "export_w",
    Field.LOAD_W: "load_w",
    Field.GENERATE_W: "ac_out_w",
    Field.CONSUME_W: "ac_in_w",
}
_ENERGIES = {
    Field.PV_WH: "pv",
    Field.CHARGE_WH: "charge",
    Field.DISCHARGE_WH: "discharge",
    Field.IMPORT_WH: "import",
    Field.EXPORT_WH: "export",
    Field.GENERATE_WH: "ac_out",
    Field.FUEL_CELL_WH: "fuel_cell",
}
_SITUATIONS: list[dict[str, int]] = [
    {"pv_w": 7000, "load_w": 700},  # charging and exporting
    {"pv_w": 900, "load_w": 3100},  # discharging
    {"pv_w": 0, "load_w": 9800},  # discharging and importing
]


def _home(device: dict[str, Any], **more: Any) -> SimulatedHome:
    links = [{"name": "bus", "devices": [device]}]
    return SimulatedHome(
        build_config(
            {"factor": 0, "pv": True, "battery": True, "fuel_cell": True, "links": links} | more, now_s=NOON
        )
    )


def _reader(home: SimulatedHome) -> tuple[Link, Device]:
    link = home.link("bus")
    # A short timeout: what is lost here is lost on purpose.
    settings = LinkSettings(
        kind=LinkKind(link.settings.transport.value), host="127.0.0.1", port=link.port, timeout_s=0.5
    )
    reader = Link(settings)
    device = home.config.links[0].devices[0]
    return reader, Device(device.profile, {name: reader.unit(unit) for name, unit in device.units.items()})


@pytest.mark.parametrize("situation", _SITUATIONS)
@pytest.mark.parametrize(("profile_id", "variant"), every_profile())
async def test_every_profile_reads_the_truth(
    profile_id: str, variant: str, situation: dict[str, int]
) -> None:
    async with _home(device_of(profile_id, variant)) as home:
        home.set_environment(**situation)
        home.advance(400)
        reader, device = _reader(home)
        try:
            readings = await device.poll()
        finally:
            await reader.close()
        assert device.availability is Availability.ONLINE, device.error
        truth = home.truth()
        for field, reading in readings.items():
            number = reading.value
            if reading.quality is not Quality.GOOD or not isinstance(number, int):
                continue
            if field in _POWERS:
                # A current of 0.1 A resolution, or tens of watts, where the family is as coarse.
                assert abs(number - truth["power_w"][_POWERS[field]]) <= 20, field
            elif field in _ENERGIES:
                missing = truth["energy_wh"][_ENERGIES[field]] - number
                # Counters round down, to 0.1 kWh at the coarsest; a float keeps seven digits.
                assert -2 <= missing <= 100, field
            elif field is Field.STATE_OF_CHARGE:
                assert abs(number - truth["battery"]["soc_permille"]) <= 5
        assert any(
            field in readings for field in (*_POWERS, Field.FUEL_CELL_W, Field.GENERATOR_W, Field.BATTERY_MV)
        )


@pytest.mark.parametrize(
    ("profile_id", "variant", "unit", "address", "words"),
    [
        ("efoy_hydrogen", "integer", 121, 400, [0, 53_000, 0, 54_000]),
        ("cummins_hydrogen", "", 1, 14_500, [0x8001, 2]),
        ("fccu_pem", "", 1, 0x13, [1]),
        ("victron_dcgenset", "", 223, 5204, [1]),
    ],
)
async def test_running_fuel_cells_read_the_truth(
    profile_id: str, variant: str, unit: int, address: int, words: list[int]
) -> None:
    async with _home(device_of(profile_id, variant)) as home:
        home.set_environment(pv_w=0, load_w=500)
        home.advance(1)
        reader, device = _reader(home)
        try:
            await reader.unit(unit).write(6 if len(words) == 1 else 16, address, words)
            home.advance(300)
            readings = await device.poll()
        finally:
            await reader.close()
        power = home.physics.flows.fuel_cell_w
        assert power >= 2000
        seen = readings.number(Field.FUEL_CELL_W) or readings.number(Field.GENERATOR_W)
        assert seen is not None
        assert abs(seen - power) <= 51
        status = readings.text(Field.STATUS)
        assert status is None or "running" in status


async def test_counters_reset_and_roll_over_on_the_wire_only() -> None:
    async with _home(device_of("sma_hybrid", "bms")) as home:
        home.advance(1)
        before = home.energy_wh()
        device = home.devices[0]
        assert home.inject("bus", Fault(FaultKind.COUNTER_RESET)) is None
        values = device.read(Space.HOLDING, 30_581, 2)
        assert int.from_bytes(values) == 0
        home.inject("bus", Fault(FaultKind.COUNTER_ROLLOVER, margin_wh=10, unit=3))
        home.inject("bus", Fault(FaultKind.COUNTER_ROLLOVER, margin_wh=10, unit=4))  # nobody there
        assert int.from_bytes(device.read(Space.HOLDING, 30_581, 2)) == (1 << 32) - 1 - 10
        home.set_environment(pv_w=0, load_w=30_000)
        home.advance(60)
        imported = home.energy_wh()["import"] - before["import"]
        assert imported > 100
        assert int.from_bytes(device.read(Space.HOLDING, 30_581, 2)) == imported - 11
        assert not device.happen(Fault(FaultKind.SLEEP))


async def test_sunspec_counters_reset_and_roll_over() -> None:
    async with _home(device_of("sunspec_meter", "import")) as home:
        reader, device = _reader(home)
        try:
            home.advance(1)
            first = await device.poll()
            home.inject("bus", Fault(FaultKind.COUNTER_RESET))
            home.set_environment(pv_w=0, load_w=30_000)
            home.advance(60)
            second = await device.poll()
        finally:
            await reader.close()
        # What the reader makes of a reset: it goes on counting, without a jump.
        gained = (second.number(Field.IMPORT_WH) or 0) - (first.number(Field.IMPORT_WH) or 0)
        assert 0 <= gained <= home.energy_wh()["import"]
        registers = home.devices[0].read(Space.HOLDING, home.devices[0].sunspec_address(203, "TotWhImp"), 2)
        assert int.from_bytes(registers) == home.physics.counters.in_wh()["import"]


async def test_numbers_hidden_layouts_shifted_and_devices_exchanged() -> None:
    async with _home(device_of("huawei_sun2000", "")) as home:
        home.advance(1)
        reader, device = _reader(home)
        try:
            assert (await device.poll()).number(Field.PV_W) is not None
            number = home.inject("bus", Fault(FaultKind.NOT_A_NUMBER))
            hidden = await device.poll()
            assert all(hidden.number(field) is None for field in (Field.PV_W, Field.STATE_OF_CHARGE))
            home.link("bus").clear(number)
            assert (await device.poll()).number(Field.PV_W) is not None
        finally:
            await reader.close()
        plain = home.devices[0].read(Space.HOLDING, 30_073, 2)
        number = home.inject("bus", Fault(FaultKind.LAYOUT_SHIFT, words=2))
        assert home.devices[0].read(Space.HOLDING, 30_075, 2) == plain
        home.link("bus").clear(number)
        home.inject("bus", Fault(FaultKind.IDENTITY, serial="HV99"))
        assert home.devices[0].read(Space.HOLDING, 30_015, 2) == b"HV99"


async def test_sunspec_numbers_hidden() -> None:
    async with _home(device_of("sunspec", "basic")) as home:
        home.advance(1)
        home.inject("bus", Fault(FaultKind.NOT_A_NUMBER))
        device = home.devices[0]
        assert device.read(Space.HOLDING, device.sunspec_address(103, "W"), 1) == b"\x80\x00"
        assert device.read(Space.HOLDING, device.sunspec_address(1, "Mn"), 2) == b"Ener"


def test_counter_fields_are_all_compared() -> None:
    assert set(_ENERGIES) == set(COUNTER_FIELDS)
