"""Binary sensors of devices: whether they answer, and whether something is wrong with them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, override

from homeassistant.components.binary_sensor import (
    BinarySensorEntity,
    BinarySensorEntityDescription,
)
from homeassistant.components.binary_sensor.const import BinarySensorDeviceClass
from homeassistant.const import EntityCategory
from homeassistant.core import callback
from homeassistant.helpers.entity import Entity
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from ..data import EnergyLedgerEntry
from ..device_runtime.runtime import DeviceRuntime
from ..devices.device import Availability
from ..devices.readings import Field
from .base import DeviceEntity, add_device_entities

REACHABLE: Final = BinarySensorEntityDescription(
    key="reachable",
    translation_key="reachable",
    device_class=BinarySensorDeviceClass.CONNECTIVITY,
    entity_category=EntityCategory.DIAGNOSTIC,
)
FAULT: Final = BinarySensorEntityDescription(
    key="fault",
    translation_key="fault",
    device_class=BinarySensorDeviceClass.PROBLEM,
    entity_category=EntityCategory.DIAGNOSTIC,
)
FUEL_LOW: Final = BinarySensorEntityDescription(
    key="fuel_low",
    translation_key="fuel_low",
    device_class=BinarySensorDeviceClass.PROBLEM,
)
_THERE: Final = frozenset({Availability.ONLINE, Availability.PARTIAL})


class ReachableSensor(DeviceEntity, BinarySensorEntity):
    """Whether the device answers, and what it keeps back."""

    @property
    @override
    def available(self) -> bool:
        """Always."""
        return True

    @property
    @override
    def is_on(self) -> bool:
        """Whether it answers, if only in part."""
        return self.runtime.availability in _THERE

    @property
    @override
    def extra_state_attributes(self) -> Mapping[str, Any]:
        """The availability in more detail, and the reason."""
        error = self.runtime.error
        return {
            "availability": self.runtime.availability.value,
            "reason": None if error is None else str(error),
            "problems": {field.value: text for field, text in self.runtime.problems.items()},
        }

    @override
    def what_shows(self) -> object:
        """The attributes, which say it all."""
        return dict(self.extra_state_attributes)


class FaultSensor(DeviceEntity, BinarySensorEntity):
    """Whether the device tells a fault; which, stands in an attribute."""

    @property
    @override
    def available(self) -> bool:
        """Whether the device tells."""
        return super().available and self._text is not None

    @property
    def _text(self) -> str | None:
        return self.coordinator.data.text(Field.FAULT)

    @property
    @override
    def is_on(self) -> bool:
        """Whether there is a fault."""
        return bool(self._text)

    @property
    @override
    def extra_state_attributes(self) -> Mapping[str, Any]:
        """The device's own words."""
        return {"fault": self._text or None}

    @override
    def what_shows(self) -> object:
        """The fault."""
        return self._text


class FuelLowSensor(DeviceEntity, BinarySensorEntity):
    """Whether the fuel runs out."""

    @property
    @override
    def available(self) -> bool:
        """Whether the device tells."""
        return super().available and self.what_shows() is not None

    @property
    @override
    def is_on(self) -> bool:
        """Whether it is low."""
        return bool(self.what_shows())

    @override
    def what_shows(self) -> object:
        """The device's flag."""
        return self.coordinator.data[Field.FUEL_LOW].value


def _of_fields(
    entry: EnergyLedgerEntry, runtime: DeviceRuntime, fields: frozenset[Field]
) -> Sequence[Entity]:
    entities: list[Entity] = []
    if Field.FAULT in fields:
        entities.append(FaultSensor(entry, runtime, FAULT))
    if Field.FUEL_LOW in fields:
        entities.append(FuelLowSensor(entry, runtime, FUEL_LOW))
    return entities


def _always(entry: EnergyLedgerEntry, runtime: DeviceRuntime, _fields: frozenset[Field]) -> Sequence[Entity]:
    return [ReachableSensor(entry, runtime, REACHABLE)]


@callback
def add_binary_sensors(entry: EnergyLedgerEntry, add: AddConfigEntryEntitiesCallback) -> None:
    """Add the binary sensors of every device of an entry."""
    add_device_entities(entry, add, _of_fields, _always)
