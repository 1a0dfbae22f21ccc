"""What the entities of a device have in common, and how they come into being."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import override

from homeassistant.core import callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.device_registry import DeviceInfo
from homeassistant.helpers.entity import Entity, EntityDescription
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.update_coordinator import CoordinatorEntity

from ..const import DOMAIN
from ..data import EnergyLedgerEntry
from ..device_runtime.coordinator import DeviceCoordinator
from ..device_runtime.runtime import DeviceRuntime
from ..devices.readings import Field

type Maker = Callable[[EnergyLedgerEntry, DeviceRuntime, frozenset[Field]], Sequence[Entity]]
"""Gives the entities for those fields of a device."""


def device_info(entry: EnergyLedgerEntry, runtime: DeviceRuntime) -> DeviceInfo:
    """The device's page in Home Assistant; each subentry has its own."""
    plate = runtime.nameplate
    info = DeviceInfo(
        identifiers={(DOMAIN, runtime.settings.subentry_id)},
        name=runtime.name,
        manufacturer=plate.get(Field.MANUFACTURER),
        model=plate.get(Field.MODEL),
        serial_number=plate.get(Field.SERIAL),
        sw_version=plate.get(Field.FIRMWARE),
    )
    if entry.runtime_data.home_device_id:
        info["via_device_id"] = entry.runtime_data.home_device_id
    return info


def runtimes_of(entry: EnergyLedgerEntry) -> Sequence[DeviceRuntime]:
    """The devices of an entry."""
    manager = entry.runtime_data.device_manager
    return [] if manager is None else list(manager.runtimes.values())


class DeviceEntity(CoordinatorEntity[DeviceCoordinator]):
    """An entity of a device; its unique id is the subentry's and the key. Writes only what has changed."""

    _attr_has_entity_name = True

    def __init__(
        self, entry: EnergyLedgerEntry, runtime: DeviceRuntime, description: EntityDescription
    ) -> None:
        """Make the entity that a description describes."""
        super().__init__(runtime.coordinator)
        self.entity_description = description
        self.runtime = runtime
        self._attr_unique_id = f"{runtime.settings.subentry_id}_{description.key}"
        self._attr_device_info = device_info(entry, runtime)
        self._shown: object = None

    @abstractmethod
    def what_shows(self) -> object:
        """Everything that a state is made of; the state is written when this changes."""

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        shown = (self.available, self.what_shows())
        if shown != self._shown:
            self._shown = shown
            self.async_write_ha_state()


def add_device_entities(
    entry: EnergyLedgerEntry, add: AddConfigEntryEntitiesCallback, make: Maker, always: Maker
) -> None:
    """Add the entities of every device; those of fields that a device tells later are added then."""
    for runtime in runtimes_of(entry):
        _add(entry, runtime, add, make, always)


def _add(
    entry: EnergyLedgerEntry,
    runtime: DeviceRuntime,
    add: AddConfigEntryEntitiesCallback,
    make: Maker,
    always: Maker,
) -> None:
    known: set[Field] = set()
    first = list(always(entry, runtime, runtime.fields))

    @callback
    def add_new() -> None:
        fields = runtime.fields - known
        known.update(fields)
        entities = [*first, *make(entry, runtime, fields)]
        first.clear()
        if entities:
            add(entities, config_subentry_id=runtime.settings.subentry_id)

    add_new()
    entry.async_on_unload(runtime.coordinator.async_add_listener(add_new))


@callback
def follow_nameplate(entry: EnergyLedgerEntry) -> None:
    """Keep the devices' pages true: firmware is updated, and a device may tell its model only later."""
    registry = dr.async_get(entry.runtime_data.ledger.hass)
    for runtime in runtimes_of(entry):
        _follow_nameplate(entry, runtime, registry)


def _follow_nameplate(entry: EnergyLedgerEntry, runtime: DeviceRuntime, registry: dr.DeviceRegistry) -> None:
    @callback
    def compare() -> None:
        device = registry.async_get_device_by_identifier(
            (DOMAIN, runtime.settings.subentry_id), entry.entry_id
        )
        if device is None:
            return
        plate = runtime.nameplate
        told = (plate.get(Field.MANUFACTURER), plate.get(Field.MODEL), plate.get(Field.FIRMWARE))
        if told != (device.manufacturer, device.model, device.sw_version):
            manufacturer, model, firmware = told
            registry.async_update_device(
                device.id, manufacturer=manufacturer, model=model, sw_version=firmware
            )

    entry.async_on_unload(runtime.coordinator.async_add_listener(compare))
