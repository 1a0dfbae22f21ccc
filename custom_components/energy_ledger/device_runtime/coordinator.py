"""The coordinator of one device: its newest readings, and whether it can be reached."""

import dataclasses
import logging
from datetime import timedelta
from typing import Final, override

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator, UpdateFailed

from ..const import DOMAIN
from ..devices.device import Availability
from ..devices.readings import Field, Quality, Reading, Readings
from .settings import DeviceSettings
from .sources import ReadingSource

_LOGGER = logging.getLogger(__name__)

_FAILURES: Final = {
    Availability.OFFLINE: "device_offline",
    Availability.WRONG_DEVICE: "device_exchanged",
}


class DeviceCoordinator(DataUpdateCoordinator[Readings]):
    """Polls a device, and takes over what another part of the same device has read meanwhile.

    `data` is always the newest readings, also while the device is away (then they say so themselves).
    """

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        settings: DeviceSettings,
        source: ReadingSource,
        interval_s: float | None,
    ) -> None:
        """Poll every `interval_s` seconds; None: the source tells by itself."""
        super().__init__(
            hass,
            _LOGGER,
            config_entry=entry,
            name=settings.name,
            update_interval=None if interval_s is None else timedelta(seconds=interval_s),
        )
        self.source = source
        self.data = Readings({})
        self._settings = settings
        self._polling = False
        entry.async_on_unload(source.listen(self._on_readings))

    @override
    async def _async_update_data(self) -> Readings:
        """Poll. Raises UpdateFailed while the device can't be reached or is another one."""
        self._polling = True
        try:
            readings = await self.source.poll()
        finally:
            self._polling = False
        self.data = self._completed(readings)
        if (failure := self._failure()) is not None:
            raise failure
        return self.data

    @callback
    def _on_readings(self, readings: Readings) -> None:
        """Take over what was read without our asking."""
        if self._polling:
            return
        if (failure := self._failure()) is None:
            self.async_set_updated_data(self._completed(readings))
            return
        self.data = self._completed(readings)
        self.async_set_update_error(failure)

    def _failure(self) -> UpdateFailed | None:
        """Why the device as a whole is not available; None: it is."""
        key = _FAILURES.get(self.source.availability)
        if key is None:
            return None
        return UpdateFailed(
            translation_domain=DOMAIN,
            translation_key=key,
            translation_placeholders={"device": self.name, "error": str(self.source.error or "")},
        )

    def _completed(self, readings: Readings) -> Readings:
        """The readings with the energy available, from the capacity that the user has told."""
        capacity = self._settings.capacity_wh
        told = readings[Field.ENERGY_AVAILABLE_WH].quality is not Quality.NOT_IMPLEMENTED
        if told or capacity is None:
            return readings
        for field in (Field.STATE_OF_CHARGE, Field.FUEL_LEVEL):
            level = readings[field]
            if level.quality is Quality.NOT_IMPLEMENTED:
                continue
            value = level.value
            energy = capacity * value // 1000 if isinstance(value, int) else None
            made = dataclasses.replace(level, value=energy, point=None)
            fields: dict[Field, Reading] = dict(readings.items())
            return Readings(fields | {Field.ENERGY_AVAILABLE_WH: made})
        return readings
