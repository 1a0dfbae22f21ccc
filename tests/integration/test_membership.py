"""Becoming a member through a node elsewhere, by an invitation that holds or does not."""

import asyncio
import time
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped]
    MockConfigEntry,
)

from custom_components.energy_ledger import repairs
from custom_components.energy_ledger.const import CONF_HOME, CONF_INVITATION, DOMAIN
from custom_components.energy_ledger.key_store import async_key_store
from custom_components.energy_ledger.ledger import LedgerCoordinator
from custom_components.energy_ledger.membership import Joining
from ledger_core.client import NodeClient, RefusedError, UnreachableError
from ledger_core.client.home import Home
from ledger_core.keys import SoftwareSigner, address
from ledger_core.records.types import Role
from tests.core.world import signer
from tests.integration.conftest import EntryMaker, wait_until
from tests.node.api_world import TOKEN, ApiWorld


async def invitation(node: ApiWorld, used_by: SoftwareSigner | None = None) -> str:
    """An invitation by anna; used already where somebody is given."""
    async with NodeClient(f"http://127.0.0.1:{node.server.port}", TOKEN) as client:
        anna = Home(client, node.world["anna"].key)
        text = await anna.make_invitation(int(time.time()) + 600, addresses=())
        if used_by is not None:
            other = signer("other node").public_key
            await Home(client, used_by).join(text, "first", node=other)
            await node.mine()
    return text


async def newcomer(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, text: str) -> MockConfigEntry:
    """An entry of dora, who is no member yet."""
    entry: MockConfigEntry = await make_entry(node, set_up=False)
    dora = signer("dora")
    await (await async_key_store(hass)).async_add(dora)
    data = {**entry.data, CONF_HOME: address(dora.public_key), CONF_INVITATION: text}
    hass.config_entries.async_update_entry(entry, data=data)
    return entry


@pytest.fixture
async def joining(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> MockConfigEntry:
    """Dora's entry with an invitation that holds, not set up yet."""
    return await newcomer(hass, node, make_entry, await invitation(node))


async def set_up(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    assert await hass.config_entries.async_setup(entry.entry_id)


async def unload(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    assert await hass.config_entries.async_unload(entry.entry_id)


async def test_joins_without_the_node_of_another(
    hass: HomeAssistant, node: ApiWorld, joining: MockConfigEntry
) -> None:
    await set_up(hass, joining)
    data = joining.runtime_data
    assert data.ledger.data.account is None
    await wait_until(lambda: data.ledger.data.status.waiting_records)
    await node.mine()
    await wait_until(lambda: CONF_INVITATION not in joining.data)
    own = [m for m in data.ledger.data.members if m.member.address == joining.data[CONF_HOME]]
    # The node is anna's, so dora has none.
    assert own[0].roles == ["home"]
    assert own[0].node is None
    await unload(hass, joining)


async def test_tries_again_until_the_node_answers(
    hass: HomeAssistant, node: ApiWorld, joining: MockConfigEntry
) -> None:
    with patch("custom_components.energy_ledger.membership.RETRY_S", 0.05):
        with patch(
            "ledger_core.client.home.Home.join",
            autospec=True,
            side_effect=[_away(), _busy(), _away()],
        ) as join:
            await set_up(hass, joining)
            await wait_until(lambda: join.call_count == 3)
        await wait_until(lambda: joining.runtime_data.ledger.data.status.waiting_records)
        await node.mine()
        await wait_until(lambda: CONF_INVITATION not in joining.data)
    await unload(hass, joining)


async def test_set_up_again_while_its_record_waits_it_tells_of_no_trouble(
    hass: HomeAssistant,
    node: ApiWorld,
    joining: MockConfigEntry,
    issue_registry: ir.IssueRegistry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await set_up(hass, joining)
    await wait_until(lambda: joining.runtime_data.ledger.data.status.waiting_records)
    await unload(hass, joining)
    with patch("ledger_core.client.home.Home.join", autospec=True, side_effect=Home.join) as join:
        await set_up(hass, joining)
        await wait_until(lambda: join.call_count)
        await node.mine()
        await wait_until(lambda: CONF_INVITATION not in joining.data)
    assert "does not take this home" not in caplog.text
    assert issue_registry.async_get_issue(DOMAIN, f"invitation_refused_{joining.entry_id}") is None
    await unload(hass, joining)


async def test_a_member_by_the_chain_joins_no_second_time(
    hass: HomeAssistant, node: ApiWorld, joining: MockConfigEntry
) -> None:
    """What was read while the node synced may say that it is none."""
    with patch.object(Joining, "run", AsyncMock()), patch.object(LedgerCoordinator, "start"):
        await set_up(hass, joining)
    data = joining.runtime_data
    await data.home.join(joining.data[CONF_INVITATION], "dora", roles=Role.HOME)
    await node.mine()
    before = data.ledger.data
    assert before.account is None
    with patch("ledger_core.client.home.Home.join", autospec=True) as join:
        await asyncio.wait_for(Joining(hass, joining, data.home, data.ledger).run(), 30)
    assert not join.called
    assert CONF_INVITATION not in joining.data
    assert data.ledger.data.account is not None
    await unload(hass, joining)


async def test_a_node_that_refuses_to_tell_is_asked_again(
    hass: HomeAssistant, node: ApiWorld, joining: MockConfigEntry
) -> None:
    with patch.object(Joining, "run", AsyncMock()):
        await set_up(hass, joining)
    data = joining.runtime_data
    with (
        patch.object(data.client, "account", side_effect=_busy()) as account,
        patch("ledger_core.client.home.Home.join", autospec=True) as join,
    ):
        await Joining(hass, joining, data.home, data.ledger)._try()
    assert account.called
    assert not join.called
    await unload(hass, joining)


def _away() -> Exception:
    return UnreachableError("unreachable", "the node is away")


def _busy() -> Exception:
    return RefusedError("busy", "too many", 429)


@pytest.mark.parametrize("damaged", [False, True])
async def test_an_invitation_that_does_not_hold_is_an_issue(
    hass: HomeAssistant,
    node: ApiWorld,
    make_entry: EntryMaker,
    issue_registry: ir.IssueRegistry,
    damaged: bool,
) -> None:
    text = "ELINVITE-1-QQ" if damaged else await invitation(node, used_by=signer("emil"))
    entry = await newcomer(hass, node, make_entry, text)
    await set_up(hass, entry)
    issue_id = f"invitation_refused_{entry.entry_id}"
    await wait_until(lambda: issue_registry.async_get_issue(DOMAIN, issue_id))
    issue = issue_registry.async_get_issue(DOMAIN, issue_id)
    assert issue is not None
    assert issue.translation_placeholders is not None
    wanted = "whole line" if damaged else "used"
    assert wanted in issue.translation_placeholders["reason"]

    flow: Any = await repairs.async_create_fix_flow(hass, issue_id, issue.data)
    flow.hass = hass
    shown = await flow.async_step_init()
    assert (shown["type"], shown["step_id"]) == ("form", "confirm")
    again = await flow.async_step_confirm({"invitation": text[:-1]})
    assert set(again["errors"]) == {"invitation"}
    done = await flow.async_step_confirm({"invitation": f" {await invitation(node)} "})
    assert done["type"] == "create_entry"
    await hass.async_block_till_done()
    await wait_until(lambda: entry.runtime_data.ledger.data.status.waiting_records)
    await node.mine()
    await wait_until(lambda: CONF_INVITATION not in entry.data)
    assert issue_registry.async_get_issue(DOMAIN, issue_id) is None
    await unload(hass, entry)
