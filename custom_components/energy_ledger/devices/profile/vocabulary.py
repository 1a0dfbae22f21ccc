"""The fixed words of a device profile: transports, types, roles, directions, and the roles' units."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from .units import Unit

if TYPE_CHECKING:
    from collections.abc import Mapping


class Transport(StrEnum):
    """How Modbus travels to the device."""

    TCP = "tcp"  # Modbus TCP (MBAP header)
    RTU_OVER_TCP = "rtu_over_tcp"  # RTU frames through a serial-to-network gateway
    SERIAL = "serial"  # RTU frames on a serial line
    UDP = "udp"  # Modbus TCP frames in UDP datagrams
    RTU_OVER_UDP = "rtu_over_udp"  # RTU frames in UDP datagrams


class Function(IntEnum):
    """Modbus function codes that profiles use (Modbus Application Protocol V1.1b3)."""

    READ_COILS = 1
    READ_DISCRETE_INPUTS = 2
    READ_HOLDING = 3
    READ_INPUT = 4
    WRITE_SINGLE_COIL = 5
    WRITE_SINGLE = 6
    WRITE_MULTIPLE = 16


class WordOrder(StrEnum):
    """Which 16-bit word of a longer number comes first: `BIG` the high one, `LITTLE` the low one."""

    BIG = "big"
    LITTLE = "little"


class ValueType(StrEnum):
    """How the bits of one value are to be read. Length in registers: see `REGISTERS`."""

    BIT = "bit"  # one coil or discrete input
    U16 = "u16"
    S16 = "s16"
    U32 = "u32"
    S32 = "s32"
    U64 = "u64"
    S64 = "s64"
    F32 = "f32"  # read as the shortest decimal that names the same binary32
    F64 = "f64"
    STR = "str"  # text, two bytes per register, padded with NUL or space


REGISTERS: Final[Mapping[ValueType, int]] = MappingProxyType(
    {
        ValueType.BIT: 1,
        ValueType.U16: 1,
        ValueType.S16: 1,
        ValueType.U32: 2,
        ValueType.S32: 2,
        ValueType.U64: 4,
        ValueType.S64: 4,
        ValueType.F32: 2,
        ValueType.F64: 4,
    }
)
"""Registers that one value occupies; a text says its own length."""


class Meaning(StrEnum):
    """What the decoded value stands for."""

    NUMBER = "number"
    ENUM = "enum"  # a code; `labels` maps code -> name
    BITS = "bits"  # a bit field; `labels` maps bit number -> name
    TEXT = "text"


class Direction(StrEnum):
    """The direction in which the device's raw sign counts positive."""

    CHARGE = "charge"
    DISCHARGE = "discharge"
    IMPORT = "import"
    EXPORT = "export"
    GENERATE = "generate"
    CONSUME = "consume"


class PollGroup(StrEnum):
    """How often a point is read."""

    FAST = "fast"  # every poll
    SLOW = "slow"  # about once a minute
    ONCE = "once"  # after each (re)connection
    NEVER = "never"  # only when a command, a check or a user asks for it


class Role(StrEnum):
    """The typed reading that a point feeds. `ROLE_UNITS` gives each role's canonical unit."""

    PV_POWER = "pv_power"
    BATTERY_POWER = "battery_power"  # signed: `positive` is charge or discharge
    GRID_POWER = "grid_power"  # signed: `positive` is import or export
    LOAD_POWER = "load_power"
    AC_POWER = "ac_power"  # at the inverter's AC terminals, positive = generate unless said otherwise
    FUEL_CELL_POWER = "fuel_cell_power"
    GENERATOR_POWER = "generator_power"
    STATE_OF_CHARGE = "state_of_charge"
    STATE_OF_HEALTH = "state_of_health"
    ENERGY_AVAILABLE = "energy_available"
    CAPACITY = "capacity"
    RATED_POWER = "rated_power"
    MAX_CHARGE_POWER = "max_charge_power"
    MAX_DISCHARGE_POWER = "max_discharge_power"
    PV_ENERGY = "pv_energy"  # lifetime counters from here …
    CHARGE_ENERGY = "charge_energy"
    DISCHARGE_ENERGY = "discharge_energy"
    IMPORT_ENERGY = "import_energy"
    EXPORT_ENERGY = "export_energy"
    AC_ENERGY = "ac_energy"
    FUEL_CELL_ENERGY = "fuel_cell_energy"  # … to here
    BATTERY_VOLTAGE = "battery_voltage"
    BATTERY_CURRENT = "battery_current"  # signed like the battery's power
    BATTERY_TEMPERATURE = "battery_temperature"
    DC_VOLTAGE = "dc_voltage"
    DC_CURRENT = "dc_current"
    FREQUENCY = "frequency"
    TEMPERATURE = "temperature"
    HYDROGEN_PRESSURE = "hydrogen_pressure"  # in the tank
    HYDROGEN_INLET_PRESSURE = "hydrogen_inlet_pressure"
    HYDROGEN_FLOW = "hydrogen_flow"
    FUEL_LEVEL = "fuel_level"
    FUEL_LOW = "fuel_low"
    MANUFACTURER = "manufacturer"
    MODEL = "model"
    SERIAL = "serial"
    FIRMWARE = "firmware"
    STATUS = "status"
    WARNING = "warning"
    FAULT = "fault"


ROLE_UNITS: Final[Mapping[Role, Unit]] = MappingProxyType(
    {
        Role.PV_POWER: Unit.W,
        Role.BATTERY_POWER: Unit.W,
        Role.GRID_POWER: Unit.W,
        Role.LOAD_POWER: Unit.W,
        Role.AC_POWER: Unit.W,
        Role.FUEL_CELL_POWER: Unit.W,
        Role.GENERATOR_POWER: Unit.W,
        Role.STATE_OF_CHARGE: Unit.PER_MILLE,
        Role.STATE_OF_HEALTH: Unit.PER_MILLE,
        Role.ENERGY_AVAILABLE: Unit.WH,
        Role.CAPACITY: Unit.WH,
        Role.RATED_POWER: Unit.W,
        Role.MAX_CHARGE_POWER: Unit.W,
        Role.MAX_DISCHARGE_POWER: Unit.W,
        Role.PV_ENERGY: Unit.WH,
        Role.CHARGE_ENERGY: Unit.WH,
        Role.DISCHARGE_ENERGY: Unit.WH,
        Role.IMPORT_ENERGY: Unit.WH,
        Role.EXPORT_ENERGY: Unit.WH,
        Role.AC_ENERGY: Unit.WH,
        Role.FUEL_CELL_ENERGY: Unit.WH,
        Role.BATTERY_VOLTAGE: Unit.MV,
        Role.BATTERY_CURRENT: Unit.MA,
        Role.BATTERY_TEMPERATURE: Unit.CELSIUS,
        Role.DC_VOLTAGE: Unit.MV,
        Role.DC_CURRENT: Unit.MA,
        Role.FREQUENCY: Unit.HZ,
        Role.TEMPERATURE: Unit.CELSIUS,
        Role.HYDROGEN_PRESSURE: Unit.MBAR,
        Role.HYDROGEN_INLET_PRESSURE: Unit.MBAR,
        Role.HYDROGEN_FLOW: Unit.LITRE_PER_MINUTE,
        Role.FUEL_LEVEL: Unit.PER_MILLE,
        Role.FUEL_LOW: Unit.NONE,
        Role.MANUFACTURER: Unit.NONE,
        Role.MODEL: Unit.NONE,
        Role.SERIAL: Unit.NONE,
        Role.FIRMWARE: Unit.NONE,
        Role.STATUS: Unit.NONE,
        Role.WARNING: Unit.NONE,
        Role.FAULT: Unit.NONE,
    }
)
"""Canonical unit of each role; a point's `unit` must be convertible to it (`units.convert`)."""

SIGNED_ROLES: Final[Mapping[Role, frozenset[Direction]]] = MappingProxyType(
    {
        Role.BATTERY_POWER: frozenset({Direction.CHARGE, Direction.DISCHARGE}),
        Role.BATTERY_CURRENT: frozenset({Direction.CHARGE, Direction.DISCHARGE}),
        Role.GRID_POWER: frozenset({Direction.IMPORT, Direction.EXPORT}),
    }
)
"""Roles whose raw sign must be stated (`positive`), with the directions that make sense."""

COUNTER_ROLES: Final[frozenset[Role]] = frozenset(
    {
        Role.PV_ENERGY,
        Role.CHARGE_ENERGY,
        Role.DISCHARGE_ENERGY,
        Role.IMPORT_ENERGY,
        Role.EXPORT_ENERGY,
        Role.AC_ENERGY,
        Role.FUEL_CELL_ENERGY,
    }
)
"""Roles that only ever grow on a healthy device; a decrease is a reset or a rollover."""
