"""What the entities of home and node have in common."""

from typing import override

from homeassistant.core import callback
from homeassistant.helpers.device_registry import DeviceEntryType, DeviceInfo
from homeassistant.helpers.entity import EntityDescription
from homeassistant.helpers.translation import async_get_cached_translations
from homeassistant.helpers.update_coordinator import CoordinatorEntity

from .const import CONF_COMMUNITY, DOMAIN
from .data import EnergyLedgerEntry
from .ledger import LedgerCoordinator

MANUFACTURER = "Energy Ledger"


def model_name(entry: EnergyLedgerEntry, model: str) -> str:
    """Return what stands as a device's model, in the system's language: Home Assistant has no key for it."""
    hass = entry.runtime_data.ledger.hass
    texts = async_get_cached_translations(hass, hass.config.language, "common", DOMAIN)
    return texts.get(f"component.{DOMAIN}.common.model_{model}", model)


def home_device_info(entry: EnergyLedgerEntry) -> DeviceInfo:
    """Return the device that stands for the home in its community."""
    return DeviceInfo(
        identifiers={(DOMAIN, str(entry.unique_id))},
        entry_type=DeviceEntryType.SERVICE,
        manufacturer=MANUFACTURER,
        model=model_name(entry, "home"),
        name=entry.title,
    )


def node_device_info(entry: EnergyLedgerEntry) -> DeviceInfo:
    """Return the device that stands for the home's node."""
    data = entry.runtime_data
    return DeviceInfo(
        identifiers={(DOMAIN, f"{entry.unique_id}_node")},
        entry_type=DeviceEntryType.SERVICE,
        manufacturer=MANUFACTURER,
        model=model_name(entry, "node"),
        translation_key="node",
        translation_placeholders={"community": entry.data[CONF_COMMUNITY]},
        sw_version=data.ledger.data.status.version,
        via_device_id=data.home_device_id,
    )


class _Entity(CoordinatorEntity[LedgerCoordinator]):
    """Available while the node answers; the unique id is the entry's and the key. Writes what changed."""

    _attr_has_entity_name = True

    def __init__(self, entry: EnergyLedgerEntry, key: str) -> None:
        super().__init__(entry.runtime_data.ledger)
        self.entry = entry
        self._attr_unique_id = f"{entry.unique_id}_{key}"
        self._shown: object = None

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        """Write the state if it is another one: every block brings a refresh, and few change anything."""
        available = self.available
        state = self.state if available else None
        shown = (available, state, self.state_attributes, self.extra_state_attributes)
        if shown != self._shown:
            self._shown = shown
            self.async_write_ha_state()

    def _describe(self, description: EntityDescription | None) -> None:
        if description is not None:
            self.entity_description = description


class LedgerEntity(_Entity):
    """An entity of the home."""

    def __init__(
        self, entry: EnergyLedgerEntry, key: str, description: EntityDescription | None = None
    ) -> None:
        """Make the entity with this key; a description's own translation key and icon hold."""
        super().__init__(entry, key)
        self._attr_device_info = home_device_info(entry)
        self._describe(description)


class NodeEntity(_Entity):
    """An entity of the home's node."""

    def __init__(
        self, entry: EnergyLedgerEntry, key: str, description: EntityDescription | None = None
    ) -> None:
        """Make the entity with this key; a description's own translation key and icon hold."""
        super().__init__(entry, key)
        self._attr_device_info = node_device_info(entry)
        self._describe(description)
