"""Which homes are loaded, for triggers and conditions, which may be set up before any of them."""

from typing import Final

import probatio as vol
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.util.signal_type import SignalType

from .const import DOMAIN
from .data import EnergyLedgerEntry

LOADED: Final[SignalType[EnergyLedgerEntry]] = SignalType(f"{DOMAIN}_loaded")
"""Sent with an entry whose coordinator can be listened to."""


def loaded_entries(hass: HomeAssistant, entry_id: str | None = None) -> list[EnergyLedgerEntry]:
    """Return the loaded entries: one, or all of them."""
    return [
        entry
        for entry in hass.config_entries.async_entries(DOMAIN)
        if entry.state is ConfigEntryState.LOADED and entry_id in (None, entry.entry_id)
    ]


def require_entry(hass: HomeAssistant, entry_id: str | None) -> None:
    """Refuse an entry that is none of this integration; raises vol.Invalid."""
    if entry_id is None:
        return
    entry = hass.config_entries.async_get_entry(entry_id)
    if entry is None or entry.domain != DOMAIN:
        raise vol.Invalid(f"'{entry_id}' is no home of {DOMAIN}: choose one, or none for all of them")
