"""A home whose set-up failed is set up again by what mends it: the right token, the right address."""

from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import CONF_TOKEN, CONF_URL
from homeassistant.core import HomeAssistant

from custom_components.energy_ledger.const import DOMAIN
from tests.node.api_world import TOKEN, ApiWorld

from .conftest import EntryMaker, state_of


async def test_the_right_token_sets_the_home_up_again(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    entry = await make_entry(node, set_up=False)
    hass.config_entries.async_update_entry(entry, data={**entry.data, CONF_TOKEN: "old"})
    await hass.config_entries.async_setup(entry.entry_id)
    assert state_of(entry) is ConfigEntryState.SETUP_ERROR
    (flow,) = hass.config_entries.flow.async_progress_by_handler(DOMAIN)
    result = await hass.config_entries.flow.async_configure(flow["flow_id"], {CONF_TOKEN: TOKEN})
    assert result["reason"] == "reauth_successful"
    await hass.async_block_till_done()
    assert state_of(entry) is ConfigEntryState.LOADED


async def test_the_right_address_sets_the_home_up_again(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    entry = await make_entry(node, set_up=False)
    right = {CONF_URL: entry.data[CONF_URL], CONF_TOKEN: TOKEN}
    hass.config_entries.async_update_entry(entry, data={**entry.data, CONF_URL: "http://127.0.0.1:1"})
    await hass.config_entries.async_setup(entry.entry_id)
    assert state_of(entry) is ConfigEntryState.SETUP_RETRY
    flow = await entry.start_reconfigure_flow(hass)
    result = await hass.config_entries.flow.async_configure(flow["flow_id"], right)
    assert result["reason"] == "reconfigure_successful"
    await hass.async_block_till_done()
    assert state_of(entry) is ConfigEntryState.LOADED
