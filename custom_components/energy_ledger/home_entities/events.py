"""Event entities of the home: what happens to offers, and to trades."""

from typing import Final

from homeassistant.components.event import EventEntity
from homeassistant.core import callback
from homeassistant.helpers.entity import Entity

from ..data import EnergyLedgerEntry
from ..entity import LedgerEntity
from ..events import Happening, HomeEvent, async_listen

OFFERS: Final = (
    Happening.OFFER_RECEIVED,
    Happening.OFFER_CLOSED,
    Happening.COUNTER_RECEIVED,
    Happening.COUNTER_ENDED,
)
TRADES: Final = (
    Happening.TRADE_AGREED,
    Happening.TRADE_TERMINATED,
    Happening.TRADE_CLOSED,
    Happening.SLOT_SETTLED,
    Happening.DELIVERY_STARTED,
    Happening.DELIVERY_ENDED,
    Happening.SHORTFALL,
)


class HomeEventEntity(LedgerEntity, EventEntity):
    """Shows the newest of some kinds of events."""

    def __init__(self, entry: EnergyLedgerEntry, key: str, kinds: tuple[Happening, ...]) -> None:
        """Show these kinds."""
        super().__init__(entry, key)
        self._attr_translation_key = key
        self._attr_event_types = [kind.value for kind in kinds]

    async def async_added_to_hass(self) -> None:
        """Listen to what happens."""
        await super().async_added_to_hass()
        self.async_on_remove(async_listen(self.hass, self.entry.entry_id, self._happened))

    @callback
    def _happened(self, event: HomeEvent) -> None:
        if event.kind.value in self.event_types:
            attributes = {name: value for name, value in event.data.items() if name != "raw"}
            self._trigger_event(event.kind.value, attributes)
            self.async_write_ha_state()


def entities(entry: EnergyLedgerEntry) -> list[Entity]:
    """Return the event entities of an entry's home."""
    return [HomeEventEntity(entry, "offers", OFFERS), HomeEventEntity(entry, "trades", TRADES)]
