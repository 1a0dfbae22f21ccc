"""What is left in repairs and in the log when a rule, or a whole entry, goes."""

import logging
from types import MappingProxyType

import pytest
from homeassistant.config_entries import ConfigEntryState, ConfigSubentryData
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir

from custom_components.energy_ledger.const import DOMAIN, SUBENTRY_SELL
from tests.integration.conftest import EntryMaker, state_of, wait_until
from tests.node.api_world import ApiWorld

_BROKEN_RULE = ConfigSubentryData(
    data=MappingProxyType({"source": "fixed"}), subentry_type=SUBENTRY_SELL, title="Broken", unique_id=None
)


async def test_the_issue_of_a_rule_goes_with_the_rule(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, issue_registry: ir.IssueRegistry
) -> None:
    entry = await make_entry(node, set_up=False, subentries=[_BROKEN_RULE, _BROKEN_RULE])
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    first, second = entry.subentries
    for rule in (first, second):
        assert issue_registry.async_get_issue(DOMAIN, f"rule_paused_{rule}") is not None
    before = entry.runtime_data
    hass.config_entries.async_remove_subentry(entry, first)
    await wait_until(lambda: state_of(entry) is ConfigEntryState.LOADED and entry.runtime_data is not before)
    assert issue_registry.async_get_issue(DOMAIN, f"rule_paused_{first}") is None
    assert issue_registry.async_get_issue(DOMAIN, f"rule_paused_{second}") is not None
    await hass.config_entries.async_remove(entry.entry_id)
    assert [name for domain, name in issue_registry.issues if domain == DOMAIN] == []


async def test_unloading_is_no_error(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, caplog: pytest.LogCaptureFixture
) -> None:
    """That the stream of events ends with the entry is what was wanted."""
    entry = await make_entry(node)
    ledger = entry.runtime_data.ledger
    heard: list[str] = []
    ledger.listen(lambda event: heard.append(event.event))
    await node.mine()
    await wait_until(lambda: heard)
    caplog.clear()
    assert await hass.config_entries.async_unload(entry.entry_id)
    assert ledger.last_update_success
    loud = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in loud] == []
