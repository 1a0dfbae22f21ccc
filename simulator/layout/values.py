"""The value that a point should show by its role, and plausible values for points without one."""

import re
from fractions import Fraction
from typing import TYPE_CHECKING

from custom_components.energy_ledger.devices.profile.model import (
    ROLE_UNITS,
    Direction,
    Meaning,
    RegisterPoint,
    Role,
)
from custom_components.energy_ledger.devices.profile.units import Unit, convert
from simulator.physics.fuel_cell import FuelCellState

if TYPE_CHECKING:
    from collections.abc import Callable

    from custom_components.energy_ledger.devices.profile.model import Point, Test, Value
    from simulator.layout.view import BatteryView, FuelCellView, Identity, View

_HYDROGEN_MG_PER_LITRE = 85  # at 15 °C and 1 bar
_GRID_MV = 230_000
_GRID_HZ = Fraction(4998, 100)

_COUNTERS = {
    Role.PV_ENERGY: "pv",
    Role.CHARGE_ENERGY: "charge",
    Role.DISCHARGE_ENERGY: "discharge",
    Role.IMPORT_ENERGY: "import",
    Role.EXPORT_ENERGY: "export",
    Role.AC_ENERGY: "ac_out",
    Role.FUEL_CELL_ENERGY: "fuel_cell",
}
_POWERS: dict[Role, Callable[[View], int]] = {
    Role.PV_POWER: lambda view: view.flows.pv_w,
    Role.LOAD_POWER: lambda view: view.flows.load_w,
    Role.FUEL_CELL_POWER: lambda view: view.flows.fuel_cell_w,
    Role.GENERATOR_POWER: lambda view: view.flows.fuel_cell_w,
    Role.RATED_POWER: lambda view: view.rated_w,
}
_TEXTS: dict[Role, Callable[[Identity], str]] = {
    Role.MANUFACTURER: lambda identity: identity.manufacturer,
    Role.MODEL: lambda identity: identity.model,
    Role.SERIAL: lambda identity: identity.serial,
    Role.FIRMWARE: lambda identity: identity.firmware,
}
_ALWAYS: dict[Role, Callable[[View], Fraction]] = {
    Role.FREQUENCY: lambda _: _GRID_HZ,
    Role.TEMPERATURE: lambda view: Fraction(view.ambient_mc, 1000),
    Role.BATTERY_TEMPERATURE: lambda view: Fraction(view.ambient_mc, 1000),
}
_FUEL_CELL: dict[Role, Callable[[FuelCellView], Fraction]] = {
    Role.RATED_POWER: lambda cell: Fraction(cell.rated_w),
    Role.DC_VOLTAGE: lambda cell: Fraction(cell.bus_mv),
    Role.ENERGY_AVAILABLE: lambda cell: Fraction(cell.energy_available_wh),
    Role.HYDROGEN_PRESSURE: lambda cell: Fraction(cell.tank_pressure_mbar),
    Role.HYDROGEN_INLET_PRESSURE: lambda cell: Fraction(min(5_000, cell.tank_pressure_mbar)),
    Role.HYDROGEN_FLOW: lambda cell: Fraction(cell.fuel_flow_mg_per_h, 60 * _HYDROGEN_MG_PER_LITRE),
    Role.FUEL_LEVEL: lambda cell: Fraction(cell.fuel_permille),
    Role.DC_CURRENT: lambda cell: Fraction(cell.power_w * 1_000_000, cell.bus_mv),
    Role.FUEL_LOW: lambda cell: Fraction(1 if cell.fuel_permille < 250 else 0),
}
# Words that a status label may contain, in the order of preference, for what the device does.
_CELL_WORDS = {
    FuelCellState.OFF: ("standby", "off", "stopped", "ready", "idle"),
    FuelCellState.STARTING: ("start",),
    FuelCellState.RUNNING: ("running", "run", "on"),
    FuelCellState.STOPPING: ("stopping", "stop", "shut"),
    FuelCellState.NO_FUEL: ("fault", "alarm", "stopped", "off", "standby"),
}


def role_value(
    point: Point, view: View, identity: Identity, *, fuel_cell: bool, battery_mv: int
) -> Value | None:
    """Return what a point with a role should show, in its own unit; None if the home has no such part.

    `fuel_cell` tells that the point belongs to a fuel cell, whose rating and voltage it then shows;
    `battery_mv` is the battery's voltage.
    """
    role = point.role
    if role is None:
        return None
    if role in _TEXTS:
        return _TEXTS[role](identity)
    if role in (Role.STATUS, Role.WARNING, Role.FAULT):
        return _status(point, view, fuel_cell=fuel_cell)
    number = (
        _ALWAYS[role](view)
        if role in _ALWAYS
        else _number(point, view, fuel_cell=fuel_cell, battery_mv=battery_mv)
    )
    return None if number is None else convert(number, ROLE_UNITS[role], point.unit)


_SIGNED: dict[Role, tuple[Direction, Callable[[View], int]]] = {
    Role.GRID_POWER: (Direction.IMPORT, lambda view: view.flows.import_w - view.flows.export_w),
    Role.AC_POWER: (Direction.CONSUME, lambda view: view.flows.ac_in_w - view.flows.ac_out_w),
    Role.BATTERY_POWER: (Direction.CHARGE, lambda view: view.flows.charge_w - view.flows.discharge_w),
}
_BATTERY: dict[Role, Callable[[BatteryView], int]] = {
    Role.STATE_OF_CHARGE: lambda battery: battery.soc_permille,
    Role.STATE_OF_HEALTH: lambda _: 990,
    Role.ENERGY_AVAILABLE: lambda battery: battery.stored_wh,
    Role.CAPACITY: lambda battery: battery.capacity_wh,
    Role.MAX_CHARGE_POWER: lambda battery: battery.max_charge_w,
    Role.MAX_DISCHARGE_POWER: lambda battery: battery.max_discharge_w,
}


def _number(point: Point, view: View, *, fuel_cell: bool, battery_mv: int) -> Fraction | None:
    """Return the value of a point's role in the role's unit, with the sign that counts `positive` up."""
    role = point.role
    value: Fraction | None = None
    if fuel_cell and view.fuel_cell is not None and role in _FUEL_CELL:
        value = _FUEL_CELL[role](view.fuel_cell)
    elif role in _COUNTERS:
        value = Fraction(view.energy_j[_COUNTERS[role]], 3600)
    elif role in _POWERS:
        value = Fraction(_POWERS[role](view))
    elif role in _SIGNED:
        direction, power = _SIGNED[role]
        value = _signed(point.positive, direction, Fraction(power(view)))
    elif role in _BATTERY:
        value = None if view.battery is None else Fraction(_BATTERY[role](view.battery))
    elif role in (Role.BATTERY_VOLTAGE, Role.DC_VOLTAGE):
        value = Fraction(battery_mv)
    elif role is Role.BATTERY_CURRENT:
        charge_w = view.flows.charge_w - view.flows.discharge_w
        value = _signed(point.positive, Direction.CHARGE, Fraction(charge_w * 1_000_000, battery_mv))
    return value


def _signed(positive: Direction | None, direction: Direction, value: Fraction) -> Fraction:
    return value if positive is direction else -value


def _status(point: Point, view: View, *, fuel_cell: bool) -> Fraction:
    """Return the code or bits whose label says what the device does; 0 for faults and warnings."""
    if not isinstance(point, RegisterPoint) or point.role in (Role.WARNING, Role.FAULT) or not point.labels:
        return Fraction(0)
    if fuel_cell and view.fuel_cell is not None:
        words = _CELL_WORDS[view.fuel_cell.state]
    elif view.flows.charge_w:
        words = ("charg", "mppt", "running", "normal", "on")
    elif view.flows.discharge_w:
        words = ("discharg", "mppt", "running", "normal", "on")
    else:
        words = ("mppt", "running", "standby", "idle", "normal", "on")
    for word in words:
        for code, label in point.labels.items():
            if any(part.startswith(word) for part in label.lower().replace("_", " ").split()):
                return Fraction(1 << code if point.meaning is Meaning.BITS else code)
    return Fraction(0 if point.meaning is Meaning.BITS else min(point.labels))


_BY_UNIT: dict[Unit, Callable[[View], Fraction]] = {
    Unit.V: lambda _: Fraction(_GRID_MV, 1000),
    Unit.MV: lambda _: Fraction(_GRID_MV),
    Unit.HZ: lambda _: _GRID_HZ,
    Unit.CELSIUS: lambda view: Fraction(view.ambient_mc, 1000),
    Unit.A: lambda view: Fraction((view.flows.import_w + view.flows.export_w) * 1000, 3 * _GRID_MV),
    Unit.MA: lambda view: Fraction((view.flows.import_w + view.flows.export_w) * 1_000_000, 3 * _GRID_MV),
}


def plain_value(point: Point, view: View, *, fuel_cell: bool) -> Fraction:
    """Return a plausible value for a point without a role: its share of the grid's power, or by its unit."""
    if point.unit is Unit.W and point.positive in (Direction.IMPORT, Direction.EXPORT):
        grid_w = _signed(
            point.positive, Direction.IMPORT, Fraction(view.flows.import_w - view.flows.export_w)
        )
        phase = re.search(r"l([123])", point.name)
        if phase is None:
            return grid_w
        third = Fraction(int(grid_w / 3))
        return grid_w - 2 * third if phase[1] == "1" else third
    if isinstance(point, RegisterPoint) and point.meaning is Meaning.ENUM:
        return _status(point, view, fuel_cell=fuel_cell)
    show = _BY_UNIT.get(point.unit)
    return Fraction(0) if show is None else show(view)


def passing_value(test: Test, candidates: tuple[str, ...] = ()) -> Value:
    """Return a value that passes a test; raises ValueError if none of the candidates fits its pattern."""
    tried: list[Value] = [*test.equals, *candidates, Fraction(test.bits_set)]
    if test.within is not None:
        tried += [edge for edge in (test.within.minimum, test.within.maximum) if edge is not None]
    for value in tried:
        if test.accepts(value):
            return value
    raise ValueError(f"no value is known that would be {test}; give the device a fitting model or serial")


def failing_value(test: Test) -> Fraction:
    """Return a whole number that fails a test; raises ValueError if small ones all pass."""
    for number in range(65_536):
        if not test.accepts(Fraction(number)):
            return Fraction(number)
    raise ValueError(f"every number is {test}")
