"""An entry with a node of its own, a real process: set up, watched, reloaded, removed, joined."""

import os
import shutil
import signal
from collections import deque
from pathlib import Path
from unittest.mock import patch

from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir

from custom_components.energy_ledger.backup import async_post_backup, async_pre_backup
from custom_components.energy_ledger.const import (
    CONF_CHAIN_ID,
    CONF_DIRECTORY,
    CONF_HOME,
    CONF_INVITATION,
    CONF_MINING_SHARE,
    DOMAIN,
)
from custom_components.energy_ledger.key_store import async_key_store
from custom_components.energy_ledger.node.keeper import node_keeper
from custom_components.energy_ledger.node.process import NodeLaunch, NodeProcess
from custom_components.energy_ledger.node_setup import data_directory
from ledger_core.client.views import EventView
from tests.integration.conftest import shown_entities, state_of, wait_until
from tests.integration.own_node import OwnEntry, invite, own_entry

__all__ = ["own_entry"]


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_runs_and_ends_with_the_entry(hass: HomeAssistant, own_entry: OwnEntry) -> None:
    entry = await own_entry()
    assert state_of(entry) is ConfigEntryState.LOADED
    node = entry.runtime_data.node
    pid = node.pid
    await wait_until(lambda: entry.runtime_data.ledger.data.status.tip.height >= 2)
    assert any("stands at height" in line for line in node.log_lines)
    assert await hass.config_entries.async_unload(entry.entry_id)
    await node_keeper(hass).end(entry.entry_id)
    assert gone(pid)
    assert state_of(entry) is ConfigEntryState.NOT_LOADED


async def test_mining_is_switched_while_the_node_runs(hass: HomeAssistant, own_entry: OwnEntry) -> None:
    entry = await own_entry()
    data = entry.runtime_data
    pid, share = data.node.pid, (await data.client.mining()).share
    (switch,) = [each for each in hass.states.async_entity_ids("switch") if each.endswith("_mining")]

    async def turn(service: str) -> None:
        await hass.services.async_call("switch", service, {"entity_id": switch}, blocking=True)
        await hass.async_block_till_done()

    await turn("turn_off")
    assert not (await data.client.mining()).on
    shown = hass.states.get(switch)
    assert shown is not None
    assert shown.state == "off"
    hass.config_entries.async_update_entry(entry, options={**entry.options, CONF_MINING_SHARE: 50})
    await hass.async_block_till_done()
    changed = await data.client.mining()
    assert (changed.on, changed.share) == (False, 0.5)
    assert changed.share != share
    assert (data.node.pid, entry.runtime_data) == (pid, data), "nothing was set up anew"

    # What was switched is still so after a crash.
    os.kill(pid, signal.SIGKILL)
    await wait_until(lambda: data.node.restarts == 1 and data.node.pid not in (None, pid))
    await wait_until(lambda: data.ledger.last_update_success)
    again = await data.client.mining()
    assert (again.on, again.share) == (False, 0.5)
    await turn("turn_on")
    assert (await data.client.mining()).on


async def test_ends_when_home_assistant_stops(hass: HomeAssistant, own_entry: OwnEntry) -> None:
    entry = await own_entry()
    pid = entry.runtime_data.node.pid
    hass.bus.async_fire(EVENT_HOMEASSISTANT_STOP)
    await wait_until(lambda: gone(pid))


async def test_killed_node_comes_back_and_no_event_is_lost(hass: HomeAssistant, own_entry: OwnEntry) -> None:
    entry = await own_entry()
    data = entry.runtime_data
    heard: list[EventView] = []
    data.ledger.listen(heard.append)
    states: list[bool] = []
    data.ledger.async_add_listener(lambda: states.append(data.ledger.last_update_success))
    await wait_until(lambda: len(heard) > 5)
    before = shown_entities(hass, entry)
    (synced,) = [name for name in before if name.endswith("_node_synced")]
    os.kill(data.node.pid, signal.SIGKILL)
    await wait_until(lambda: False in states)
    await wait_until(lambda: synced not in shown_entities(hass, entry))
    await wait_until(lambda: data.node.restarts == 1 and data.ledger.last_update_success)
    height = data.ledger.data.status.tip.height
    await wait_until(lambda: data.ledger.data.status.tip.height > height + 1)
    await hass.async_block_till_done()
    assert shown_entities(hass, entry) >= before, "no entity is stuck"

    blocks = [event.height for event in heard if event.event == "block_connected"]
    assert all(height is not None for height in blocks)
    assert len(blocks) == len(set(blocks))
    assert blocks == list(range(blocks[0] or 0, (blocks[0] or 0) + len(blocks)))


async def test_events_go_on_after_a_restart(hass: HomeAssistant, own_entry: OwnEntry) -> None:
    entry = await own_entry()
    heard: list[EventView] = []
    entry.runtime_data.ledger.listen(heard.append)
    await wait_until(lambda: any(event.event == "block_connected" for event in heard))
    assert await hass.config_entries.async_unload(entry.entry_id)
    before = [event.cursor for event in heard]

    assert await hass.config_entries.async_setup(entry.entry_id)
    entry.runtime_data.ledger.listen(heard.append)
    await wait_until(lambda: len(heard) > len(before) + 3)
    numbers = [int(event.cursor.partition("-")[0]) for event in heard]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_changed_options_start_the_node_anew(hass: HomeAssistant, own_entry: OwnEntry) -> None:
    entry = await own_entry()
    pid = entry.runtime_data.node.pid
    hass.config_entries.async_update_entry(entry, options={**entry.options, "log_level": "debug"})
    await wait_until(lambda: gone(pid))
    await wait_until(lambda: state_of(entry) is ConfigEntryState.LOADED)
    assert entry.runtime_data.node.pid != pid


async def test_damaged_data_is_an_issue_that_goes_with_its_cause(
    hass: HomeAssistant, own_entry: OwnEntry, issue_registry: ir.IssueRegistry
) -> None:
    entry = await own_entry()
    assert await hass.config_entries.async_unload(entry.entry_id)
    await node_keeper(hass).end(entry.entry_id)
    key = data_directory(hass, entry.data[CONF_DIRECTORY]) / "node.key"
    kept = key.read_bytes()
    key.write_bytes(b"{}")
    assert not await hass.config_entries.async_setup(entry.entry_id)
    assert state_of(entry) is ConfigEntryState.SETUP_RETRY
    issue = issue_registry.async_get_issue(DOMAIN, f"node_cannot_start_{entry.entry_id}")
    assert issue is not None
    assert issue.translation_placeholders is not None
    assert "node.key" in issue.translation_placeholders["reason"]

    key.write_bytes(kept)
    await hass.config_entries.async_reload(entry.entry_id)
    assert state_of(entry) is ConfigEntryState.LOADED
    assert issue_registry.async_get_issue(DOMAIN, f"node_cannot_start_{entry.entry_id}") is None


async def test_another_version_is_an_issue_and_does_no_damage(
    hass: HomeAssistant, own_entry: OwnEntry, issue_registry: ir.IssueRegistry
) -> None:
    with patch("custom_components.energy_ledger.node.supervisor.__version__", "9.9.9"):
        entry = await own_entry()
    assert state_of(entry) is ConfigEntryState.SETUP_ERROR
    issue_id = f"node_version_mismatch_{entry.entry_id}"
    assert issue_registry.async_get_issue(DOMAIN, issue_id) is not None
    await hass.config_entries.async_reload(entry.entry_id)
    assert state_of(entry) is ConfigEntryState.LOADED
    assert issue_registry.async_get_issue(DOMAIN, issue_id) is None


async def test_joins_by_invitation_and_comes_back_with_another_node(
    hass: HomeAssistant, own_entry: OwnEntry
) -> None:
    founder = await own_entry()
    entry = await own_entry("newcomer", invitation=await invite(founder))
    # Interrupted while it syncs or joins, it goes on.
    await hass.config_entries.async_reload(entry.entry_id)
    assert state_of(entry) is ConfigEntryState.LOADED
    await wait_until(lambda: CONF_INVITATION not in entry.data, 60)
    first = entry.runtime_data.ledger.data
    assert entry.data[CONF_HOME] in [member.member.address for member in first.members]

    directory = data_directory(hass, entry.data[CONF_DIRECTORY])
    assert directory.is_dir()
    assert (await hass.config_entries.async_remove(entry.entry_id))["require_restart"] is False
    assert not directory.exists()
    key = (await async_key_store(hass)).get(entry.data[CONF_HOME]).signer

    again = await own_entry("again", invitation=await invite(founder), key=key)
    await wait_until(lambda: CONF_INVITATION not in again.data, 60)
    second = again.runtime_data.ledger.data
    assert second.status.node != first.status.node
    mine = [member for member in second.members if member.member.address == again.data[CONF_HOME]]
    assert [member.node for member in mine] == [second.status.node]


async def test_backup_holds_the_node_whole(hass: HomeAssistant, own_entry: OwnEntry, tmp_path: Path) -> None:
    entry = await own_entry()
    data = entry.runtime_data
    await wait_until(lambda: data.ledger.data.status.tip.height >= 4)
    pid, url = data.node.pid, data.node.readiness.api
    await async_pre_backup(hass)
    assert gone(pid)
    copy = tmp_path / "copy"
    await hass.async_add_executor_job(shutil.copytree, data_directory(hass, entry.data[CONF_DIRECTORY]), copy)
    await async_post_backup(hass)
    await wait_until(lambda: data.node.pid is not None and data.ledger.last_update_success)
    assert data.node.readiness.api == url
    height = data.ledger.data.status.tip.height
    await wait_until(lambda: data.ledger.data.status.tip.height > height)
    # No pause, so nothing to resume.
    await async_post_backup(hass)
    assert await hass.config_entries.async_unload(entry.entry_id)

    settings = {"peer_port": "0", "discovery": "no"}
    restored = NodeProcess(NodeLaunch(directory=copy, settings=settings), deque())
    told = await restored.start()
    assert told.chain_id == entry.data[CONF_CHAIN_ID]
    await restored.stop()
