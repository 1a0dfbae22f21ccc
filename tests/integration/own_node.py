"""Entries with a node of their own: real processes below the test's configuration directory."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped]
    MockConfigEntry,
)

from custom_components.energy_ledger.const import (
    CONF_CHAIN_ID,
    CONF_COMMUNITY,
    CONF_CURRENCY,
    CONF_DIRECTORY,
    CONF_DISCOVERY,
    CONF_HOME,
    CONF_HOME_NAME,
    CONF_INVITATION,
    CONF_PEER_PORT,
    DOMAIN,
)
from custom_components.energy_ledger.key_store import async_key_store
from custom_components.energy_ledger.node_setup import data_directory
from ledger_core.client import local
from ledger_core.keys import SoftwareSigner, address

QUICK = {
    "slot_s": 60,
    "block_spacing_s": 1,
    "checkpoint_interval": 4,
    "min_difficulty_bits": 14,
    "grace_s": 0,
}
type OwnEntry = Callable[..., Awaitable[MockConfigEntry]]


@pytest.fixture
async def own_entry(hass: HomeAssistant) -> AsyncIterator[OwnEntry]:
    """Return what makes an entry with a node of its own, founding or joining; all are unloaded at the end."""
    made: list[MockConfigEntry] = []

    async def make(
        directory: str = "founder",
        *,
        invitation: str | None = None,
        key: SoftwareSigner | None = None,
        **options: Any,
    ) -> MockConfigEntry:
        signer = key or SoftwareSigner.generate()
        path = data_directory(hass, directory)
        if invitation is None:
            founding = local.Founding(name="Elm Street", currency="EUR", founder_name="1", parameters=QUICK)
            genesis = local.found(path, founding, signer.public_key, int(time.time()))
        else:
            genesis = local.prepare_joining(path, invitation).community
        await (await async_key_store(hass)).async_add(signer)
        home = address(signer.public_key)
        data = {
            CONF_CHAIN_ID: genesis.chain_id.hex(),
            CONF_COMMUNITY: genesis.name,
            CONF_CURRENCY: genesis.currency,
            CONF_HOME: home,
            CONF_HOME_NAME: directory,
            CONF_DIRECTORY: directory,
        }
        if invitation is not None:
            data[CONF_INVITATION] = invitation
        entry = MockConfigEntry(
            domain=DOMAIN,
            title=directory,
            unique_id=f"{data[CONF_CHAIN_ID]}_{home}",
            data=data,
            options={CONF_PEER_PORT: 0, CONF_DISCOVERY: False, **options},
        )
        entry.add_to_hass(hass)
        made.append(entry)
        await hass.config_entries.async_setup(entry.entry_id)
        return entry

    yield make
    for entry in made:
        if entry.state is ConfigEntryState.LOADED:
            await hass.config_entries.async_unload(entry.entry_id)


async def invite(founder: MockConfigEntry, place: str | None = None) -> str:
    """An invitation by the founder of a community, with the place of its node unless another is given."""
    data = founder.runtime_data
    place = place or f"127.0.0.1:{data.node.readiness.peer.rpartition(':')[2]}"
    text: str = await data.home.make_invitation(int(time.time()) + 600, addresses=(place,))
    return text
