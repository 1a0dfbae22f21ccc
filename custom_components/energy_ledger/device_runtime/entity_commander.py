"""Commands through an entity: a number is set, a switch turned on, or a script called, and taken back again.

Follows `devices.commands.Commander`: checked first, noted before anything is switched, renewed, and released
at the end time, at the reserve, on unload and on the next start.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, Final

from homeassistant.const import (
    ATTR_ENTITY_ID,
    ATTR_UNIT_OF_MEASUREMENT,
    STATE_ON,
    STATE_UNAVAILABLE,
    STATE_UNKNOWN,
    UnitOfPower,
)
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.util import dt as dt_util
from homeassistant.util.unit_conversion import PowerConverter

from ..devices.commands import CommandState, CommandStatus, Order, require_reserve
from ..devices.errors import CommandRefused, CommandUnsupported, ReserveReached, ValueOutOfRange
from ..devices.notes import CommandNote, NoteStore
from ..devices.profile.model import CommandName
from ..devices.readings import Readings
from ..devices.tasks import end_tasks
from .commander import StatusListener
from .settings import EntityCommand
from .sources import ReadingSource

_LOGGER = logging.getLogger(__name__)

PROFILE: Final = "entities"
"""What the note of such a command has in place of a profile's name."""
_FIRST_RETRY: Final = 1.0
_LAST_RETRY: Final = 30.0
_LONGEST_S: Final = 86_400
# A command is not kept in force blindly: so long may the value of its reserve be unknown (seconds).
_BLIND_S: Final = 120.0
_SAVED: Final = "value"
_NUMBERS: Final = frozenset({"number", "input_number"})


class EntityCommander:
    """Gives a device its commands through the user's entity. One command is in force at a time."""

    def __init__(
        self,
        hass: HomeAssistant,
        name: str,
        command: EntityCommand,
        notes: NoteStore,
        source: ReadingSource,
        *,
        rated_w: int,
        on_change: StatusListener | None = None,
    ) -> None:
        """`name` is the device's, for messages; `rated_w` bounds every order."""
        self.status = CommandStatus(CommandState.IDLE)
        self._hass = hass
        self._name = name
        self._command = command
        self._notes = notes
        self._source = source
        self._rated_w = rated_w
        self._on_change = on_change
        self._lock = asyncio.Lock()
        self._note: CommandNote | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stop_reason: str | None = None
        self._blind_since: float | None = None
        self._unsubscribe: Callable[[], None] = source.listen(self._on_readings)

    @property
    def supported(self) -> tuple[CommandName, ...]:
        """The commands that the user's entity stands for."""
        return self._command.commands

    # --- ways in ----------------------------------------------------------------------------------------

    async def recover(self) -> bool:
        """See `DeviceCommander.recover`."""
        async with self._lock:
            self._note = await self._notes.load()
            if self._note is None:
                return False
            await self._release("left in force by an earlier run")
            return True

    async def start(self, order: Order) -> None:
        """See `DeviceCommander.start`."""
        async with self._lock:
            self._check(order)
            await self._stop_keeper()
            saved = self._saved() if self._note is None else dict(self._note.saved)
            self._note = CommandNote(
                device=self._name,
                profile=PROFILE,
                command=order.name,
                power_w=order.power_w,
                started=dt_util.utcnow().timestamp(),
                until=order.until,
                saved=saved,
            )
            await self._notes.save(self._note)
            self._set(CommandState.STARTING, order)
            try:
                await self._give(order)
            except CommandRefused as error:
                await self._release(str(error))
                raise
            except asyncio.CancelledError:
                self._begin_release("given up while it was being started")
                raise
            self._stop_reason = None
            self._blind_since = None
            self._set(CommandState.IN_FORCE, order)
            self._keeper = self._task(self._keep(order), "keep")

    async def release(self, reason: str = "released") -> bool:
        """See `DeviceCommander.release`."""
        async with self._lock:
            await self._stop_keeper()
            return self._note is None or await self._release(reason)

    async def close(self) -> bool:
        """See `DeviceCommander.close`."""
        self._unsubscribe()
        released = await self.release("shutting down")
        await self._stop_keeper()
        return released

    # --- checks -----------------------------------------------------------------------------------------

    def _check(self, order: Order) -> None:
        """Refuse an order that can't be right, before anything is switched."""
        if order.name not in self._command.commands:
            raise CommandUnsupported(self._name, order.name, [str(name) for name in self.supported])
        remaining = order.until - dt_util.utcnow().timestamp()
        if not 0 < remaining <= _LONGEST_S:
            raise ValueOutOfRange(f"{order.name}: remaining time", remaining, 1, _LONGEST_S, "s")
        if not 0 <= order.power_w <= self._rated_w:
            what = f"{self._name}: power to {order.name}"
            raise ValueOutOfRange(what, order.power_w, 0, self._rated_w, "W")
        if self._domain in _NUMBERS:
            self._check_number(order)
        require_reserve(self._name, order, self._source.readings)

    def _check_number(self, order: Order) -> None:
        attributes = self._attributes()
        value = self._number(order)
        low, high = attributes.get("min"), attributes.get("max")
        if (low is not None and value < float(low)) or (high is not None and value > float(high)):
            unit = attributes.get(ATTR_UNIT_OF_MEASUREMENT) or UnitOfPower.WATT
            bounds = (float("-inf") if low is None else low, float("inf") if high is None else high)
            raise ValueOutOfRange(f"{self._name}: value of {self._command.entity}", value, *bounds, unit)

    # --- the entity -------------------------------------------------------------------------------------

    @property
    def _domain(self) -> str:
        return self._command.entity.partition(".")[0]

    def _attributes(self) -> dict[str, Any]:
        """The command entity's attributes. Raises CommandRefused while it is not there."""
        state = self._hass.states.get(self._command.entity)
        if state is None or state.state == STATE_UNAVAILABLE:
            raise CommandRefused(f"{self._name}: {self._command.entity} is not available")
        return dict(state.attributes)

    def _number(self, order: Order) -> float:
        """The order's power as the number entity counts it."""
        unit = self._attributes().get(ATTR_UNIT_OF_MEASUREMENT) or UnitOfPower.WATT
        if unit not in PowerConverter.VALID_UNITS:
            raise CommandRefused(
                f"{self._name}: {self._command.entity} is in {unit}; right would be a unit of power (W, kW)"
            )
        value = PowerConverter.convert(order.power_w, UnitOfPower.WATT, unit)
        return -value if order.name is self._command.negative else value

    def _saved(self) -> dict[str, Fraction]:
        """What the entity holds before the command."""
        self._attributes()
        state = self._hass.states.get(self._command.entity)
        if state is None or self._domain == "script":
            return {}
        if self._domain not in _NUMBERS:
            return {_SAVED: Fraction(int(state.state == STATE_ON))}
        if state.state == STATE_UNKNOWN:
            return {_SAVED: Fraction(0)}
        return {_SAVED: Fraction(state.state)}

    async def _give(self, order: Order) -> None:
        """Tell the entity what the order asks for. Raises CommandRefused."""
        entity = self._command.entity
        if self._domain in _NUMBERS:
            await self._call(self._domain, "set_value", entity, value=self._number(order))
        elif self._domain == "script":
            until = datetime.fromtimestamp(order.until, UTC).isoformat()
            variables = {"command": order.name.value, "power_w": order.power_w, "until": until}
            await self._call("script", "turn_on", entity, variables=variables)
        else:
            await self._call(self._domain, "turn_on", entity)

    async def _take_back(self, note: CommandNote) -> None:
        """Undo it. Raises CommandRefused."""
        if self._command.release is not None:
            variables = {"command": "release", "power_w": 0}
            await self._call("script", "turn_on", self._command.release, variables=variables)
        elif self._domain in _NUMBERS:
            value = float(note.saved.get(_SAVED, Fraction(0)))
            await self._call(self._domain, "set_value", self._command.entity, value=value)
        elif self._domain != "script" and not note.saved.get(_SAVED):
            await self._call(self._domain, "turn_off", self._command.entity)

    async def _call(self, domain: str, service: str, entity: str, **data: Any) -> None:
        state = self._hass.states.get(entity)
        if state is None or state.state == STATE_UNAVAILABLE:
            raise CommandRefused(f"{self._name}: {entity} is not available")
        try:
            await self._hass.services.async_call(
                domain, service, {ATTR_ENTITY_ID: entity, **data}, blocking=True
            )
        except (HomeAssistantError, ValueError) as error:
            raise CommandRefused(f"{self._name}: {domain}.{service} on {entity} failed: {error}") from error

    # --- in force ---------------------------------------------------------------------------------------

    def _task(self, work: Any, name: str) -> asyncio.Task[None]:
        return self._hass.async_create_background_task(work, f"{self._name}: {name}")

    def _on_readings(self, readings: Readings) -> None:
        """Watch over the reserve."""
        order = self.status.order
        if order is None or order.reserve is None or self.status.state is not CommandState.IN_FORCE:
            return
        now = dt_util.utcnow().timestamp()
        if not readings[order.reserve.field].usable:
            self._blind_since = now if self._blind_since is None else self._blind_since
            if now - self._blind_since < _BLIND_S:
                return
        else:
            self._blind_since = None
        try:
            require_reserve(self._name, order, readings)
        except ReserveReached as error:
            self._stop_reason = str(error)
            self._wake.set()

    async def _keep(self, order: Order) -> None:
        """Renew until the end; then release."""
        renew = self._command.renew_s
        while (left := self._left(order)) > 0:
            await self._sleep(left if renew is None else min(left, renew))
            if renew is not None and self._left(order) > 0:
                try:
                    await self._give(order)
                except CommandRefused as error:
                    self._stop_reason = str(error)
        async with self._lock:
            self._keeper = None
            await self._release(self._stop_reason or "its time is over")

    def _left(self, order: Order) -> float:
        """Seconds for which a command is to stay in force."""
        return 0.0 if self._stop_reason is not None else order.until - dt_util.utcnow().timestamp()

    async def _sleep(self, seconds: float) -> None:
        self._wake.clear()
        if self._stop_reason is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(seconds, 0.0)):
                    await self._wake.wait()

    async def _stop_keeper(self) -> None:
        task, self._keeper = self._keeper, None
        await end_tasks(task)

    async def _release(self, reason: str) -> bool:
        """Take back the noted command; failing (False), go on trying in the background."""
        note = self._note
        if note is None:
            return True
        try:
            await self._take_back(note)
        except CommandRefused as error:
            _LOGGER.debug("%s could not be released: %s", self._name, error)
            self._begin_release(f"{reason}; {error}")
            return False
        await self._released(reason)
        return True

    async def _released(self, reason: str) -> None:
        await self._notes.clear()
        self._note = None
        self._set(CommandState.IDLE, None, reason)

    def _begin_release(self, reason: str) -> None:
        self._set(CommandState.RELEASING, self.status.order, reason)
        self._keeper = self._task(self._keep_releasing(reason), "release")

    async def _keep_releasing(self, reason: str) -> None:
        pause = _FIRST_RETRY
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LAST_RETRY)
            async with self._lock:
                try:
                    if self._note is not None:
                        await self._take_back(self._note)
                except CommandRefused as error:
                    self._set(CommandState.RELEASING, self.status.order, f"{reason}; {error}")
                    continue
                self._keeper = None
                await self._released(reason)
                return

    def _set(self, state: CommandState, order: Order | None, reason: str | None = None) -> None:
        status = CommandStatus(state, order, reason)
        if status != self.status:
            self.status = status
            if self._on_change is not None:
                self._on_change(status)
