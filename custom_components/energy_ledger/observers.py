"""What follows the ledger for a home while its entry is loaded."""

from homeassistant.core import HomeAssistant
from homeassistant.helpers.dispatcher import async_dispatcher_send

from .announcer import Announcer, async_remove_announced
from .books import async_open_books, async_remove_books
from .const import CONF_CURRENCY
from .data import EnergyLedgerEntry
from .issues import IssueWatch
from .loaded import LOADED
from .statistics import async_start_statistics
from .trading_settings import async_load_settings, async_remove_settings
from .witness import Witness


async def async_start_observers(hass: HomeAssistant, entry: EnergyLedgerEntry) -> None:
    """Begin to follow: before the platforms are set up, and before the coordinator delivers events."""
    data = entry.runtime_data
    data.settings = await async_load_settings(hass, entry.entry_id, entry.data[CONF_CURRENCY])
    data.books = await async_open_books(hass, entry)
    await async_start_statistics(hass, entry, data.books)
    await Announcer(hass, entry).async_start()
    entry.async_on_unload(IssueWatch(hass, entry).start())
    entry.async_on_unload(Witness(hass, entry).start())
    async_dispatcher_send(hass, LOADED, entry)


async def async_remove_observed(hass: HomeAssistant, entry_id: str) -> None:
    """Forget what was kept of a removed entry."""
    await async_remove_settings(hass, entry_id)
    await async_remove_books(hass, entry_id)
    await async_remove_announced(hass, entry_id)
