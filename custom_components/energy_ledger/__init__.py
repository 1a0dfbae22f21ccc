"""Energy Ledger for Home Assistant."""

from homeassistant.const import CONF_TOKEN, CONF_URL
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ConfigEntryError
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.aiohttp_client import async_get_clientsession

from .vendor import LEDGER_FOLDER  # isort: skip  # before anything that imports ledger_core
from ledger_core.client.home import Home

from ledger_core.client import NodeClient

from .const import CONF_HOME, DOMAIN
from .data import EnergyLedgerData, EnergyLedgerEntry
from .entity import home_device_info
from .key_store import async_key_store
from .ledger import LedgerCoordinator
from .platforms import PLATFORMS

_ = LEDGER_FOLDER

CONFIG_SCHEMA = cv.config_entry_only_config_schema(DOMAIN)


async def async_setup_entry(hass: HomeAssistant, entry: EnergyLedgerEntry) -> bool:
    """Set up a home in its community."""
    keys = await async_key_store(hass)
    try:
        key = keys.get(entry.data[CONF_HOME])
    except KeyError as error:
        raise ConfigEntryError(
            translation_domain=DOMAIN,
            translation_key="key_missing",
            translation_placeholders={"home": entry.data[CONF_HOME]},
        ) from error
    client = NodeClient(entry.data[CONF_URL], entry.data[CONF_TOKEN], session=async_get_clientsession(hass))
    ledger = LedgerCoordinator(hass, entry, client, key.address)
    await ledger.async_config_entry_first_refresh()
    data = EnergyLedgerData(client=client, key=key, home=Home(client, key.signer), node=None, ledger=ledger)
    entry.runtime_data = data
    data.home_device_id = (
        dr.async_get(hass).async_get_or_create(config_entry_id=entry.entry_id, **home_device_info(entry)).id
    )
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    ledger.start()
    return True


async def async_unload_entry(hass: HomeAssistant, entry: EnergyLedgerEntry) -> bool:
    """Unload an entry."""
    return await hass.config_entries.async_unload_platforms(entry, PLATFORMS)
