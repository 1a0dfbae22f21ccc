"""Energy Ledger for Home Assistant."""

import shutil
from functools import partial
from typing import Any

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import ConfigEntryError
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.start import async_at_started
from homeassistant.helpers.typing import ConfigType

from .vendor import LEDGER_FOLDER  # isort: skip  # before anything that imports ledger_core
from ledger_core.client.home import Home

from .const import (
    CONF_CHAIN_ID,
    CONF_COMMUNITY,
    CONF_DIRECTORY,
    CONF_HOME,
    CONF_INVITATION,
    DOMAIN,
)
from .data import EnergyLedgerData, EnergyLedgerEntry
from .device_runtime.manager import async_remove_storage as remove_devices
from .device_runtime.manager import async_start_devices, may_remove_device
from .entity import home_device_info
from .issues import async_sweep
from .key_store import HomeKey, async_key_store
from .ledger import LedgerCoordinator, async_remove_cursor
from .membership import Joining
from .node.keeper import node_keeper
from .node_setup import (
    MINING_OPTIONS,
    async_change_mining,
    async_connect,
    async_require_version,
    data_directory,
)
from .observers import async_remove_observed, async_start_observers
from .peer_view import PeerView
from .platforms import PLATFORMS
from .services import async_setup_services
from .trading.engine import async_remove_storage as remove_trading
from .trading.engine import async_start_trading

_ = LEDGER_FOLDER

CONFIG_SCHEMA = cv.config_entry_only_config_schema(DOMAIN)


async def async_setup(hass: HomeAssistant, _config: ConfigType) -> bool:
    """Register actions and the peers' view, whether a home is set up or not."""
    async_setup_services(hass)
    hass.http.register_view(PeerView(hass))
    return True


async def async_setup_entry(hass: HomeAssistant, entry: EnergyLedgerEntry) -> bool:
    """Set up a home in its community."""
    async_sweep(hass)
    key = await _async_key(hass, entry)
    client, node = await async_connect(hass, entry)
    try:
        if node is None:
            await async_require_version(hass, entry, client)
        ledger = LedgerCoordinator(hass, entry, client, key.address)
        await ledger.async_config_entry_first_refresh()
        _require_community(entry, ledger)
        chain_id = bytes.fromhex(entry.data[CONF_CHAIN_ID])
        entry.runtime_data = EnergyLedgerData(
            client=client, key=key, home=Home(client, key.signer, chain_id=chain_id), node=node, ledger=ledger
        )
        await _async_start(hass, entry)
    except BaseException:
        if node is not None:
            await node.stop()
        raise
    return True


async def _async_key(hass: HomeAssistant, entry: EnergyLedgerEntry) -> HomeKey:
    keys = await async_key_store(hass)
    try:
        return keys.get(entry.data[CONF_HOME])
    except KeyError as error:
        raise ConfigEntryError(
            translation_domain=DOMAIN,
            translation_key="key_missing",
            translation_placeholders={"home": entry.data[CONF_HOME]},
        ) from error


def _require_community(entry: EnergyLedgerEntry, ledger: LedgerCoordinator) -> None:
    """Refuse a node that belongs to another community."""
    status = ledger.data.status
    if status.chain_id != entry.data[CONF_CHAIN_ID]:
        raise ConfigEntryError(
            translation_domain=DOMAIN,
            translation_key="other_community",
            translation_placeholders={"found": status.community, "wanted": entry.data[CONF_COMMUNITY]},
        )


async def _async_start(hass: HomeAssistant, entry: EnergyLedgerEntry) -> None:
    data = entry.runtime_data
    home_device = dr.async_get(hass).async_get_or_create(
        config_entry_id=entry.entry_id, **home_device_info(entry)
    )
    data.home_device_id = home_device.id
    await async_start_observers(hass, entry)
    await async_start_devices(hass, entry)
    await async_start_trading(hass, entry)
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    if CONF_INVITATION in entry.data:
        joining = Joining(hass, entry, data.home, data.ledger)
        entry.async_create_background_task(hass, joining.run(), f"{entry.title} joining")

    @callback
    def follow(_: HomeAssistant) -> None:
        data.ledger.start()

    # Only then automations listen: none of them misses what happened while Home Assistant was away.
    entry.async_on_unload(async_at_started(hass, follow))
    entry.async_on_unload(entry.add_update_listener(_Reloader(entry)))


class _Reloader:
    """Reloads an entry when what it was set up with has changed, and for nothing else.

    How much the node mines is told to the node that runs: a reload would end deliveries.
    """

    def __init__(self, entry: ConfigEntry[Any]) -> None:
        self._known = self._fingerprint(entry)
        self._mining = self._mining_of(entry)

    async def __call__(self, hass: HomeAssistant, entry: ConfigEntry[Any]) -> None:
        found, mining = self._fingerprint(entry), self._mining_of(entry)
        if found != self._known:
            self._known = found
            hass.config_entries.async_schedule_reload(entry.entry_id)
        elif mining != self._mining:
            self._mining = mining
            await async_change_mining(hass, entry)

    @staticmethod
    def _fingerprint(entry: ConfigEntry[Any]) -> object:
        data = {key: value for key, value in entry.data.items() if key != CONF_INVITATION}
        options = {key: value for key, value in entry.options.items() if key not in MINING_OPTIONS}
        subentries = {key: (each.title, dict(each.data)) for key, each in entry.subentries.items()}
        return data, options, subentries

    @staticmethod
    def _mining_of(entry: ConfigEntry[Any]) -> object:
        return [entry.options.get(key) for key in MINING_OPTIONS]


async def async_unload_entry(hass: HomeAssistant, entry: EnergyLedgerEntry) -> bool:
    """Unload an entry; its node ends last, or waits a moment for the entry to be set up again."""
    if not await hass.config_entries.async_unload_platforms(entry, PLATFORMS):
        return False
    if entry.runtime_data.trading is not None:
        await entry.runtime_data.trading.async_stop()
    await entry.runtime_data.ledger.stop()
    if (node := entry.runtime_data.node) is not None:
        if entry.disabled_by is None:
            await node_keeper(hass).keep(entry.entry_id, node)
        else:
            await node.stop()
    return True


async def async_remove_config_entry_device(
    _hass: HomeAssistant, entry: EnergyLedgerEntry, device: dr.DeviceEntry
) -> bool:
    """Tell whether a device's page may be deleted by hand."""
    return may_remove_device(entry, device)


async def async_remove_entry(hass: HomeAssistant, entry: EnergyLedgerEntry) -> None:
    """Delete what was kept for an entry, and its node's data. The home's key stays in the key store."""
    await node_keeper(hass).end(entry.entry_id)
    for remove in (async_remove_observed, remove_devices, remove_trading, async_remove_cursor):
        await remove(hass, entry.entry_id)
    if CONF_DIRECTORY in entry.data:
        await hass.async_add_executor_job(
            partial(shutil.rmtree, data_directory(hass, entry.data[CONF_DIRECTORY]), ignore_errors=True)
        )
    async_sweep(hass)
