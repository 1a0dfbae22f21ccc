"""Drives the delivery gate: the ledger's view and the devices' readings in, commands to devices out."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.storage import Store

from ledger_core.client.views import EventView

from ..const import DOMAIN
from ..data import DeviceRuntime, EnergyLedgerEntry
from ..device_runtime.commander import DeviceCommander
from ..devices.commands import CommandState, Order, Reserve
from ..devices.errors import CommandError, DeviceError, ReserveReached, ValueOutOfRange
from ..devices.tasks import end_tasks
from ..events import EndReason, HomeEvent, async_tell, delivery_ended, delivery_started, shortfall_expected
from ..trading_settings import Limits
from . import clock as clocks
from .gate_core import Gate
from .gate_model import Action, Block, Command, End, Ended, Release, SaleView, Short, Started, World
from .house import delivering_command, device_now, grid_now, level_field, meter_age_s, meter_of

_LOGGER = logging.getLogger(__name__)

STORAGE_VERSION = 1
SAVE_DELAY_S = 5.0
FAILED_S = 5.0


class DeliveryGate:
    """The only place from which this integration asks power of a device."""

    def __init__(
        self, hass: HomeAssistant, entry: EnergyLedgerEntry, *, clock: clocks.Clock | None = None
    ) -> None:
        """Watch over the sales of an entry's home."""
        self._hass = hass
        self._entry = entry
        self._clock = clock or clocks.now
        self.home = entry.runtime_data.key.signer.public_key.hex()
        """This home's key."""
        self._store: Store[dict[str, Any]] = Store(hass, STORAGE_VERSION, f"{DOMAIN}.gate.{entry.entry_id}")
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: list[Callable[[], None]] = []
        self._lost_at: float | None = None
        self._measured_at = 0.0
        self._uncounted_since: float | None = None
        self._listeners: list[Callable[[], None]] = []
        self._lock = asyncio.Lock()
        self.core = Gate()
        self.metered: Callable[[], bool] = lambda: True
        """Whether the ledger will get readings of what leaves the home, as far as the meter tells it."""

    @property
    def sales(self) -> list[SaleView]:
        """How every sale stands."""
        return self.core.views(self._entry.runtime_data.ledger.data.status.tip.height)

    @callback
    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call a listener after the gate has looked at everything; returns what ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @callback
    def kick(self) -> None:
        """Something changed: look soon."""
        self._wake.set()

    async def async_start(self) -> None:
        """Go on from what was kept, and look whenever something changes."""
        data = self._entry.runtime_data
        kept = await self._store.async_load() or {}
        if kept.get("meter") != self._meter_id():
            kept.pop("registers", None)  # another meter counts from elsewhere
        self.core.restore(kept, data.ledger.data.trades)
        self._unsubscribe.append(data.ledger.async_add_listener(self._on_ledger))
        self._unsubscribe.append(data.ledger.listen(self._on_event))
        meter = meter_of(data.devices)
        if meter is not None:
            self._unsubscribe.append(meter[1].coordinator.async_add_listener(self._on_meter))
        for runtime in data.devices.values():
            self._unsubscribe.append(runtime.coordinator.async_add_listener(self.kick))
        if data.settings is not None:
            self._unsubscribe.append(data.settings.async_listen(lambda _: self.kick()))
        self._on_ledger()
        self._task = self._entry.async_create_background_task(
            self._hass, self._run(), f"{DOMAIN} {self._entry.title} delivery gate"
        )

    async def async_stop(self, reason: End = End.UNLOADED) -> None:
        """Take every command back, and end."""
        while self._unsubscribe:
            self._unsubscribe.pop()()
        task, self._task = self._task, None
        await end_tasks(task)
        async with self._lock:
            await self._carry_out(self.core.release_all(reason), self._clock())
        await self._store.async_save(self._kept())

    def _kept(self) -> dict[str, Any]:
        return {"meter": self._meter_id(), **self.core.kept()}

    def _meter_id(self) -> str | None:
        meter = meter_of(self._entry.runtime_data.devices)
        return None if meter is None else meter[0]

    # --- what happens -----------------------------------------------------------------------------------

    @callback
    def _on_ledger(self) -> None:
        if self._entry.runtime_data.ledger.last_update_success:
            self._lost_at = None
        elif self._lost_at is None:
            self._lost_at = self._clock()
        self.kick()

    @callback
    def _on_meter(self) -> None:
        meter = meter_of(self._entry.runtime_data.devices)
        if meter is not None:
            self._measured_at = self._clock() - meter_age_s(meter[1].coordinator.data)

    @callback
    def _on_event(self, event: EventView) -> None:
        if event.event == "trade_agreed" and event.height is not None:
            self.core.note_agreed(str(event.data["trade"]), event.height)
            self.kick()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                due = await self.async_look()
            except Exception:  # the gate must stay awake: what is in force ends by its own time besides
                _LOGGER.exception("%s: the delivery gate failed, and goes on", self._entry.title)
                due = self._clock() + FAILED_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(due - self._clock(), 0.05)):
                    await self._wake.wait()

    async def async_look(self) -> float:
        """Look at everything and do what follows from it; returns when to look again."""
        async with self._lock:
            now = self._clock()
            self._notice_ended(now)
            world = self.world(now)
            self.core.confirmations = self._wanted_confirmations()
            actions = self.core.evaluate(world)
            failed = await self._carry_out(actions, now)
            if failed:
                actions += (again := self.core.evaluate(world))
                await self._carry_out(again, now)
            if actions:
                self._store.async_delay_save(self._kept, SAVE_DELAY_S)
        for listener in tuple(self._listeners):
            listener()
        return self.core.next_due(world)

    def _devices(self) -> dict[str, tuple[str, DeviceRuntime]]:
        """Return what delivers by asset: the subentry's id and the device."""
        return {
            runtime.asset_id.hex(): (subentry_id, runtime)
            for subentry_id, runtime in self._entry.runtime_data.devices.items()
            if runtime.asset_id is not None
        }

    def world(self, now: float) -> World:
        """Return all that the gate looks at."""
        data = self._entry.runtime_data
        view = data.ledger.data
        limits = None if data.settings is None else data.settings.limits
        assets = {asset.asset: asset for asset in view.assets}
        devices = {
            name: device_now(runtime, assets[name], 0 if limits is None else limits.reserve_permille)
            for name, (_, runtime) in self._devices().items()
            if name in assets
        }
        meter = meter_of(data.devices)
        grid = grid_now(None if meter is None else meter[1])
        if grid.exported_wh is not None and self.metered():
            self._uncounted_since = None
        elif self._uncounted_since is None:
            self._uncounted_since = now
        slot_s = view.status.slot_s
        return World(
            now=now,
            slot_s=slot_s,
            home=self.home,
            enabled=limits is not None and limits.automatic_selling,
            trades=view.trades,
            tip=view.status.tip.height,
            final=view.status.final,
            # Ends and terminations come at slot boundaries: the known view holds for the slot it is from.
            known_until=None if self._lost_at is None else self._lost_at + slot_s,
            devices=devices,
            surplus_w=grid.surplus_w,
            measured_at=self._measured_at,
            exported_wh=grid.exported_wh,
            imported_wh=grid.imported_wh,
            uncounted_since=self._uncounted_since,
        )

    def _wanted_confirmations(self) -> int | None:
        """Return how deep in the chain a trade must be to be delivered; None: final."""
        settings = self._entry.runtime_data.settings
        limits = Limits() if settings is None else settings.limits
        return None if limits.only_final else limits.confirmations

    # --- carrying out -----------------------------------------------------------------------------------

    def _notice_ended(self, now: float) -> None:
        """Notice commands that the device, or its own watch over the reserve, has ended."""
        devices = self._devices()
        for name, row in self.core.assets.items():
            if not row.power_w or now >= row.until - 1 or name not in devices:
                continue
            commander = devices[name][1].commander
            if commander is None:
                continue
            status = commander.status
            if status.state in (CommandState.IDLE, CommandState.RELEASING):
                _LOGGER.info("%s ended its delivery: %s", devices[name][1].name, status.reason)
                self.core.note_failed(name, Block.REFUSED, now)

    async def _carry_out(self, actions: list[Action], now: float) -> bool:
        """Do what was decided; whether any command failed."""
        failed = False
        for action in actions:
            if isinstance(action, Release):
                await self._release(action)
            elif isinstance(action, Command):
                failed |= not await self._command(action, now)
            else:
                self._tell(action, int(now))
        return failed

    async def _release(self, release: Release) -> None:
        _, runtime = self._devices().get(release.asset, ("", None))
        if runtime is not None and runtime.commander is not None:
            await runtime.commander.release(f"energy ledger: {release.reason}")

    async def _command(self, command: Command, now: float) -> bool:
        """Give a command; the core is told when it fails."""
        _, runtime = self._devices()[command.asset]
        name = delivering_command(runtime)
        if name is None or runtime.commander is None:
            return True
        field = level_field(runtime.coordinator.data)
        reserve = None
        if command.reserve_permille is not None and field is not None:
            reserve = Reserve(field, command.reserve_permille)
        order = Order(name=name, power_w=command.power_w, until=command.until, reserve=reserve)
        try:
            await _start(runtime.commander, order)
        except DeviceError as error:
            _LOGGER.warning("%s could not deliver: %s", runtime.name, error)
            reason = Block.REFUSED if isinstance(error, CommandError) else Block.DEVICE_LOST
            if isinstance(error, ReserveReached):
                reason = Block.RESERVE
            self.core.note_failed(command.asset, reason, now)
            return False
        return True

    @callback
    def _tell(self, action: Started | Ended | Short, now: int) -> None:
        device = self._devices().get(action.trade.asset, (None,))[0]
        event: HomeEvent
        if isinstance(action, Started):
            event = delivery_started(action.trade, self.home, now, device)
        elif isinstance(action, Ended):
            reason = EndReason(action.reason.value)
            event = delivery_ended(action.trade, self.home, now, reason, action.sent_wh, device)
        else:
            event = shortfall_expected(
                action.trade,
                self.home,
                now,
                action.slot_end,
                action.agreed_wh,
                action.expected_wh,
                None if action.reason is None else action.reason.value,
            )
        async_tell(self._hass, self._entry.entry_id, event)


async def _start(commander: DeviceCommander, order: Order) -> None:
    """Give a command, or as much of it as the device allows now; raises DeviceError."""
    try:
        await commander.start(order)
    except ValueOutOfRange as error:
        if error.value != order.power_w or not 1 <= error.high < order.power_w:
            raise
        await commander.start(replace(order, power_w=int(error.high)))


async def async_remove_storage(hass: HomeAssistant, entry_id: str) -> None:
    """Forget what the gate kept of a removed entry."""
    await Store[dict[str, Any]](hass, STORAGE_VERSION, f"{DOMAIN}.gate.{entry_id}").async_remove()
