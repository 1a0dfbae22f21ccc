"""Entries of the integration against a real node API."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from homeassistant.config_entries import ConfigEntryState, ConfigSubentryData
from homeassistant.const import CONF_TOKEN, CONF_URL, STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped]
    MockConfigEntry,
)

from custom_components.energy_ledger.const import (
    CONF_CHAIN_ID,
    CONF_COMMUNITY,
    CONF_CURRENCY,
    CONF_HOME,
    CONF_HOME_NAME,
    DOMAIN,
)
from custom_components.energy_ledger.key_store import async_key_store
from ledger_core.keys import address
from tests.core.world import World
from tests.node.api_world import TOKEN, ApiWorld, api_world

type EntryMaker = Callable[..., Awaitable[MockConfigEntry]]


async def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Return as soon as a condition holds; raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def state_of(entry: MockConfigEntry) -> ConfigEntryState:
    """Where an entry is now, whatever it was before."""
    state: ConfigEntryState = entry.state
    return state


@pytest.fixture
def hass_config_dir(tmp_path: Path) -> str:
    """A configuration directory of the test's own: the integration keeps its node's data there."""
    directory = tmp_path / "config"
    directory.mkdir()
    return str(directory)


@pytest.fixture
def world() -> World:
    """A community of three homes, founded now: anna (the authority), bert and cara."""
    return World(created=int(time.time()))


@pytest.fixture
async def node(tmp_path: Path, world: World) -> AsyncIterator[ApiWorld]:
    """A real engine and API in this process, which mines when told: `await node.mine()`."""
    async with api_world(tmp_path / "node", world) as running:
        yield running


@pytest.fixture
async def make_entry(hass: HomeAssistant) -> AsyncIterator[EntryMaker]:
    """Return what makes an entry of a home of a world at its node; all are unloaded at the end."""
    async with AsyncExitStack() as stack:

        async def make(
            node: ApiWorld,
            home: str = "anna",
            *,
            set_up: bool = True,
            subentries: list[ConfigSubentryData] | None = None,
            **options: Any,
        ) -> MockConfigEntry:
            key = node.world[home].key
            await (await async_key_store(hass)).async_add(key)
            entry = MockConfigEntry(
                domain=DOMAIN,
                title=node.world.genesis.name,
                unique_id=f"{node.world.chain_id.hex()}_{address(key.public_key)}",
                data={
                    CONF_CHAIN_ID: node.world.chain_id.hex(),
                    CONF_COMMUNITY: node.world.genesis.name,
                    CONF_CURRENCY: node.world.genesis.currency,
                    CONF_HOME: address(key.public_key),
                    CONF_HOME_NAME: home,
                    CONF_URL: f"http://127.0.0.1:{node.server.port}",
                    CONF_TOKEN: TOKEN,
                },
                options=options,
                subentries_data=subentries,
            )
            entry.add_to_hass(hass)
            if set_up:
                assert await hass.config_entries.async_setup(entry.entry_id)
                await hass.async_block_till_done()

                async def unload() -> None:
                    if entry.state.recoverable:
                        await hass.config_entries.async_unload(entry.entry_id)

                stack.push_async_callback(unload)
            return entry

        yield make


@pytest.fixture
async def entry(node: ApiWorld, make_entry: EntryMaker) -> MockConfigEntry:
    """Anna's entry, set up, at a node elsewhere (`node`)."""
    return await make_entry(node)


def shown_entities(hass: HomeAssistant, entry: MockConfigEntry) -> set[str]:
    """Return a home's entities that are available."""
    registry = er.async_get(hass)
    names = [each.entity_id for each in er.async_entries_for_config_entry(registry, entry.entry_id)]
    states = {name: hass.states.get(name) for name in names}
    return {name for name, found in states.items() if found and found.state != STATE_UNAVAILABLE}
