"""Keys in Home Assistant's storage, and where `ledger_core` is found."""

import sys
from importlib import util
from pathlib import Path
from typing import Any

import pytest
from homeassistant.core import HomeAssistant

from custom_components.energy_ledger import vendor
from custom_components.energy_ledger.key_store import STORAGE_KEY, KeyStore, async_key_store
from ledger_core.keys import AddressError, SoftwareSigner, address, seed_text


async def test_keys_outlive_a_restart(hass: HomeAssistant, hass_storage: dict[str, Any]) -> None:
    signer = SoftwareSigner.generate()
    store = await async_key_store(hass)
    assert await async_key_store(hass) is store
    key = await store.async_add(signer)
    assert key.address == address(signer.public_key)
    assert key.recovery_code == seed_text(signer.export_seed())
    meter = await key.async_meter_signer("device")
    assert (await store.async_add(signer)).signer.public_key == signer.public_key

    again = KeyStore(hass)
    await again.async_load()
    assert again.homes == [key.address]
    found = again.get(key.address)
    assert found.signer.public_key == signer.public_key
    assert (await found.async_meter_signer("device")).public_key == meter.public_key
    assert (await found.async_meter_signer("other")).public_key != meter.public_key
    assert set(hass_storage[STORAGE_KEY]["data"]) == {"homes"}


async def test_only_the_owner_may_read_the_file(hass: HomeAssistant) -> None:
    assert (await async_key_store(hass))._store._private is True


async def test_a_damaged_key_is_told(hass: HomeAssistant, hass_storage: dict[str, Any]) -> None:
    data = {"homes": {"el1home": {"seed": "elsec1damaged", "meters": {}}}}
    hass_storage[STORAGE_KEY] = {"version": 1, "key": STORAGE_KEY, "data": data}
    store = await async_key_store(hass)
    with pytest.raises(AddressError):
        store.get("el1home")
    with pytest.raises(KeyError):
        store.get("el1other")


def test_an_installed_ledger_needs_no_path(tmp_path: Path) -> None:
    before = list(sys.path)
    assert vendor.ensure_ledger(tmp_path) is None
    assert sys.path == before


def test_a_release_brings_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendor, "find_spec", lambda _name: None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "its_own_ledger.py").write_text("")
    assert vendor.ensure_ledger(tmp_path) == tmp_path
    assert sys.path[-1] == str(tmp_path)
    assert util.find_spec("its_own_ledger") is not None
