"""Commands on simulated homes: the battery obeys, and what happens when the commanding process is killed."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from custom_components.energy_ledger.devices.commands import Commander, CommandState, Order, Reserve
from custom_components.energy_ledger.devices.errors import ValueOutOfRange
from custom_components.energy_ledger.devices.notes import FileNoteStore
from custom_components.energy_ledger.devices.profile.model import CommandName
from custom_components.energy_ledger.devices.readings import Field
from custom_components.energy_ledger.devices.transport.base import LinkKind
from simulator.modbus.faults import Fault, FaultKind
from tests.devices.homes import Site, known_profiles, site

ROOT = Path(__file__).parents[2]
NIGHT = {"pv": False, "load": {"annual_kwh": 2000}}
BATTERIES = [profile.id for profile in known_profiles().values() if CommandName.CHARGE in profile.commands]


def flows(place: Site) -> dict[str, int]:
    power: dict[str, int] = place.home.truth()["power_w"]
    return power


def order(name: CommandName, power_w: int, **more: object) -> Order:
    fields: dict[str, object] = {"name": name, "power_w": power_w, "until": time.time() + 600, **more}
    return Order(**fields)  # type: ignore[arg-type]


def link_kind(profile_id: str) -> LinkKind:
    first = known_profiles()[profile_id].link.transports[0].transport.value
    return LinkKind.RTU_OVER_TCP if first == "serial" else LinkKind(first)


@contextlib.asynccontextmanager
async def commander(place: Site, path: Path) -> AsyncIterator[Commander]:
    made = Commander(place.device, FileNoteStore(path))
    try:
        yield made
    finally:
        place.server.clear()
        await place.server.listening()
        assert await made.close()


@pytest.mark.parametrize("profile", BATTERIES)
async def test_the_battery_obeys_and_is_given_back(profile: str, tmp_path: Path) -> None:
    config = {**NIGHT, "start": "2026-01-10T02:00:00Z", "first_soc_permille": 500}
    async with site(profile, kind=link_kind(profile), config=config) as place:
        await place.device.poll()
        async with commander(place, tmp_path / "note") as made:
            for name, there, back in (
                (CommandName.CHARGE, "charge_w", "discharge_w"),
                (CommandName.DISCHARGE, "discharge_w", "charge_w"),
            ):
                await made.start(order(name, 2000))
                place.home.advance(10 * 60 if made.status.order is None else 60)
                power = flows(place)
                assert abs(power[there] - 2000) <= 150, (name, power)
                assert power[back] == 0
                place.check(await place.device.poll(), tolerance=60)
                assert await made.release()
                place.home.advance(120)
                power = flows(place)
                assert power["charge_w"] == 0
                assert abs(power["discharge_w"] - power["load_w"]) <= 120


async def test_a_power_beyond_the_battery_never_reaches_the_wire(tmp_path: Path) -> None:
    async with site("huawei_sun2000") as place:
        await place.device.poll()
        async with commander(place, tmp_path / "note") as made:
            with pytest.raises(ValueOutOfRange, match="power to charge is 5001 W, allowed are 0 to 5000 W"):
                await made.start(order(CommandName.CHARGE, 5001))
            assert place.home.log.last_sequence == 0


async def test_the_reserve_of_a_real_battery(tmp_path: Path) -> None:
    config = {**NIGHT, "start": "2026-01-10T02:00:00Z", "first_soc_permille": 320}
    async with site("huawei_sun2000", config=config) as place:
        await place.device.poll()
        async with commander(place, tmp_path / "note") as made:
            reserve = Reserve(Field.STATE_OF_CHARGE, 300)
            await made.start(order(CommandName.DISCHARGE, 4000, reserve=reserve))
            for _ in range(40):
                place.home.advance(60)
                await place.device.poll()
                await asyncio.sleep(0.05)
                if made.status.state is CommandState.IDLE:
                    break
            assert made.status.state is CommandState.IDLE
            assert str(made.status.reason).startswith("reserve reached")
            assert 280 <= place.home.truth()["battery"]["soc_permille"] <= 300


async def killed_child(profile: str, unit: int, port: int, note: Path) -> None:
    """Start a process that commands the device, and kill it in the middle of its command."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "tests" / "devices" / "commanding.py"),
        profile,
        str(port),
        str(unit),
        str(note),
        "2500",
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(60):
            line = await child.stdout.readline()
        assert line == b"in force\n"
    finally:
        child.send_signal(signal.SIGKILL)
        await child.wait()
    assert child.returncode == -signal.SIGKILL


async def test_a_killed_process_leaves_a_note_and_the_next_start_releases(tmp_path: Path) -> None:
    config = {**NIGHT, "start": "2026-01-10T02:00:00Z"}
    async with site("goodwe_et", config=config) as place:
        note = tmp_path / "note"
        await killed_child("goodwe_et", 247, place.server.port, note)
        place.home.advance(600)
        assert abs(flows(place)["discharge_w"] - 2500) <= 150  # this device does not revert by itself
        assert note.exists()
        async with commander(place, note) as made:
            assert await made.recover()
            assert made.status.state is CommandState.IDLE
            assert not note.exists()
            place.home.advance(120)
            power = flows(place)
            assert abs(power["discharge_w"] - power["load_w"]) <= 120


async def test_a_device_with_a_revert_timer_ends_the_command_of_a_killed_process(tmp_path: Path) -> None:
    config = {**NIGHT, "start": "2026-01-10T02:00:00Z"}
    async with site("fronius_gen24", config=config) as place:
        note = tmp_path / "note"
        await killed_child("fronius_gen24", 1, place.server.port, note)
        place.home.advance(120)
        power = flows(place)
        assert abs(power["discharge_w"] - power["load_w"]) <= 120
        async with commander(place, note) as made:
            assert await made.recover()
            assert not note.exists()


@pytest.mark.parametrize("kind", [LinkKind.TCP, LinkKind.RTU_OVER_TCP])
async def test_a_reboot_in_the_middle_of_a_command(kind: LinkKind, tmp_path: Path) -> None:
    config = {**NIGHT, "start": "2026-01-10T02:00:00Z"}
    async with site("goodwe_et", kind=kind, config=config) as place:
        await place.device.poll()
        async with commander(place, tmp_path / "note") as made:
            await made.start(order(CommandName.CHARGE, 2000))
            number = place.home.inject("link", Fault(FaultKind.REBOOT, seconds=60))
            await place.device.poll()
            place.server.clear(number)
            await place.server.listening()
            await place.device.poll()
            async with asyncio.timeout(5):
                while made.status.state is not CommandState.IN_FORCE or made._renew_now:
                    await asyncio.sleep(0.02)
            place.home.advance(60)
            assert abs(flows(place)["charge_w"] - 2000) <= 150


async def test_a_rating_in_kilowatts_bounds_an_order_in_watts(tmp_path: Path) -> None:
    """The Cummins system tells its rated power in kW."""
    config = {
        "pv": False,
        "battery": False,
        "fuel_cell": {"rated_w": 5_000, "start_s": 1, "ramp_w_per_s": 5_000},
    }
    async with site("cummins_hydrogen", kind=link_kind("cummins_hydrogen"), config=config) as place:
        await place.device.poll()
        async with commander(place, tmp_path / "note") as made:
            with pytest.raises(ValueOutOfRange, match="allowed are 0 to 5000 W"):
                await made.start(order(CommandName.GENERATE, 5_001))
            await made.start(order(CommandName.GENERATE, 3_000))
            place.home.advance(120)
            assert flows(place)["fuel_cell_w"] == pytest.approx(3_000, abs=200)
