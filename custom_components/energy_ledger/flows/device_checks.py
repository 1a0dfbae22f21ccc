"""What can be wrong with what was typed about a device, in the user's words (keys of the translations)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from homeassistant.const import ATTR_UNIT_OF_MEASUREMENT, UnitOfPower
from homeassistant.core import HomeAssistant
from homeassistant.util.unit_conversion import PowerConverter

from ledger_core.records.types import AssetKind

from ..device_runtime.entity_readings import EntityProblem, Problem, Slot, slots_of, value_of
from ..device_runtime.parts import own_capacity_wh, own_rating_w, power_now_w
from ..device_runtime.settings import STORES
from ..devices.errors import DeviceError, SettingsError
from ..devices.readings import Field, Readings

_NUMBERS: Final = ("number", "input_number")


@dataclasses.dataclass(slots=True)
class Faults:
    """Errors by field, and the figures that their texts name."""

    errors: dict[str, str] = dataclasses.field(default_factory=dict)
    placeholders: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, field: str, key: str, **placeholders: object) -> None:
        """Note an error; the first one of a field stays."""
        self.errors.setdefault(field, key)
        self.placeholders.update({name: str(value) for name, value in placeholders.items()})

    def __bool__(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.errors)


def of_settings(error: SettingsError, otherwise: str) -> Faults:
    """What can't be right in what was typed; `otherwise` shows the error's own words."""
    return _told(error, otherwise)


def _told(error: DeviceError, otherwise: str) -> Faults:
    """The text of an error by its key and figures; one that has none is shown in its own words."""
    faults = Faults()
    faults.add("base", error.key or otherwise, **{"detail": error, **error.figures})
    return faults


def of_probe(error: DeviceError) -> Faults:
    """Why no device was found at an address."""
    if isinstance(error, SettingsError):
        return of_settings(error, "invalid_address")
    return _told(error, "asking_failed")


def of_figures(kind: AssetKind, typed: Mapping[str, Any], readings: Readings) -> Faults:
    """What is wrong with rating and capacity, given what the device tells of itself."""
    faults = Faults()
    rating = int(typed["rating_w"])
    own, now = own_rating_w(kind, readings), power_now_w(kind, readings)
    if rating <= 0:
        faults.add("rating_w", "rating_missing")
    elif own is not None and rating < own:
        faults.add("rating_w", "rating_below_device", own_w=own)
    elif now is not None and rating < now:
        faults.add("rating_w", "rating_below_power", power_w=now)
    if kind not in STORES:
        return faults
    capacity = int(typed.get("capacity_wh") or 0)
    energy = readings.number(Field.ENERGY_AVAILABLE_WH)
    if capacity <= 0:
        faults.add("capacity_wh", "capacity_missing")
    elif energy is not None and own_capacity_wh(kind, readings) is None and capacity < energy:
        faults.add("capacity_wh", "capacity_below_energy", energy_wh=energy)
    return faults


_PROBLEMS: Final = {
    Problem.MISSING: "entity_missing",
    Problem.NOT_A_NUMBER: "entity_not_a_number",
    Problem.WRONG_UNIT: "entity_wrong_unit",
    Problem.OUT_OF_RANGE: "entity_out_of_range",
}


def of_entities(hass: HomeAssistant, kind: AssetKind, typed: Mapping[str, Any]) -> Faults:
    """What is wrong with the chosen entities. One that is away for the moment is fine."""
    faults = Faults()
    chosen = {slot: typed[slot.value] for slot in slots_of(kind) if typed.get(slot.value)}
    if not {Slot.POWER, Slot.ENERGY_OUT, Slot.ENERGY_IN} & chosen.keys():
        faults.add("base", "entities_missing")
    if Slot.POWER_OPPOSITE in chosen and Slot.POWER not in chosen:
        faults.add(Slot.POWER.value, "power_missing")
    taken: dict[str, Slot] = {}
    for slot, entity in chosen.items():
        if entity in taken:
            faults.add(slot.value, "entity_twice", entity=entity)
        taken[entity] = slot
        try:
            value_of(hass, entity, slot)
        except EntityProblem as error:
            if error.problem in _PROBLEMS:
                faults.add(slot.value, _PROBLEMS[error.problem], entity=entity, found=error.found)
    _check_command(hass, typed.get("command", {}), faults)
    return faults


def _check_command(hass: HomeAssistant, typed: Mapping[str, Any], faults: Faults) -> None:
    """The entity that takes commands; errors inside a section stand at the form's head."""
    entity = typed.get("entity")
    commands = typed.get("commands") or []
    if entity is None:
        if commands:
            faults.add("base", "command_entity_missing")
        return
    domain = entity.partition(".")[0]
    state = hass.states.get(entity)
    if state is None:
        faults.add("base", "entity_missing", entity=entity, found="")
        return
    if not commands:
        faults.add("base", "commands_missing", entity=entity)
    if domain == "script" and typed.get("release") is None:
        faults.add("base", "release_missing", entity=entity)
    if len(commands) > 1 and domain in ("switch", "input_boolean"):
        faults.add("base", "switch_one_command", entity=entity)
    if domain not in _NUMBERS:
        return
    unit = state.attributes.get(ATTR_UNIT_OF_MEASUREMENT) or UnitOfPower.WATT
    if unit not in PowerConverter.VALID_UNITS:
        faults.add("base", "entity_wrong_unit", entity=entity, found=unit)
    if len(commands) > 1 and typed.get("negative") not in commands:
        faults.add("base", "direction_missing", entity=entity)
