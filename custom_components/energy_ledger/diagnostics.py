"""What a user may attach to a bug report: no keys, tokens, addresses, serial numbers or places."""

from typing import Any, Final

import msgspec
from homeassistant.components.diagnostics import async_redact_data
from homeassistant.core import HomeAssistant
from homeassistant.helpers.device_registry import DeviceEntry

from .const import SUBENTRY_DEVICE
from .data import EnergyLedgerEntry

TO_REDACT: Final = frozenset(
    {
        "address",
        "addresses",
        "advertise",
        "audience",
        "author",
        "buyer",
        "device_path",
        "home",
        "home_name",
        "host",
        "identity",
        "invitation",
        "key",
        "latitude",
        "location",
        "longitude",
        "member",
        "meter_key",
        "name",
        "name_hash",
        "node",
        "offerer",
        "owner",
        "peers",
        "port",
        "private_key",
        "recovery_code",
        "seed",
        "seller",
        "serial",
        "serial_number",
        "title",
        "token",
        "unique_id",
        "url",
    }
)
_MOST: Final = 50
"""How many of a list are shown."""


async def async_get_config_entry_diagnostics(
    _hass: HomeAssistant, entry: EnergyLedgerEntry
) -> dict[str, Any]:
    """Return what is known of an entry."""
    data = entry.runtime_data
    view = data.ledger.data
    peers = [{"direction": peer.direction, "up_s": peer.up_s, "height": peer.height} for peer in view.peers]
    shown = {
        "entry": {"data": dict(entry.data), "options": dict(entry.options), "version": entry.version},
        "subentries": [_subentry(subentry) for subentry in entry.subentries.values()],
        "answers": data.ledger.last_update_success,
        "status": msgspec.to_builtins(view.status),
        "account": msgspec.to_builtins(view.account),
        "members": len(view.members),
        "assets": msgspec.to_builtins(view.assets[:_MOST]),
        "offers": msgspec.to_builtins(view.offers[:_MOST]),
        "waiting": msgspec.to_builtins(view.waiting[:_MOST]),
        "trades": msgspec.to_builtins(view.trades[:_MOST]),
        "links": peers,
        "limits": None if data.settings is None else msgspec.to_builtins(data.settings.limits),
        "books": None if data.books is None else msgspec.to_builtins(data.books.total()),
        "devices": {key: _device(device) for key, device in data.devices.items()},
    }
    redacted: dict[str, Any] = async_redact_data(_plain(shown), TO_REDACT)
    return redacted


async def async_get_device_diagnostics(
    hass: HomeAssistant, entry: EnergyLedgerEntry, device: DeviceEntry
) -> dict[str, Any]:
    """Return what is known of one device; for the home and its node: of the entry."""
    subentry_id = device.config_subentry_id
    subentry = entry.subentries.get(subentry_id or "")
    if subentry is None or subentry_id is None or subentry.subentry_type != SUBENTRY_DEVICE:
        return await async_get_config_entry_diagnostics(hass, entry)
    runtime = entry.runtime_data.devices.get(subentry_id)
    shown = {"subentry": _subentry(subentry), "device": None if runtime is None else _device(runtime)}
    redacted: dict[str, Any] = async_redact_data(_plain(shown), TO_REDACT)
    return redacted


def _subentry(subentry: Any) -> dict[str, Any]:
    return {"type": subentry.subentry_type, "data": dict(subentry.data)}


def _device(runtime: Any) -> dict[str, Any]:
    coordinator = runtime.coordinator
    readings = coordinator.data
    return {
        "kind": runtime.kind.value,
        "registered": runtime.asset_id is not None,
        "commanded": runtime.commander is not None,
        "answers": coordinator.last_update_success,
        "error": None if coordinator.last_exception is None else type(coordinator.last_exception).__name__,
        "readings": None if readings is None else repr(readings),
    }


def _plain(value: Any) -> Any:
    """Return JSON's own types: redaction does not look into tuples."""
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=str))
