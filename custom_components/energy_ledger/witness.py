"""Hands in the proof when the home's node saw another one vote in two ways; that one then loses its role."""

import logging
from typing import Any

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback

from ledger_core.client.evidence import EVENT, publish_evidence
from ledger_core.client.views import EventView
from ledger_core.errors import LedgerError

from .const import DOMAIN
from .data import EnergyLedgerEntry

_LOGGER = logging.getLogger(__name__)


class Witness:
    """Listens for one home."""

    def __init__(self, hass: HomeAssistant, entry: EnergyLedgerEntry) -> None:
        """Prepare to listen."""
        self._hass = hass
        self._entry = entry

    @callback
    def start(self) -> CALLBACK_TYPE:
        """Begin to listen; returns what ends it."""
        return self._entry.runtime_data.ledger.listen(self._take)

    @callback
    def _take(self, event: EventView) -> None:
        if event.event != EVENT:
            return
        own = self._entry.runtime_data.ledger.data.status.node
        if own is not None and event.data.get("node") == own.key:
            return  # a copy of the home's own node: its own issue tells what to do
        self._entry.async_create_background_task(
            self._hass, self._hand_in(event.data), f"{DOMAIN} {self._entry.title} evidence"
        )

    async def _hand_in(self, data: dict[str, Any]) -> None:
        title = self._entry.title
        try:
            record = await publish_evidence(self._entry.runtime_data.home, data)
        except LedgerError as error:
            # Mostly another home was quicker: one piece is enough.
            _LOGGER.info("%s: evidence of a double vote was not taken: %s", title, error)
            return
        _LOGGER.warning("%s: a node voted in two ways; evidence %s was handed in", title, record)
