"""A street on simulated Modbus devices."""

import time
from collections.abc import AsyncIterator

import pytest
from homeassistant.core import HomeAssistant

from tests.core.world import World
from tests.integration.conftest import EntryMaker, hass_config_dir, make_entry, node
from tests.node.api_world import ApiWorld

from .wire_world import WireWorld, wire_world

__all__ = ["hass_config_dir", "make_entry", "node"]


@pytest.fixture
def world() -> World:
    """Founded at the next slot boundary, so that windows do not depend on the time of day."""
    return World(created=-(-int(time.time()) // 900) * 900)


@pytest.fixture
async def wire(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> AsyncIterator[WireWorld]:
    """Anna with a battery, Bert with a load."""
    async with wire_world(hass, node, make_entry) as found:
        yield found
