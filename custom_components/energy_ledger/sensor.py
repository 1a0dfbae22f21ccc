"""Sensors of home, node, devices and trading."""

from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .data import EnergyLedgerEntry
from .device_entities import sensors as devices
from .home_entities import sensors as home
from .platforms import add_entities
from .trading_entities import sensors as trading

PARALLEL_UPDATES = 0


async def async_setup_entry(
    _hass: HomeAssistant, entry: EnergyLedgerEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Add the entities of an entry."""
    add_entities(
        entry,
        async_add_entities,
        of_home=(home.entities, trading.entities),
        of_subentries=(trading.rule_entities,),
    )
    devices.add_sensors(entry, async_add_entities)
