"""Switches of the home (trading by itself) and of its node (mining)."""

from typing import Any

from homeassistant.components.switch import SwitchEntity
from homeassistant.const import EntityCategory
from homeassistant.helpers.entity import Entity

from ..const import CONF_MINING
from ..data import EnergyLedgerEntry
from ..entity import LedgerEntity, NodeEntity
from ..trading_settings import TradingSettings


class AutomaticSwitch(LedgerEntity, SwitchEntity):
    """Lets the rules sell, or buy, by themselves; off, they only say what they would do.

    Also: whether only trades are delivered that are final.
    """

    def __init__(self, entry: EnergyLedgerEntry, settings: TradingSettings, key: str) -> None:
        """Switch one of the settings: `automatic_selling`, `automatic_buying` or `only_final`."""
        super().__init__(entry, key)
        self._settings = settings
        self._key = key
        self._attr_translation_key = key
        if key == "only_final":
            self._attr_entity_category = EntityCategory.CONFIG

    async def async_added_to_hass(self) -> None:
        """Follow the settings."""
        await super().async_added_to_hass()
        self.async_on_remove(self._settings.async_listen(lambda _: self.async_write_ha_state()))

    @property
    def available(self) -> bool:
        """Always: whoever wants to stop trading must not have to wait for the node."""
        return True

    @property
    def is_on(self) -> bool:
        """Whether the rules act, or the setting holds."""
        return bool(getattr(self._settings.limits, self._key))

    async def async_turn_on(self, **_: Any) -> None:
        """Switch it on."""
        await self._settings.async_change(**{self._key: True})

    async def async_turn_off(self, **_: Any) -> None:
        """Switch it off."""
        await self._settings.async_change(**{self._key: False})


class MiningSwitch(NodeEntity, SwitchEntity):
    """Lets the home's own node mine."""

    _attr_translation_key = "mining"
    _attr_entity_category = EntityCategory.CONFIG

    def __init__(self, entry: EnergyLedgerEntry) -> None:
        """Switch the entry's option."""
        super().__init__(entry, "mining")

    @property
    def is_on(self) -> bool:
        """Whether the node may mine."""
        return bool(self.entry.options.get(CONF_MINING, True))

    async def async_turn_on(self, **_: Any) -> None:
        """Let the node mine."""
        self._change(True)

    async def async_turn_off(self, **_: Any) -> None:
        """Let the node only follow."""
        self._change(False)

    def _change(self, on: bool) -> None:
        options = {**self.entry.options, CONF_MINING: on}
        self.hass.config_entries.async_update_entry(self.entry, options=options)
        self.async_write_ha_state()


def entities(entry: EnergyLedgerEntry) -> list[Entity]:
    """Return the switches of an entry's home and node; mining only of a node of our own."""
    data = entry.runtime_data
    found: list[Entity] = []
    if data.settings is not None:
        found += [
            AutomaticSwitch(entry, data.settings, key)
            for key in ("automatic_selling", "automatic_buying", "only_final")
        ]
    if data.node is not None:
        found.append(MiningSwitch(entry))
    return found
