"""Commands to a device: checked before the wire, kept in force, and taken back on every way out.

A command lives from `start` until its end time, a `release`, a reached reserve, a refusal, or the end of the
program. A note of it is kept before the first write, so that the next start takes back what a killed
process left in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from fractions import Fraction
from typing import Final

from .device import Availability, Device
from .errors import (
    CommandError,
    CommandRefused,
    CommandUnsupported,
    DeviceError,
    IdentityMismatch,
    LinkError,
    ReserveReached,
    SettingsError,
    ValueOutOfRange,
)
from .notes import CommandNote, NoteStore
from .profile.model import DURATION_S, HOLD_S, POWER_W, Command, CommandName, Profile, Step
from .profile.units import Unit, convert, convertible
from .readings import Field, Quality, Readings
from .tasks import end_tasks
from .writes import PlannedWrite, StepWriter

_LOGGER = logging.getLogger(__name__)

# Pauses between tries to renew or to release over a link that is down, doubled up to the last (seconds).
_FIRST_RETRY: Final = 1.0
_LAST_RETRY: Final = 30.0
# A command is not kept in force blindly: so long may the value of its reserve be unknown (seconds).
_BLIND_S: Final = 120.0
_LONGEST_S: Final = 86_400
_UNREACHABLE: Final = (Availability.UNKNOWN, Availability.OFFLINE, Availability.ASLEEP)
_RATINGS: Final = {
    CommandName.CHARGE: (Field.MAX_CHARGE_W, Field.RATED_W),
    CommandName.DISCHARGE: (Field.MAX_DISCHARGE_W, Field.RATED_W),
    CommandName.GENERATE: (Field.RATED_W,),
}


class CommandState(StrEnum):
    """Where a commander stands."""

    IDLE = "idle"
    STARTING = "starting"
    IN_FORCE = "in_force"
    INTERRUPTED = "interrupted"  # in force, but the last renewal did not get through
    RELEASING = "releasing"  # to be taken back; the device could not be reached for it yet


@dataclasses.dataclass(frozen=True, slots=True)
class Reserve:
    """A reading that must stay above `minimum` (in the field's unit), else the command is released."""

    field: Field
    minimum: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a device is told: `power_w` watts (of charge, discharge, generation or export limit) until a
    Unix time, above a reserve.
    """

    name: CommandName
    power_w: int
    until: float
    reserve: Reserve | None = None


def require_reserve(name: str, order: Order, readings: Readings) -> None:
    """Raise ReserveReached unless what the named device tells of its storage is above the order's reserve."""
    if order.reserve is None:
        return
    field, minimum = order.reserve.field, order.reserve.minimum
    reading = readings[field]
    known = reading.value if reading.quality in (Quality.GOOD, Quality.STALE) else None
    if not isinstance(known, int):
        raise ReserveReached(f"{name}: {field} is not known now, so the reserve of {minimum} can't be kept")
    if known <= minimum:
        raise ReserveReached(f"{name}: {field} is {known}, the reserve is {minimum}")


@dataclasses.dataclass(frozen=True, slots=True)
class CommandStatus:
    """The commander's state, the order it is about, and why it last ended or failed."""

    state: CommandState
    order: Order | None = None
    reason: str | None = None


class Commander:
    """Gives one device its commands. One command is in force at a time."""

    def __init__(
        self,
        device: Device,
        notes: NoteStore,
        *,
        wall_clock: Callable[[], float] = time.time,
        on_change: Callable[[CommandStatus], None] | None = None,
    ) -> None:
        """Keep the note of a command in `notes`; tell `on_change` about every change of state."""
        self.status = CommandStatus(CommandState.IDLE)
        self._device = device
        self._notes = notes
        self._writer = StepWriter(device)
        self._wall_clock = wall_clock
        self._on_change = on_change
        self._lock = asyncio.Lock()
        self._note: CommandNote | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stop_reason: str | None = None
        self._renew_now = False
        self._blind_since: float | None = None
        self._remove_listener = device.listen(self._on_readings)

    @property
    def supported(self) -> tuple[CommandName, ...]:
        """The commands that the device takes."""
        bound = self._device.bound
        return tuple((bound.profile if bound is not None else self._device.profile).commands)

    # --- ways in ----------------------------------------------------------------------------------------

    async def recover(self) -> bool:
        """Take back what an earlier process left in force; whether there was anything.

        Call it once, before anything else. When the device can't be reached it goes on trying.
        """
        async with self._lock:
            note = await self._notes.load()
            if note is None:
                return False
            self._note = note
            await self._release("left in force by an earlier run")
            return True

    async def start(self, order: Order) -> None:
        """Put a command in force; another one that is in force is released first.

        Raises CommandUnsupported, ValueOutOfRange, ReserveReached or CommandRefused before anything is
        written if the order can't be right, and CommandRefused or LinkError when the device did not carry
        it out, in which case it has been, or is being, released.
        """
        async with self._lock:
            command = await self._command(order)
            await self._check(command, order)
            planned = await self._plan(command.steps, command, order, {})
            await self._stop_keeper()
            note = self._note
            if note is not None and note.command is order.name:
                saved = dict(note.saved)
            elif note is not None and not await self._release(f"{order.name} follows"):
                raise LinkError(f"{self._device.name} can't be reached to release {note.command} first")
            else:
                saved = await self._writer.save(command.steps)
            await self._carry_out(command, order, planned, saved)

    async def _carry_out(
        self, command: Command, order: Order, planned: Sequence[PlannedWrite], saved: dict[str, Fraction]
    ) -> None:
        """Note the command, write it, and keep it in force; whatever goes wrong releases it."""
        note = CommandNote(
            device=self._device.name,
            profile=self._device.profile.id,
            command=order.name,
            power_w=order.power_w,
            started=self._wall_clock(),
            until=order.until,
            saved=saved,
        )
        self._note = note
        await self._notes.save(note)
        self._set(CommandState.STARTING, order)
        try:
            await self._writer.write(planned)
        except DeviceError as error:
            await self._release(str(error))
            raise
        except asyncio.CancelledError:
            self._begin_release("given up while it was being started")
            raise
        self._blind_since = None
        self._stop_reason = None
        self._renew_now = False
        self._set(CommandState.IN_FORCE, order)
        self._keeper = asyncio.create_task(self._keep(command, order), name=f"keep {order.name}")

    async def _command(self, order: Order) -> Command:
        """The command in the device's profile."""
        command = (await self._profile()).commands.get(order.name)
        if command is None:
            raise CommandUnsupported(self._device.name, order.name, [str(name) for name in self.supported])
        return command

    async def _profile(self) -> Profile:
        """The profile at the addresses of this device, which must answer and be the right one."""
        if self._device.bound is None or self._device.availability is Availability.WRONG_DEVICE:
            await self._device.poll()
        self._must_be_the_device()
        if self._device.bound is None:
            raise self._device.error or LinkError(f"{self._device.name} can't be reached")
        return self._device.bound.profile

    def _must_be_the_device(self) -> None:
        """Never write to another device than the one that was set up."""
        if self._device.availability is Availability.WRONG_DEVICE:
            raise self._device.error or IdentityMismatch(f"{self._device.name} is another device now")

    # --- checks before the wire -------------------------------------------------------------------------

    async def _check(self, command: Command, order: Order) -> None:
        """Refuse an order that can't be right."""
        remaining = order.until - self._wall_clock()
        if not 0 < remaining <= _LONGEST_S:
            raise ValueOutOfRange(f"{order.name}: remaining time", remaining, 1, _LONGEST_S, "s")
        low, high = await self._bounds(command, order)
        if not low <= order.power_w <= high:
            what = f"{self._device.name}: power to {order.name.replace('_', ' ')}"
            raise ValueOutOfRange(what, order.power_w, low, high, "W")
        require_reserve(self._device.name, order, self._device.readings)
        for condition in command.preconditions:
            found = await self._device.number(condition.point)
            if not condition.test.accepts(found):
                shown = "no value" if found is None else f"{float(found):g}"
                hint = condition.message or f"it must be {condition.test}"
                raise CommandRefused(f"{self._device.name}: {condition.point} is {shown}; {hint}")

    async def _bounds(self, command: Command, order: Order) -> tuple[float, float]:
        """The watts that the device's own ratings and its profile allow."""
        if not command.takes_power and command.power_maximum is None and command.power_minimum is None:
            return 0, float("inf")
        low = await self._bound(command.power_minimum) or 0
        high = await self._bound(command.power_maximum)
        if isinstance(command.power_maximum, str) and high is not None:
            return low, high
        # A figure from the profile holds for the whole family; this device may tell less of itself.
        values = (self._device.readings[field].value for field in _RATINGS.get(order.name, ()))
        own = next((float(value) for value in values if isinstance(value, int)), None)
        return low, min(bound for bound in (high, own, float("inf")) if bound is not None)

    async def _bound(self, bound: Fraction | str | None) -> float | None:
        """A bound of a command in W: a number, or the value of a rating point."""
        if not isinstance(bound, str):
            return None if bound is None else float(bound)
        value = await self._device.number(bound)
        if value is None:
            raise CommandRefused(f"{self._device.name} does not tell its {bound}, so no power can be checked")
        profile = self._device.bound.profile if self._device.bound is not None else self._device.profile
        unit = profile.point(bound).unit
        return float(convert(value, unit, Unit.W) if convertible(unit, Unit.W) else value)

    async def _plan(
        self, steps: Sequence[Step], command: Command, order: Order, saved: dict[str, Fraction]
    ) -> list[PlannedWrite]:
        remaining = Fraction(max(int(order.until - self._wall_clock()), 1))
        values = {POWER_W: Fraction(order.power_w), DURATION_S: remaining}
        if command.hold_s is not None:
            # Should nobody be there to release it, the device still lets go at the command's end.
            values[HOLD_S] = min(Fraction(command.hold_s), remaining)
        return await self._writer.plan(steps, values, saved)

    # --- in force ---------------------------------------------------------------------------------------

    def _on_readings(self, readings: Readings) -> None:
        """Watch over the reserve, and over a device that was away and may have forgotten the command."""
        order = self.status.order
        if order is None or self.status.state not in (CommandState.IN_FORCE, CommandState.INTERRUPTED):
            return
        if self._device.availability in _UNREACHABLE:
            self._renew_now = True
        elif self._renew_now:
            self._wake.set()
        if order.reserve is None:
            return
        reading = readings[order.reserve.field]
        if reading.usable:
            self._blind_since = None
            if isinstance(reading.value, int) and reading.value <= order.reserve.minimum:
                self._stop_reason = f"reserve reached: {order.reserve.field} is {reading.value}"
                self._wake.set()
            return
        now = self._wall_clock()
        if self._blind_since is None:
            self._blind_since = now
        elif now - self._blind_since >= _BLIND_S:
            self._stop_reason = f"{order.reserve.field} has not been known for {_BLIND_S:g} s"
            self._wake.set()

    async def _keep(self, command: Command, order: Order) -> None:
        """Renew until the end; then release. Runs as the command's own task."""
        retry = _FIRST_RETRY
        due = self._wall_clock() + (command.renew_s or float("inf"))
        while True:
            now = self._wall_clock()
            if self._stop_reason is not None or now >= order.until:
                break
            if now >= due or (self._renew_now and self._device.availability not in _UNREACHABLE):
                try:
                    await self._renew(command, order)
                except CommandError as error:
                    self._stop_reason = str(error)
                    break
                except DeviceError as error:
                    self._set(CommandState.INTERRUPTED, order, str(error))
                    due = now + retry
                    retry = min(2 * retry, _LAST_RETRY)
                else:
                    self._set(CommandState.IN_FORCE, order)
                    retry = _FIRST_RETRY
                    due = now + (command.renew_s or float("inf"))
            await self._sleep(min(due, order.until) - self._wall_clock())
        async with self._lock:
            self._keeper = None
            await self._release(self._stop_reason or "its time is over")

    async def _sleep(self, seconds: float) -> None:
        """Wait, or until something happens."""
        self._wake.clear()
        if self._stop_reason is not None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._wake.wait()

    async def _renew(self, command: Command, order: Order) -> None:
        """Write the steps again that keep the command in force; all of them after the device was away."""
        self._must_be_the_device()
        everything = self._renew_now
        self._renew_now = False
        steps = [step for step in command.steps if step.renew or everything]
        saved = dict(self._note.saved) if self._note is not None else {}
        try:
            await self._writer.write(await self._plan(steps, command, order, saved))
        except LinkError:
            self._renew_now = everything
            raise

    # --- ways out ---------------------------------------------------------------------------------------

    async def release(self, reason: str = "released") -> bool:
        """Take back the command in force. True when nothing is in force any more.

        False when the device can't be reached; then it is tried again until it succeeds.
        """
        async with self._lock:
            await self._stop_keeper()
            return self._note is None or await self._release(reason)

    async def close(self) -> bool:
        """Release and stop; the last thing to call. False when the next start has to release it."""
        self._remove_listener()
        released = await self.release("shutting down")
        await self._stop_keeper()
        return released

    async def _stop_keeper(self) -> None:
        task, self._keeper = self._keeper, None
        if task is not asyncio.current_task():
            await end_tasks(task)

    async def _release(self, reason: str) -> bool:
        """Try to take back the noted command; failing (False), go on trying in the background."""
        try:
            await self._take_back()
        except DeviceError as error:
            _LOGGER.debug("%s could not be released: %s", self._device.name, error)
            self._begin_release(reason, str(error))
            return False
        except asyncio.CancelledError:
            self._begin_release(reason)
            raise
        self._set(CommandState.IDLE, None, reason)
        return True

    def _begin_release(self, reason: str, error: str | None = None) -> None:
        """Leave the release to a task of its own, which goes on until the device has taken it."""
        self._set(CommandState.RELEASING, self.status.order, f"{reason}; {error}" if error else reason)
        self._keeper = asyncio.create_task(self._keep_releasing(reason), name="release")

    async def _keep_releasing(self, reason: str) -> None:
        pause = _FIRST_RETRY
        while True:
            await self._sleep(pause)
            pause = min(2 * pause, _LAST_RETRY)
            async with self._lock:
                try:
                    await self._take_back()
                except DeviceError as error:
                    self._set(CommandState.RELEASING, self.status.order, f"{reason}; {error}")
                    continue
                self._keeper = None
                self._set(CommandState.IDLE, None, reason)
                return

    async def _take_back(self) -> None:
        """Write the release steps of the noted command and forget the note.

        A refused step does not keep the others from being written; the error is raised at the end.
        """
        note = self._note
        if note is None:
            return
        profile = await self._profile()
        command = profile.commands.get(note.command)
        if note.profile != self._device.profile.id or command is None:
            raise SettingsError(
                f"{self._device.name} was told to {note.command} as {note.profile}, but is set up as "
                f"{self._device.profile.id} now; set it up as {note.profile} so that it can be released"
            )
        order = Order(name=note.command, power_w=note.power_w, until=note.until)
        failure: CommandRefused | None = None
        for step in command.release:
            try:
                await self._writer.write(await self._plan([step], command, order, dict(note.saved)))
            except CommandRefused as error:
                failure = failure or error
        if failure is not None:
            raise failure
        await self._notes.clear()
        self._note = None

    def _set(self, state: CommandState, order: Order | None, reason: str | None = None) -> None:
        status = CommandStatus(state, order, reason)
        if status != self.status:
            self.status = status
            if self._on_change is not None:
                self._on_change(status)
