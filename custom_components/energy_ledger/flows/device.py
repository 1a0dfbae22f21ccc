"""The flow that sets up a device: found on the network, at an address, or made of existing entities."""

import secrets
from collections.abc import Mapping
from typing import Any, override

from homeassistant.config_entries import (
    SOURCE_RECONFIGURE,
    ConfigEntryState,
    ConfigSubentry,
    SubentryFlowResult,
)

from ledger_core.records.types import AssetKind, Carrier

from ..const import SUBENTRY_DEVICE
from ..device_runtime.manager import DeviceManager
from ..device_runtime.parts import own_capacity_wh, own_rating_w, power_now_w
from ..device_runtime.probing import Probed
from ..device_runtime.runtime import DeviceRuntime
from ..device_runtime.settings import (
    CONF_ASSET_ID,
    CONF_CAPACITY,
    CONF_CAPACITY_FOLLOWS,
    CONF_CARRIER,
    CONF_COMMAND,
    CONF_COMPANIONS,
    CONF_ENTITIES,
    CONF_KIND,
    CONF_LINK,
    CONF_MANUFACTURER,
    CONF_METER,
    CONF_MODEL,
    CONF_POLL,
    CONF_POSITIVE,
    CONF_PROFILE,
    CONF_RATING,
    CONF_RATING_FOLLOWS,
    CONF_SERIAL,
    CONF_SHARED,
    CONF_SOURCE,
    CONF_UID,
    CONF_UNIT,
    CONF_VARIANT,
    STORES,
    Source,
    link_to_json,
)
from ..devices.readings import Field, Readings
from . import device_checks as checks
from . import device_entities_input as entities_input
from . import device_forms as forms
from .device_asking import AskingFlow


class DeviceSubentryFlow(AskingFlow):
    """Adds a device, or changes one. Every device of a kind is one asset on the ledger."""

    def __init__(self) -> None:
        """Begin with nothing chosen."""
        super().__init__()
        self._choice: int | None = None
        self._kind = AssetKind.METER
        self._carrier = Carrier.ELECTRICITY
        self._entities: dict[str, Any] = {}

    # --- ways in ----------------------------------------------------------------------------------------

    async def async_step_user(self, _user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """How the device is read."""
        return self.async_show_menu(step_id="user", menu_options=["search", "network", "serial", "entities"])

    async def async_step_reconfigure(self, _user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """What is to be changed."""
        data = self._get_reconfigure_subentry().data
        self._kind, self._carrier = AssetKind(data[CONF_KIND]), Carrier(data[CONF_CARRIER])
        if data[CONF_SOURCE] == Source.ENTITIES.value:
            self._entities = {
                name: data[name] for name in (CONF_ENTITIES, CONF_POSITIVE, CONF_COMMAND) if name in data
            }
            where = "entities_chosen"
        else:
            where = "serial" if data[CONF_LINK]["kind"] == "serial" else "network"
            self.typed = forms.typed_from_link(
                data[CONF_LINK], data[CONF_UNIT], shared=data.get(CONF_SHARED, False)
            )
        return self.async_show_menu(
            step_id="reconfigure",
            menu_options=["figures", where],
            description_placeholders={"device": self._get_reconfigure_subentry().title},
        )

    @property
    def _probed(self) -> Probed | None:
        """The Modbus device that was chosen; None: the device is made of entities."""
        return None if self._choice is None else self.found[self._choice]

    @property
    def _changes(self) -> bool:
        return self.source == SOURCE_RECONFIGURE

    def _others(self) -> list[ConfigSubentry]:
        """The devices that are set up, but for the one that is changed."""
        own = self._reconfigure_subentry_id if self._changes else None
        return [
            subentry
            for subentry in self._get_entry().subentries.values()
            if subentry.subentry_type == SUBENTRY_DEVICE and subentry.subentry_id != own
        ]

    def _taken(self, unique_id: str) -> bool:
        return any(subentry.unique_id == unique_id for subentry in self._others())

    # --- a Modbus device --------------------------------------------------------------------------------

    @override
    async def async_step_found(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Go on with what answers: the device that was set up, a single one, or the user's choice."""
        if self._changes:
            return self._moved()
        self.found = tuple(probed for probed in self.found if self._kinds_left(probed))
        if not self.found:
            return self.async_abort(reason="already_configured")
        if len(self.found) > 1:
            return await self.async_step_pick()
        self._choice = 0
        return await self.async_step_kind()

    async def async_step_pick(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Choose among several devices."""
        if user_input is not None:
            self._choice = int(user_input["device"])
            return await self.async_step_kind()
        return self.async_show_form(step_id="pick", data_schema=forms.pick_form(self.found))

    def _kinds_left(self, probed: Probed) -> list[str]:
        """The parts of a device that are not set up yet."""
        return [kind for kind in probed.detection.profile.kinds if not self._taken(_unique_id(probed, kind))]

    async def async_step_kind(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Choose which part of the device this asset is."""
        kinds = self._kinds_left(self.found[self._choice or 0])
        if user_input is None and len(kinds) > 1:
            return self.async_show_form(
                step_id="kind",
                data_schema=forms.kind_form(kinds),
                description_placeholders=self._nameplate(),
            )
        self._kind = AssetKind(kinds[0] if user_input is None else user_input["kind"])
        return await self.async_step_figures()

    def _moved(self) -> SubentryFlowResult:
        """Take over another address, if the device that was set up is what answers there."""
        subentry = self._get_reconfigure_subentry()
        match = next((each for each in self.found if _is_same(each, subentry.data)), None)
        if match is None:
            there = "; ".join(each.label for each in self.found)
            return self.async_abort(
                reason="other_device",
                description_placeholders={"device": subentry.title, "found": there},
            )
        unique_id = _unique_id(match, subentry.data[CONF_KIND])
        parts = [
            other
            for other in self._others()
            if other.data[CONF_UID] == subentry.data[CONF_UID] and other.unique_id != unique_id
        ]
        if self._taken(unique_id):
            return self.async_abort(reason="already_configured")
        for part in parts:
            # The whole device has moved, with every part of it that is set up.
            self.hass.config_entries.async_update_subentry(
                self._get_entry(),
                part,
                data={**part.data, **_link_data(match)},
                unique_id=_unique_id(match, part.data[CONF_KIND]),
            )
        return self.async_update_and_abort(
            self._get_entry(), subentry, data_updates=_link_data(match), unique_id=unique_id
        )

    def _nameplate(self) -> dict[str, str]:
        """Manufacturer, model and serial number for the forms' texts."""
        if self._probed is not None:
            plate = self._probed.detection.nameplate
            model = plate.get(Field.MODEL) or self._probed.detection.profile.title
            told = [plate.get(Field.MANUFACTURER), model, plate.get(Field.SERIAL)]
        else:
            data = self._get_reconfigure_subentry().data if self._changes else {}
            told = [data.get(name) for name in (CONF_MANUFACTURER, CONF_MODEL, CONF_SERIAL)]
        names = ("manufacturer", "model", "serial")
        return {name: text or "-" for name, text in zip(names, told, strict=True)}

    # --- a device made of entities ----------------------------------------------------------------------

    async def async_step_entities(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """What the device is."""
        if user_input is not None:
            self._kind, self._carrier = AssetKind(user_input["kind"]), Carrier(user_input["carrier"])
            return await self.async_step_entities_chosen()
        return self.async_show_form(step_id="entities", data_schema=forms.entities_kind_form())

    async def async_step_entities_chosen(
        self, user_input: dict[str, Any] | None = None
    ) -> SubentryFlowResult:
        """Which entities tell what."""
        faults = checks.Faults()
        typed = entities_input.to_form(self._entities)
        if user_input is not None:
            typed = user_input
            faults = checks.of_entities(self.hass, self._kind, user_input)
            if not faults:
                self._entities = entities_input.from_form(self._kind, user_input)
                return await self._entities_taken()
        return self.async_show_form(
            step_id="entities_chosen",
            data_schema=self.add_suggested_values_to_schema(forms.entities_form(self._kind), typed),
            errors=faults.errors,
            description_placeholders={"entity": "", "found": "", **faults.placeholders},
        )

    async def _entities_taken(self) -> SubentryFlowResult:
        unique_id = self._entities_id()
        if self._taken(unique_id):
            return self.async_abort(reason="already_configured")
        if not self._changes:
            return await self.async_step_figures()
        subentry = self._get_reconfigure_subentry()
        kept = {
            name: value
            for name, value in subentry.data.items()
            if name not in (CONF_ENTITIES, CONF_POSITIVE, CONF_COMMAND)
        }
        return self.async_update_and_abort(
            self._get_entry(), subentry, data={**kept, **self._entities}, unique_id=unique_id
        )

    def _entities_id(self) -> str:
        chosen = sorted(self._entities[CONF_ENTITIES].items())
        return "_".join(["entities", str(self._kind), *(f"{slot}={entity}" for slot, entity in chosen)])

    # --- the asset --------------------------------------------------------------------------------------

    async def async_step_figures(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Name, rating, capacity, and the meter that it settles through."""
        kind = self._kind
        faults = checks.Faults()
        typed = self._suggested(kind)
        readings = await self._readings()
        if user_input is not None:
            typed = user_input
            faults = checks.of_figures(kind, user_input, readings)
            if not faults:
                return self._finish(kind, user_input, readings)
        polled = not self._is_entities()
        meters = [each for each in self._others() if self._settles(each)]
        schema = forms.part_form(kind, meters, with_name=not self._changes, polled=polled)
        own, now = own_rating_w(kind, readings), power_now_w(kind, readings)
        return self.async_show_form(
            step_id="figures",
            data_schema=self.add_suggested_values_to_schema(schema, typed),
            errors=faults.errors,
            description_placeholders={
                **self._nameplate(),
                "own_w": "-" if own is None else str(own),
                "power_w": "-" if now is None else str(now),
                **faults.placeholders,
            },
        )

    def _is_entities(self) -> bool:
        if self._changes:
            return bool(self._get_reconfigure_subentry().data[CONF_SOURCE] == Source.ENTITIES.value)
        return self._probed is None

    def _settles(self, other: ConfigSubentry) -> bool:
        """Whether another device is a meter that this one may settle through."""
        data = other.data
        return bool(data[CONF_KIND] == AssetKind.METER.value and data[CONF_CARRIER] == self._carrier.value)

    async def _readings(self) -> Readings:
        """What the device tells of itself now."""
        if self._probed is not None:
            return self._probed.readings
        if self._changes:
            device = self._runtime()
            return device.coordinator.data if device else Readings({})
        return entities_input.readings_now(self.hass, self._kind, self._entities)

    def _runtime(self) -> DeviceRuntime | None:
        """The device that is changed, while it runs."""
        entry = self._get_entry()
        if not self._changes or entry.state is not ConfigEntryState.LOADED:
            return None
        manager: DeviceManager | None = entry.runtime_data.device_manager
        return None if manager is None else manager.runtimes.get(self._reconfigure_subentry_id)

    def _figures_now(self) -> dict[str, Any]:
        """Rating and capacity of the device that is changed: the figures set, or those that it told since."""
        data, device = self._get_reconfigure_subentry().data, self._runtime()
        if device is None:
            return {name: data.get(name) for name in (CONF_RATING, CONF_CAPACITY)}
        return {CONF_RATING: device.rating_w, CONF_CAPACITY: device.capacity_wh}

    def _follows(self, name: str, flag: str, figure: int | None, told: int | None) -> bool:
        """Whether a figure is to follow the device: as before if it was left as it is, else if it told it."""
        if self._changes and figure == self._figures_now()[name]:
            return bool(self._get_reconfigure_subentry().data.get(flag))
        return figure is not None and figure == told

    def _suggested(self, kind: AssetKind) -> dict[str, Any]:
        """What stands in the form at first: what the device says of itself, or what was typed before."""
        if self._changes:
            data = self._get_reconfigure_subentry().data
            known = {CONF_METER: data.get(CONF_METER), CONF_POLL: data.get(CONF_POLL), **self._figures_now()}
            return {name: value for name, value in known.items() if value is not None}
        if self._probed is None:
            return {"name": entities_input.name_of(self.hass, self._entities)}
        readings, plate = self._probed.readings, self._probed.detection.nameplate
        model = plate.get(Field.MODEL) or self._probed.detection.profile.title
        return {
            "name": f"{plate.get(Field.MANUFACTURER, '')} {model}".strip(),
            CONF_RATING: own_rating_w(kind, readings),
            CONF_CAPACITY: own_capacity_wh(kind, readings),
        }

    def _finish(self, kind: AssetKind, typed: Mapping[str, Any], readings: Readings) -> SubentryFlowResult:
        """Make the subentry, or change it."""
        rating = int(typed["rating_w"])
        capacity = int(typed["capacity_wh"]) if kind in STORES else None
        figures: dict[str, Any] = {
            CONF_RATING: rating,
            CONF_RATING_FOLLOWS: self._follows(
                CONF_RATING, CONF_RATING_FOLLOWS, rating, own_rating_w(kind, readings)
            ),
            CONF_CAPACITY: capacity,
            CONF_CAPACITY_FOLLOWS: self._follows(
                CONF_CAPACITY, CONF_CAPACITY_FOLLOWS, capacity, own_capacity_wh(kind, readings)
            ),
            CONF_METER: typed.get("meter"),
        }
        if "poll_s" in typed:
            figures[CONF_POLL] = int(typed["poll_s"])
        if self._changes:
            return self.async_update_and_abort(
                self._get_entry(), self._get_reconfigure_subentry(), data_updates=figures
            )
        data: dict[str, Any] = {
            CONF_KIND: kind.value,
            CONF_CARRIER: self._carrier.value,
            CONF_ASSET_ID: secrets.token_bytes(16).hex(),
            **figures,
        }
        if self._probed is None:
            data |= {CONF_SOURCE: Source.ENTITIES.value, CONF_UID: secrets.token_hex(16), **self._entities}
            unique_id = self._entities_id()
        else:
            data |= self._modbus_data(self._probed)
            unique_id = _unique_id(self._probed, kind.value)
        return self.async_create_entry(title=typed["name"].strip() or "-", data=data, unique_id=unique_id)

    def _uid(self, probed: Probed) -> str:
        """The name of the physical device: that of its other parts, or one that no other device has."""
        others = self._others()
        for other in others:
            if other.unique_id == _unique_id(probed, other.data[CONF_KIND]):
                return str(other.data[CONF_UID])
        if any(other.data[CONF_UID] == probed.uid for other in others):
            # A device without a serial number has moved away from here.
            return f"{probed.uid}_{secrets.token_hex(4)}"
        return probed.uid

    def _modbus_data(self, probed: Probed) -> dict[str, Any]:
        plate = probed.detection.nameplate
        return {
            CONF_SOURCE: Source.MODBUS.value,
            CONF_UID: self._uid(probed),
            CONF_PROFILE: probed.detection.profile.id,
            CONF_MANUFACTURER: plate.get(Field.MANUFACTURER),
            CONF_MODEL: plate.get(Field.MODEL),
            CONF_SERIAL: probed.detection.serial,
            **_link_data(probed),
        }


def _link_data(probed: Probed) -> dict[str, Any]:
    """How a device is reached, for the subentry."""
    return {
        CONF_VARIANT: probed.detection.profile.variant,
        CONF_LINK: link_to_json(probed.settings),
        CONF_UNIT: probed.detection.unit_id,
        CONF_COMPANIONS: dict(probed.detection.companions),
        CONF_SHARED: probed.shared,
    }


def _unique_id(probed: Probed, kind: str) -> str:
    return f"{probed.uid}_{kind}"


def _is_same(probed: Probed, data: Mapping[str, Any]) -> bool:
    """Whether what answers is the device that was set up, as far as it can be told."""
    if probed.detection.profile.id != data[CONF_PROFILE]:
        return False
    known = data.get(CONF_SERIAL)
    return known is None or probed.detection.serial == known
