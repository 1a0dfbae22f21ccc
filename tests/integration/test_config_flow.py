"""Every way into a community, each to its end, with what goes wrong on the way."""

import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from homeassistant.config_entries import SOURCE_USER, SOURCE_ZEROCONF, ConfigFlowResult
from homeassistant.const import CONF_TOKEN, CONF_URL
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers.service_info.zeroconf import ZeroconfServiceInfo
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped]
    MockConfigEntry,
)

from custom_components.energy_ledger.config_flow import EnergyLedgerConfigFlow
from custom_components.energy_ledger.const import (
    CONF_CHAIN_ID,
    CONF_DIRECTORY,
    CONF_DISCOVERY,
    CONF_HOME,
    CONF_HOME_NAME,
    CONF_INVITATION,
    CONF_PEER_PORT,
    DEFAULT_PEER_PORT,
    DOMAIN,
)
from custom_components.energy_ledger.flows.creating import BLOCKS_OF_HALF_LIFE, read_parameters
from custom_components.energy_ledger.flows.home_key import grouped
from custom_components.energy_ledger.key_store import async_key_store
from custom_components.energy_ledger.node_setup import data_directory
from custom_components.energy_ledger.trading_settings import Limits, first_limits
from ledger_core.client import RefusedError
from ledger_core.client.local import prepare_founding
from ledger_core.community import decode_genesis, encode_genesis
from ledger_core.keys import SoftwareSigner, address, seed_text
from ledger_core.records.codec import invite
from ledger_core.records.invitations import InvitationLink, encode_link
from ledger_core.records.types import Role
from ledger_core.units import MAX_PRICE
from tests.core.world import World
from tests.integration.conftest import EntryMaker
from tests.node.api_world import TOKEN, ApiWorld

ADVANCED = {
    "slot_s": "900",
    "block_spacing_s": 30,
    "checkpoint_interval": 30,
    "grace_s": 30,
    "money_mode": "mutual_credit",
    "credit_limit": 25,
    "asset_approval": "owner",
}
COMMUNITY = {
    "community_name": "Elm Street",
    "currency": "EUR",
    "home_name": "Number 1",
    "advanced": ADVANCED,
}


@pytest.fixture(autouse=True)
def no_setup() -> Any:
    """The flows are looked at alone: what they make is set up elsewhere."""
    with patch("custom_components.energy_ledger.async_setup_entry", return_value=True):
        yield


def invitation(world: World, *, expires: int | None = None, addresses: tuple[str, ...] = ()) -> str:
    """An invitation to a world by anna."""
    secret = SoftwareSigner.generate()
    until = int(time.time()) + 3600 if expires is None else expires
    right = invite(world.chain_id, world["anna"].key, secret.public_key, int(Role.HOME | Role.NODE), until)
    return encode_link(InvitationLink(encode_genesis(world.genesis), addresses, right, secret.export_seed()))


async def begin(hass: HomeAssistant, way: str) -> ConfigFlowResult:
    result = await hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
    assert result["type"] is FlowResultType.MENU
    assert result["menu_options"] == ["create", "join", "remote"]
    return await choose(hass, result, way)


async def choose(hass: HomeAssistant, result: ConfigFlowResult, step: str) -> ConfigFlowResult:
    return await hass.config_entries.flow.async_configure(result["flow_id"], {"next_step_id": step})


async def fill(hass: HomeAssistant, result: ConfigFlowResult, **given: Any) -> ConfigFlowResult:
    return await hass.config_entries.flow.async_configure(result["flow_id"], given)


async def with_new_key(hass: HomeAssistant, result: ConfigFlowResult) -> ConfigFlowResult:
    assert result["step_id"] == "home_key"
    result = await choose(hass, result, "new_key")
    assert result["step_id"] == "new_key"
    return await fill(hass, result, kept=True)


def suggested(result: ConfigFlowResult) -> dict[str, Any]:
    """What the form shows as typed."""
    schema = result["data_schema"]
    assert schema is not None
    return {
        str(key): key.description["suggested_value"]
        for key in schema.schema
        if key.description and "suggested_value" in key.description
    }


async def test_create(hass: HomeAssistant) -> None:
    result = await begin(hass, "create")
    assert suggested(result)["currency"] == hass.config.currency

    result = await fill(hass, result, **{**COMMUNITY, "community_name": " ", "currency": "doubloons"})
    assert result["errors"] == {"community_name": "empty", "currency": "too_long"}
    assert suggested(result)["currency"] == "doubloons"

    result = await fill(hass, result, **COMMUNITY)
    assert result["step_id"] == "home_key"
    assert result["menu_options"] == ["new_key", "restore_key", "restore_file"]
    result = await choose(hass, result, "new_key")
    assert result["description_placeholders"] is not None
    code = result["description_placeholders"]["code"]
    result = await fill(hass, result, kept=False)
    assert result["errors"] == {"kept": "code_not_kept"}
    assert result["description_placeholders"] == {"code": code}
    result = await fill(hass, result, kept=True)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["title"] == "Elm Street"

    entry = result["result"]
    home = entry.data[CONF_HOME]
    assert entry.unique_id == f"{entry.data[CONF_CHAIN_ID]}_{home}"
    key = (await async_key_store(hass)).get(home)
    assert grouped(key.recovery_code) == code
    directory = data_directory(hass, entry.data[CONF_DIRECTORY])
    assert {path.name for path in directory.iterdir()} >= {"genesis", "node.key"}


async def test_create_prepaid_with_approval_and_restored_key(hass: HomeAssistant) -> None:
    signer = SoftwareSigner.generate()
    result = await begin(hass, "create")
    changed = {**ADVANCED, "money_mode": "prepaid", "asset_approval": "authority"}
    result = await fill(hass, result, **{**COMMUNITY, "advanced": changed})
    result = await choose(hass, result, "restore_key")
    result = await fill(hass, result, recovery_code=grouped(seed_text(signer.export_seed())))
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["result"].data[CONF_HOME] == address(signer.public_key)


@pytest.mark.parametrize("spacing_s", [1, 30, 600])
async def test_the_difficulty_follows_within_as_many_blocks(hass: HomeAssistant, spacing_s: int) -> None:
    result = await begin(hass, "create")
    result = await fill(hass, result, **{**COMMUNITY, "advanced": {**ADVANCED, "block_spacing_s": spacing_s}})
    result = await choose(hass, result, "new_key")
    result = await fill(hass, result, kept=True)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    genesis = (data_directory(hass, result["result"].data[CONF_DIRECTORY]) / "genesis").read_bytes()
    parameters = decode_genesis(genesis).parameters
    assert parameters.block_spacing_s == spacing_s
    assert parameters.difficulty_half_life_s == BLOCKS_OF_HALF_LIFE * spacing_s


def mistyped(code: str) -> str:
    """The code with one character wrong."""
    wrong = "q" if code[20] != "q" else "p"
    return code[:20] + wrong + code[21:]


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda code: "el1" + code[6:], "code_prefix"),
        (lambda code: code[:-5], "code_length"),
        (lambda code: code[:10] + "!" + code[11:], "code_character"),
        (lambda code: code[:10] + code[10:].upper(), "code_case"),
        (mistyped, "code_checksum_at"),
    ],
)
async def test_wrong_recovery_code_is_told_and_kept(hass: HomeAssistant, damage: Any, error: str) -> None:
    code = seed_text(bytes(range(32)))
    result = await begin(hass, "create")
    result = await fill(hass, result, **COMMUNITY)
    result = await choose(hass, result, "restore_key")
    result = await fill(hass, result, recovery_code=damage(code))
    assert result["errors"] == {"recovery_code": error}
    assert suggested(result) == {"recovery_code": damage(code)}
    result = await fill(hass, result, recovery_code=code)
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_full_disk_while_preparing(hass: HomeAssistant) -> None:
    result = await begin(hass, "create")
    result = await fill(hass, result, **COMMUNITY)
    # In the place of the folder stands a file, so nothing can be made below it.
    place = Path(hass.config.path(DOMAIN))
    place.write_text("in the way")
    try:
        result = await with_new_key(hass, result)
        assert result["step_id"] == "prepare"
        assert result["errors"] == {"base": "cannot_prepare"}
    finally:
        place.unlink()
    result = await fill(hass, result)
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_join(hass: HomeAssistant, world: World) -> None:
    text = invitation(world, addresses=("10.0.0.1:7946",))
    result = await begin(hass, "join")
    result = await fill(hass, result, invitation=text, home_name="Number 7")
    result = await with_new_key(hass, result)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["title"] == "Test street"
    data = result["data"]
    assert data[CONF_CHAIN_ID] == world.chain_id.hex()
    assert data[CONF_HOME_NAME] == "Number 7"
    assert data[CONF_INVITATION] == text
    directory = data_directory(hass, data[CONF_DIRECTORY])
    assert (directory / "bootstrap").read_text() == "10.0.0.1:7946\n"


async def test_a_home_needs_a_name(hass: HomeAssistant, world: World) -> None:
    text = invitation(world)
    result = await begin(hass, "join")
    result = await fill(hass, result, invitation=text, home_name="  ")
    assert result["errors"] == {"home_name": "empty"}
    assert suggested(result)["invitation"] == text


async def test_each_own_node_gets_a_port_of_its_own(hass: HomeAssistant, world: World) -> None:
    ports = []
    for text in (invitation(world), invitation(World(name="Second street"))):
        result = await begin(hass, "join")
        result = await fill(hass, result, invitation=text, home_name="Number 7")
        ways = result.get("menu_options") or []
        assert "new_key" in ways
        result = await with_new_key(hass, result)
        assert result["type"] is FlowResultType.CREATE_ENTRY
        ports.append(result["result"].options.get(CONF_PEER_PORT, DEFAULT_PEER_PORT))
    assert ports == [DEFAULT_PEER_PORT, DEFAULT_PEER_PORT + 1]


async def test_who_joins_is_no_longer_told_of_the_community(hass: HomeAssistant, world: World) -> None:
    other = await discovered(hass, found("ab" * 32))
    await discovered(hass, found(world.chain_id.hex()))
    result = await begin(hass, "join")
    result = await fill(hass, result, invitation=invitation(world), home_name="Number 7")
    result = await with_new_key(hass, result)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    left = [flow["flow_id"] for flow in hass.config_entries.flow.async_progress_by_handler(DOMAIN)]
    assert left == [other["flow_id"]]


async def test_mistyped_invitations_are_told_and_kept(hass: HomeAssistant, world: World) -> None:
    text = invitation(world)
    at = len(text) // 2
    bad = {
        "invitation_prefix": "ELINVAT" + text[7:],
        "invitation_version": text.replace("ELINVITE-1-", "ELINVITE-2-"),
        "invitation_character": text[:at] + "!" + text[at + 1 :],
        "invitation_length": text[:-10],
        "invitation_checksum": text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :],
        "invitation_expired": invitation(world, expires=int(time.time()) - 1),
    }
    result = await begin(hass, "join")
    for error, wrong in bad.items():
        result = await fill(hass, result, invitation=wrong, home_name="Number 7")
        assert result["errors"] == {"invitation": error}
        assert suggested(result) == {"invitation": wrong, "home_name": "Number 7"}
    result = await fill(hass, result, invitation=text, home_name="Number 7")
    result = await with_new_key(hass, result)
    assert result["type"] is FlowResultType.CREATE_ENTRY


def found(chain: str, port: int | None = 7946, host: str = "192.168.1.9") -> ZeroconfServiceInfo:
    return ZeroconfServiceInfo(
        ip_address=ip_address(host),
        ip_addresses=[ip_address(host)],
        port=port,
        hostname="node.local.",
        type="_energy-ledger._tcp.local.",
        name="node._energy-ledger._tcp.local.",
        properties={"chain": chain, "node": "el1", "path": "/peer"},
    )


async def discovered(hass: HomeAssistant, info: ZeroconfServiceInfo) -> ConfigFlowResult:
    return await hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_ZEROCONF}, data=info)


@pytest.mark.parametrize("host", ["192.168.1.9", "fd00::9"])
async def test_found_on_the_network(hass: HomeAssistant, world: World, host: str) -> None:
    result = await discovered(hass, found(world.chain_id.hex(), host=host))
    assert result["step_id"] == "found"
    again = await discovered(hass, found(world.chain_id.hex()))
    assert again["type"] is FlowResultType.ABORT
    assert again["reason"] == "already_in_progress"

    other = invitation(World(name="Other street"))
    result = await fill(hass, result, invitation=other, home_name="Number 7")
    assert result["errors"] == {"invitation": "invitation_elsewhere"}
    assert result["description_placeholders"] is not None
    assert result["description_placeholders"]["community"] == "Other street"

    result = await fill(hass, result, invitation=invitation(world), home_name="Number 7")
    result = await with_new_key(hass, result)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    directory = data_directory(hass, result["data"][CONF_DIRECTORY])
    assert host in (directory / "bootstrap").read_text()

    again = await discovered(hass, found(world.chain_id.hex()))
    assert again["reason"] == "already_configured"


@pytest.mark.parametrize("info", [found("zz"), found("ab" * 32, port=None)])
async def test_something_else_on_the_network(hass: HomeAssistant, info: ZeroconfServiceInfo) -> None:
    result = await discovered(hass, info)
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "not_a_node"


@pytest.fixture
def url(node: ApiWorld) -> str:
    """Where the node is."""
    return f"http://127.0.0.1:{node.server.port}"


async def test_remote_with_the_key_of_a_member(hass: HomeAssistant, node: ApiWorld, url: str) -> None:
    result = await begin(hass, "remote")
    for given, error in (
        ({"url": "ftp://x", "token": TOKEN}, {"url": "url_invalid"}),
        ({"url": "http://127.0.0.1:1", "token": TOKEN}, {"base": "cannot_connect"}),
        ({"url": url, "token": "wrong"}, {"token": "token_refused"}),
        ({"url": f"{url}/elsewhere", "token": TOKEN}, {"base": "cannot_connect"}),
    ):
        result = await fill(hass, result, **given)
        assert result["errors"] == error, given
        assert suggested(result) == given
    result = await fill(hass, result, url=url, token=TOKEN)
    result = await choose(hass, result, "restore_key")
    result = await fill(hass, result, recovery_code=seed_text(node.world["bert"].key.export_seed()))
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["data"][CONF_URL] == url
    assert CONF_INVITATION not in result["data"]


async def test_remote_that_is_something_else(hass: HomeAssistant, node: ApiWorld, url: str) -> None:
    result = await begin(hass, "remote")
    with patch("custom_components.energy_ledger.flows.remote.__version__", "9.1.0"):
        result = await fill(hass, result, url=url, token=TOKEN)
    assert result["errors"] == {"base": "other_version"}
    result = await fill(hass, result, url=url, token=TOKEN)
    assert result["step_id"] == "home_key"


async def test_remote_with_a_new_key_and_an_invitation(hass: HomeAssistant, node: ApiWorld, url: str) -> None:
    result = await begin(hass, "remote")
    result = await fill(hass, result, url=url, token=TOKEN)
    result = await with_new_key(hass, result)
    assert result["step_id"] == "remote_invitation"
    result = await fill(hass, result, invitation="ELINVITE", home_name="Number 7")
    assert result["errors"] == {"invitation": "invitation_prefix"}
    text = invitation(node.world)
    result = await fill(hass, result, invitation=text, home_name=" ")
    assert result["errors"] == {"home_name": "empty"}
    result = await fill(hass, result, invitation=text, home_name="Number 7")
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["data"][CONF_INVITATION] == text


async def test_remote_that_goes_away_in_between(hass: HomeAssistant, node: ApiWorld, url: str) -> None:
    result = await begin(hass, "remote")
    result = await fill(hass, result, url=url, token=TOKEN)
    await node.server.close()
    result = await with_new_key(hass, result)
    assert result["step_id"] == "prepare"
    assert result["errors"] == {"base": "cannot_prepare"}
    await node.server.start()
    result = await fill(hass, result)
    assert result["step_id"] == "remote_invitation"
    result = await fill(hass, result, invitation=invitation(node.world), home_name="Number 7")
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_the_same_home_twice(hass: HomeAssistant, node: ApiWorld, url: str) -> None:
    async def add() -> ConfigFlowResult:
        result = await begin(hass, "remote")
        result = await fill(hass, result, url=url, token=TOKEN)
        result = await choose(hass, result, "restore_key")
        code = seed_text(node.world["bert"].key.export_seed())
        return await fill(hass, result, recovery_code=code)

    assert (await add())["type"] is FlowResultType.CREATE_ENTRY
    again = await add()
    assert again["type"] is FlowResultType.ABORT
    assert again["reason"] == "already_configured"


async def test_a_key_that_was_kept(hass: HomeAssistant, node: ApiWorld, url: str) -> None:
    key = node.world["cara"].key
    await (await async_key_store(hass)).async_add(key)
    result = await begin(hass, "remote")
    result = await fill(hass, result, url=url, token=TOKEN)
    assert result["menu_options"] == ["new_key", "restore_key", "restore_file", "kept_key"]
    result = await choose(hass, result, "kept_key")
    result = await fill(hass, result, home=address(key.public_key))
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["data"][CONF_HOME] == address(key.public_key)


@pytest.mark.parametrize(
    ("currency", "given", "units"),
    [("EUR", None, 50), ("huf", None, 5_000), ("XYZ", None, 50), ("JPY", 0, 0), ("COP", 700_000, 700_000)],
)
def test_the_credit_fits_the_currency(currency: str, given: int | None, units: int) -> None:
    advanced: dict[str, Any] = {**ADVANCED, "termination_permille": 10}
    del advanced["credit_limit"]
    if given is not None:
        advanced["credit_limit"] = given
    assert read_parameters(advanced, currency)["credit_limit"] == units * 1_000_000


def test_prices_fit_the_currency_from_the_first_day() -> None:
    assert first_limits("EUR") == Limits()
    assert first_limits("JPY").price_ceiling == 100 * Limits().price_ceiling
    assert first_limits("VND").price_ceiling == MAX_PRICE


async def test_reauthentication(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> None:
    entry = await make_entry(node, set_up=False)
    hass.config_entries.async_update_entry(entry, data={**entry.data, CONF_TOKEN: "old"})
    result = await entry.start_reauth_flow(hass)
    assert result["step_id"] == "reauth_confirm"
    result = await fill(hass, result, token="wrong")
    assert result["errors"] == {"token": "token_refused"}
    result = await fill(hass, result, token=TOKEN)
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "reauth_successful"
    assert entry.data[CONF_TOKEN] == TOKEN


async def test_the_token_of_an_own_node_is_read_again(hass: HomeAssistant) -> None:
    entry = MockConfigEntry(domain=DOMAIN, data={CONF_DIRECTORY: "x"})
    entry.add_to_hass(hass)
    with patch.object(hass.config_entries, "async_schedule_reload") as reload:
        result = await entry.start_reauth_flow(hass)
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "reauth_successful")
    reload.assert_called_once_with(entry.entry_id)


async def test_reauthentication_at_another_community(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    entry = await make_entry(node, set_up=False)
    changed = {**entry.data, CONF_CHAIN_ID: "ab" * 32, CONF_TOKEN: "old"}
    hass.config_entries.async_update_entry(entry, data=changed)
    result = await entry.start_reauth_flow(hass)
    result = await fill(hass, result, token=TOKEN)
    assert result["reason"] == "other_community"
    assert entry.data[CONF_TOKEN] == "old"


async def test_another_address(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, url: str) -> None:
    entry = await make_entry(node, set_up=False)
    hass.config_entries.async_update_entry(entry, data={**entry.data, CONF_URL: "http://127.0.0.1:1"})
    result = await entry.start_reconfigure_flow(hass)
    assert result["step_id"] == "reconfigure_remote"
    assert suggested(result) == {"url": "http://127.0.0.1:1"}
    result = await fill(hass, result, url="http://127.0.0.1:2", token=TOKEN)
    assert result["errors"] == {"base": "cannot_connect"}
    chain_id = entry.data[CONF_CHAIN_ID]
    hass.config_entries.async_update_entry(entry, data={**entry.data, CONF_CHAIN_ID: "ab" * 32})
    result = await fill(hass, result, url=url, token=TOKEN)
    assert result["errors"] == {"base": "other_community"}
    hass.config_entries.async_update_entry(entry, data={**entry.data, CONF_CHAIN_ID: chain_id})
    result = await fill(hass, result, url=url, token=TOKEN)
    assert result["reason"] == "reconfigure_successful"
    assert entry.data[CONF_URL] == url


async def test_another_port(hass: HomeAssistant, tmp_path: Path) -> None:
    prepare_founding(tmp_path / "node")
    entry = MockConfigEntry(domain=DOMAIN, data={CONF_DIRECTORY: "x"}, options={"mining": False})
    entry.add_to_hass(hass)
    result = await entry.start_reconfigure_flow(hass)
    assert result["step_id"] == "reconfigure_own"
    result = await fill(hass, result, peer_port=8000, discovery=False)
    assert result["reason"] == "reconfigure_successful"
    assert entry.options == {"mining": False, CONF_PEER_PORT: 8000, CONF_DISCOVERY: False}


async def test_the_code_stays_when_the_form_is_shown_again(hass: HomeAssistant) -> None:
    result = await begin(hass, "create")
    result = await fill(hass, result, **COMMUNITY)
    first = await choose(hass, result, "new_key")
    again = await hass.config_entries.flow.async_configure(result["flow_id"])
    assert again["description_placeholders"] == first["description_placeholders"]
    assert again["errors"] == {}
    done = await fill(hass, again, kept=True)
    assert done["type"] is FlowResultType.CREATE_ENTRY


async def test_remote_that_is_no_node(hass: HomeAssistant, node: ApiWorld, url: str) -> None:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/v1/status", hello)
    async with TestServer(app) as server:
        result = await begin(hass, "remote")
        result = await fill(hass, result, url=str(server.make_url("")), token=TOKEN)
        assert result["errors"] == {"base": "not_a_node"}
    result = await fill(hass, result, url=url, token=TOKEN)
    assert result["step_id"] == "home_key"


async def test_remote_that_is_busy(hass: HomeAssistant, node: ApiWorld, url: str) -> None:
    result = await begin(hass, "remote")
    result = await fill(hass, result, url=url, token=TOKEN)
    busy = RefusedError("too_many_requests", "too much", 429)
    with patch("ledger_core.client.NodeClient.member", side_effect=busy):
        result = await with_new_key(hass, result)
    assert result["errors"] == {"base": "cannot_prepare"}
    assert result["description_placeholders"] == {"reason": "too much"}
    result = await fill(hass, result)
    assert result["step_id"] == "remote_invitation"


async def test_nothing_chosen(hass: HomeAssistant) -> None:
    flow = EnergyLedgerConfigFlow()
    flow.hass = hass
    result = await flow.async_step_prepare()
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "unknown"
