"""What a user may attach to a bug report: no keys, tokens, addresses, serial numbers or places."""

import re
from typing import Any, Final

import msgspec
from homeassistant.components.diagnostics import REDACTED, async_redact_data
from homeassistant.config_entries import ConfigEntryState, ConfigSubentry
from homeassistant.core import HomeAssistant
from homeassistant.helpers.device_registry import DeviceEntry

from .const import SUBENTRY_DEVICE
from .data import DeviceRuntime, EnergyLedgerEntry
from .devices.readings import Field, Readings
from .node.keeper import node_keeper

TO_REDACT: Final = frozenset(
    {
        "address",
        "addresses",
        "advertise",
        "audience",
        "author",
        "blocked",
        "buyer",
        "device_path",
        "device_uid",
        "feeder_members",
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
        "members",
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
_PRIVATE: Final = re.compile(
    r"""\w+://\S+                              # URLs
      | \b[a-z]+1[02-9ac-hj-np-z]{8,}          # addresses of members, also shortened, and seeds
      | \b[0-9a-fA-F]{16,}\b                   # keys and ids
      | \b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?     # IPv4
      | \[?(?:[0-9a-fA-F]{0,4}:){3,}[0-9a-fA-F.]*(?:%\w+)?\]?(?::\d+)?   # IPv6
      | \b[\w-]+(?:\.[\w-]+)+:\d{2,5}\b        # host names with their port
    """,
    re.VERBOSE,
)


async def async_get_config_entry_diagnostics(hass: HomeAssistant, entry: EnergyLedgerEntry) -> dict[str, Any]:
    """Return what is known of an entry; of one that is not loaded, how it was set up and why it is not."""
    shown = {
        "entry": {"data": dict(entry.data), "options": dict(entry.options), "version": entry.version},
        "state": entry.state.value,
        "reason": None if entry.reason is None else _scrubbed(hass, entry.reason),
        "subentries": [_subentry(subentry) for subentry in entry.subentries.values()],
        "node_log": [_scrubbed(hass, line) for line in node_keeper(hass).log_lines(entry.entry_id)],
    }
    if entry.state is ConfigEntryState.LOADED:
        shown |= _running(entry)
    redacted: dict[str, Any] = async_redact_data(_plain(shown), TO_REDACT)
    return redacted


def _running(entry: EnergyLedgerEntry) -> dict[str, Any]:
    """What a loaded entry knows of the ledger and of its devices."""
    data = entry.runtime_data
    view = data.ledger.data
    peers = [{"direction": peer.direction, "up_s": peer.up_s, "height": peer.height} for peer in view.peers]
    return {
        "answers": data.ledger.last_update_success,
        "status": msgspec.to_builtins(view.status),
        "account": msgspec.to_builtins(view.account),
        "member_count": len(view.members),
        "assets": msgspec.to_builtins(view.assets[:_MOST]),
        "offers": msgspec.to_builtins(view.offers[:_MOST]),
        "waiting": msgspec.to_builtins(view.waiting[:_MOST]),
        "trades": msgspec.to_builtins(view.trades[:_MOST]),
        "links": peers,
        "limits": None if data.settings is None else msgspec.to_builtins(data.settings.limits),
        "books": None if data.books is None else msgspec.to_builtins(data.books.total()),
        "devices": {key: _device(device) for key, device in data.devices.items()},
    }


async def async_get_device_diagnostics(
    hass: HomeAssistant, entry: EnergyLedgerEntry, device: DeviceEntry
) -> dict[str, Any]:
    """Return what is known of one device; for the home and its node: of the entry."""
    subentry_id = device.config_subentry_id
    subentry = entry.subentries.get(subentry_id or "")
    if subentry is None or subentry_id is None or subentry.subentry_type != SUBENTRY_DEVICE:
        return await async_get_config_entry_diagnostics(hass, entry)
    loaded = entry.state is ConfigEntryState.LOADED
    runtime = entry.runtime_data.devices.get(subentry_id) if loaded else None
    shown = {"subentry": _subentry(subentry), "device": None if runtime is None else _device(runtime)}
    redacted: dict[str, Any] = async_redact_data(_plain(shown), TO_REDACT)
    return redacted


def _subentry(subentry: ConfigSubentry) -> dict[str, Any]:
    data = dict(subentry.data)
    if "device" in (link := data.get("link", {})):
        # The path of a serial line holds the serial number of its adapter.
        data["link"] = {**link, "device": REDACTED}
    return {"type": subentry.subentry_type, "data": data}


def _device(runtime: DeviceRuntime) -> dict[str, Any]:
    coordinator = runtime.coordinator
    return {
        "kind": runtime.kind.value,
        "registered": runtime.asset_id is not None,
        "commanded": runtime.commander is not None,
        "answers": coordinator.last_update_success,
        "error": None if coordinator.last_exception is None else type(coordinator.last_exception).__name__,
        "readings": _readings(coordinator.data),
    }


def _readings(readings: Readings | None) -> dict[str, Any] | None:
    """What a device told, and how far it can be relied on; whose device it is stays out."""
    if readings is None:
        return None
    return {
        field.value: {"value": readings[field].value, "quality": readings[field].quality.value}
        for field in readings
        if field is not Field.SERIAL
    }


def _scrubbed(hass: HomeAssistant, text: str) -> str:
    """Return a line of text without who and where."""
    return _PRIVATE.sub(REDACTED, text.replace(hass.config.config_dir, "config"))


def _plain(value: Any) -> Any:
    """Return JSON's own types: redaction does not look into tuples."""
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=str))
