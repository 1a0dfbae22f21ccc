"""Commands on a server of plain registers: checked first, kept in force, taken back on every way out."""

import asyncio
import contextlib
import dataclasses
import json
import time
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from pathlib import Path

import pytest

from custom_components.energy_ledger.devices.commands import (
    Commander,
    CommandState,
    CommandStatus,
    Order,
    Reserve,
)
from custom_components.energy_ledger.devices.device import Device
from custom_components.energy_ledger.devices.errors import (
    CommandRefused,
    CommandUnsupported,
    DeviceError,
    IdentityMismatch,
    LinkError,
    ReserveReached,
    SettingsError,
    ValueOutOfRange,
)
from custom_components.energy_ledger.devices.notes import CommandNote, FileNoteStore
from custom_components.energy_ledger.devices.profile.load import parse_profile
from custom_components.energy_ledger.devices.profile.model import CommandName
from custom_components.energy_ledger.devices.readings import Field
from custom_components.energy_ledger.devices.transport.link import Link
from simulator.modbus.faults import Fault, FaultKind
from simulator.modbus.server import Link as ServerLink
from tests.devices.wire import Memory, serving, settings_for

PROFILE = """
id: test_box
title: Test box
manufacturer: Test
kinds: [battery]
sources: [a test]
unproven: [everything]
link: {tcp: 502, units: [1], max_registers: 20, max_gap: 4}
detect:
  - {addr: 0, type: u16, equals: 4711}
points:
  soc: {addr: 1, type: u16, unit: "%", role: state_of_charge}
  max_charge: {addr: 2, type: u16, unit: W, role: max_charge_power, poll: once}
  rated: {addr: 3, type: u16, unit: W, role: rated_power, poll: once}
  remote: {addr: 4, type: u16}
settings:
  mode: {addr: 20, type: u16, write: 6, values: {auto: 0, charge: 1, discharge: 2}}
  power: {addr: 21, type: s32, unit: W}
  share: {addr: 23, type: u16, scale: 0.1, unit: "%", write: 6}
  limit: {addr: 24, type: u16, scale: 10, unit: W, persistent: true}
  flags: {addr: 25, type: u16}
  timer: {addr: 26, type: u16, unit: s}
commands:
  charge:
    power: {max: max_charge}
    renew_s: 0.2
    hold_s: 60
    require:
      - {point: remote, equals: 1, message: switch remote control on}
    steps:
      - {set: timer, to: "{hold_s}"}
      - {set: power, to: "-{power_w}", verify: true}
      - {set: limit, to: 5000}
      - {set: mode, to: charge, verify: true, save: true}
  discharge:
    power: {max: 65000}
    steps:
      - {set: share, to: "{power_w}", factor: 100, per: rated}
      - {set: flags, to: 6, mask: 6, save: true}
      - {set: timer, to: "{duration_s}"}
      - {set: mode, to: discharge}
    release:
      - {set: mode, to: auto}
      - {set: flags, to: "{saved}", default: 0}
  limit_export:
    power: {min: 100, max: 65000}
    steps:
      - {block: 30, fields: [{type: u16, to: 1}, {type: s32, to: "{power_w}"}]}
    release:
      - {block: 30, fields: [{type: u16, to: 0}, {type: s32, to: 0}]}
  release:
    - {set: mode, to: "{saved}", default: auto, verify: true}
    - {set: power, to: 0}
"""
MODE, POWER, SHARE, LIMIT, FLAGS, TIMER = 20, 22, 23, 24, 25, 26


def box() -> Memory:
    return Memory({0: [4711, 80, 5000, 6000, 1], 20: [0, 0, 0, 1000, 500, 9, 0], 30: [0, 0, 0]})


@dataclasses.dataclass
class Bench:
    """A device, its commander and its server."""

    unit: Memory
    server: ServerLink
    device: Device
    commander: Commander
    notes: FileNoteStore
    path: Path
    states: list[CommandStatus]
    link: Link

    def order(self, name: CommandName = CommandName.CHARGE, power_w: int = 3000, **more: object) -> Order:
        fields: dict[str, object] = {"name": name, "power_w": power_w, "until": time.time() + 60, **more}
        return Order(**fields)  # type: ignore[arg-type]

    @property
    def state(self) -> CommandState:
        return self.commander.status.state

    def written(self, address: int) -> list[tuple[int, ...]]:
        return [values for _, at, values in self.unit.writes if at == address]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(8):
            while not condition():
                await asyncio.sleep(0.02)

    def again(self) -> Commander:
        """Another commander on the same device and note, as after a restart."""
        return Commander(self.device, self.notes)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with contextlib.AsyncExitStack() as stack:
        unit = box()
        server = await stack.enter_async_context(serving({1: unit}))
        link = Link(settings_for(server, timeout_s=0.15))
        device = Device(parse_profile(PROFILE, "test_box.yaml"), {"": link.unit(1)})
        path = tmp_path / "note.json"
        notes = FileNoteStore(path)
        states: list[CommandStatus] = []
        commander = Commander(device, notes, on_change=states.append)
        yield Bench(unit, server, device, commander, notes, path, states, link)
        server.clear()
        await server.listening()
        await commander.close()
        await link.close()


async def test_values_are_written_before_the_enable_and_taken_back(bench: Bench) -> None:
    await bench.commander.start(bench.order(until=time.time() + 90))
    assert [(address, values) for _, address, values in bench.unit.writes] == [
        (TIMER, (60,)),
        (21, (0xFFFF, 0xF448)),
        (MODE, (1,)),
    ]
    assert [function for function, _, _ in bench.unit.writes] == [16, 16, 6]
    assert bench.state is CommandState.IN_FORCE
    assert json.loads(bench.path.read_text())["command"] == "charge"
    assert await bench.commander.release()
    assert bench.unit.word(MODE) == 0
    assert bench.unit.word(POWER) == 0
    assert not bench.path.exists()
    assert [status.state for status in bench.states] == [
        CommandState.STARTING,
        CommandState.IN_FORCE,
        CommandState.IDLE,
    ]
    assert bench.commander.status.reason == "released"
    assert await bench.commander.release()


async def test_a_device_that_hears_no_more_lets_go_at_the_commands_end(bench: Bench) -> None:
    """Its timer is set to no more than what remains, however long it could hold the command."""
    await bench.commander.start(bench.order(until=time.time() + 30))
    assert 28 <= bench.unit.word(TIMER) <= 30


async def test_renewal_repeats_the_steps_but_not_the_settings_kept_in_flash(bench: Bench) -> None:
    bench.unit.map(3, LIMIT, [400])
    await bench.commander.start(bench.order())
    await bench.until(lambda: len(bench.written(MODE)) >= 4)
    assert len(bench.written(TIMER)) >= 4
    assert bench.written(LIMIT) == [(500,)]
    await bench.commander.release()
    count = len(bench.unit.writes)
    await asyncio.sleep(0.4)
    assert len(bench.unit.writes) == count


async def test_the_end_of_its_time_releases_it(bench: Bench) -> None:
    await bench.commander.start(bench.order(until=time.time() + 0.5))
    await bench.until(lambda: bench.state is CommandState.IDLE)
    assert bench.unit.word(MODE) == 0
    assert bench.commander.status.reason == "its time is over"
    assert not bench.path.exists()


async def test_shares_masks_durations_and_saved_settings(bench: Bench) -> None:
    await bench.commander.start(bench.order(CommandName.DISCHARGE, 1500))
    assert bench.unit.word(SHARE) == 250  # 25.0 % of 6000 W
    assert bench.unit.word(FLAGS) == 9 | 6
    assert 58 <= bench.unit.word(TIMER) <= 60
    await bench.commander.release()
    assert bench.unit.word(FLAGS) == 9
    await bench.commander.start(bench.order(CommandName.LIMIT_EXPORT, 4000))
    assert bench.written(30) == [(1, 0, 4000)]
    await bench.commander.release()
    assert bench.written(30)[-1] == (0, 0, 0)


@pytest.mark.parametrize(
    ("name", "power_w", "message"),
    [
        (CommandName.CHARGE, 5001, "power to charge is 5001 W, allowed are 0 to 5000 W"),
        (CommandName.CHARGE, -1, "power to charge is -1 W, allowed are 0 to 5000 W"),
        (CommandName.DISCHARGE, 6001, "power to discharge is 6001 W, allowed are 0 to 6000 W"),
        (CommandName.LIMIT_EXPORT, 99, "power to limit export is 99 W, allowed are 100 to 65000 W"),
    ],
)
async def test_powers_beyond_the_device_are_refused_before_the_wire(
    bench: Bench, name: CommandName, power_w: int, message: str
) -> None:
    with pytest.raises(ValueOutOfRange, match=message):
        await bench.commander.start(bench.order(name, power_w))
    assert bench.unit.writes == []
    assert bench.state is CommandState.IDLE
    assert not bench.path.exists()


async def test_orders_that_cant_be_right_are_refused_before_the_wire(bench: Bench) -> None:
    with pytest.raises(CommandUnsupported, match="does not take the command generate; its commands: charge"):
        await bench.commander.start(bench.order(CommandName.GENERATE))
    for until in (time.time() - 1, time.time() + 100_000):
        with pytest.raises(ValueOutOfRange, match="remaining time"):
            await bench.commander.start(bench.order(until=until))
    bench.unit.map(3, 4, [0])
    await bench.device.poll()
    with pytest.raises(CommandRefused, match="remote is 0; switch remote control on"):
        await bench.commander.start(bench.order())
    bench.unit.map(3, 4, [1])
    await bench.device.poll()
    bench.unit.spaces[3].unmap(2, 2)  # type: ignore[index]
    again = Device(bench.device.profile, bench.device.units)
    with pytest.raises((CommandRefused, DeviceError), match=r"max_charge|at 2"):
        await Commander(again, bench.notes).start(bench.order())
    assert bench.unit.writes == []
    assert set(bench.commander.supported) == {
        CommandName.CHARGE,
        CommandName.DISCHARGE,
        CommandName.LIMIT_EXPORT,
    }


async def test_an_amount_that_the_register_cant_hold_is_refused_before_the_wire(bench: Bench) -> None:
    bench.unit.map(3, 3, [1])  # 6000 W of a rating of 1 W
    device = Device(bench.device.profile, bench.device.units)
    await device.poll()
    commander = Commander(device, bench.notes)
    command = device.bound
    assert command is not None
    with pytest.raises(ValueOutOfRange):
        await commander.start(bench.order(CommandName.DISCHARGE, 6000))
    assert bench.unit.writes == []


@pytest.mark.parametrize("refused", [TIMER, 21, LIMIT, MODE])
async def test_a_refused_register_undoes_what_was_written(bench: Bench, refused: int) -> None:
    bench.unit.map(3, LIMIT, [400])
    bench.unit.refused = {refused, refused + 1} if refused == 21 else {refused}
    with pytest.raises(CommandRefused, match="illegal data value"):
        await bench.commander.start(bench.order())
    bench.unit.refused = set()
    assert bench.unit.word(MODE) == 0
    if refused in (21, MODE):  # the release itself was refused, and is tried again
        assert bench.state is CommandState.RELEASING
        await bench.until(lambda: bench.state is CommandState.IDLE)
    assert bench.state is CommandState.IDLE
    assert bench.unit.word(POWER) == 0
    assert not bench.path.exists()


async def test_a_setting_that_is_not_taken_over_is_noticed(bench: Bench) -> None:
    bench.unit.ignored = {MODE}
    with pytest.raises(CommandRefused, match=r"mode still reads 0 after 1 was written; the device"):
        await bench.commander.start(bench.order())
    assert bench.unit.word(POWER) == 0


@pytest.mark.parametrize(("applied", "writes"), [(True, 1), (False, 2)])
async def test_an_unconfirmed_write_is_looked_at_before_it_is_repeated(
    bench: Bench, applied: bool, writes: int
) -> None:
    await bench.device.poll()
    bench.server.inject(Fault(FaultKind.DROP, functions=(6,), count=1, applied=applied))
    await bench.commander.start(bench.order())
    assert bench.unit.word(MODE) == 1
    seen = [write for write in bench.server._log.writes() if write.address == MODE]
    assert len(seen) == writes
    assert bench.state is CommandState.IN_FORCE


async def test_an_unconfirmed_block_is_released(bench: Bench) -> None:
    await bench.device.poll()
    bench.server.inject(Fault(FaultKind.DROP, functions=(16,), count=1, applied=True))
    with pytest.raises(LinkError, match="not confirmed"):
        await bench.commander.start(bench.order(CommandName.LIMIT_EXPORT, 4000))
    assert bench.written(30)[-1] == (0, 0, 0)
    assert bench.state is CommandState.IDLE


async def test_a_lost_connection_interrupts_and_the_command_goes_on(bench: Bench) -> None:
    await bench.commander.start(bench.order())
    number = bench.server.inject(Fault(FaultKind.OFFLINE))
    await bench.until(lambda: bench.state is CommandState.INTERRUPTED)
    assert bench.commander.status.reason is not None
    bench.server.clear(number)
    await bench.server.listening()
    await bench.until(lambda: bench.state is CommandState.IN_FORCE)
    assert bench.unit.word(MODE) == 1


async def test_a_release_over_a_lost_connection_goes_on_until_it_succeeds(bench: Bench) -> None:
    await bench.commander.start(bench.order())
    number = bench.server.inject(Fault(FaultKind.OFFLINE))
    assert not await bench.commander.release("window over")
    assert bench.state is CommandState.RELEASING
    assert bench.path.exists()
    with pytest.raises(LinkError):
        await bench.commander.start(bench.order(CommandName.DISCHARGE, 100))
    bench.server.clear(number)
    await bench.server.listening()
    await bench.until(lambda: bench.state is CommandState.IDLE)
    assert bench.commander.status.reason is not None
    assert bench.unit.word(MODE) == 0
    assert not bench.path.exists()


async def test_a_device_that_was_away_is_told_again(bench: Bench) -> None:
    await bench.commander.start(bench.order(CommandName.DISCHARGE, 1500))
    number = bench.server.inject(Fault(FaultKind.OFFLINE))
    await bench.device.poll()
    bench.unit.map(3, MODE, [0])  # it has forgotten
    bench.server.clear(number)
    await bench.server.listening()
    await bench.device.poll()
    await bench.until(lambda: bench.unit.word(MODE) == 2)
    assert bench.state is CommandState.IN_FORCE


async def test_the_reserve_ends_a_command(bench: Bench) -> None:
    reserve = Reserve(Field.STATE_OF_CHARGE, 300)
    await bench.commander.start(bench.order(CommandName.DISCHARGE, 1500, reserve=reserve))
    bench.unit.map(3, 1, [31])
    await bench.device.poll()
    await asyncio.sleep(0.05)
    assert bench.unit.word(MODE) == 2
    bench.unit.map(3, 1, [30])
    await bench.device.poll()
    await bench.until(lambda: bench.state is CommandState.IDLE)
    assert bench.unit.word(MODE) == 0
    assert bench.commander.status.reason == "reserve reached: state_of_charge_permille is 300"
    with pytest.raises(ReserveReached, match="state_of_charge_permille is 300, the reserve is 300"):
        await bench.commander.start(bench.order(CommandName.DISCHARGE, 1500, reserve=reserve))
    unknown = Reserve(Field.HYDROGEN_MBAR, 5)
    with pytest.raises(ReserveReached, match="hydrogen_mbar is not known now"):
        await bench.commander.start(bench.order(CommandName.DISCHARGE, 1500, reserve=unknown))


async def test_a_reserve_that_can_no_longer_be_read_ends_a_command(bench: Bench) -> None:
    now = [time.time()]
    commander = Commander(bench.device, bench.notes, wall_clock=lambda: now[0])
    order = Order(
        name=CommandName.DISCHARGE,
        power_w=1000,
        until=now[0] + 3600,
        reserve=Reserve(Field.STATE_OF_CHARGE, 300),
    )
    await commander.start(order)
    bench.server.inject(Fault(FaultKind.EXCEPTION, code=2, first=1, last=1))
    await bench.device.poll()
    now[0] += 130
    await bench.device.poll()
    await bench.until(lambda: commander.status.state is CommandState.IDLE)
    assert commander.status.reason == "state_of_charge_permille has not been known for 120 s"
    assert bench.unit.word(MODE) == 0


async def test_another_command_releases_the_first_and_the_same_keeps_what_was_saved(bench: Bench) -> None:
    bench.unit.map(3, MODE, [2])
    await bench.commander.start(bench.order())
    await bench.commander.start(bench.order(power_w=2000))
    assert bench.unit.word(POWER) == -2000 & 0xFFFF
    await bench.commander.start(bench.order(CommandName.DISCHARGE, 600))
    assert bench.unit.word(POWER) == 0
    assert (2,) in bench.written(MODE)
    assert bench.commander.status.order is not None
    assert bench.commander.status.order.name is CommandName.DISCHARGE


async def test_giving_up_the_start_releases(bench: Bench) -> None:
    await bench.device.poll()
    bench.server.inject(Fault(FaultKind.LATE, functions=(6,), delay_s=0.1, count=1))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await bench.commander.start(bench.order())
    await bench.until(lambda: bench.state is CommandState.IDLE)
    assert bench.unit.word(MODE) == 0
    assert not bench.path.exists()


async def test_closing_releases(bench: Bench) -> None:
    await bench.commander.start(bench.order())
    assert await bench.commander.close()
    assert bench.unit.word(MODE) == 0
    assert not bench.path.exists()


async def test_closing_without_a_connection_leaves_it_to_the_next_start(bench: Bench) -> None:
    await bench.commander.start(bench.order())
    number = bench.server.inject(Fault(FaultKind.OFFLINE))
    assert not await bench.commander.close()
    assert bench.path.exists()
    bench.server.clear(number)
    await bench.server.listening()
    assert bench.unit.word(MODE) == 1
    assert await bench.again().recover()
    assert bench.unit.word(MODE) == 0
    assert not bench.path.exists()
    assert not await bench.again().recover()


async def test_recovery_waits_for_a_device_that_is_away(bench: Bench) -> None:
    note = CommandNote(
        device="x",
        profile="test_box",
        command=CommandName.CHARGE,
        power_w=1,
        started=0,
        until=1,
        saved={"mode": Fraction(2)},
    )
    await bench.notes.save(note)
    bench.unit.map(3, MODE, [1])
    number = bench.server.inject(Fault(FaultKind.OFFLINE))
    assert await bench.commander.recover()
    assert bench.state is CommandState.RELEASING
    bench.server.clear(number)
    await bench.server.listening()
    await bench.until(lambda: bench.state is CommandState.IDLE)
    assert bench.unit.word(MODE) == 2


async def test_never_writes_to_another_device(bench: Bench) -> None:
    await bench.commander.start(bench.order())
    bench.unit.map(3, 0, [1])
    await bench.device.poll()
    count = len(bench.unit.writes)
    await bench.until(lambda: bench.state is CommandState.INTERRUPTED)
    assert not await bench.commander.release()
    with pytest.raises(IdentityMismatch):
        await bench.commander.start(bench.order())
    assert len(bench.unit.writes) == count
    bench.unit.map(3, 0, [4711])
    await bench.until(lambda: bench.state is CommandState.IDLE)
    assert bench.unit.word(MODE) == 0


async def test_a_note_of_another_profile_names_it(bench: Bench) -> None:
    note = CommandNote(
        device="x",
        profile="other_box",
        command=CommandName.CHARGE,
        power_w=1,
        started=0,
        until=1,
        saved={},
    )
    await bench.notes.save(note)
    await bench.commander.recover()
    assert "set it up as other_box" in str(bench.commander.status.reason)
    assert bench.unit.writes == []


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "saved": {"a": "1/0"}}', "\x00"]
)
async def test_a_damaged_note_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "note.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match=r"note\.json: "):
        await FileNoteStore(path).load()


async def test_a_note_that_cant_be_kept_stops_the_command(bench: Bench) -> None:
    commander = Commander(bench.device, FileNoteStore(bench.path / "no" / "folder"))
    with pytest.raises(OSError, match="No such file"):
        await commander.start(bench.order())
    assert bench.unit.writes == []
