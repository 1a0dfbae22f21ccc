"""Backups that hold the node's data whole.

While Home Assistant copies files, the nodes that it runs are paused, so that no file changes under the copy;
one that is kept for an entry to be set up again is ended.
They catch up with the other homes afterwards. A node that is restored from a backup finds in the chain what
it voted since, and does not vote twice.
"""

import asyncio

from homeassistant.core import HomeAssistant

from .const import DOMAIN
from .node.keeper import node_keeper
from .node.supervisor import NodeSupervisor


def _nodes(hass: HomeAssistant) -> list[NodeSupervisor]:
    entries = hass.config_entries.async_loaded_entries(DOMAIN)
    return [entry.runtime_data.node for entry in entries if entry.runtime_data.node is not None]


async def async_pre_backup(hass: HomeAssistant) -> None:
    """Pause the nodes."""
    await asyncio.gather(node_keeper(hass).end_all(), *(node.pause() for node in _nodes(hass)))


async def async_post_backup(hass: HomeAssistant) -> None:
    """Let the nodes go on."""
    for node in _nodes(hass):
        node.resume()
