"""A home's key from the key file that the command line wrote."""

from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.setup import async_setup_component

from custom_components.energy_ledger.config_flow import EnergyLedgerConfigFlow
from custom_components.energy_ledger.const import CONF_HOME
from ledger_core.keys import KeyFileError, SoftwareSigner, address, save_key
from ledger_core.keys.keyfile import SealingCost
from tests.integration.test_config_flow import COMMUNITY, begin, choose, fill

QUICK = SealingCost(opslimit=1, memlimit=8192)


async def upload(client: Any, content: bytes) -> str:
    """Send a file as the frontend does, and return its id."""
    form = FormData()
    form.add_field("file", content, filename="home.key")
    answer = await client.post("/api/file_upload", data=form)
    assert answer.status == 200
    return str((await answer.json())["file_id"])


@pytest.mark.parametrize("passphrase", [None, "ein langer Satz"])
async def test_a_key_file(
    hass: HomeAssistant, hass_client: Any, tmp_path: Path, passphrase: str | None
) -> None:
    assert await async_setup_component(hass, "file_upload", {})
    client = await hass_client()
    signer = SoftwareSigner.generate()
    path = tmp_path / "home.key"
    save_key(path, signer, passphrase=passphrase, cost=QUICK)
    result = await fill(hass, await begin(hass, "create"), **COMMUNITY)
    result = await choose(hass, result, "restore_file")
    assert result["step_id"] == "restore_file"
    for wrong in (b"elsec1 is no file", path.read_bytes()[:-20]):
        result = await fill(hass, result, key_file=await upload(client, wrong))
        assert result["errors"] == {"key_file": "key_file_damaged"}
    sent = {"key_file": await upload(client, path.read_bytes())}
    if passphrase is not None:
        result = await fill(hass, result, **sent)
        assert result["errors"] == {"passphrase": "key_file_passphrase_needed"}
        # The file need not be chosen again.
        result = await fill(hass, result, passphrase="ein kurzer")
        assert result["errors"] == {"passphrase": "key_file_passphrase_wrong"}
        sent = {"passphrase": passphrase}
    result = await fill(hass, result, **sent)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["result"].data[CONF_HOME] == address(signer.public_key)


def test_without_a_file_there_is_no_key() -> None:
    """The form requires one; an older form may not."""
    with pytest.raises(KeyFileError, match="no key file was uploaded"):
        EnergyLedgerConfigFlow()._open_file(None, None)
