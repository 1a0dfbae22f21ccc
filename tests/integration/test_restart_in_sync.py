"""Home Assistant restarts while its node still fetches a long chain."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from msgspec.structs import replace
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
    CONF_MINING,
    CONF_PEER_PORT,
    CONF_PEERS,
    DOMAIN,
)
from custom_components.energy_ledger.key_store import async_key_store
from custom_components.energy_ledger.node.keeper import node_keeper
from ledger_core.chain.store.files import DATABASE
from ledger_core.client.views import EventView
from ledger_core.keys import address
from tests.integration.conftest import shown_entities, state_of, wait_until
from tests.node.grown import grow
from tests.node.processes import QUICK, Street, make_street

BLOCKS = 800
SOME_BYTES = 8192


@pytest.fixture
async def homes(hass: HomeAssistant, socket_enabled: None) -> AsyncIterator[Street]:
    """Two homes: the first one's node has a long past and runs, the second one's has the beginning."""
    parameters = replace(QUICK, checkpoint_interval=20)
    made = await make_street(Path(hass.config.path(DOMAIN)), 2, parameters, age_s=BLOCKS + 5, mining="no")
    try:
        await hass.async_add_executor_job(grow, made, BLOCKS)
        (made[1].node.directory / DATABASE).unlink()
        await made[0].node.start()
        made[1].gates[0].allow(0)
        yield made
    finally:
        await made.close()


async def second_home(hass: HomeAssistant, homes: Street) -> MockConfigEntry:
    """The second home's entry; its node reaches the first one's."""
    home, genesis = homes[1], homes.genesis
    await (await async_key_store(hass)).async_add(home.key)
    own = address(home.key.public_key)
    entry = MockConfigEntry(
        domain=DOMAIN,
        title="second",
        unique_id=f"{genesis.chain_id.hex()}_{own}",
        data={
            CONF_CHAIN_ID: genesis.chain_id.hex(),
            CONF_COMMUNITY: genesis.name,
            CONF_CURRENCY: genesis.currency,
            CONF_HOME: own,
            CONF_HOME_NAME: "second",
            CONF_DIRECTORY: home.node.directory.name,
        },
        options={
            CONF_PEER_PORT: 0,
            CONF_DISCOVERY: False,
            CONF_MINING: False,
            CONF_PEERS: [f"127.0.0.1:{homes[1].gates[0].port}"],
        },
    )
    entry.add_to_hass(hass)
    assert await hass.config_entries.async_setup(entry.entry_id)
    return entry


async def test_a_restart_in_the_middle_of_a_sync(hass: HomeAssistant, homes: Street) -> None:
    """What was fetched stays, every block is told once, and every entity comes back."""
    entry, gate = await second_home(hass, homes), homes[1].gates[0]
    heard: list[EventView] = []
    entry.runtime_data.ledger.listen(heard.append)
    async with asyncio.timeout(60):
        while not (reached := (await entry.runtime_data.client.status()).tip.height):
            gate.allow(SOME_BYTES)
            await asyncio.sleep(0.05)
    await wait_until(lambda: any(event.height == reached for event in heard))
    before, pid = shown_entities(hass, entry), entry.runtime_data.node.pid
    assert await hass.config_entries.async_unload(entry.entry_id)
    await node_keeper(hass).end(entry.entry_id)  # as when Home Assistant stops
    told = max(event.height or 0 for event in heard)
    assert reached <= told < BLOCKS

    gate.allow(None)
    assert await hass.config_entries.async_setup(entry.entry_id)
    assert state_of(entry) is ConfigEntryState.LOADED
    assert entry.runtime_data.node.pid != pid
    ledger = entry.runtime_data.ledger
    ledger.listen(heard.append)
    await wait_until(lambda: ledger.data.status.synced and ledger.data.status.tip.height >= BLOCKS, 60)
    await wait_until(lambda: any(event.height == BLOCKS for event in heard), 60)
    blocks = [event.height for event in heard if event.event == "block_connected"]
    assert blocks == list(range(1, len(blocks) + 1))
    assert before
    assert before <= shown_entities(hass, entry)
    assert await hass.config_entries.async_unload(entry.entry_id)
