"""Devices whose addresses are found: companions that come later, maps that lack models, move, or are gone."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from custom_components.energy_ledger.devices.commands import Commander, Order
from custom_components.energy_ledger.devices.device import Availability, Device
from custom_components.energy_ledger.devices.errors import CommandRefused, IdentityMismatch
from custom_components.energy_ledger.devices.notes import FileNoteStore
from custom_components.energy_ledger.devices.profile.load import parse_profile
from custom_components.energy_ledger.devices.profile.model import CommandName
from custom_components.energy_ledger.devices.readings import Field, Quality
from custom_components.energy_ledger.devices.transport.link import Link
from simulator.modbus.faults import Fault, FaultKind
from tests.devices.homes import known_profiles, site
from tests.devices.wire import Memory, serving, settings_for

SUNS = [0x5375, 0x6E53]


def availability(device: Device) -> Availability:
    return device.availability


async def test_a_companion_that_is_missing_is_looked_for_again() -> None:
    async with site("fronius_gen24") as place:
        meter = place.server.units.pop(200)
        readings = await place.device.poll()
        assert availability(place.device) is Availability.ONLINE
        assert readings[Field.IMPORT_W].quality is Quality.NOT_IMPLEMENTED
        place.check(readings)
        place.server.units[200] = meter
        for _ in range(6):
            await place.device.poll()
        readings = place.device.readings
        assert readings[Field.IMPORT_W].quality is Quality.GOOD
        place.check(readings)
        del place.server.units[200]
        readings = await place.device.poll()
        assert readings[Field.IMPORT_W].quality is not Quality.GOOD
        assert readings[Field.PV_W].quality is Quality.GOOD
        assert availability(place.device) is Availability.PARTIAL


async def test_a_device_that_is_away_while_its_map_is_looked_for() -> None:
    async with site("fronius_gen24") as place:
        number = place.home.inject("link", Fault(FaultKind.SLEEP))
        await place.device.poll()
        assert availability(place.device) in (Availability.OFFLINE, Availability.ASLEEP)
        place.server.clear(number)
        assert place.check(await place.device.poll()) >= 9


@pytest.mark.parametrize(
    ("registers", "message"),
    [
        ([0] * 10, "no SunSpec map: none of the registers"),
        ([*SUNS, 1, 2, 0, 0, 0xFFFF, 0], "is no Fronius .*: its SunSpec map lacks model"),
    ],
)
async def test_another_device_is_named(registers: Sequence[int], message: str) -> None:
    async with serving({1: Memory({40000: registers})}) as server:
        link = Link(settings_for(server))
        device = Device(known_profiles()["fronius_gen24"], {"": link.unit(1)})
        await device.poll()
        assert availability(device) is Availability.WRONG_DEVICE
        assert isinstance(device.error, IdentityMismatch)
        with pytest.raises(IdentityMismatch, match=message):
            raise device.error
        await link.close()


async def test_a_map_that_is_gone_makes_everything_unavailable_until_it_is_back() -> None:
    async with site("fronius_gen24") as place:
        await place.device.poll()
        real = place.server.units[1]
        place.server.units[1] = Memory({40000: [0] * 200})
        readings = await place.device.poll()
        assert availability(place.device) is Availability.WRONG_DEVICE
        assert readings[Field.PV_W].value is None
        place.server.units[1] = real
        assert place.check(await place.device.poll()) >= 9


PROFILE = """
id: scaled_box
title: Scaled box
manufacturer: Test
kinds: [battery]
sources: [a test]
unproven: [everything]
link: {tcp: 502, units: [1], max_registers: 20, max_gap: 0}
points:
  rated: {addr: 1, type: u16, unit: W, role: rated_power, poll: once}
  apart: {addr: 2, type: u16, scale_addr: 6, unit: W, role: load_power}
settings:
  scaled: {addr: 10, type: u16, scale_addr: 12, unit: W}
  bits: {addr: 11, type: u16, nan: [0xFFFF]}
commands:
  charge:
    power: {max: rated}
    steps:
      - {set: scaled, to: "{power_w}", verify: true}
      - {set: bits, to: 1, mask: 1, save: true}
    release:
      - {set: scaled, to: 0}
"""


async def test_a_value_and_its_scale_with_a_hole_between_them_are_read_apart() -> None:
    unit = Memory({1: [5000, 831], 6: [0xFFFF]})
    async with serving({1: unit}) as server:
        link = Link(settings_for(server))
        device = Device(parse_profile(PROFILE, "scaled_box.yaml"), {"": link.unit(1)})
        for _ in range(2):
            assert (await device.poll()).number(Field.LOAD_W) == 83
        unit.reads.clear()
        await device.poll()
        assert [read[1:] for read in unit.reads] == [(2, 1), (6, 1)]
        await link.close()


@pytest.mark.parametrize(
    ("registers", "message"),
    [
        ({10: [0, 0, 0x8000]}, "does not implement scaled: it has no scale factor"),
        ({10: [0, 0xFFFF, 1]}, "bits has no value to change bits of"),
        ({11: [0, 1]}, "illegal data address"),
    ],
)
async def test_settings_that_cant_be_written_say_why(
    registers: dict[int, list[int]], message: str, tmp_path: Path
) -> None:
    unit = Memory({1: [5000, 831, 0, 0, 0, 0], **registers})
    async with serving({1: unit}) as server:
        link = Link(settings_for(server))
        device = Device(parse_profile(PROFILE, "scaled_box.yaml"), {"": link.unit(1)})
        await device.poll()
        commander = Commander(device, FileNoteStore(tmp_path / "note"))
        order = Order(name=CommandName.CHARGE, power_w=1200, until=time.time() + 60)
        with pytest.raises(CommandRefused, match=message):
            await commander.start(order)
        for space in unit.spaces.values():
            space.map(10, [0, 0, 1])
        await commander.close()
        await link.close()
