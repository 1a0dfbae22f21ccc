"""What the other tests of devices do not come across: searches, storage, fuel cells, odd profiles."""

from typing import Any

import pytest
from homeassistant.components import network
from homeassistant.const import STATE_OFF, STATE_ON, STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr

from custom_components.energy_ledger.const import DOMAIN
from custom_components.energy_ledger.device_runtime import search
from custom_components.energy_ledger.device_runtime.manager import async_remove_storage, may_remove_device
from custom_components.energy_ledger.device_runtime.parts import power_now_w
from custom_components.energy_ledger.device_runtime.sources import BrokenSource
from custom_components.energy_ledger.devices.errors import SettingsError
from custom_components.energy_ledger.devices.readings import Field, Quality, Reading, Readings
from custom_components.energy_ledger.devices.transport.base import LinkKind
from ledger_core.records.types import AssetKind
from simulator.modbus.faults import Fault, FaultKind
from tests.devices.homes import known_profiles
from tests.integration.conftest import EntryMaker
from tests.integration.device_world import device, manager_of, runtime_of, simulated
from tests.node.api_world import ApiWorld

ADAPTER: dict[str, Any] = {
    "enabled": True,
    "ipv6": [],
    "name": "eth0",
    "index": 1,
    "auto": True,
    "default": True,
}


def test_what_is_searched() -> None:
    assert search.parse_networks("192.0.2.0/30, 192.0.2.2 gateway.example") == [
        "192.0.2.1",
        "192.0.2.2",
        "gateway.example",
    ]
    assert search.parse_ports("502, 1502 502") == [502, 1502]
    for text, message in (
        ("192.0.2.0/33", "is no network; right would be"),
        ("10.0.0.0/8", "has 16777216 addresses; at most 1024"),
        ("", "0 addresses to search"),
        ("192.0.2.0/22 198.51.100.0/24", "1276 addresses to search; right would be 1 to 1024"),
    ):
        with pytest.raises(SettingsError, match=message):
            search.parse_networks(text)
    for text, message in (("70000", "is no port"), ("x", "is no port"), ("", "0 ports to try")):
        with pytest.raises(SettingsError, match=message):
            search.parse_ports(text)
    ports = search.usual_ports(known_profiles().values())
    assert ports[0] == 502
    assert 8080 in ports
    assert search._kinds_at(8080, known_profiles().values()) == [LinkKind.RTU_OVER_TCP]
    assert search._kinds_at(4711, known_profiles().values()) == [LinkKind.TCP]


async def test_own_networks_that_are_too_large_are_not_suggested(
    hass: HomeAssistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = [("192.0.2.7", 24), ("192.0.2.8", 24), ("10.1.2.3", 8), ("127.0.0.1", 24)]
    ipv4 = [{"address": address, "network_prefix": prefix} for address, prefix in addresses]

    async def adapters(_: HomeAssistant) -> list[dict[str, Any]]:
        return [{**ADAPTER, "ipv4": ipv4}, {**ADAPTER, "enabled": False, "ipv4": ipv4[2:]}]

    monkeypatch.setattr(network, "async_get_adapters", adapters)
    assert await search.async_own_networks(hass) == ["192.0.2.0/24"]


async def test_what_answers_but_is_no_device_is_left_out(
    hass: HomeAssistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_TIMEOUT_S", 0.05)
    async with simulated("eastron_sdm630") as home:
        home.links["eastron_sdm630"].inject(Fault(FaultKind.EXCEPTION, code=2))
        told: list[float] = []
        found = await search.async_search(
            hass, ["127.0.0.1"], [home.links["eastron_sdm630"].port], known_profiles(), told.append
        )
        assert found == ()
        assert told == [0.8, 1.0]


async def test_a_fuel_cell(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> None:
    async with simulated("efoy_pro", "efoy_hydrogen") as home:
        entry = await make_entry(
            node,
            subentries=[
                device(home, "efoy_pro", "fuel_cell", "Pro", variant="network"),
                device(home, "efoy_hydrogen", "fuel_cell", "Hydrogen", variant="integer"),
            ],
        )
        pro, hydrogen = runtime_of(entry, "Pro"), runtime_of(entry, "Hydrogen")
        assert {Field.FUEL_LOW} <= pro.fields
        low = hass.states.get("binary_sensor.pro_fuel_low")
        assert low is not None
        assert low.state == STATE_OFF
        pressure = hass.states.get("sensor.hydrogen_hydrogen_pressure")
        assert pressure is not None
        assert pressure.attributes["unit_of_measurement"] == "bar"
        expected = hydrogen.coordinator.data.number(Field.HYDROGEN_MBAR)
        assert expected is not None
        assert abs(float(pressure.state) * 1000 - expected) <= 100
        fault = hass.states.get("binary_sensor.pro_fault")
        assert fault is not None
        assert (fault.state, fault.attributes["fault"]) == (STATE_OFF, None)
        data = dict(pro.coordinator.data.items())
        data[Field.FAULT] = Reading("emergency off", Quality.GOOD, 0.0)
        pro.coordinator.async_set_updated_data(Readings(data))
        fault = hass.states.get("binary_sensor.pro_fault")
        assert fault is not None
        assert (fault.state, fault.attributes["fault"]) == (STATE_ON, "emergency off")
        home.links["efoy_pro"].inject(Fault(FaultKind.OFFLINE))
        await pro.coordinator.async_refresh()
        low = hass.states.get("binary_sensor.pro_fuel_low")
        assert low is not None
        assert low.state == STATE_UNAVAILABLE


async def test_a_pages_firmware_follows_the_device(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("byd_battery_box") as home:
        entry = await make_entry(node, subentries=[device(home, "byd_battery_box", "battery")])
        battery = runtime_of(entry, "battery")
        data = dict(battery.coordinator.data.items())
        data[Field.FIRMWARE] = Reading("9.9", Quality.GOOD, 0.0)
        battery.coordinator.source.readings = Readings(data)
        battery.coordinator.async_set_updated_data(Readings(data))
        devices = dr.async_get(hass)
        identifier = (DOMAIN, battery.settings.subentry_id)
        page = devices.async_get_device_by_identifier(identifier, entry.entry_id)
        assert page is not None
        assert page.sw_version == "9.9"
        assert not may_remove_device(entry, page)
        devices.async_remove_device(page.id)
        battery.coordinator.async_set_updated_data(Readings(data))
        other = devices.async_get_or_create(
            config_entry_id=entry.entry_id, identifiers={(DOMAIN, "of a subentry that is gone")}
        )
        assert may_remove_device(entry, other)


async def test_what_is_kept_goes_with_device_and_entry(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, hass_storage: dict[str, Any]
) -> None:
    async with simulated("byd_battery_box") as home:
        entry = await make_entry(node, subentries=[device(home, "byd_battery_box", "battery")])
        key = f"{DOMAIN}.{entry.entry_id}.devices"
        await hass.config_entries.async_unload(entry.entry_id)
        assert hass_storage[key]["data"]["devices"]["byd_battery_box"]["counters"]
        hass_storage[key]["data"]["devices"]["another"] = {"counters": {}}
        hass_storage[key]["data"]["devices"]["byd_battery_box"]["counters"]["charge_wh"] = ["x"]
        assert await hass.config_entries.async_setup(entry.entry_id)
        await hass.async_block_till_done()
        await manager_of(entry)._store.async_save()
        assert list(hass_storage[key]["data"]["devices"]) == ["byd_battery_box"]
        await hass.config_entries.async_unload(entry.entry_id)
        await async_remove_storage(hass, entry.entry_id)
        assert key not in hass_storage


async def test_a_source_that_is_broken_never_changes() -> None:
    source = BrokenSource(SettingsError("no such thing"))
    heard: list[Readings] = []
    stop = source.listen(heard.append)
    assert not list(await source.poll())
    stop()
    assert heard == []
    assert power_now_w(AssetKind.LINE, source.readings) is None
