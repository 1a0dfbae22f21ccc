"""Every fault of a simulated home, on TCP and RTU-over-TCP: right or unavailable, never wrong; soon over."""

import asyncio
from dataclasses import dataclass

import pytest

from custom_components.energy_ledger.devices.device import Availability, Device, DeviceOptions
from custom_components.energy_ledger.devices.readings import COUNTER_FIELDS, Field, Quality
from custom_components.energy_ledger.devices.transport.base import LinkKind
from custom_components.energy_ledger.devices.transport.link import Link
from simulator.modbus.faults import Fault, FaultKind
from tests.devices.homes import TIMEOUT_S, Site, link_settings, site

STREAMS = [LinkKind.TCP, LinkKind.RTU_OVER_TCP]
INVERTERS = [
    ("goodwe_et", LinkKind.TCP),
    ("goodwe_et", LinkKind.RTU_OVER_TCP),
    ("fronius_gen24", LinkKind.TCP),
]


@dataclass(frozen=True)
class Case:
    """A fault, and whether it takes the device away as a whole."""

    fault: Fault
    everything: bool = True


CASES = {
    "late": Case(Fault(FaultKind.LATE, delay_s=TIMEOUT_S * 1.6)),
    "late once": Case(Fault(FaultKind.LATE, delay_s=TIMEOUT_S * 1.6, count=1), everything=False),
    "dropped": Case(Fault(FaultKind.DROP)),
    "dropped now and then": Case(Fault(FaultKind.DROP, chance_permille=400), everything=False),
    "too short": Case(Fault(FaultKind.WRONG_LENGTH, words=-1)),
    "too long": Case(Fault(FaultKind.WRONG_LENGTH, words=3)),
    "truncated": Case(Fault(FaultKind.TRUNCATED)),
    "garbage": Case(Fault(FaultKind.GARBAGE)),
    "wrong unit": Case(Fault(FaultKind.WRONG_UNIT)),
    "refused": Case(Fault(FaultKind.EXCEPTION, code=2)),
    "device failure": Case(Fault(FaultKind.EXCEPTION, code=4)),
    "refused now and then": Case(Fault(FaultKind.EXCEPTION, code=2, chance_permille=400), everything=False),
    "gateway": Case(Fault(FaultKind.EXCEPTION, code=11)),
    "busy": Case(Fault(FaultKind.BUSY)),
    "closed": Case(Fault(FaultKind.CLOSE)),
    "second client": Case(Fault(FaultKind.SECOND_CLIENT, clients=0)),
    "offline": Case(Fault(FaultKind.OFFLINE)),
    "asleep": Case(Fault(FaultKind.SLEEP)),
}


def availability(device: Device) -> Availability:
    return device.availability


def move(place: Site) -> None:
    """Let something change, so that an old value would be a wrong one."""
    place.home.advance(3600)


@pytest.mark.parametrize(("profile", "kind"), INVERTERS)
@pytest.mark.parametrize("name", CASES)
async def test_a_reading_is_right_or_not_good_and_the_next_poll_after_the_fault_is_whole(
    name: str, profile: str, kind: LinkKind
) -> None:
    case = CASES[name]
    async with site(profile, kind=kind) as place:
        whole = place.check(await place.device.poll())
        assert whole >= 9
        number = place.home.inject("link", case.fault)
        if case.fault.kind is FaultKind.SECOND_CLIENT:
            await place.link.close()  # the place on the device went to someone else meanwhile
            place.link = Link(link_settings(place.server))
            units = {name: place.link.unit(unit.unit_id) for name, unit in place.device.units.items()}
            place.devices[0] = Device(place.device.profile, units)
        for _ in range(2):
            move(place)
            readings = await place.device.poll()
            good = place.check(readings)
            if case.everything:
                assert good == 0
                assert availability(place.device) in (Availability.OFFLINE, Availability.ASLEEP)
                assert place.device.error is not None
        place.server.clear(number)
        await place.server.listening()
        move(place)
        readings = await place.device.poll()
        assert place.check(readings) == whole
        assert availability(place.device) is Availability.ONLINE
        assert all(readings[field].quality is not Quality.STALE for field in readings)


@pytest.mark.parametrize("kind", STREAMS)
async def test_reboot(kind: LinkKind) -> None:
    async with site("goodwe_et", kind=kind) as place:
        whole = place.check(await place.device.poll())
        number = place.home.inject("link", Fault(FaultKind.REBOOT, seconds=60))
        move(place)
        assert place.check(await place.device.poll()) == 0
        assert availability(place.device) is Availability.OFFLINE
        place.server.clear(number)
        await place.server.listening()
        assert place.check(await place.device.poll()) == whole


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_night(kind: LinkKind) -> None:
    async with site("goodwe_et", kind=kind, options=DeviceOptions(is_dark=lambda: True)) as place:
        whole = place.check(await place.device.poll())
        number = place.home.inject("link", Fault(FaultKind.SLEEP))
        for _ in range(3):
            await place.device.poll()
            assert availability(place.device) is Availability.ASLEEP
        place.server.clear(number)
        assert place.check(await place.device.poll()) == whole


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("fault", [FaultKind.COUNTER_RESET, FaultKind.COUNTER_ROLLOVER])
@pytest.mark.parametrize("profile", ["goodwe_et", "eastron_sdm630", "fronius_gen24"])
async def test_counters_do_not_jump(profile: str, fault: FaultKind, kind: LinkKind) -> None:
    async with site(profile, kind=kind) as place:
        before = await place.device.poll()
        counters = [field for field in COUNTER_FIELDS if before.number(field) is not None]
        assert counters
        shown = {field: before.number(field) or 0 for field in counters}
        place.home.inject("link", Fault(fault, margin_wh=300))
        for _ in range(6):
            place.home.advance(600)
            readings = await place.device.poll()
            for field in counters:
                value = readings.number(field)
                if value is not None:
                    assert shown[field] <= value <= shown[field] + 5_000, field
                    shown[field] = value


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_sunspec_map_that_shifts_is_found_again_in_the_same_poll(kind: LinkKind) -> None:
    async with site("fronius_gen24", kind=kind) as place:
        whole = place.check(await place.device.poll())
        number = place.home.inject("link", Fault(FaultKind.LAYOUT_SHIFT))
        move(place)
        assert place.check(await place.device.poll()) >= whole - 2
        place.server.clear(number)
        move(place)
        assert place.check(await place.device.poll()) == whole


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("words", [-1, 1, 10])
@pytest.mark.parametrize("profile", ["goodwe_et", "huawei_sun2000", "eastron_sdm630"])
async def test_registers_that_shift_are_not_believed(profile: str, words: int, kind: LinkKind) -> None:
    async with site(profile, kind=kind) as place:
        whole = place.check(await place.device.poll())
        number = place.home.inject("link", Fault(FaultKind.LAYOUT_SHIFT, words=words))
        move(place)
        assert place.check(await place.device.poll()) == 0
        place.server.clear(number)
        assert place.check(await place.device.poll()) == whole


@pytest.mark.parametrize("kind", STREAMS)
async def test_values_that_are_not_numbers_are_not_zero(kind: LinkKind) -> None:
    async with site("fronius_gen24", kind=kind) as place:
        whole = place.check(await place.device.poll())
        number = place.home.inject("link", Fault(FaultKind.NOT_A_NUMBER))
        readings = await place.device.poll()
        place.check(readings)
        assert readings[Field.PV_W].value is None
        assert readings[Field.STATE_OF_CHARGE].value is None
        place.server.clear(number)
        assert place.check(await place.device.poll()) == whole


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("fault", [FaultKind.DROP, FaultKind.LATE, FaultKind.EXCEPTION, FaultKind.BUSY])
async def test_a_bad_unit_holds_up_the_others_on_its_link_for_one_timeout_at_most(
    fault: FaultKind, kind: LinkKind
) -> None:
    names = ["eastron_sdm630"] * 3
    async with site(*names, kind=kind, units=[1, 2, 3]) as place:
        for device in place.devices:
            place.check(await device.poll())
        place.home.inject("link", Fault(fault, unit=1, delay_s=TIMEOUT_S * 1.5))
        sick, *healthy = place.devices
        for _ in range(3):
            move(place)
            before = place.link.statistics.timeouts
            await asyncio.gather(*(device.poll() for device in place.devices))
            assert place.link.statistics.timeouts - before <= 1
            assert availability(sick) is Availability.OFFLINE
            for device in healthy:
                assert availability(device) is Availability.ONLINE
                assert place.check(device.readings) >= 4


async def test_a_dead_link_fails_all_of_its_devices_with_one_attempt_per_poll() -> None:
    async with site(*["eastron_sdm630"] * 3, kind=LinkKind.RTU_OVER_TCP, units=[1, 2, 3]) as place:
        await asyncio.gather(*(device.poll() for device in place.devices))
        place.home.inject("link", Fault(FaultKind.OFFLINE))
        await asyncio.gather(*(device.poll() for device in place.devices))
        before = place.link.statistics.connections
        await asyncio.gather(*(device.poll() for device in place.devices))
        assert place.link.statistics.connections - before == 1
        assert all(device.availability is Availability.OFFLINE for device in place.devices)
