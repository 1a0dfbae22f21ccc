"""The ledger's coordinator against a real engine and API."""

import logging
from typing import Any
from unittest.mock import patch

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from homeassistant.config_entries import SOURCE_REAUTH, ConfigEntryState
from homeassistant.const import CONF_TOKEN, CONF_URL
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped]
    MockConfigEntry,
)

from custom_components.energy_ledger.const import CONF_CHAIN_ID, CONF_HOME, DOMAIN, signal_event
from custom_components.energy_ledger.ledger import RESYNC, LedgerCoordinator
from ledger_core.client import AnswerInvalidError, RefusedError
from ledger_core.client.views import EventView
from tests.integration.conftest import EntryMaker, state_of, wait_until
from tests.node.api_world import ApiWorld


def named(heard: list[EventView], name: str) -> list[EventView]:
    return [event for event in heard if event.event == name]


async def test_shows_the_ledger_and_follows_it(
    hass: HomeAssistant, node: ApiWorld, entry: MockConfigEntry
) -> None:
    assert state_of(entry) is ConfigEntryState.LOADED
    data = entry.runtime_data
    assert data.ledger.data.status.community == "Test street"
    assert data.ledger.data.account is not None
    assert data.ledger.data.account.balance == 0
    assert len(data.ledger.data.members) == 3

    heard: list[EventView] = []
    balances: list[int] = []
    sent: list[EventView] = []

    def fail(_: EventView) -> None:
        raise RuntimeError("a listener's own fault")

    def note(event: EventView) -> None:
        heard.append(event)
        balances.append(data.ledger.data.account.balance)

    data.ledger.listen(fail)
    stop = data.ledger.listen(note)

    @callback
    def take(event: EventView) -> None:
        sent.append(event)

    stop_sent = async_dispatcher_connect(hass, signal_event(entry.entry_id), take)
    record = await data.home.transfer(node.world["bert"].id, 2_000_000)
    await node.mine()
    await wait_until(lambda: named(heard, "money_moved"))
    # Whoever hears of an event finds in the data what it changed.
    assert balances[[event.event for event in heard].index("money_moved")] == -2_000_000
    assert record in [event.data.get("record") for event in named(heard, "record_pooled")]
    await wait_until(lambda: len(sent) == len(heard))
    assert sent == heard

    stop()
    stop()
    count = len(heard)
    await node.mine()
    await wait_until(lambda: len(sent) > count)
    assert len(heard) == count
    stop_sent()


async def test_node_away_and_back(hass: HomeAssistant, node: ApiWorld, entry: MockConfigEntry) -> None:
    ledger: LedgerCoordinator = entry.runtime_data.ledger
    heard: list[EventView] = []
    ledger.listen(heard.append)
    await node.mine()
    await wait_until(lambda: named(heard, "block_connected"))
    await node.server.close()
    await wait_until(lambda: not ledger.last_update_success)
    await ledger.async_refresh()
    assert not ledger.last_update_success
    await node.mine()
    await node.server.start()
    await wait_until(lambda: ledger.last_update_success)
    await wait_until(lambda: len(named(heard, "block_connected")) == 2)
    assert ledger.data.status.tip.height == 2


async def test_goes_on_after_a_restart(hass: HomeAssistant, node: ApiWorld, entry: MockConfigEntry) -> None:
    heard: list[EventView] = []
    entry.runtime_data.ledger.listen(heard.append)
    await node.mine()
    await wait_until(lambda: named(heard, "block_connected"))
    assert await hass.config_entries.async_unload(entry.entry_id)
    await node.mine()
    assert await hass.config_entries.async_setup(entry.entry_id)
    entry.runtime_data.ledger.listen(heard.append)
    await wait_until(lambda: len(named(heard, "block_connected")) == 2)
    await node.mine()
    await wait_until(lambda: len(named(heard, "block_connected")) == 3)
    assert [event.height for event in named(heard, "block_connected")] == [1, 2, 3]


async def test_lost_cursor_is_told(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, hass_storage: dict[str, Any]
) -> None:
    entry = await make_entry(node, set_up=False)
    key = f"{DOMAIN}.cursor.{entry.entry_id}"
    hass_storage[key] = {"version": 1, "key": key, "data": {"cursor": "4711-0123456789abcdef"}}
    heard: list[EventView] = []
    real = LedgerCoordinator.start

    def start(ledger: LedgerCoordinator) -> None:
        ledger.listen(heard.append)
        real(ledger)

    with patch.object(LedgerCoordinator, "start", start):
        assert await hass.config_entries.async_setup(entry.entry_id)
    await wait_until(lambda: named(heard, RESYNC))
    await node.mine()
    await wait_until(lambda: named(heard, "block_connected"))
    assert await hass.config_entries.async_unload(entry.entry_id)
    assert hass_storage[key]["data"]["cursor"] == heard[-1].cursor


async def test_lost_cursor_while_the_node_goes_away(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, hass_storage: dict[str, Any]
) -> None:
    entry = await make_entry(node, set_up=False)
    key = f"{DOMAIN}.cursor.{entry.entry_id}"
    hass_storage[key] = {"version": 1, "key": key, "data": {"cursor": "4711-0123456789abcdef"}}
    heard: list[EventView] = []
    with patch.object(LedgerCoordinator, "start"):
        assert await hass.config_entries.async_setup(entry.entry_id)
    ledger = entry.runtime_data.ledger
    ledger.listen(heard.append)
    real = ledger.client.status
    answers = [RefusedError("busy", "too much", 429), None]

    async def status() -> Any:
        error = answers.pop(0) if answers else None
        if error is not None:
            raise error
        return await real()

    with (
        patch.object(ledger.client, "status", status),
        patch("custom_components.energy_ledger.ledger.RETRY_S", 0.01),
    ):
        ledger.start()
        await wait_until(lambda: named(heard, RESYNC))
    assert await hass.config_entries.async_unload(entry.entry_id)


async def test_refused_token_asks_for_another(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    entry = await make_entry(node, set_up=False)
    hass.config_entries.async_update_entry(entry, data={**entry.data, CONF_TOKEN: "wrong" * 10})
    assert not await hass.config_entries.async_setup(entry.entry_id)
    assert state_of(entry) is ConfigEntryState.SETUP_ERROR
    flows = hass.config_entries.flow.async_progress()
    assert [flow["context"]["source"] for flow in flows] == [SOURCE_REAUTH]


async def test_token_refused_later(hass: HomeAssistant, node: ApiWorld, entry: MockConfigEntry) -> None:
    ledger: LedgerCoordinator = entry.runtime_data.ledger
    await node.server.close()
    node.server._token = "another-token-of-43-characters-or-so-0000000"
    await node.server.start()
    await wait_until(hass.config_entries.flow.async_progress)
    flows = hass.config_entries.flow.async_progress()
    assert [flow["context"]["source"] for flow in flows] == [SOURCE_REAUTH]
    assert not ledger.last_update_success


async def test_answers_that_make_no_sense(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    entry = await make_entry(node, set_up=False)
    with patch.object(LedgerCoordinator, "start"):
        assert await hass.config_entries.async_setup(entry.entry_id)
    ledger: LedgerCoordinator = entry.runtime_data.ledger
    asked: list[int] = []

    def broken(*_: Any, **__: Any) -> Any:
        asked.append(1)
        raise AnswerInvalidError("answer_invalid", "no node")

    with patch.object(ledger.client, "stream", broken):
        ledger.start()
        await wait_until(lambda: not ledger.last_update_success)
        assert asked == [1]
    assert await hass.config_entries.async_unload(entry.entry_id)


async def test_refresh_that_fails_is_tried_until_events_can_be_told(
    hass: HomeAssistant, node: ApiWorld, entry: MockConfigEntry
) -> None:
    ledger: LedgerCoordinator = entry.runtime_data.ledger
    heard: list[EventView] = []
    ledger.listen(heard.append)
    real = ledger.client.peers
    failures = [RefusedError("busy", "too much", 503)] * 2

    async def peers() -> Any:
        if failures:
            raise failures.pop()
        return await real()

    with (
        patch.object(ledger.client, "peers", peers),
        patch("custom_components.energy_ledger.ledger.RETRY_S", 0.01),
    ):
        await node.mine()
        await wait_until(lambda: named(heard, "block_connected"))
    assert not failures
    assert ledger.last_update_success


@pytest.mark.parametrize("away", [True, False])
async def test_set_up_is_tried_again(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, away: bool
) -> None:
    entry = await make_entry(node, set_up=False)
    if away:
        await node.server.close()
        assert not await hass.config_entries.async_setup(entry.entry_id)
    else:
        error = RefusedError("busy", "too much", 503)
        with patch("ledger_core.client.NodeClient.all_offers", side_effect=error):
            assert not await hass.config_entries.async_setup(entry.entry_id)
    assert state_of(entry) is ConfigEntryState.SETUP_RETRY
    assert entry.reason is not None


async def test_key_that_is_not_here(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> None:
    entry = await make_entry(node, set_up=False)
    hass.config_entries.async_update_entry(entry, data={**entry.data, CONF_HOME: "el1elsewhere"})
    assert not await hass.config_entries.async_setup(entry.entry_id)
    assert state_of(entry) is ConfigEntryState.SETUP_ERROR
    assert entry.error_reason_translation_key == "key_missing"


async def test_node_of_another_community(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> None:
    entry = await make_entry(node, set_up=False)
    hass.config_entries.async_update_entry(entry, data={**entry.data, CONF_CHAIN_ID: "ab" * 32})
    assert not await hass.config_entries.async_setup(entry.entry_id)
    assert state_of(entry) is ConfigEntryState.SETUP_ERROR
    assert entry.error_reason_translation_key == "other_community"


async def test_node_of_another_version(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, issue_registry: ir.IssueRegistry
) -> None:
    entry = await make_entry(node, set_up=False)
    with patch("custom_components.energy_ledger.node_setup.__version__", "9.9.9"):
        assert not await hass.config_entries.async_setup(entry.entry_id)
    assert state_of(entry) is ConfigEntryState.SETUP_RETRY
    issue_id = f"node_version_mismatch_{entry.entry_id}"
    assert issue_registry.async_get_issue(DOMAIN, issue_id) is not None
    await hass.config_entries.async_reload(entry.entry_id)
    assert state_of(entry) is ConfigEntryState.LOADED
    assert issue_registry.async_get_issue(DOMAIN, issue_id) is None
    assert await hass.config_entries.async_unload(entry.entry_id)


async def test_a_node_of_a_version_whose_answers_have_another_form(
    hass: HomeAssistant, make_entry: EntryMaker, node: ApiWorld, issue_registry: ir.IssueRegistry
) -> None:
    async def status(_: web.Request) -> web.Response:
        return web.json_response({"version": "99.0.0", "chain": {"tip": 5}})

    app = web.Application()
    app.router.add_get("/v1/status", status)
    async with TestServer(app) as server:
        entry = await make_entry(node, set_up=False)
        hass.config_entries.async_update_entry(
            entry, data={**entry.data, CONF_URL: f"http://127.0.0.1:{server.port}"}
        )
        assert not await hass.config_entries.async_setup(entry.entry_id)
        assert state_of(entry) is ConfigEntryState.SETUP_RETRY
        issue = issue_registry.async_get_issue(DOMAIN, f"node_version_mismatch_{entry.entry_id}")
        assert issue is not None
        assert "99.0.0" in (issue.translation_placeholders or {})["reason"]


async def test_a_node_that_was_updated_while_it_was_away(
    hass: HomeAssistant, node: ApiWorld, entry: MockConfigEntry, issue_registry: ir.IssueRegistry
) -> None:
    await node.server.close()
    await wait_until(lambda: not entry.runtime_data.ledger.last_update_success)
    with (
        patch("custom_components.energy_ledger.node_setup.__version__", "9.9.9"),
        patch("custom_components.energy_ledger.ledger.__version__", "9.9.9"),
    ):
        await node.server.start()
        await wait_until(lambda: state_of(entry) is ConfigEntryState.SETUP_RETRY)
    assert issue_registry.async_get_issue(DOMAIN, f"node_version_mismatch_{entry.entry_id}") is not None


async def test_unloading_says_nothing_in_the_log(
    hass: HomeAssistant, node: ApiWorld, entry: MockConfigEntry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    assert await hass.config_entries.async_unload(entry.entry_id)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
