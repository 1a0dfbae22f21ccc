"""A Modbus device on its link, shared by its parts."""

import logging
from collections.abc import Mapping
from typing import Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant
from homeassistant.helpers.sun import is_up
from homeassistant.util.hass_dict import HassKey

from ..const import DOMAIN
from ..devices.commands import Commander, CommandStatus
from ..devices.connect import OpenDevice, open_device, settings_for
from ..devices.device import Device, DeviceOptions
from ..devices.errors import DeviceError, SettingsError
from ..devices.profile.model import Profile
from ..devices.readings import Readings
from ..devices.transport.base import ModbusUnit
from ..devices.transport.pool import LinkPool
from ..ha_modbus import shared_unit
from .commander import StatusListener
from .settings import DeviceSettings, ModbusSource
from .storage import DeviceStore, StoredNote

_LOGGER = logging.getLogger(__name__)

DATA_LINKS: Final[HassKey[LinkPool]] = HassKey(f"{DOMAIN}_links")


def link_pool(hass: HomeAssistant) -> LinkPool:
    """All Modbus links of this Home Assistant; a link closes with its last holder."""
    if DATA_LINKS not in hass.data:
        hass.data[DATA_LINKS] = LinkPool()
    return hass.data[DATA_LINKS]


class ModbusDevice:
    """One physical device and its commander; every part of it that is set up counts as a user."""

    def __init__(self, uid: str, device: Device, opened: OpenDevice | None, store: DeviceStore) -> None:
        """Take a device whose units are held; `opened` is None on Home Assistant's shared connection."""
        self.uid = uid
        self.device = device
        self.users = 0
        self._opened = opened
        self._store = store
        self._status_listeners: list[StatusListener] = []
        self._recovered = False
        self.commander = Commander(device, StoredNote(store, uid), on_change=self._on_status)
        self._unsubscribe = device.listen(self._on_readings)

    @property
    def commandable(self) -> bool:
        """Whether the profile knows any command."""
        return bool(self.device.profile.commands)

    def listen_status(self, listener: StatusListener) -> None:
        """Call `listener` with every change of the command's state."""
        self._status_listeners.append(listener)

    async def recover(self) -> None:
        """Take back what an earlier run left in force; the first caller does it."""
        if self._recovered:
            return
        self._recovered = True
        try:
            await self.commander.recover()
        except DeviceError as error:
            _LOGGER.warning("%s: a command may still be in force: %s", self.device.name, error)

    async def close(self) -> None:
        """One user less; the last one releases the command and lets go of the link."""
        self.users -= 1
        if self.users > 0:
            return
        await self.commander.close()
        self._unsubscribe()
        self._store.keep_counters(self.uid, self.device.counter_states)
        if self._opened is not None:
            await self._opened.close()

    def _on_readings(self, _readings: Readings) -> None:
        self._store.keep_counters(self.uid, self.device.counter_states)

    def _on_status(self, status: CommandStatus) -> None:
        for listener in self._status_listeners:
            listener(status)


async def async_open(
    hass: HomeAssistant, entry: ConfigEntry, settings: DeviceSettings, profile: Profile, store: DeviceStore
) -> ModbusDevice:
    """Open the device that `settings` describe; nothing is sent yet. Raises SettingsError."""
    source = settings.source
    if not isinstance(source, ModbusSource):
        raise SettingsError(f"{settings.name} is not read over Modbus")
    options = DeviceOptions(serial=source.serial, is_dark=lambda: not is_up(hass))
    counters = store.counters(settings.uid)
    if source.shared:
        units = _shared_units(hass, entry, profile, source)
        device = Device(profile, units, name=settings.name, options=options, counters=counters)
        return ModbusDevice(settings.uid, device, None, store)
    opened = await open_device(
        link_pool(hass),
        profile,
        source.link,
        source.unit,
        owner=settings.name,
        companions=source.companions,
        options=options,
        counters=counters,
    )
    return ModbusDevice(settings.uid, opened.device, opened, store)


def _shared_units(
    hass: HomeAssistant, entry: ConfigEntry, profile: Profile, source: ModbusSource
) -> Mapping[str, ModbusUnit]:
    """The device's units on Home Assistant's shared connection, held until the entry unloads."""
    companions = profile.link.companions if source.companions is None else source.companions
    wanted = settings_for(profile, source.link)
    return {
        name: shared_unit(hass, entry, wanted, unit) for name, unit in {"": source.unit, **companions}.items()
    }
