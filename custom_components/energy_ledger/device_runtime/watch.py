"""Tells the user of a device that has been away for long, or is another one now, until it is not."""

from typing import Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.event import async_call_later

from ..const import DOMAIN, issue_id
from ..devices.device import Availability
from .coordinator import DeviceCoordinator
from .settings import DeviceSettings

ISSUE_EXCHANGED: Final = "device_exchanged"
ISSUE_LOST: Final = "device_lost"
LOST_AFTER_S: Final = 600.0
"""A device that restarts or loses its network for less is not worth a word."""


class DeviceWatch:
    """The issues of one device; they go with the entry, and are told again after the next start."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        settings: DeviceSettings,
        coordinator: DeviceCoordinator,
    ) -> None:
        """Watch a device; nothing is told before `look`."""
        self._hass = hass
        self._entry = entry
        self._settings = settings
        self._coordinator = coordinator
        self._away: CALLBACK_TYPE | None = None
        """Ends the wait until a device that is away counts as lost."""
        entry.async_on_unload(self._close)

    @callback
    def look(self) -> None:
        """Look how the device is doing, after every poll."""
        availability = self._coordinator.source.availability
        if availability is Availability.WRONG_DEVICE:
            self._tell(ISSUE_EXCHANGED, fixable=False)
        else:
            self._clear(ISSUE_EXCHANGED)
        if availability is not Availability.OFFLINE:
            self._stop_waiting()
            self._clear(ISSUE_LOST)
        elif self._away is None:
            self._away = async_call_later(self._hass, LOST_AFTER_S, self._lost)

    @callback
    def _lost(self, _now: object) -> None:
        self._tell(ISSUE_LOST, fixable=True)

    @callback
    def _close(self) -> None:
        self._stop_waiting()
        self._clear(ISSUE_EXCHANGED)
        self._clear(ISSUE_LOST)

    def _stop_waiting(self) -> None:
        away, self._away = self._away, None
        if away is not None:
            away()

    def _tell(self, issue: str, *, fixable: bool) -> None:
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            issue_id(issue, self._settings.subentry_id),
            is_fixable=fixable,
            severity=ir.IssueSeverity.WARNING,
            translation_key=issue,
            translation_placeholders={
                "device": self._settings.name,
                "error": str(self._coordinator.source.error or ""),
            },
            data={
                "entry_id": self._entry.entry_id,
                "issue": issue,
                "subentry_id": self._settings.subentry_id,
            },
        )

    def _clear(self, issue: str) -> None:
        ir.async_delete_issue(self._hass, DOMAIN, issue_id(issue, self._settings.subentry_id))
