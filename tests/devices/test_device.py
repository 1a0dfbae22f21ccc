"""A device on a server of plain registers: what is refused, silent, missing, changed, or wrong."""

from collections.abc import Callable
from fractions import Fraction

import pytest

from custom_components.energy_ledger.devices.counters import CounterState
from custom_components.energy_ledger.devices.device import Availability, Device, DeviceOptions
from custom_components.energy_ledger.devices.errors import IdentityMismatch, LinkError
from custom_components.energy_ledger.devices.profile.load import parse_profile
from custom_components.energy_ledger.devices.profile.model import Profile
from custom_components.energy_ledger.devices.readings import Field, Quality, Readings
from custom_components.energy_ledger.devices.transport.link import Link
from simulator.modbus.faults import Fault, FaultKind
from simulator.modbus.registers import Space
from simulator.modbus.server import Link as ServerLink
from tests.devices.wire import Memory, serving, settings_for

PROFILE = """
id: test_box
title: Test box
manufacturer: Test
kinds: [pv, battery]
sources: [a test]
unproven: [everything]
link:
  tcp: 502
  units: [1]
  max_registers: 20
  max_gap: 4
  sleeps_at_night: true
detect:
  - {addr: 0, type: u16, equals: 4711}
points:
  magic: {addr: 0, type: u16}
  pv1: {addr: 1, type: u16, unit: W}
  pv2: {addr: 2, type: u16, unit: W, nan: [0xFFFF]}
  pv_power: {sum: [pv1, pv2], missing: skip, unit: W, role: pv_power}
  battery_power: {addr: 10, type: s16, unit: W, role: battery_power, positive: charge}
  soc: {addr: 11, type: u16, unit: "%", valid: [0, 100], role: state_of_charge}
  pv_energy: {addr: 12, type: u32, unit: Wh, role: pv_energy}
  far: {addr: 60, type: u16, unit: W, role: load_power}
  extra: {addr: 100, type: u16, unit: "%", role: state_of_health, optional: true}
  rated: {addr: 40, type: u16, unit: W, role: rated_power, poll: once}
  slow: {addr: 50, type: u16, unit: Wh, role: capacity, poll: slow}
  serial: {addr: 80, type: str4, role: serial, poll: once}
"""


def text(content: str, registers: int) -> list[int]:
    data = content.encode().ljust(2 * registers, b"\0")
    return [int.from_bytes(data[index : index + 2], "big") for index in range(0, len(data), 2)]


def box() -> Memory:
    unit = Memory(
        {0: [4711, 1000, 500], 10: [-700 & 0xFFFF, 55, 0, 40_000], 60: [900], 40: [5000], 50: [9000]}
    )
    unit.map(3, 80, text("SN-1", 4))
    unit.map(3, 100, [97])
    return unit


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def state(device: Device) -> Availability:
    return device.availability


def make(server: ServerLink, clock: Clock, *, timeout_s: float = 0.1, **more: object) -> tuple[Device, Link]:
    link = Link(settings_for(server, timeout_s=timeout_s))
    profile: Profile = parse_profile(PROFILE, "test_box.yaml")
    device = Device(profile, {"": link.unit(1)}, clock=clock, wall_clock=clock, **more)  # type: ignore[arg-type]
    return device, link


async def test_reads_everything_once_and_then_what_is_due() -> None:
    unit, clock = box(), Clock()
    async with serving({1: unit}) as server:
        device, link = make(server, clock)
        assert state(device) is Availability.UNKNOWN
        readings = await device.poll()
        assert state(device) is Availability.ONLINE
        assert device.error is None
        assert readings.number(Field.PV_W) == 1500
        assert readings.number(Field.DISCHARGE_W) == 700
        assert readings.number(Field.CHARGE_W) == 0
        assert readings.number(Field.STATE_OF_CHARGE) == 550
        assert readings.number(Field.STATE_OF_HEALTH) == 970
        assert readings.number(Field.PV_WH) == 40_000
        assert readings.number(Field.RATED_W) == 5000
        assert readings.number(Field.ENERGY_AVAILABLE_WH) == 4950
        assert readings.text(Field.SERIAL) == "SN-1"
        assert device.serial == "SN-1"
        everything = device.requests_last_poll
        unit.reads.clear()
        await device.poll()
        assert device.requests_last_poll == 4 < everything
        assert [read[1:] for read in unit.reads] == [(0, 3), (10, 4), (60, 1), (100, 1)]
        clock.now += 60
        unit.reads.clear()
        await device.poll()
        assert (50, 1) in [read[1:] for read in unit.reads]
        assert (40, 1) not in [read[1:] for read in unit.reads]
        assert device.readings[Field.RATED_W].quality is Quality.GOOD
        await link.close()


async def test_a_register_that_the_device_lacks_does_not_hide_its_neighbours() -> None:
    unit, clock = box(), Clock()
    unit.spaces[Space.HOLDING].unmap(11, 11)
    async with serving({1: unit}) as server:
        device, link = make(server, clock)
        readings = await device.poll()
        assert readings.number(Field.DISCHARGE_W) == 700
        assert readings.number(Field.PV_WH) == 40_000
        assert readings[Field.STATE_OF_CHARGE].quality is Quality.NOT_IMPLEMENTED
        assert readings[Field.STATE_OF_CHARGE].value is None
        for _ in range(5):
            await device.poll()
        unit.reads.clear()
        readings = await device.poll()
        assert not any(address <= 11 < address + count for _, address, count in unit.reads)
        assert readings.number(Field.PV_WH) == 40_000
        unit.map(3, 11, [60])
        for _ in range(20):
            readings = await device.poll()
            if readings[Field.STATE_OF_CHARGE].usable:
                break
        assert readings.number(Field.STATE_OF_CHARGE) == 600
        await link.close()


async def test_a_value_that_disappears_is_stale_and_then_unavailable() -> None:
    unit, clock = box(), Clock()
    async with serving({1: unit}) as server:
        device, link = make(server, clock)
        await device.poll()
        unit.spaces[Space.HOLDING].unmap(60, 60)
        clock.now += 10
        readings = await device.poll()
        assert state(device) is Availability.PARTIAL
        assert device.error is not None
        assert "illegal data address" in str(device.error)
        assert readings[Field.LOAD_W].value == 900
        assert readings[Field.LOAD_W].quality is Quality.STALE
        assert readings[Field.LOAD_W].age_s == 10
        assert readings.number(Field.PV_W) == 1500
        clock.now += 25
        readings = await device.poll()
        assert readings[Field.LOAD_W].value is None
        assert readings[Field.LOAD_W].quality is Quality.UNAVAILABLE
        unit.map(3, 60, [901])
        assert (await device.poll()).number(Field.LOAD_W) == 901
        assert state(device) is Availability.ONLINE
        await link.close()


async def test_no_value_is_never_zero() -> None:
    unit, clock = box(), Clock()
    unit.map(3, 2, [0xFFFF])
    unit.map(3, 11, [255])
    async with serving({1: unit}) as server:
        device, link = make(server, clock)
        readings = await device.poll()
        assert readings.number(Field.PV_W) == 1000
        assert readings[Field.STATE_OF_CHARGE].value is None
        assert readings[Field.STATE_OF_CHARGE].quality is Quality.NOT_IMPLEMENTED
        unit.map(3, 11, [50])
        assert (await device.poll()).number(Field.STATE_OF_CHARGE) == 500
        unit.map(3, 11, [255])
        readings = await device.poll()
        assert readings[Field.STATE_OF_CHARGE].value is None
        assert readings[Field.STATE_OF_CHARGE].quality is Quality.UNAVAILABLE
        assert readings[Field.ENERGY_AVAILABLE_WH].quality is not Quality.GOOD
        await link.close()


async def test_a_block_that_stays_silent_costs_one_timeout_and_hides_nothing_else() -> None:
    unit, clock = box(), Clock()
    async with serving({1: unit}) as server:
        device, link = make(server, clock)
        server.inject(Fault(FaultKind.DROP, first=10, last=13))
        readings = device.readings
        for _ in range(3):
            before = link.statistics.timeouts
            readings = await device.poll()
            assert link.statistics.timeouts - before == 1
        assert readings.number(Field.PV_W) == 1500
        assert readings.number(Field.LOAD_W) == 900
        assert readings[Field.STATE_OF_CHARGE].value is None
        assert readings[Field.STATE_OF_CHARGE].quality is Quality.NOT_IMPLEMENTED
        for _ in range(4):
            await device.poll()
        before = link.statistics.timeouts
        await device.poll()
        assert link.statistics.timeouts - before <= 1
        await link.close()


async def test_a_device_with_a_shorter_block_limit_than_its_profile_is_read_in_parts() -> None:
    unit, clock = box(), Clock()
    unit.longest = 3
    async with serving({1: unit}) as server:
        device, link = make(server, clock)
        for _ in range(2):
            await device.poll()
        readings = await device.poll()
        assert readings.number(Field.DISCHARGE_W) == 700
        assert readings.number(Field.PV_WH) == 40_000
        assert device.error is None
        unit.reads.clear()
        await device.poll()
        assert all(count <= 3 for _, _, count in unit.reads)
        await link.close()


async def test_busy_is_waited_out() -> None:
    unit, clock = box(), Clock()
    async with serving({1: unit}) as server:
        device, link = make(server, clock)
        await device.poll()
        server.inject(Fault(FaultKind.BUSY, count=2))
        readings = await device.poll()
        assert readings.number(Field.PV_W) == 1500
        assert state(device) is Availability.ONLINE
        server.inject(Fault(FaultKind.BUSY))
        readings = await device.poll()
        assert state(device) is Availability.OFFLINE
        assert "device busy" in str(device.error)
        assert readings[Field.PV_W].quality is Quality.STALE
        server.clear()
        assert (await device.poll()).number(Field.PV_W) == 1500
        await link.close()


async def test_a_device_that_refuses_everything_for_a_while_is_not_taken_apart() -> None:
    unit, clock = box(), Clock()
    async with serving({1: unit}) as server:
        device, link = make(server, clock)
        await device.poll()
        await device.poll()
        usual = device.requests_last_poll
        number = server.inject(Fault(FaultKind.EXCEPTION, code=2))
        for _ in range(5):
            await device.poll()
            assert state(device) is Availability.OFFLINE
        server.clear(number)
        readings = await device.poll()
        assert readings.number(Field.PV_W) == 1500
        assert all(readings[field].quality is Quality.GOOD for field in readings)
        await device.poll()
        assert device.requests_last_poll == usual
        await link.close()


async def test_another_device_at_the_address_is_never_believed() -> None:
    unit, clock = box(), Clock()
    async with serving({1: unit}) as server:
        device, link = make(server, clock)
        await device.poll()
        unit.map(3, 0, [1234])
        readings = await device.poll()
        assert state(device) is Availability.WRONG_DEVICE
        assert isinstance(device.error, IdentityMismatch)
        assert "register 0 holds 1234, expected 4711" in str(device.error)
        assert all(reading.value is None for field, reading in readings.items() if field is not Field.PV_WH)
        unit.map(3, 0, [4711])
        assert (await device.poll()).number(Field.PV_W) == 1500
        unit.map(3, 80, text("SN-2", 4))
        clock.now += 60
        await device.poll()
        assert state(device) is Availability.WRONG_DEVICE
        assert "serial number SN-2, but SN-1 was set up" in str(device.error)
        await link.close()


async def test_the_serial_number_that_was_set_up_is_required() -> None:
    async with serving({1: box()}) as server:
        device, link = make(server, Clock(), options=DeviceOptions(serial="SN-9"))
        readings = await device.poll()
        assert state(device) is Availability.WRONG_DEVICE
        assert readings.number(Field.PV_W) is None
        await link.close()


@pytest.mark.parametrize("dark", [None, lambda: True])
async def test_silence_in_the_dark_is_sleep(dark: Callable[[], bool] | None) -> None:
    unit, clock = box(), Clock()
    unit.map(3, 1, [0, 0])
    async with serving({1: unit}) as server:
        device, link = make(server, clock, options=DeviceOptions(is_dark=dark))
        await device.poll()
        number = server.inject(Fault(FaultKind.SLEEP))
        clock.now += 100
        await device.poll()
        assert state(device) is Availability.ASLEEP
        readings = await device.poll()
        assert state(device) is Availability.ASLEEP
        assert readings[Field.PV_W].value is None
        assert readings[Field.PV_WH].value == 40_000
        assert readings[Field.PV_WH].quality is Quality.STALE
        assert readings[Field.RATED_W].value == 5000
        server.clear(number)
        unit.map(3, 1, [10, 0])
        readings = await device.poll()
        assert state(device) is Availability.ONLINE
        assert readings.number(Field.PV_W) == 10
        await link.close()


async def test_silence_in_daylight_is_no_sleep() -> None:
    async with serving({1: box()}) as server:
        device, link = make(server, Clock())
        await device.poll()
        server.inject(Fault(FaultKind.SLEEP))
        await device.poll()
        assert state(device) is Availability.OFFLINE
        await link.close()


async def test_counters_survive_a_reset_and_a_restart() -> None:
    unit, clock = box(), Clock()
    async with serving({1: unit}) as server:
        device, link = make(server, clock)
        await device.poll()
        clock.now += 60
        unit.map(3, 12, [0, 5])
        assert (await device.poll()).number(Field.PV_WH) == 40_005
        kept = dict(device.counter_states)
        assert kept == {Field.PV_WH: CounterState(40_005, 5, clock.now)}
        again, _ = make(server, clock, counters=kept)
        clock.now += 60
        unit.map(3, 12, [0, 30])
        assert (await again.poll()).number(Field.PV_WH) == 40_030
        await again.units[""]._link.close()  # type: ignore[attr-defined]
        await link.close()


async def test_counter_rollover_of_the_register() -> None:
    unit, clock = box(), Clock()
    unit.map(3, 12, [0xFFFF, 0xFFF0])
    async with serving({1: unit}) as server:
        device, link = make(server, clock)
        start = (await device.poll()).number(Field.PV_WH)
        assert start == 0xFFFFFFF0
        clock.now += 60
        unit.map(3, 12, [0, 20])
        assert (await device.poll()).number(Field.PV_WH) == start + 36
        await link.close()


async def test_listeners_hear_every_poll_until_removed() -> None:
    heard: list[Readings] = []
    async with serving({1: box()}) as server:
        device, link = make(server, Clock())
        remove = device.listen(heard.append)
        await device.poll()
        remove()
        remove()
        await device.poll()
        assert len(heard) == 1
        await link.close()


async def test_values_on_demand() -> None:
    unit = box()
    async with serving({1: unit}) as server:
        device, link = make(server, Clock())
        assert await device.number("pv1") == 1000
        assert await device.number("pv_power") == 1500
        await device.poll()
        unit.map(3, 1, [7])
        assert await device.number("pv1") == 1000  # as of the last poll
        with pytest.raises(LookupError, match='no point "nothing"'):
            await device.number("nothing")
        server.inject(Fault(FaultKind.SLEEP))
        await device.poll()
        with pytest.raises(LinkError):
            await device.number("pv1")
        await link.close()
    assert isinstance(device.states["pv1"].value, Fraction)
