"""Sensors of devices: what they read, what they are told, and how they stand on the ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, override

from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.const import (
    PERCENTAGE,
    EntityCategory,
    UnitOfElectricCurrent,
    UnitOfElectricPotential,
    UnitOfEnergy,
    UnitOfFrequency,
    UnitOfPower,
    UnitOfPressure,
    UnitOfTemperature,
    UnitOfVolumeFlowRate,
)
from homeassistant.core import callback
from homeassistant.helpers.entity import Entity
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from ..data import EnergyLedgerEntry
from ..device_runtime.registration import AssetRegistrar, AssetState
from ..device_runtime.runtime import DeviceRuntime
from ..devices.commands import CommandState
from ..devices.readings import Field
from .base import DeviceEntity, add_device_entities, follow_nameplate

_LONGEST_STATE: Final = 255


@dataclass(frozen=True, kw_only=True)
class FieldDescription(SensorEntityDescription):
    """A sensor of one field; `divisor`: how many of the field's units make one of the sensor's."""

    field: Field
    divisor: int = 1


def _power(field: Field, key: str, **more: Any) -> FieldDescription:
    return FieldDescription(
        field=field,
        key=key,
        translation_key=key,
        device_class=SensorDeviceClass.POWER,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=UnitOfPower.WATT,
        suggested_display_precision=0,
        **more,
    )


def _energy(field: Field, key: str) -> FieldDescription:
    return FieldDescription(
        field=field,
        key=key,
        translation_key=key,
        device_class=SensorDeviceClass.ENERGY,
        state_class=SensorStateClass.TOTAL_INCREASING,
        native_unit_of_measurement=UnitOfEnergy.WATT_HOUR,
        suggested_unit_of_measurement=UnitOfEnergy.KILO_WATT_HOUR,
        suggested_display_precision=2,
    )


def _stored(field: Field, key: str, **more: Any) -> FieldDescription:
    return FieldDescription(
        field=field,
        key=key,
        translation_key=key,
        device_class=SensorDeviceClass.ENERGY_STORAGE,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=UnitOfEnergy.WATT_HOUR,
        suggested_unit_of_measurement=UnitOfEnergy.KILO_WATT_HOUR,
        suggested_display_precision=2,
        **more,
    )


def _measured(field: Field, key: str, unit: str, **more: Any) -> FieldDescription:
    return FieldDescription(
        field=field,
        key=key,
        translation_key=key,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=unit,
        **more,
    )


_QUIET: Final[dict[str, Any]] = {
    "entity_category": EntityCategory.DIAGNOSTIC,
    "entity_registry_enabled_default": False,
}

FIELDS: Final[tuple[FieldDescription, ...]] = (
    _power(Field.PV_W, "pv_power"),
    _power(Field.CHARGE_W, "charge_power"),
    _power(Field.DISCHARGE_W, "discharge_power"),
    _power(Field.IMPORT_W, "import_power"),
    _power(Field.EXPORT_W, "export_power"),
    _power(Field.LOAD_W, "load_power"),
    _power(Field.GENERATE_W, "output_power"),
    _power(Field.CONSUME_W, "input_power", entity_registry_enabled_default=False),
    _power(Field.FUEL_CELL_W, "fuel_cell_power"),
    _power(Field.GENERATOR_W, "generator_power"),
    _power(Field.RATED_W, "rated_power", **_QUIET),
    _power(Field.MAX_CHARGE_W, "max_charge_power", **_QUIET),
    _power(Field.MAX_DISCHARGE_W, "max_discharge_power", **_QUIET),
    _energy(Field.PV_WH, "pv_energy"),
    _energy(Field.CHARGE_WH, "charge_energy"),
    _energy(Field.DISCHARGE_WH, "discharge_energy"),
    _energy(Field.IMPORT_WH, "import_energy"),
    _energy(Field.EXPORT_WH, "export_energy"),
    _energy(Field.GENERATE_WH, "output_energy"),
    _energy(Field.FUEL_CELL_WH, "fuel_cell_energy"),
    _stored(Field.ENERGY_AVAILABLE_WH, "energy_available"),
    _stored(Field.CAPACITY_WH, "capacity", **_QUIET),
    _measured(
        Field.STATE_OF_CHARGE,
        "state_of_charge",
        PERCENTAGE,
        divisor=10,
        device_class=SensorDeviceClass.BATTERY,
        suggested_display_precision=0,
    ),
    _measured(Field.STATE_OF_HEALTH, "state_of_health", PERCENTAGE, divisor=10, **_QUIET),
    _measured(Field.FUEL_LEVEL, "fuel_level", PERCENTAGE, divisor=10, suggested_display_precision=0),
    _measured(
        Field.HYDROGEN_MBAR,
        "hydrogen_pressure",
        UnitOfPressure.MBAR,
        device_class=SensorDeviceClass.PRESSURE,
        suggested_unit_of_measurement=UnitOfPressure.BAR,
        suggested_display_precision=1,
    ),
    _measured(
        Field.HYDROGEN_INLET_MBAR,
        "hydrogen_inlet_pressure",
        UnitOfPressure.MBAR,
        device_class=SensorDeviceClass.PRESSURE,
        **_QUIET,
    ),
    _measured(
        Field.HYDROGEN_LPM,
        "hydrogen_flow",
        UnitOfVolumeFlowRate.LITERS_PER_MINUTE,
        device_class=SensorDeviceClass.VOLUME_FLOW_RATE,
        suggested_display_precision=1,
    ),
    _measured(
        Field.BATTERY_MV,
        "battery_voltage",
        UnitOfElectricPotential.VOLT,
        divisor=1000,
        device_class=SensorDeviceClass.VOLTAGE,
        **_QUIET,
    ),
    _measured(
        Field.CHARGE_MA,
        "charge_current",
        UnitOfElectricCurrent.AMPERE,
        divisor=1000,
        device_class=SensorDeviceClass.CURRENT,
        **_QUIET,
    ),
    _measured(
        Field.DISCHARGE_MA,
        "discharge_current",
        UnitOfElectricCurrent.AMPERE,
        divisor=1000,
        device_class=SensorDeviceClass.CURRENT,
        **_QUIET,
    ),
    _measured(
        Field.BATTERY_CELSIUS,
        "battery_temperature",
        UnitOfTemperature.CELSIUS,
        device_class=SensorDeviceClass.TEMPERATURE,
        **_QUIET,
    ),
    _measured(
        Field.DC_MV,
        "dc_voltage",
        UnitOfElectricPotential.VOLT,
        divisor=1000,
        device_class=SensorDeviceClass.VOLTAGE,
        **_QUIET,
    ),
    _measured(
        Field.DC_MA,
        "dc_current",
        UnitOfElectricCurrent.AMPERE,
        divisor=1000,
        device_class=SensorDeviceClass.CURRENT,
        **_QUIET,
    ),
    _measured(
        Field.FREQUENCY_HZ,
        "frequency",
        UnitOfFrequency.HERTZ,
        device_class=SensorDeviceClass.FREQUENCY,
        **_QUIET,
    ),
    _measured(
        Field.CELSIUS,
        "temperature",
        UnitOfTemperature.CELSIUS,
        device_class=SensorDeviceClass.TEMPERATURE,
        **_QUIET,
    ),
    FieldDescription(
        field=Field.STATUS,
        key="status",
        translation_key="device_status",
        entity_category=EntityCategory.DIAGNOSTIC,
    ),
    FieldDescription(field=Field.WARNING, key="warning", translation_key="device_warning", **_QUIET),
)
COMMAND: Final = SensorEntityDescription(
    key="command",
    translation_key="command_state",
    device_class=SensorDeviceClass.ENUM,
    options=[state.value for state in CommandState],
)
ASSET: Final = SensorEntityDescription(
    key="asset",
    translation_key="asset_state",
    device_class=SensorDeviceClass.ENUM,
    entity_category=EntityCategory.DIAGNOSTIC,
    options=[state.value for state in AssetState],
)


class FieldSensor(DeviceEntity, SensorEntity):
    """One field of a device's readings."""

    entity_description: FieldDescription

    @property
    @override
    def available(self) -> bool:
        """Whether the device is there and tells this value."""
        return super().available and self._value is not None

    @property
    def _value(self) -> int | float | str | None:
        return self.coordinator.data[self.entity_description.field].value

    @property
    @override
    def native_value(self) -> int | float | str | None:
        """The value in the sensor's unit."""
        value, divisor = self._value, self.entity_description.divisor
        if isinstance(value, str):
            return value[:_LONGEST_STATE]
        return value if value is None or divisor == 1 else value / divisor

    @override
    def what_shows(self) -> object:
        """The value."""
        return self._value


class CommandSensor(DeviceEntity, SensorEntity):
    """What the device is told now; it also says so while the device is away."""

    @property
    @override
    def available(self) -> bool:
        """Always: what was ordered is known here."""
        return True

    @property
    @override
    def native_value(self) -> str:
        """Where the command stands."""
        status = self.runtime.command_status
        return (CommandState.IDLE if status is None else status.state).value

    @property
    @override
    def extra_state_attributes(self) -> Mapping[str, Any]:
        """The order, and why the last one ended or failed."""
        status = self.runtime.command_status
        if status is None:
            return {}
        attributes: dict[str, Any] = {"reason": status.reason}
        if status.order is not None:
            attributes |= {
                "command": status.order.name.value,
                "power_w": status.order.power_w,
                "until": datetime.fromtimestamp(status.order.until, UTC).isoformat(),
            }
        return attributes

    @override
    def what_shows(self) -> object:
        """The command's status."""
        return self.runtime.command_status

    @override
    async def async_added_to_hass(self) -> None:
        """Follow the command."""
        await super().async_added_to_hass()
        self.async_on_remove(self.runtime.listen_status(self._handle_coordinator_update))


class AssetSensor(DeviceEntity, SensorEntity):
    """How the device stands on the ledger."""

    def __init__(self, entry: EnergyLedgerEntry, runtime: DeviceRuntime, registrar: AssetRegistrar) -> None:
        """Follow the registrar."""
        super().__init__(entry, runtime, ASSET)
        self._registrar = registrar

    @property
    @override
    def available(self) -> bool:
        """Always: a node that is away is a state of its own."""
        return True

    @property
    @override
    def native_value(self) -> str:
        """The state."""
        return self._registrar.status(self.runtime.settings.subentry_id).state.value

    @property
    @override
    def extra_state_attributes(self) -> Mapping[str, Any]:
        """The asset's id and figures, and why it is not registered."""
        status = self._registrar.status(self.runtime.settings.subentry_id)
        meter = self.runtime.meter_id
        return {
            "asset_id": self.runtime.settings.asset_id.hex(),
            "rating_w": self.runtime.rating_w,
            "capacity_wh": self.runtime.capacity_wh,
            "meter": None if meter is None else meter.hex(),
            "reason": status.reason,
            "code": status.code,
        }

    @override
    def what_shows(self) -> object:
        """Status and attributes."""
        return (self.native_value, dict(self.extra_state_attributes))

    @override
    async def async_added_to_hass(self) -> None:
        """Follow the registrar, too."""
        await super().async_added_to_hass()
        self.async_on_remove(self._registrar.listen(self._handle_coordinator_update))


def _of_fields(
    entry: EnergyLedgerEntry, runtime: DeviceRuntime, fields: frozenset[Field]
) -> Sequence[Entity]:
    return [FieldSensor(entry, runtime, description) for description in FIELDS if description.field in fields]


def _always(entry: EnergyLedgerEntry, runtime: DeviceRuntime, _fields: frozenset[Field]) -> Sequence[Entity]:
    entities: list[Entity] = []
    if (manager := entry.runtime_data.device_manager) is not None:
        entities.append(AssetSensor(entry, runtime, manager.registrar))
    if runtime.commander is not None:
        entities.append(CommandSensor(entry, runtime, COMMAND))
    return entities


@callback
def add_sensors(entry: EnergyLedgerEntry, add: AddConfigEntryEntitiesCallback) -> None:
    """Add the sensors of every device of an entry."""
    add_device_entities(entry, add, _of_fields, _always)
    follow_nameplate(entry)
