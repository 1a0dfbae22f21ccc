"""Between the form of a device made of entities and what its subentry keeps."""

from collections.abc import Mapping
from typing import Any

from homeassistant.core import HomeAssistant

from ledger_core.records.types import AssetKind

from ..device_runtime.entity_readings import DIRECTIONS, EntityProblem, Slot, slots_of, value_of
from ..device_runtime.settings import CONF_COMMAND, CONF_ENTITIES, CONF_POSITIVE
from ..devices.readings import Field, Quality, Reading, Readings


def from_form(kind: AssetKind, typed: Mapping[str, Any]) -> dict[str, Any]:
    """What the subentry keeps of a form that was checked."""
    data: dict[str, Any] = {
        CONF_ENTITIES: {slot.value: typed[slot.value] for slot in slots_of(kind) if typed.get(slot.value)}
    }
    if DIRECTIONS[kind].two_way:
        data[CONF_POSITIVE] = typed["positive"]
    command = typed.get("command", {})
    if command.get("entity"):
        renew = command.get("renew_s")
        data[CONF_COMMAND] = {
            "entity": command["entity"],
            "commands": list(command["commands"]),
            "negative": command.get("negative"),
            "release": command.get("release"),
            "renew_s": None if renew is None else int(renew),
        }
    return data


def to_form(data: Mapping[str, Any]) -> dict[str, Any]:
    """What would have to be typed for what a subentry keeps."""
    typed: dict[str, Any] = dict(data.get(CONF_ENTITIES, {}))
    if CONF_POSITIVE in data:
        typed["positive"] = data[CONF_POSITIVE]
    command = data.get(CONF_COMMAND) or {}
    typed["command"] = {name: value for name, value in command.items() if value is not None}
    return typed


def readings_now(hass: HomeAssistant, kind: AssetKind, data: Mapping[str, Any]) -> Readings:
    """The power and energy that the chosen entities tell at this moment, as far as they do."""
    fields: dict[Field, Reading] = {}
    slots = {
        Slot.POWER: DIRECTIONS[kind].out_w,
        Slot.POWER_OPPOSITE: DIRECTIONS[kind].in_w,
        Slot.ENERGY_AVAILABLE: Field.ENERGY_AVAILABLE_WH,
    }
    for slot, field in slots.items():
        entity = data[CONF_ENTITIES].get(slot.value)
        if entity is None or field is None:
            continue
        try:
            value, _ = value_of(hass, entity, slot)
        except EntityProblem:
            continue
        fields[field] = Reading(abs(round(value)), Quality.GOOD, 0.0, entity)
    return Readings(fields)


def name_of(hass: HomeAssistant, data: Mapping[str, Any]) -> str:
    """A name to suggest: that of the first entity."""
    chosen = (hass.states.get(data[CONF_ENTITIES].get(slot.value, "")) for slot in Slot)
    return next((state.name for state in chosen if state is not None), "")
