"""One device of the home while it runs: one subentry, one asset on the ledger, one coordinator."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback

from ledger_core.records.types import AssetKind, Carrier

from ..devices.commands import CommandStatus
from ..devices.device import Availability
from ..devices.errors import DeviceError
from ..devices.readings import Field, Readings
from .commander import DeviceCommander, PartCommander
from .coordinator import DeviceCoordinator
from .entity_commander import EntityCommander
from .entity_readings import EntityReadings
from .modbus_device import ModbusDevice
from .parts import commands_of, fields_of, own_capacity_wh, own_rating_w
from .settings import DeviceSettings, EntitySource, ModbusSource
from .sources import BrokenSource
from .storage import DeviceStore, StoredNote
from .watch import DeviceWatch

_LOGGER = logging.getLogger(__name__)

# So many readings in a row must tell another rating before it is believed.
_CONFIRMATIONS: Final = 3
_RATING: Final = "rating_w"
_CAPACITY: Final = "capacity_wh"


class DeviceRuntime:
    """Made by `manager.DeviceManager`; the protocol that other parts rely on is `data.DeviceRuntime`."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        settings: DeviceSettings,
        source: ModbusDevice | EntityReadings | BrokenSource,
        store: DeviceStore,
    ) -> None:
        """Wire a device's source to its coordinator and commander; nothing is read yet."""
        self.settings = settings
        self.on_figures: Callable[[], None] | None = None
        self.find_asset: Callable[[], bytes | None] = lambda: None
        self.find_meter: Callable[[], bytes | None] = lambda: None
        self._hass = hass
        self._entry = entry
        self._store = store
        self._source = source
        self._whole: DeviceCommander | None = None
        self.commander: PartCommander | None = None
        reading = source.device if isinstance(source, ModbusDevice) else source
        interval = settings.source.poll_s if isinstance(settings.source, ModbusSource) else None
        self.coordinator = DeviceCoordinator(hass, entry, settings, reading, interval)
        self._watch = DeviceWatch(hass, entry, settings, self.coordinator)
        self._wire_commander()
        self._odd: dict[str, tuple[int, int]] = {}
        self._status_listeners: list[Callable[[], None]] = []
        entry.async_on_unload(self.coordinator.async_add_listener(self._on_update))

    # --- what others ask for ----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The device's name."""
        return self.settings.name

    @property
    def kind(self) -> AssetKind:
        """What it is on the ledger."""
        return self.settings.kind

    @property
    def carrier(self) -> Carrier:
        """What it supplies, stores, consumes or measures."""
        return self.settings.carrier

    @property
    def asset_id(self) -> bytes | None:
        """Its asset on the ledger; None until the chain holds it."""
        return self.find_asset()

    @property
    def meter_id(self) -> bytes | None:
        """The asset of the meter that it settles through; None for a meter, and where there is none."""
        return self.find_meter()

    @property
    def rating_w(self) -> int:
        """Its rating: the user's figure, or the device's own."""
        return self._figure(_RATING, self.settings.rating_follows) or self.settings.rating_w

    @property
    def capacity_wh(self) -> int | None:
        """Its capacity: the user's figure, or the device's own."""
        return self._figure(_CAPACITY, self.settings.capacity_follows) or self.settings.capacity_wh

    @property
    def availability(self) -> Availability:
        """How the device is doing as a whole."""
        return self.coordinator.source.availability

    @property
    def error(self) -> DeviceError | None:
        """What is wrong with it, or with a part of it."""
        return self.coordinator.source.error

    @property
    def problems(self) -> Mapping[Field, str]:
        """Why a field of a device made of entities has no value."""
        return self._source.problems if isinstance(self._source, EntityReadings) else {}

    @property
    def command_status(self) -> CommandStatus | None:
        """Where its command stands; None: it can't be commanded."""
        return None if self.commander is None else self.commander.status

    @property
    def nameplate(self) -> dict[Field, str]:
        """Manufacturer, model, serial number and firmware, as far as known."""
        told = {Field.MANUFACTURER: self.settings.manufacturer, Field.MODEL: self.settings.model}
        if isinstance(self.settings.source, ModbusSource):
            told[Field.SERIAL] = self.settings.source.serial
        for field in (*told, Field.FIRMWARE):
            told[field] = self.coordinator.source.readings.text(field) or told.get(field)
        if isinstance(self._source, ModbusDevice):
            told[Field.MANUFACTURER] = told[Field.MANUFACTURER] or self._source.device.profile.manufacturer
        return {field: text for field, text in told.items() if text}

    @property
    def fields(self) -> frozenset[Field]:
        """The fields that this part has, or has had: a device that is away keeps its entities."""
        known = {Field(name) for name in self._kept("fields", []) if name in Field}
        now = {
            field
            for field, reading in self.coordinator.data.items()
            if field in fields_of(self.kind) and reading.value is not None
        }
        return frozenset(known | now)

    def listen_status(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` with every change of the command's state; the returned function ends that."""
        self._status_listeners.append(listener)
        return lambda: self._status_listeners.remove(listener)

    # --- life -------------------------------------------------------------------------------------------

    async def async_begin(self) -> None:
        """Take back what an earlier run left in force, and read for the first time."""
        if isinstance(self._source, ModbusDevice):
            await self._source.recover()
        elif self._whole is not None:
            try:
                await self._whole.recover()
            except DeviceError as error:
                _LOGGER.warning("%s: a command may still be in force: %s", self.name, error)
        await self.coordinator.async_refresh()

    async def release(self, reason: str) -> None:
        """Take back the command in force, if there is one."""
        if self._whole is not None:
            await self._whole.release(reason)

    async def close(self) -> None:
        """Release what is commanded, and let go of the device."""
        if isinstance(self._source, ModbusDevice):
            await self._source.close()
            return
        if self._whole is not None:
            await self._whole.close()
        if isinstance(self._source, EntityReadings):
            self._source.close()

    # --- inside -----------------------------------------------------------------------------------------

    def _wire_commander(self) -> None:
        if isinstance(self._source, ModbusDevice):
            self._source.users += 1
            self._source.listen_status(self._on_status)
            if self._source.commandable:
                self._whole = self._source.commander
        elif isinstance(self._source, EntityReadings):
            self._wire_entity_commander(self._source)
        commands = commands_of(self.kind)
        if self._whole is not None and commands & set(self._whole.supported):
            self.commander = PartCommander(self._whole, self.name, commands)

    def _wire_entity_commander(self, source: EntityReadings) -> None:
        chosen = self.settings.source
        if isinstance(chosen, EntitySource) and chosen.command is not None:
            self._whole = EntityCommander(
                self._hass,
                self.name,
                chosen.command,
                StoredNote(self._store, self.settings.uid),
                source,
                rated_w=self.settings.rating_w,
                on_change=self._on_status,
            )

    @callback
    def _on_status(self, _status: CommandStatus) -> None:
        for listener in tuple(self._status_listeners):
            listener()

    @callback
    def _on_update(self) -> None:
        """After every poll, good or bad."""
        readings = self.coordinator.data
        self._watch.look()
        if self.availability not in (Availability.OFFLINE, Availability.WRONG_DEVICE):
            self._keep("fields", sorted(field.value for field in self.fields))
            self._follow(_RATING, self.settings.rating_follows, own_rating_w, readings, self.rating_w)
            self._follow(
                _CAPACITY, self.settings.capacity_follows, own_capacity_wh, readings, self.capacity_wh
            )

    def _follow(
        self,
        name: str,
        follows: bool,
        told_by: Callable[[AssetKind, Readings], int | None],
        readings: Readings,
        current: int | None,
    ) -> None:
        """Take over a figure of the device's own once it has told it several times."""
        told = told_by(self.kind, readings) if follows else None
        if told is None or told == current:
            self._odd.pop(name, None)
            return
        value, count = self._odd.get(name, (told, 0))
        count = count + 1 if value == told else 1
        self._odd[name] = (told, count)
        if count >= _CONFIRMATIONS:
            self._odd.pop(name)
            self._keep("figures", {**self._kept("figures", {}), name: told})
            if self.on_figures is not None:
                self.on_figures()

    def _figure(self, name: str, follows: bool) -> int | None:
        value = self._kept("figures", {}).get(name) if follows else None
        return value if isinstance(value, int) else None

    def _kept(self, what: str, default: Any) -> Any:
        return self._store.device(self.settings.uid).get(what, {}).get(self.kind.value, default)

    def _keep(self, what: str, value: Any) -> None:
        if self._kept(what, None) != value:
            self._store.device(self.settings.uid).setdefault(what, {})[self.kind.value] = value
            self._store.save_later()
