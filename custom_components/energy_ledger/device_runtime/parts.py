"""Which of a device's fields and commands belong to which kind of asset; pure.

A hybrid inverter is several assets: its PV, its battery, the grid meter behind it. Each is set up for
itself and has the entities and the commands of its own part.
"""

from typing import Final

from ledger_core.records.types import AssetKind

from ..devices.profile.model import CommandName
from ..devices.readings import Field, Readings

_COMMON: Final = frozenset(
    {Field.STATUS, Field.WARNING, Field.FAULT, Field.FREQUENCY_HZ, Field.CELSIUS, Field.DC_MV, Field.DC_MA}
)
_INVERTER: Final = frozenset({Field.GENERATE_W, Field.CONSUME_W, Field.GENERATE_WH, Field.RATED_W})
_STORE: Final = frozenset(
    {
        *(Field.CHARGE_W, Field.DISCHARGE_W, Field.CHARGE_WH, Field.DISCHARGE_WH),
        *(Field.STATE_OF_CHARGE, Field.STATE_OF_HEALTH, Field.ENERGY_AVAILABLE_WH, Field.CAPACITY_WH),
        *(Field.MAX_CHARGE_W, Field.MAX_DISCHARGE_W, Field.RATED_W),
        *(Field.BATTERY_MV, Field.CHARGE_MA, Field.DISCHARGE_MA, Field.BATTERY_CELSIUS),
    }
)
_FUEL: Final = frozenset(
    {
        *(Field.FUEL_CELL_W, Field.FUEL_CELL_WH, Field.GENERATOR_W, Field.ENERGY_AVAILABLE_WH),
        *(Field.CAPACITY_WH, Field.HYDROGEN_MBAR, Field.HYDROGEN_INLET_MBAR, Field.HYDROGEN_LPM),
        *(Field.FUEL_LEVEL, Field.FUEL_LOW),
    }
)
_GRID: Final = frozenset({Field.IMPORT_W, Field.EXPORT_W, Field.IMPORT_WH, Field.EXPORT_WH, Field.LOAD_W})
_FIELDS: Final[dict[AssetKind, frozenset[Field]]] = {
    AssetKind.PV: _INVERTER | {Field.PV_W, Field.PV_WH},
    AssetKind.WIND: _INVERTER,
    AssetKind.BATTERY: _STORE,
    AssetKind.EV: _STORE,
    AssetKind.PORTABLE: _STORE,
    AssetKind.FUEL_CELL: _INVERTER | _FUEL,
    AssetKind.GENERATOR: _INVERTER | _FUEL,
    AssetKind.LOAD: _GRID,
    AssetKind.CHARGE_POINT: _GRID,
    AssetKind.METER: _GRID,
    AssetKind.LINE: _GRID,
}
_COMMANDS: Final[dict[AssetKind, frozenset[CommandName]]] = {
    AssetKind.PV: frozenset({CommandName.LIMIT_EXPORT}),
    AssetKind.WIND: frozenset({CommandName.LIMIT_EXPORT}),
    AssetKind.BATTERY: frozenset({CommandName.CHARGE, CommandName.DISCHARGE}),
    AssetKind.EV: frozenset({CommandName.CHARGE, CommandName.DISCHARGE}),
    AssetKind.PORTABLE: frozenset({CommandName.CHARGE, CommandName.DISCHARGE}),
    AssetKind.FUEL_CELL: frozenset({CommandName.GENERATE}),
    AssetKind.GENERATOR: frozenset({CommandName.GENERATE}),
    AssetKind.CHARGE_POINT: frozenset({CommandName.CHARGE}),
}
_RATINGS: Final[dict[AssetKind, tuple[Field, ...]]] = {
    AssetKind.PV: (Field.RATED_W,),
    AssetKind.WIND: (Field.RATED_W,),
    AssetKind.BATTERY: (Field.MAX_DISCHARGE_W, Field.RATED_W),
    AssetKind.EV: (Field.MAX_DISCHARGE_W, Field.RATED_W),
    AssetKind.PORTABLE: (Field.MAX_DISCHARGE_W, Field.RATED_W),
    AssetKind.FUEL_CELL: (Field.RATED_W,),
    AssetKind.GENERATOR: (Field.RATED_W,),
}
_POWERS: Final[dict[AssetKind, tuple[Field, ...]]] = {
    AssetKind.PV: (Field.PV_W,),
    AssetKind.WIND: (Field.GENERATE_W,),
    AssetKind.BATTERY: (Field.CHARGE_W, Field.DISCHARGE_W),
    AssetKind.EV: (Field.CHARGE_W, Field.DISCHARGE_W),
    AssetKind.PORTABLE: (Field.CHARGE_W, Field.DISCHARGE_W),
    AssetKind.FUEL_CELL: (Field.FUEL_CELL_W,),
    AssetKind.GENERATOR: (Field.GENERATOR_W,),
    AssetKind.LOAD: (Field.LOAD_W,),
    AssetKind.CHARGE_POINT: (Field.LOAD_W,),
    AssetKind.METER: (Field.IMPORT_W, Field.EXPORT_W),
}


def fields_of(kind: AssetKind) -> frozenset[Field]:
    """The fields that say something about this part of a device."""
    return _COMMON | _FIELDS[kind]


def commands_of(kind: AssetKind) -> frozenset[CommandName]:
    """The commands that move this part of a device."""
    return _COMMANDS.get(kind, frozenset())


def own_rating_w(kind: AssetKind, readings: Readings) -> int | None:
    """The rated power that the device itself tells for this part, in W."""
    return _first(readings, _RATINGS.get(kind, ()))


def own_capacity_wh(kind: AssetKind, readings: Readings) -> int | None:
    """The capacity that the device itself tells for this part, in Wh."""
    return _first(readings, (Field.CAPACITY_WH,)) if Field.CAPACITY_WH in fields_of(kind) else None


def power_now_w(kind: AssetKind, readings: Readings) -> int | None:
    """The greatest power that flows in this part now, in either direction, in W."""
    known = [value for field in _POWERS.get(kind, ()) if (value := readings.number(field)) is not None]
    return max(known, default=None)


def _first(readings: Readings, fields: tuple[Field, ...]) -> int | None:
    values = (readings.number(field) for field in fields)
    return next((value for value in values if value), None)
