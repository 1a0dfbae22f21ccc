"""A node that lives on while its entry is set up anew, and ends when nobody takes it over."""

import asyncio
import os
import signal
from dataclasses import replace
from datetime import timedelta
from unittest.mock import patch

import pytest
from homeassistant.config_entries import ConfigEntryDisabler, ConfigEntryState
from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import CoreState, HomeAssistant
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped]
    async_fire_time_changed,
)

from custom_components.energy_ledger.backup import async_post_backup, async_pre_backup
from custom_components.energy_ledger.const import CONF_DIRECTORY, ISSUE_NODE_CANNOT_START, issue_id
from custom_components.energy_ledger.node.keeper import GRACE_S, NodeKeeper, node_keeper
from custom_components.energy_ledger.node.supervisor import Pace
from custom_components.energy_ledger.node_setup import data_directory
from custom_components.energy_ledger.repairs import async_create_fix_flow
from tests.integration.conftest import state_of, wait_until
from tests.integration.own_node import OwnEntry, own_entry
from tests.integration.test_supervisor import Maker, Watched, launch, watch
from tests.node.api_world import ApiWorld

__all__ = ["launch", "own_entry", "watch"]

PATIENT = Pace(ready_s=20, end_s=5, poll_s=60)
ENTRY = "an entry"


def gone(pid: int) -> bool:
    """Whether a process has ended, and was waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_reload_keeps_it_and_a_crash_meanwhile_is_noticed(
    hass: HomeAssistant, own_entry: OwnEntry
) -> None:
    entry = await own_entry()
    pid = entry.runtime_data.node.pid
    assert await hass.config_entries.async_reload(entry.entry_id)
    assert entry.runtime_data.node.pid == pid
    height = entry.runtime_data.ledger.data.status.tip.height
    await wait_until(lambda: entry.runtime_data.ledger.data.status.tip.height > height)

    assert await hass.config_entries.async_unload(entry.entry_id)
    assert not gone(pid)
    os.kill(pid, signal.SIGKILL)
    await wait_until(lambda: gone(pid))
    assert await hass.config_entries.async_setup(entry.entry_id)
    other = entry.runtime_data.node.pid
    assert other not in (None, pid)

    await hass.config_entries.async_set_disabled_by(entry.entry_id, ConfigEntryDisabler.USER)
    assert state_of(entry) is ConfigEntryState.NOT_LOADED
    assert gone(other)


async def test_a_repair_starts_it_anew_and_removal_ends_it(hass: HomeAssistant, own_entry: OwnEntry) -> None:
    entry = await own_entry()
    node = entry.runtime_data.node
    pid = node.pid
    flow = await async_create_fix_flow(
        hass, issue_id(ISSUE_NODE_CANNOT_START, entry.entry_id), {"entry_id": entry.entry_id}
    )
    flow.hass, flow.flow_id, flow.handler = hass, "test", "energy_ledger"
    await flow.async_step_confirm({})  # type: ignore[attr-defined]
    await wait_until(lambda: gone(pid))
    await wait_until(lambda: state_of(entry) is ConfigEntryState.LOADED)
    other = entry.runtime_data.node.pid
    assert other != pid

    assert await hass.config_entries.async_unload(entry.entry_id)
    assert not gone(other)
    await hass.config_entries.async_remove(entry.entry_id)
    assert gone(other)
    assert not data_directory(hass, entry.data[CONF_DIRECTORY]).exists()


@pytest.fixture
async def running(watch: Maker, node: ApiWorld, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """A process that tells of an API that answers, under a supervisor."""
    monkeypatch.setenv("TEST_API", f"http://127.0.0.1:{node.server.port}")
    watched = watch("ready", PATIENT)
    await watched.supervisor.start()
    return watched


def pid_of(watched: Watched) -> int:
    """The id of the process, which runs."""
    pid = watched.supervisor.pid
    assert pid is not None
    assert not gone(pid)
    return pid


@pytest.fixture
def keeper(hass: HomeAssistant) -> NodeKeeper:
    """The keeper of this Home Assistant."""
    assert node_keeper(hass) is node_keeper(hass)
    return node_keeper(hass)


async def test_taken_over_it_is_watched_again(
    hass: HomeAssistant, keeper: NodeKeeper, running: Watched
) -> None:
    pid = pid_of(running)
    await keeper.keep(ENTRY, running.supervisor)
    assert await keeper.take("another entry", running.supervisor.launch) is None
    same = replace(running.supervisor.launch, settings=dict(running.supervisor.launch.settings))
    taken = await keeper.take(ENTRY, same)
    assert taken is not None
    client, supervisor = taken
    assert supervisor is running.supervisor
    assert (await client.status()).version
    # The grace ends nothing that was taken over.
    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=GRACE_S + 1))
    await hass.async_block_till_done()
    assert pid_of(running) == pid
    os.kill(pid, signal.SIGKILL)
    await wait_until(lambda: supervisor.restarts == 1 and supervisor.pid not in (None, pid))


async def test_the_grace_ends_it(hass: HomeAssistant, keeper: NodeKeeper, running: Watched) -> None:
    pid = pid_of(running)
    await keeper.keep(ENTRY, running.supervisor)
    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=GRACE_S + 1))
    # Whoever comes while it ends waits for that: two processes must not share a directory.
    assert await keeper.take(ENTRY, running.supervisor.launch) is None
    assert gone(pid)


async def test_other_settings_end_it(keeper: NodeKeeper, running: Watched) -> None:
    pid = pid_of(running)
    await keeper.keep(ENTRY, running.supervisor)
    other = replace(running.supervisor.launch, settings={"mining": "yes"})
    assert await keeper.take(ENTRY, other) is None
    assert gone(pid)


async def test_home_assistants_stop_ends_it(
    hass: HomeAssistant, keeper: NodeKeeper, running: Watched
) -> None:
    pid = pid_of(running)
    await keeper.keep(ENTRY, running.supervisor)
    hass.bus.async_fire(EVENT_HOMEASSISTANT_STOP)
    await hass.async_block_till_done()
    assert gone(pid)


async def test_nothing_is_kept_when_home_assistant_stops(
    hass: HomeAssistant, keeper: NodeKeeper, running: Watched
) -> None:
    pid = pid_of(running)
    with patch.object(hass, "state", CoreState.stopping):
        await keeper.keep(ENTRY, running.supervisor)
    assert gone(pid)


async def test_one_that_does_not_run_is_not_kept(keeper: NodeKeeper, running: Watched) -> None:
    await running.supervisor.pause()
    await keeper.keep(ENTRY, running.supervisor)
    assert await keeper.take(ENTRY, running.supervisor.launch) is None
    running.supervisor.resume()
    assert running.supervisor.pid is None


async def test_one_that_does_not_answer_is_ended(
    keeper: NodeKeeper, running: Watched, node: ApiWorld
) -> None:
    pid = pid_of(running)
    await keeper.keep(ENTRY, running.supervisor)
    await node.server.close()
    assert await keeper.take(ENTRY, running.supervisor.launch) is None
    assert gone(pid)


async def test_one_that_has_moved_is_ended(watch: Maker, keeper: NodeKeeper) -> None:
    watched = watch("moves")
    await watched.supervisor.start()
    await wait_until(lambda: watched.moves)
    pid = pid_of(watched)
    await keeper.keep(ENTRY, watched.supervisor)
    assert await keeper.take(ENTRY, watched.supervisor.launch) is None
    assert gone(pid)


async def test_a_takeover_that_is_given_up_leaves_nothing(keeper: NodeKeeper, running: Watched) -> None:
    pid = pid_of(running)
    await keeper.keep(ENTRY, running.supervisor)
    asked = asyncio.Event()

    async def never() -> None:
        asked.set()
        await asyncio.Event().wait()

    with patch("ledger_core.client.NodeClient.status", side_effect=never):
        taking = asyncio.create_task(keeper.take(ENTRY, running.supervisor.launch))
        await asked.wait()
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
    assert gone(pid)


async def test_a_backup_ends_it(hass: HomeAssistant, keeper: NodeKeeper, running: Watched) -> None:
    pid = pid_of(running)
    await keeper.keep(ENTRY, running.supervisor)
    await async_pre_backup(hass)
    assert gone(pid)
    await async_post_backup(hass)
    assert running.supervisor.pid is None
    await keeper.end(ENTRY)
