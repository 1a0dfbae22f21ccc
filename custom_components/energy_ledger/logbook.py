"""What the logbook says of the home's trades."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from homeassistant.components.logbook.const import LOGBOOK_ENTRY_MESSAGE, LOGBOOK_ENTRY_NAME
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers.translation import async_get_cached_translations

from .const import DOMAIN
from .events import BUS_EVENT

_SHORT = 12
_CODES: Final = ("reason", "role", "side", "stage")
"""Fields with a code of the ledger or of ours, which reads otherwise in each language."""


@callback
def async_describe_events(
    hass: HomeAssistant,
    async_describe_event: Callable[[str, str, Callable[[Event], dict[str, str]]], None],
) -> None:
    """Say how events read in the logbook."""

    @callback
    def describe(event: Event) -> dict[str, str]:
        entry = hass.config_entries.async_get_entry(event.data["entry_id"])
        return {
            LOGBOOK_ENTRY_NAME: "Energy Ledger" if entry is None else entry.title,
            LOGBOOK_ENTRY_MESSAGE: _message(hass, event.data),
        }

    async_describe_event(DOMAIN, BUS_EVENT, describe)


def _message(hass: HomeAssistant, data: Mapping[str, Any]) -> str:
    """Return one line in the system's language; figures that are missing are left out."""
    texts = async_get_cached_translations(hass, hass.config.language, "common", DOMAIN)
    template = texts.get(f"component.{DOMAIN}.common.logbook_{data['type']}", str(data["type"]))
    return template.format_map(_Figures(data, texts))


class _Figures(dict[str, str]):
    """The figures of an event as the logbook shows them."""

    def __init__(self, data: Mapping[str, Any], texts: Mapping[str, str]) -> None:
        super().__init__({name: _shown(name, value, texts) for name, value in data.items()})

    def __missing__(self, key: str) -> str:
        return "?"


def _shown(name: str, value: Any, texts: Mapping[str, str]) -> str:
    if name in _CODES:
        # A lost bid may say what stood against it: "lost: funds_insufficient".
        code = str(value).partition(":")[0].replace(" ", "_")
        return texts.get(f"component.{DOMAIN}.common.{name}_{code}", str(value))
    if name in ("author", "partner", "seller", "buyer", "by"):
        return f"{str(value)[:_SHORT]}…"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
