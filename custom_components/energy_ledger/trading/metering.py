"""Drives metering: the meter's readings in, signed boundaries out, kept until the chain has them."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.storage import Store

from ledger_core.client import ClientError, RefusedError
from ledger_core.client.views import EventView
from ledger_core.errors import LedgerError
from ledger_core.records.readings import ReadingRow, Stored

from ..const import DOMAIN, issue_id
from ..data import DeviceRuntime, EnergyLedgerEntry
from ..devices.readings import Field
from ..devices.tasks import end_tasks
from . import clock as clocks
from .house import meter_of, sample_of
from .meter_core import Boundaries, Pause

_LOGGER = logging.getLogger(__name__)

STORAGE_VERSION = 1
SAVE_DELAY_S = 10.0
RETRY_S = 20.0
RESEND_S = 300.0
"""Boundaries that were sent and are in no block by then are sent again."""
BOUNDARY_S = 0.02
"""So long after a boundary its reading begins, so that it is never taken for one before it."""
LASTING_S = 300.0
"""What is refused so long waits for somebody to do something."""
ISSUE_METER = "meter_implausible"
ISSUE_REFUSED = "readings_refused"
_KNOWN = "reading_conflict"
"""The chain holds other registers for a boundary: ours come too late to change anything."""
_IMPOSSIBLE = frozenset({"register_jump", "register_backwards"})
"""A boundary does not follow from those that the chain holds, and never will."""


class Metering:
    """Tells the chain what the home's meter counted up to each slot boundary."""

    def __init__(
        self, hass: HomeAssistant, entry: EnergyLedgerEntry, *, clock: clocks.Clock | None = None
    ) -> None:
        """Follow the home's meter, if it has one."""
        self._hass = hass
        self._entry = entry
        self._clock = clock or clocks.now
        self._store: Store[dict[str, Any]] = Store(
            hass, STORAGE_VERSION, f"{DOMAIN}.metering.{entry.entry_id}"
        )
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._unsubscribe: list[Callable[[], None]] = []
        self._subentry_id = ""
        self._runtime: DeviceRuntime | None = None
        self._sending = asyncio.Lock()
        self._sent: dict[int, float] = {}
        """When a boundary was handed to the node, by its time."""
        self._listeners: list[Callable[[], None]] = []
        self.core: Boundaries | None = None
        self.refused: str | None = None
        """Why the ledger refuses this meter's boundaries for good: the rule's code; None: it takes them."""
        self._refused_since: float | None = None

    @property
    def pause(self) -> Pause | None:
        """Why readings pause; None: they do not."""
        return None if self.core is None else self.core.pause

    @callback
    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call a listener after every sample; returns what ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def async_start(self) -> None:
        """Go on from what was kept, and take every reading of the meter."""
        data = self._entry.runtime_data
        found = meter_of(data.devices)
        if found is None:
            return
        self._subentry_id, self._runtime = found
        core = Boundaries(data.ledger.data.status.slot_s, self._rating())
        kept = await self._store.async_load() or {}
        if kept.get("meter") == self._subentry_id:
            core.restore(kept)
        self.core = core
        self._unsubscribe.append(self._runtime.coordinator.async_add_listener(self._on_reading))
        self._unsubscribe.append(data.ledger.listen(self._on_event))
        self._unsubscribe.append(data.ledger.async_add_listener(self._on_ledger))
        self._tasks = [
            self._entry.async_create_background_task(self._hass, work, f"{DOMAIN} {self._entry.title} {name}")
            for name, work in (("metering", self._run()), ("slot boundaries", self._read_at_boundaries()))
        ]
        self._on_reading()

    async def async_stop(self) -> None:
        """End; what is not in the chain yet is kept."""
        while self._unsubscribe:
            self._unsubscribe.pop()()
        tasks, self._tasks = self._tasks, []
        await end_tasks(*tasks)
        if self.core is not None:
            await self._store.async_save(self._kept())

    def _kept(self) -> dict[str, Any]:
        return {"meter": self._subentry_id, **(self.core.kept() if self.core is not None else {})}

    def _rating(self) -> int:
        """Return the rating of the meter's connection: as the chain has it, else as it is set up."""
        asset = None if self._runtime is None else self._runtime.asset_id
        if asset is not None:
            for view in self._entry.runtime_data.ledger.data.assets:
                if view.asset == asset.hex():
                    return view.rating_w
        subentry = self._entry.subentries[self._subentry_id]
        return int(subentry.data.get("rating_w", 0)) or 100_000

    async def _read_at_boundaries(self) -> None:
        """Read the meter at every slot boundary besides its polls: a delivery begins or ends just there."""
        while self._runtime is not None and self.core is not None:
            now = self._clock()
            boundary = (int(now) // self.core.slot_s + 1) * self.core.slot_s
            await asyncio.sleep(boundary - now + BOUNDARY_S)
            await self._runtime.coordinator.async_refresh()

    # --- samples ----------------------------------------------------------------------------------------

    @callback
    def _on_reading(self) -> None:
        if self.core is None or self._runtime is None:
            return
        sample = sample_of(self._runtime, self._clock())
        if sample is None:
            return
        before = self.core.pause
        self.core.rate(self._rating())
        if self.core.take(sample):
            self._store.async_delay_save(self._kept, 0)
            self._wake.set()
        else:
            self._store.async_delay_save(self._kept, SAVE_DELAY_S)
        if self.core.pause != before:
            self._tell_pause(self.core.pause)
        for listener in tuple(self._listeners):
            listener()

    async def async_accept(self) -> bool:
        """Go on from the new count of a meter that jumped or fell; False: there is nothing to accept."""
        if self.core is None or not self.core.accept():
            return False
        await self._store.async_save(self._kept())
        self._tell_pause(None)
        for listener in tuple(self._listeners):
            listener()
        return True

    @callback
    def _tell_pause(self, pause: Pause | None) -> None:
        name = issue_id(ISSUE_METER, self._entry.entry_id)
        if pause is None:
            ir.async_delete_issue(self._hass, DOMAIN, name)
            return
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            name,
            is_fixable=self.core is not None and self.core.can_accept,
            data={"entry_id": self._entry.entry_id, "issue": pause.problem.value},
            severity=ir.IssueSeverity.WARNING,
            translation_key=pause.problem.value,
            translation_placeholders={
                "device": "" if self._runtime is None else self._runtime.name,
                "register": pause.register,
                "before": f"{pause.before_wh / 1000:g}",
                "after": f"{pause.after_wh / 1000:g}",
            },
        )

    @callback
    def _on_event(self, event: EventView) -> None:
        asset = None if self._runtime is None else self._runtime.asset_id
        if event.event == "reading_taken" and asset is not None and event.data.get("meter") == asset.hex():
            self._confirm(int(event.data["end"]))
        elif event.event in ("block_undone", "record_contested", "record_lost", "resync"):
            self._sent.clear()
            self._wake.set()

    @callback
    def _confirm(self, end: int) -> None:
        if self.core is not None:
            self.core.confirm(end)
            self._sent = {at: when for at, when in self._sent.items() if at > end}
            self._store.async_delay_save(self._kept, SAVE_DELAY_S)

    @callback
    def _on_ledger(self) -> None:
        if self.core is not None and self._unsent():
            self._wake.set()

    # --- sending ----------------------------------------------------------------------------------------

    def _unsent(self) -> list[ReadingRow]:
        if self.core is None:
            return []
        before = self._clock() - RESEND_S
        return [row for row in self.core.pending if self._sent.get(row.end, 0.0) <= before]

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            with contextlib.suppress(ClientError):
                await self.async_send()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S):
                    await self._wake.wait()

    async def async_send(self) -> int:
        """Hand in what the chain does not have; returns how many boundaries. Raises ClientError."""
        # What is on its way to the node is not sent yet: a second look would hand it in once more.
        async with self._sending:
            return await self._send()

    async def _send(self) -> int:
        runtime, rows = self._runtime, self._unsent()
        data = self._entry.runtime_data
        if not rows or runtime is None or runtime.asset_id is None or not data.ledger.last_update_success:
            return 0
        signer = await data.key.async_meter_signer(self._subentry_id)
        try:
            await data.home.readings(signer, runtime.asset_id, rows, self._stored(runtime.asset_id))
        except RefusedError as error:
            self._on_refused(error, rows)
            return 0
        except LedgerError as error:
            _LOGGER.debug("%s: readings wait: %s", self._entry.title, error)
            return 0
        self.refused = self._refused_since = None
        ir.async_delete_issue(self._hass, DOMAIN, issue_id(ISSUE_REFUSED, self._entry.entry_id))
        now = self._clock()
        self._sent |= {row.end: now for row in rows}
        return len(rows)

    def _on_refused(self, error: RefusedError, rows: list[ReadingRow]) -> None:
        """Boundaries that the chain never will take are given up, one by one; all else waits."""
        now = self._clock()
        if error.code == _KNOWN or error.code in _IMPOSSIBLE:
            self._give_up(error, rows)
        else:
            self._sent |= {row.end: now - RESEND_S + RETRY_S for row in rows}
        if error.code == _KNOWN or error.may_pass:
            return
        if self._refused_since is None:
            self._refused_since = now
            _LOGGER.warning("%s: the ledger refuses readings: %s", self._entry.title, error.message)
        if error.code in _IMPOSSIBLE or now - self._refused_since >= LASTING_S:
            self._tell_refused(error)

    def _give_up(self, error: RefusedError, rows: list[ReadingRow]) -> None:
        """Drop the boundary that is refused, so that the later ones get through where the rules allow."""
        named = int(error.details.get("end", rows[0].end))
        # Where a later boundary that the chain holds does not follow from ours, ours is the wrong one.
        end = max((row.end for row in rows if row.end <= named), default=rows[0].end)
        _LOGGER.warning("%s: %s; the boundary %s is dropped", self._entry.title, error.message, end)
        if self.core is not None:
            self.core.pending = [row for row in self.core.pending if row.end != end]
        self._store.async_delay_save(self._kept, SAVE_DELAY_S)
        self._wake.set()

    @callback
    def _tell_refused(self, error: RefusedError) -> None:
        self.refused = error.code
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            issue_id(ISSUE_REFUSED, self._entry.entry_id),
            is_fixable=False,
            severity=ir.IssueSeverity.WARNING,
            translation_key=ISSUE_REFUSED,
            translation_placeholders={
                "device": "" if self._runtime is None else self._runtime.name,
                "reason": error.message,
            },
        )
        for listener in tuple(self._listeners):
            listener()

    def _stored(self, meter: bytes) -> list[Stored]:
        """Return what the stores behind the meter hold now, as far as they tell."""
        data = self._entry.runtime_data
        assets = {view.asset: view for view in data.ledger.data.assets}
        stored = []
        for runtime in data.devices.values():
            view = None if runtime.asset_id is None else assets.get(runtime.asset_id.hex())
            if view is None or view.capacity_wh is None or view.meter != meter.hex():
                continue
            held = runtime.coordinator.data.number(Field.ENERGY_AVAILABLE_WH)
            if held is not None and runtime.coordinator.last_update_success:
                stored.append(Stored(bytes.fromhex(view.asset), max(min(held, view.capacity_wh), 0), None))
        return stored


async def async_remove_storage(hass: HomeAssistant, entry_id: str) -> None:
    """Forget what metering kept of a removed entry."""
    await Store[dict[str, Any]](hass, STORAGE_VERSION, f"{DOMAIN}.metering.{entry_id}").async_remove()
