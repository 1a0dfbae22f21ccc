"""Switches loads on for what a buying rule has bought: a charger, a boiler; and off again afterwards.

A load is on while a purchase of its rule runs: confirmed in the chain as deep as deliveries must be, in its
window, with automatic buying on. It is commanded as a device made of entities is: noted before it is
switched, given back what it held before at the end of the window, when the trade is terminated, when buying
is switched off, on unload, and at the next start if Home Assistant ended without.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.storage import Store

from ..const import DOMAIN
from ..data import EnergyLedgerEntry
from ..device_runtime.entity_commander import EntityCommander
from ..device_runtime.settings import EntityCommand
from ..device_runtime.sources import BrokenSource
from ..devices.commands import CommandState, Order
from ..devices.errors import DeviceError, SettingsError
from ..devices.notes import CommandNote
from ..devices.profile.model import CommandName
from ..devices.tasks import end_tasks
from .agreed import slot_of
from .gate import DeliveryGate
from .gate_model import SaleView, TradeState
from .notebook import Notebook

_LOGGER = logging.getLogger(__name__)

STORAGE_VERSION: Final = 1
RETRY_S: Final = 30.0
"""A load that could not be switched is tried again after this time."""
DOMAINS: Final = ("switch", "input_boolean", "number", "input_number", "script")
"""What can be a load; a number is set to the bought power, a script is called with it."""
_MOST_W: Final = 10_000_000


def wanted_loads(
    sales: Iterable[SaleView],
    home: str,
    loads: Mapping[str, tuple[str, ...]],
    rules: Mapping[str, str],
    now: float,
) -> dict[str, tuple[int, int]]:
    """Return what each load shall draw now (W) and until when at most.

    `loads` by rule; `rules` names the rule that bought a trade.
    """
    wanted: dict[str, tuple[int, int]] = {}
    for sale in sales:
        trade = sale.trade
        if trade.buyer.key != home or not trade.start <= now < trade.end:
            continue
        if sale.state not in (TradeState.DELIVERING, TradeState.DELIVERED):
            continue
        for entity in loads.get(rules.get(trade.trade, ""), ()):
            power, end = wanted.get(entity, (0, 0))
            wanted[entity] = power + trade.watts, max(end, trade.end)
    return wanted


class _Notes:
    """What is switched on, by entity, in one file."""

    def __init__(self, store: Store[dict[str, Any]], notes: dict[str, Any], entity: str) -> None:
        self._store = store
        self._notes = notes
        self._entity = entity

    async def load(self) -> CommandNote | None:
        """See `NoteStore.load`."""
        kept = self._notes.get(self._entity)
        return None if kept is None else CommandNote.from_json(kept)

    async def save(self, note: CommandNote) -> None:
        """See `NoteStore.save`."""
        self._notes[self._entity] = note.to_json()
        await self._store.async_save({"notes": self._notes})

    async def clear(self) -> None:
        """See `NoteStore.clear`."""
        if self._notes.pop(self._entity, None) is not None:
            await self._store.async_save({"notes": self._notes})


class Loads:
    """The loads of one home."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: EnergyLedgerEntry,
        gate: DeliveryGate,
        notebook: Notebook,
        clock: Callable[[], float],
    ) -> None:
        """`rules` is filled before `async_start`."""
        self._hass = hass
        self._entry = entry
        self._gate = gate
        self._notebook = notebook
        self._clock = clock
        self._store: Store[dict[str, Any]] = Store(
            hass, STORAGE_VERSION, f"{DOMAIN}.loads.{entry.entry_id}", atomic_writes=True
        )
        self._notes: dict[str, Any] = {}
        self._commanders: dict[str, EntityCommander] = {}
        self._retry_at: dict[str, float] = {}
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: list[Callable[[], None]] = []
        self.rules: dict[str, tuple[str, ...]] = {}
        """The loads by buying rule."""

    async def async_start(self) -> None:
        """Take back what an earlier run left on, and follow the gate."""
        self._notes = (await self._store.async_load() or {}).get("notes", {})
        for entity in list(self._notes):
            try:
                await self._commander(entity).recover()
            except SettingsError as error:
                _LOGGER.warning("%s: %s; switch %s off by hand", self._entry.title, error, entity)
                del self._notes[entity]
        if not self.rules:
            return
        self._unsubscribe.append(self._gate.listen(self.kick))
        self._task = self._entry.async_create_background_task(
            self._hass, self._run(), f"{DOMAIN} {self._entry.title} loads"
        )

    async def async_stop(self) -> None:
        """Switch everything off that was switched on here, and end."""
        while self._unsubscribe:
            self._unsubscribe.pop()()
        task, self._task = self._task, None
        await end_tasks(task)
        async with self._lock:
            for commander in self._commanders.values():
                await commander.close()
            self._commanders.clear()

    @callback
    def kick(self) -> None:
        """Something changed: look soon."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self.async_look()
            except Exception:  # the watch must go on: what is on ends by its own time besides
                _LOGGER.exception("%s: the loads failed, and go on", self._entry.title)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S):
                    await self._wake.wait()

    async def async_look(self) -> None:
        """Switch what shall be on, and what shall not."""
        async with self._lock:
            now = self._clock()
            settings = self._entry.runtime_data.settings
            wanted: dict[str, tuple[int, int]] = {}
            if settings is not None and settings.limits.automatic_buying:
                bought = {row.record: row.rule for row in self._notebook.pages.answers.values()}
                wanted = wanted_loads(self._gate.sales, self._gate.home, self.rules, bought, now)
            for entity, commander in list(self._commanders.items()):
                if entity not in wanted and commander.status.state is CommandState.IN_FORCE:
                    await commander.release("energy ledger: nothing is bought for it now")
            for entity, (power, end) in wanted.items():
                await self._switch_on(entity, power, end, now)

    async def _switch_on(self, entity: str, power: int, end: int, now: float) -> None:
        commander = self._commander(entity)
        slot_s = self._entry.runtime_data.ledger.data.status.slot_s
        # As at the gate: whoever hears no more of us stops by the end of the next slot.
        until = float(min(slot_of(now, slot_s) + 2 * slot_s, end))
        order = Order(name=CommandName.CHARGE, power_w=power, until=until)
        if commander.status.order == order or self._retry_at.get(entity, 0.0) > now:
            return
        try:
            await commander.start(order)
        except DeviceError as error:
            self._retry_at[entity] = now + RETRY_S
            _LOGGER.warning("%s: a load was not switched on: %s", self._entry.title, error)

    def _commander(self, entity: str) -> EntityCommander:
        if entity not in self._commanders:
            script = entity.startswith("script.")
            self._commanders[entity] = EntityCommander(
                self._hass,
                entity,
                EntityCommand(
                    entity=entity, commands=(CommandName.CHARGE,), release=entity if script else None
                ),
                _Notes(self._store, self._notes, entity),
                BrokenSource(DeviceError("a load tells nothing")),
                rated_w=_MOST_W,
            )
        return self._commanders[entity]
