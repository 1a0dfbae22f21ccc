"""All devices of one entry: opened together, each on its own, and closed together."""

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import Event, HomeAssistant
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.device_registry import DeviceEntry

from ..const import DOMAIN, SUBENTRY_DEVICE, issue_id
from ..devices.errors import DeviceError, SettingsError
from .entity_readings import EntityReadings
from .modbus_device import ModbusDevice, async_open
from .profiles import async_profile
from .registration import ISSUE_NOT_APPROVED, ISSUE_REFUSED, AssetRegistrar
from .runtime import DeviceRuntime
from .settings import DeviceSettings, EntitySource, ModbusSource
from .sources import BrokenSource
from .storage import DeviceStore

if TYPE_CHECKING:
    from homeassistant.config_entries import ConfigSubentry

    from ..data import EnergyLedgerEntry

_LOGGER = logging.getLogger(__name__)

# Set-up waits so long for the first answers; a device that is away answers later, or never (seconds).
_FIRST_ANSWER_S: Final = 0.7


class DeviceManager:
    """Makes and closes the runtimes. A device that can't be used is there all the same, and says why."""

    def __init__(self, hass: HomeAssistant, entry: EnergyLedgerEntry) -> None:
        """Begin with `async_start`, once the entry has its runtime data."""
        self._hass = hass
        self._entry = entry
        self._store = DeviceStore(hass, entry.entry_id)
        self._physical: dict[str, ModbusDevice] = {}
        self.runtimes: dict[str, DeviceRuntime] = {}
        self.registrar = AssetRegistrar(hass, entry, self.runtimes, self._store)

    async def async_start(self) -> None:
        """Open every device and read it once, and begin to register them."""
        await self._store.async_load()
        for subentry in self._entry.subentries.values():
            if subentry.subentry_type == SUBENTRY_DEVICE:
                runtime = await self._open(subentry)
                if runtime is not None:
                    self.runtimes[subentry.subentry_id] = runtime
        self._store.forget_but({runtime.settings.uid for runtime in self.runtimes.values()})
        for subentry_id, runtime in self.runtimes.items():
            runtime.find_asset = partial(self.registrar.asset_of, subentry_id)
            runtime.find_meter = partial(self.registrar.meter_of, subentry_id)
        # Parts of one device hear what the first of them reads.
        first = {id(runtime.coordinator.source): runtime for runtime in reversed(self.runtimes.values())}
        begun = [
            self._entry.async_create_background_task(
                self._hass, runtime.async_begin(), f"{DOMAIN} {runtime.name} first reading"
            )
            for runtime in first.values()
        ]
        if begun:
            await asyncio.wait(begun, timeout=_FIRST_ANSWER_S)
        self._entry.async_on_unload(self._hass.bus.async_listen(EVENT_HOMEASSISTANT_STOP, self._on_stop))
        self.registrar.start()

    async def async_close(self) -> None:
        """Release every device and let go of it."""
        runtimes = list(self.runtimes.values())
        self.runtimes.clear()
        self._physical.clear()
        await asyncio.gather(*(runtime.close() for runtime in runtimes))
        await self._store.async_save()
        for runtime in runtimes:
            for key in (ISSUE_REFUSED, ISSUE_NOT_APPROVED):
                # What still holds is told again after the next start; a device may be gone by then.
                ir.async_delete_issue(self._hass, DOMAIN, issue_id(key, runtime.settings.subentry_id))

    async def _on_stop(self, _event: Event) -> None:
        """Home Assistant stops without unloading: whatever is commanded is released now."""
        await asyncio.gather(*(runtime.release("shutting down") for runtime in self.runtimes.values()))
        await self._store.async_save()

    async def _open(self, subentry: ConfigSubentry) -> DeviceRuntime | None:
        try:
            settings = DeviceSettings.from_data(subentry.subentry_id, subentry.title, dict(subentry.data))
        except SettingsError as error:
            _LOGGER.warning("A device is left out: %s", error)
            return None
        try:
            source = await self._source(settings)
        except DeviceError as error:
            _LOGGER.warning("%s can't be used: %s", settings.name, error)
            source = BrokenSource(error)
        return DeviceRuntime(self._hass, self._entry, settings, source, self._store)

    async def _source(self, settings: DeviceSettings) -> ModbusDevice | EntityReadings | BrokenSource:
        """What a device is read through; parts of one physical device share it. Raises DeviceError."""
        if isinstance(settings.source, EntitySource):
            return EntityReadings(self._hass, settings, settings.source, self._store)
        known = self._physical.get(settings.uid)
        if known is not None:
            return known
        source: ModbusSource = settings.source
        profile = await async_profile(self._hass, source.profile, source.variant)
        opened = await async_open(self._hass, self._entry, settings, profile, self._store)
        self._physical[settings.uid] = opened
        return opened


async def async_start_devices(hass: HomeAssistant, entry: EnergyLedgerEntry) -> DeviceManager:
    """Start the devices of an entry whose runtime data is there; `data.devices` holds them afterwards."""
    manager = DeviceManager(hass, entry)
    entry.async_on_unload(manager.async_close)
    await manager.async_start()
    entry.runtime_data.device_manager = manager
    entry.runtime_data.devices.update(manager.runtimes)
    return manager


def may_remove_device(entry: EnergyLedgerEntry, page: DeviceEntry) -> bool:
    """Whether a device's page may be deleted by hand: only one that no subentry stands for any more.

    A device that is set up goes with its subentry; the home and its node go with the entry.
    """
    own = {name for domain, name in page.identifiers if domain == DOMAIN}
    return not any(name in entry.subentries or name.startswith(str(entry.unique_id)) for name in own)


async def async_remove_storage(hass: HomeAssistant, entry_id: str) -> None:
    """Delete what is kept of an entry's devices: the entry is removed."""
    await DeviceStore(hass, entry_id).async_remove()
