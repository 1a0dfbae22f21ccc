"""The options: the node's settings, and what an authority does."""

import time
from typing import Any
from unittest.mock import patch

import pytest
from homeassistant.config_entries import ConfigEntryState, ConfigFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped]
    MockConfigEntry,
)

from custom_components.energy_ledger.const import CONF_DIRECTORY, DOMAIN
from custom_components.energy_ledger.flows.options import EnergyLedgerOptionsFlow
from ledger_core.client import ClientError, NodeClient
from ledger_core.client.bodies import AssetTerms, asset, withdrawal
from ledger_core.client.home import Home
from ledger_core.keys import address
from ledger_core.records.invitations import decode_link
from ledger_core.records.types import AssetKind, Carrier, Role
from tests.core.world import asset_id, signer
from tests.integration.conftest import EntryMaker, wait_until
from tests.node.api_world import TOKEN, ApiWorld

SETTINGS = {
    "mining": False,
    "mining_share": 10,
    "peers": ["10.0.0.2:7946", " "],
    "advertise": "wss://home.example.org/peer",
    "peer_view": True,
    "log_level": "debug",
}


async def choose(hass: HomeAssistant, entry: MockConfigEntry, step: str) -> ConfigFlowResult:
    result = await hass.config_entries.options.async_init(entry.entry_id)
    assert result["type"] is FlowResultType.MENU
    return await hass.config_entries.options.async_configure(result["flow_id"], {"next_step_id": step})


async def fill(hass: HomeAssistant, result: ConfigFlowResult, **given: Any) -> ConfigFlowResult:
    return await hass.config_entries.options.async_configure(result["flow_id"], given)


async def test_settings_of_an_own_node(hass: HomeAssistant) -> None:
    entry = MockConfigEntry(domain=DOMAIN, data={CONF_DIRECTORY: "x"}, options={"peer_port": 1})
    entry.add_to_hass(hass)
    result = await choose(hass, entry, "settings")
    for key, wrong in (("peers", ["10.0.0.2"]), ("advertise", "http://x")):
        result = await fill(hass, result, **{**SETTINGS, key: wrong})
        assert result["errors"] == {key: "place_invalid"}
        assert result["description_placeholders"] is not None
        assert result["description_placeholders"]["place"] == (wrong[0] if key == "peers" else wrong)
    result = await fill(hass, result, **SETTINGS)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert entry.options == {"peer_port": 1, **SETTINGS, "peers": ["10.0.0.2:7946"]}


async def test_changed_settings_set_a_home_up_that_could_not_be(hass: HomeAssistant) -> None:
    entry = MockConfigEntry(domain=DOMAIN, data={CONF_DIRECTORY: "x"}, state=ConfigEntryState.SETUP_RETRY)
    entry.add_to_hass(hass)
    result = await choose(hass, entry, "settings")
    with patch.object(hass.config_entries, "async_schedule_reload") as reload:
        await fill(hass, result, **SETTINGS)
    reload.assert_called_once_with(entry.entry_id)


async def test_nothing_to_change(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> None:
    entry = await make_entry(node, "bert")
    result = await hass.config_entries.options.async_init(entry.entry_id)
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "nothing_to_change"


async def test_invite(hass: HomeAssistant, node: ApiWorld, entry: MockConfigEntry) -> None:
    result = await choose(hass, entry, "invite")
    wrong = {"roles": [], "valid_days": 3, "addresses": ["nowhere"]}
    result = await fill(hass, result, **wrong)
    assert result["errors"] == {"addresses": "place_invalid", "roles": "roles_missing"}
    right = {"roles": ["home"], "valid_days": 3, "addresses": ["10.0.0.2:7946"]}
    await node.server.close()
    result = await fill(hass, result, **right)
    assert result["errors"] == {"base": "cannot_connect"}
    await node.server.start()
    result = await fill(hass, result, **right)
    assert result["step_id"] == "invited"
    assert result["data_schema"] is not None
    text = next(key.default() for key in result["data_schema"].schema if key == "invitation")
    link = decode_link(text)
    assert link.chain_id == node.world.chain_id
    assert link.invitation.roles == Role.HOME
    assert link.addresses == ("10.0.0.2:7946",)
    assert link.invitation.expires == pytest.approx(time.time() + 3 * 86_400, abs=60)
    result = await fill(hass, result)
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_revoke_a_member(hass: HomeAssistant, node: ApiWorld, entry: MockConfigEntry) -> None:
    cara = address(node.world["cara"].id)
    result = await choose(hass, entry, "members")
    result = await fill(hass, result, member=cara)
    assert result["step_id"] == "member"
    await node.server.close()
    result = await fill(hass, result, roles=[])
    assert result["errors"] == {"base": "cannot_connect"}
    await node.server.start()
    result = await fill(hass, result, roles=[])
    assert result["type"] is FlowResultType.CREATE_ENTRY
    await node.mine()
    ledger = entry.runtime_data.ledger
    await wait_until(lambda: [m.roles for m in ledger.data.members if m.member.address == cara] == [[]])


async def test_a_change_that_the_rules_refuse(
    hass: HomeAssistant, node: ApiWorld, entry: MockConfigEntry
) -> None:
    result = await choose(hass, entry, "members")
    result = await fill(hass, result, member=address(node.world["anna"].id))
    result = await fill(hass, result, roles=["home", "operator"])
    if result["type"] is FlowResultType.FORM:
        assert result["errors"] == {"base": "refused"}
        result = await fill(hass, result, roles=["home", "node", "authority", "operator"])
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_approve_a_membership(hass: HomeAssistant, node: ApiWorld, entry: MockConfigEntry) -> None:
    new = signer("dora")
    async with NodeClient(f"http://127.0.0.1:{node.server.port}", TOKEN) as client:
        home = Home(client, new)
        proposal = await home.propose_membership("dora", roles=int(Role.HOME))
    result = await choose(hass, entry, "approve")
    result = await fill(hass, result, proposal="no proposal")
    assert result["errors"] == {"proposal": "proposal_invalid"}
    result = await fill(hass, result, proposal=proposal)
    assert result["step_id"] == "agree"
    assert result["description_placeholders"] is not None
    assert result["description_placeholders"]["proposal"] == (
        f"Member {home.address}\n\nRoles: Home (trades)\n\nNode: -"
    )
    await node.server.close()
    result = await fill(hass, result)
    assert result["errors"] == {"base": "cannot_connect"}
    await node.server.start()
    result = await fill(hass, result)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    await node.mine()
    ledger = entry.runtime_data.ledger
    await wait_until(lambda: home.address in [m.member.address for m in ledger.data.members])


async def test_what_an_authority_is_shown(
    hass: HomeAssistant, node: ApiWorld, entry: MockConfigEntry
) -> None:
    hass.config.language = "de"
    async with NodeClient(f"http://127.0.0.1:{node.server.port}", TOKEN) as client:
        bert = Home(client, node.world["bert"].key)
        terms = AssetTerms(
            asset=asset_id("battery"),
            kind=AssetKind.BATTERY,
            carrier=Carrier.ELECTRICITY,
            rating_w=5000,
            capacity_wh=9000,
            energy_wh=1000,
            meter=asset_id("meter"),
        )
        texts = [
            await bert.propose(body)
            for body in (asset(bert.stamp(), terms), withdrawal(bert.stamp(), bytes(32)))
        ]
    shown = []
    for text in texts:
        result = await choose(hass, entry, "approve")
        result = await fill(hass, result, proposal=text)
        assert result["description_placeholders"] is not None
        shown.append(result["description_placeholders"]["proposal"])
        hass.config_entries.options.async_abort(result["flow_id"])
    assert shown == [
        (
            f"Batterie {asset_id('battery').hex()}\n\nNennleistung: 5000 W\n\nKapazität: 9000 Wh"
            f"\n\nEigentümer: {bert.address}"
        ),
        f"Withdrawal; {bert.address}",
    ]


async def test_nothing_advertised(hass: HomeAssistant) -> None:
    entry = MockConfigEntry(domain=DOMAIN, data={CONF_DIRECTORY: "x"})
    entry.add_to_hass(hass)
    result = await choose(hass, entry, "settings")
    without = {key: value for key, value in SETTINGS.items() if key != "advertise"}
    result = await fill(hass, result, **without)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert entry.options["advertise"] == ""


async def test_a_proposal_while_the_node_belongs_to_others(
    hass: HomeAssistant, node: ApiWorld, entry: MockConfigEntry
) -> None:
    result = await choose(hass, entry, "approve")
    other = ClientError("community_mismatch", "another community")
    with patch.object(entry.runtime_data.home, "read_proposal", side_effect=other):
        result = await fill(hass, result, proposal="x")
    assert result["errors"] == {"base": "cannot_connect"}


async def test_steps_begin_where_something_is_to_be_chosen(
    hass: HomeAssistant, node: ApiWorld, entry: MockConfigEntry
) -> None:
    flow = EnergyLedgerOptionsFlow()
    flow.hass = hass
    flow.handler = entry.entry_id
    assert (await flow.async_step_member())["step_id"] == "members"
    assert (await flow.async_step_agree())["step_id"] == "approve"
