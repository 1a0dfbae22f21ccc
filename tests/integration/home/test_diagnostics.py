"""Diagnostics of real devices, real rules and of an entry that can't start."""

import json
from types import MappingProxyType
from typing import Any

import pytest
from homeassistant.components.diagnostics import REDACTED
from homeassistant.config_entries import ConfigEntryState, ConfigSubentryData
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr

from custom_components.energy_ledger.const import DOMAIN
from custom_components.energy_ledger.diagnostics import (
    _scrubbed,
    async_get_config_entry_diagnostics,
    async_get_device_diagnostics,
)
from ledger_core.keys import SoftwareSigner, address, seed_text
from tests.integration.conftest import EntryMaker
from tests.integration.device_world import device, runtime_of, simulated
from tests.integration.own_node import OwnEntry, own_entry  # noqa: F401  (a fixture)
from tests.node.api_world import ApiWorld


async def test_of_real_devices_and_rules(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> None:
    bert = address(node.world["bert"].id)
    partners = {"members": [bert], "blocked": [bert], "feeder_members": [bert]}
    rule = ConfigSubentryData(
        data=MappingProxyType({"partners": partners}),
        subentry_type="note",
        title="Rule",
        unique_id=None,
    )
    path = "/dev/serial/by-id/usb-FTDI_FT232R_A10K4711-if00"
    line = {"kind": "serial", "device": path, "baudrate": 9600, "parity": "N", "bytesize": 8, "stopbits": 1}
    async with simulated("goodwe_et", "eastron_sdm630") as home:
        inverter = device(home, "goodwe_et", "battery", device_uid="SN-GW-4711")
        meter = device(home, "eastron_sdm630", "meter", link=line, device_uid="10.9.8.7:502")
        entry = await make_entry(node, subentries=[inverter, meter, rule])
        battery = runtime_of(entry, "battery")
        await battery.coordinator.async_refresh()
        shown = await async_get_config_entry_diagnostics(hass, entry)
        text = json.dumps(shown)
        for secret in (path, "A10K4711", "SN-GW-4711", "10.9.8.7", bert, "127.0.0.1"):
            assert secret not in text
        assert shown["member_count"] == 3
        readings = shown["devices"][battery.settings.subentry_id]["readings"]
        told = battery.coordinator.data.number
        charge = next(
            field for field in battery.coordinator.data if field.value == "state_of_charge_permille"
        )
        assert readings["state_of_charge_permille"] == {"value": told(charge), "quality": "good"}
        assert "serial" not in readings
        registry = dr.async_get(hass)
        found = registry.async_get_device_by_identifier(
            (DOMAIN, battery.settings.subentry_id), entry.entry_id
        )
        assert found is not None
        alone = await async_get_device_diagnostics(hass, entry, found)
        assert alone["device"]["readings"] == readings
        assert alone["subentry"]["data"]["device_uid"] == REDACTED
        assert await hass.config_entries.async_unload(entry.entry_id)
        alone = await async_get_device_diagnostics(hass, entry, found)
        assert (alone["device"], alone["subentry"]["data"]["profile"]) == (None, "goodwe_et")


async def test_of_an_entry_whose_node_cant_start(
    hass: HomeAssistant,
    own_entry: OwnEntry,  # noqa: F811
) -> None:
    entry = await own_entry()
    running = await async_get_config_entry_diagnostics(hass, entry)
    assert running["node_log"]
    assert await hass.config_entries.async_unload(entry.entry_id)
    data: dict[str, Any] = {**entry.data, "directory": "nothing_is_here"}
    hass.config_entries.async_update_entry(entry, data=data)
    await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_RETRY
    shown = await async_get_config_entry_diagnostics(hass, entry)
    assert (shown["state"], "status" in shown) == ("setup_retry", False)
    assert shown["entry"]["data"]["directory"] == "nothing_is_here"
    assert shown["reason"]
    assert shown["node_log"]
    text = json.dumps(shown)
    assert hass.config.config_dir not in text
    assert entry.data["home"] not in text
    await hass.config_entries.async_remove(entry.entry_id)
    assert (await async_get_config_entry_diagnostics(hass, entry))["node_log"] == []


KEY = SoftwareSigner(bytes(range(32)))


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (f"WARNING peers: {address(KEY.public_key)} left", f"WARNING peers: {REDACTED} left"),
        (f"{address(KEY.public_key)[:14]}… left", f"{REDACTED}… left"),
        (f"key {seed_text(KEY.export_seed())}!", f"key {REDACTED}!"),
        (f"block {'ab' * 32} taken", f"block {REDACTED} taken"),
        ("dials 192.168.1.9:8480 again", f"dials {REDACTED} again"),
        ("dials [fe80::1c2:3ff:fe4:5]:8480 again", f"dials {REDACTED} again"),
        ("dials ha.example.org:8480 again", f"dials {REDACTED} again"),
        ("asks wss://ha.example.org/api/peer?x=1", f"asks {REDACTED}"),
        ("12:34:56 INFO node: height 4711, 0.25 s", "12:34:56 INFO node: height 4711, 0.25 s"),
    ],
)
def test_lines_tell_neither_who_nor_where(hass: HomeAssistant, line: str, wanted: str) -> None:
    assert _scrubbed(hass, line) == wanted
