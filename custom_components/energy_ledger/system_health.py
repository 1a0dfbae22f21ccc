"""How the homes and their nodes are, on Home Assistant's system health page."""

from typing import Any

from homeassistant.components import system_health
from homeassistant.core import HomeAssistant, callback

from ledger_core.client import ClientError

from .data import EnergyLedgerEntry
from .loaded import loaded_entries


@callback
def async_register(_hass: HomeAssistant, register: system_health.SystemHealthRegistration) -> None:
    """Register the page's part."""
    register.async_register_info(system_health_info)


async def system_health_info(hass: HomeAssistant) -> dict[str, Any]:
    """Return the part of this integration; homes are told apart by their community."""
    entries = loaded_entries(hass)
    if not entries:
        return {"homes": 0}
    return {
        "homes": len(entries),
        "node": _asked(entries),
        "version": _listed(entries, lambda entry: entry.runtime_data.ledger.data.status.version),
        "height": _listed(entries, lambda entry: entry.runtime_data.ledger.data.status.tip.height),
        "final": _listed(entries, lambda entry: entry.runtime_data.ledger.data.status.final),
        "synced": _listed(entries, lambda entry: entry.runtime_data.ledger.data.status.synced),
        "peers": _listed(entries, lambda entry: entry.runtime_data.ledger.data.status.peers),
    }


def _listed(entries: list[EnergyLedgerEntry], figure: Any) -> Any:
    """Return a figure of the only home, or of each."""
    if len(entries) == 1:
        return figure(entries[0])
    return "; ".join(f"{entry.title}: {figure(entry)}" for entry in entries)


async def _asked(entries: list[EnergyLedgerEntry]) -> str | dict[str, str]:
    """Ask every node now; the first one that does not answer is told."""
    for entry in entries:
        try:
            await entry.runtime_data.client.status()
        except ClientError as error:
            return {"type": "failed", "error": error.code}
    return "ok"
