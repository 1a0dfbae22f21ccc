"""Which homes are loaded, for triggers and conditions, which may be set up before any of them."""

from collections.abc import Mapping
from typing import Any, Final

import probatio as vol
from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import ATTR_CONFIG_ENTRY_ID, CONF_OPTIONS
from homeassistant.core import HomeAssistant
from homeassistant.helpers.typing import ConfigType
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


def check_options(hass: HomeAssistant, schema: vol.Schema, config: ConfigType) -> ConfigType:
    """Return the checked configuration of a trigger or condition; raises vol.Invalid."""
    checked: ConfigType = schema(config)
    entry_id = checked[CONF_OPTIONS].get(ATTR_CONFIG_ENTRY_ID)
    if entry_id is not None:
        entry = hass.config_entries.async_get_entry(entry_id)
        if entry is None or entry.domain != DOMAIN:
            raise vol.Invalid(f"'{entry_id}' is no home of {DOMAIN}: choose one, or none for all of them")
    return checked


def split_options(options: Mapping[str, Any] | None) -> tuple[str | None, dict[str, Any]]:
    """Return the home that options name, None for all of them, and the other options."""
    others = dict(options or {})
    return others.pop(ATTR_CONFIG_ENTRY_ID, None), others
