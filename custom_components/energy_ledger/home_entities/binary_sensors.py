"""Binary sensors of the home and its node."""

from collections.abc import Callable
from dataclasses import dataclass

from homeassistant.components.binary_sensor import (
    BinarySensorEntity,
    BinarySensorEntityDescription,
)
from homeassistant.components.binary_sensor.const import BinarySensorDeviceClass
from homeassistant.const import EntityCategory
from homeassistant.helpers.entity import Entity

from .. import prices
from ..data import EnergyLedgerEntry
from ..entity import LedgerEntity, NodeEntity
from ..ledger import LedgerView
from ..quantities import now_s


@dataclass(frozen=True, kw_only=True)
class NodeBinaryDescription(BinarySensorEntityDescription):
    """A binary sensor of the node."""

    is_on: Callable[[LedgerView], bool]


NODE = (
    NodeBinaryDescription(
        key="synced",
        translation_key="synced",
        entity_category=EntityCategory.DIAGNOSTIC,
        is_on=lambda view: view.status.synced,
    ),
)


class NodeBinarySensor(NodeEntity, BinarySensorEntity):
    """A yes or no about the node."""

    entity_description: NodeBinaryDescription

    def __init__(self, entry: EnergyLedgerEntry, description: NodeBinaryDescription) -> None:
        """Make the sensor of a description."""
        super().__init__(entry, description.key, description)

    @property
    def is_on(self) -> bool:
        """The answer."""
        return self.entity_description.is_on(self.coordinator.data)


class TradingNow(LedgerEntity, BinarySensorEntity):
    """Whether a trade of the home is in its window."""

    _attr_device_class = BinarySensorDeviceClass.RUNNING
    _attr_translation_key = "trading"

    def __init__(self, entry: EnergyLedgerEntry) -> None:
        """Watch the home's trades."""
        super().__init__(entry, "trading")

    @property
    def is_on(self) -> bool:
        """Whether one runs."""
        return bool(prices.running(self.coordinator.data.trades, now_s()))


def entities(entry: EnergyLedgerEntry) -> list[Entity]:
    """Return the binary sensors of an entry's home and node."""
    return [TradingNow(entry), *(NodeBinarySensor(entry, description) for description in NODE)]
