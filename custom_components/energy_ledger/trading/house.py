"""The home's devices as trading sees them: what delivers, what is stored, what the meter counts."""

from dataclasses import dataclass

from ledger_core.client.views import AssetView
from ledger_core.records.types import AssetKind

from ..data import DeviceRuntime
from ..devices.profile.model import CommandName
from ..devices.readings import Field, Quality, Readings
from .gate_model import DeviceNow
from .meter_core import Sample

STORES = frozenset({AssetKind.BATTERY, AssetKind.EV, AssetKind.PORTABLE})
"""Kinds that never deliver while nobody knows how full they are."""
DELIVERING = (CommandName.DISCHARGE, CommandName.GENERATE)
"""The commands by which a device gives power."""
_OUTPUT = {
    AssetKind.BATTERY: (Field.DISCHARGE_W, Field.CHARGE_W),
    AssetKind.EV: (Field.DISCHARGE_W, Field.CHARGE_W),
    AssetKind.PORTABLE: (Field.DISCHARGE_W, Field.CHARGE_W),
    AssetKind.FUEL_CELL: (Field.FUEL_CELL_W, None),
    AssetKind.GENERATOR: (Field.GENERATOR_W, None),
    AssetKind.PV: (Field.PV_W, None),
    AssetKind.WIND: (Field.GENERATE_W, None),
}


@dataclass(frozen=True, slots=True)
class Grid:
    """What the home's meter tells: W now and Wh so far."""

    surplus_w: int | None
    imported_wh: int | None
    exported_wh: int | None


def delivering_command(runtime: DeviceRuntime) -> CommandName | None:
    """Return the command by which a device gives power; None: it can't be told to."""
    commander = runtime.commander
    if commander is None:
        return None
    return next((name for name in DELIVERING if name in commander.supported), None)


def level_field(readings: Readings) -> Field | None:
    """Return the field that tells in per mille how full a device's store is."""
    for field in (Field.STATE_OF_CHARGE, Field.FUEL_LEVEL):
        if readings.number(field) is not None:
            return field
    return None


def output_w(runtime: DeviceRuntime) -> int | None:
    """Return what a device gives now, negative when it takes; None: it does not tell."""
    gives, takes = _OUTPUT.get(runtime.kind, (None, None))
    readings = runtime.coordinator.data
    given = None if gives is None else readings.number(gives)
    if given is None:
        return None
    return given - ((readings.number(takes) or 0) if takes is not None else 0)


def output_age_s(runtime: DeviceRuntime) -> float:
    """Return how long ago a device told what it gives; 0 where it does not say when."""
    gives, _ = _OUTPUT.get(runtime.kind, (None, None))
    age = None if gives is None else runtime.coordinator.data[gives].age_s
    return 0.0 if age is None else age


def device_now(runtime: DeviceRuntime, asset: AssetView, reserve_permille: int) -> DeviceNow:
    """Return how a device that can deliver for an asset stands."""
    readings = runtime.coordinator.data
    field = level_field(readings)
    level = None if field is None else readings.number(field)
    unknown = runtime.kind in STORES and level is None
    return DeviceNow(
        commandable=delivering_command(runtime) is not None,
        reachable=runtime.coordinator.last_update_success and not unknown,
        max_w=asset.rating_w,
        output_w=output_w(runtime),
        output_age_s=output_age_s(runtime),
        level_permille=level,
        reserve_permille=None if level is None else reserve_permille,
    )


def meter_of(devices: dict[str, DeviceRuntime]) -> tuple[str, DeviceRuntime] | None:
    """Return the home's electricity meter, with its subentry's id; the first where there are several."""
    for subentry_id, runtime in devices.items():
        if runtime.kind is AssetKind.METER:
            return subentry_id, runtime
    return None


def grid_now(runtime: DeviceRuntime | None) -> Grid:
    """Return what a meter tells; nothing where there is none or it is away."""
    if runtime is None or not runtime.coordinator.last_update_success:
        return Grid(None, None, None)
    readings = runtime.coordinator.data
    given, drawn = readings.number(Field.EXPORT_W), readings.number(Field.IMPORT_W)
    surplus = None if given is None or drawn is None else given - drawn
    return Grid(surplus, readings.number(Field.IMPORT_WH), readings.number(Field.EXPORT_WH))


def sample_of(runtime: DeviceRuntime, now: float) -> Sample | None:
    """Return a meter's registers as read last, and when; None when it does not tell all that it has."""
    if not runtime.coordinator.last_update_success:
        return None
    readings = runtime.coordinator.data
    has = [
        field
        for field in (Field.IMPORT_WH, Field.EXPORT_WH)
        if readings[field].quality is not Quality.NOT_IMPLEMENTED
    ]
    told = {field: number for field in has if (number := readings.number(field)) is not None}
    if not told or len(told) < len(has):
        return None
    # A meter of one direction: the other register never moves.
    return Sample(now - meter_age_s(readings), told.get(Field.IMPORT_WH, 0), told.get(Field.EXPORT_WH, 0))


def meter_age_s(readings: Readings) -> float:
    """Return how long ago a meter told anything: a register that rests is not told anew."""
    fields = (Field.IMPORT_WH, Field.EXPORT_WH, Field.IMPORT_W, Field.EXPORT_W)
    ages = [age for field in fields if (age := readings[field].age_s) is not None]
    return min(ages, default=0.0)
