"""The forms of the device flow, and what was typed into them as settings."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import probatio as vol
from homeassistant.config_entries import ConfigSubentry
from homeassistant.data_entry_flow import section
from homeassistant.helpers.selector import (
    BooleanSelector,
    EntitySelector,
    EntitySelectorConfig,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
)

from ledger_core.records.types import AssetKind, Carrier
from ledger_core.units import MAX_WATT_HOURS, MAX_WATTS

from ..device_runtime.entity_readings import DIRECTIONS, Slot, slots_of
from ..device_runtime.parts import commands_of
from ..device_runtime.probing import Probed
from ..device_runtime.settings import DEFAULT_POLL_S, STORES
from ..devices.errors import SettingsError
from ..devices.profile.model import Profile
from ..devices.transport.base import LinkKind, LinkSettings

ENTITY_KINDS: Final = tuple(DIRECTIONS)
COMMAND_DOMAINS: Final = ("number", "input_number", "switch", "input_boolean", "script")
_POWER_SLOTS: Final = (Slot.POWER, Slot.POWER_OPPOSITE)
_ENERGY_SLOTS: Final = (Slot.ENERGY_OUT, Slot.ENERGY_IN)
_NUMBER_DOMAINS: Final = ["sensor", "number", "input_number"]


def _whole(low: int, high: int, unit: str | None = None) -> NumberSelector:
    config = NumberSelectorConfig(min=low, max=high, step=1, mode=NumberSelectorMode.BOX)
    if unit is not None:
        config["unit_of_measurement"] = unit
    return NumberSelector(config)


def _select(options: Sequence[str], key: str, *, multiple: bool = False) -> SelectSelector:
    return SelectSelector(
        SelectSelectorConfig(
            options=list(options), translation_key=key, multiple=multiple, mode=SelectSelectorMode.DROPDOWN
        )
    )


def _labelled(options: Iterable[tuple[str, str]]) -> SelectSelector:
    return SelectSelector(
        SelectSelectorConfig(
            options=[SelectOptionDict(value=value, label=label) for value, label in options],
            mode=SelectSelectorMode.LIST,
        )
    )


def search_form() -> vol.Schema:
    """Where to search."""
    return vol.Schema({vol.Required("networks"): TextSelector(), vol.Required("ports"): TextSelector()})


def _profile_field(profiles: Mapping[str, Profile]) -> dict[Any, Any]:
    ordered = sorted(profiles.values(), key=lambda profile: profile.title)
    options = [SelectOptionDict(value=profile.id, label=profile.title) for profile in ordered]
    return {
        vol.Optional("profile"): SelectSelector(
            SelectSelectorConfig(options=options, mode=SelectSelectorMode.DROPDOWN)
        )
    }


def network_form(profiles: Mapping[str, Profile]) -> vol.Schema:
    """The address of a device on the network."""
    kinds = [kind.value for kind in LinkKind if kind is not LinkKind.SERIAL]
    more = {
        vol.Required("kind", default=LinkKind.TCP.value): _select(kinds, "device_link"),
        vol.Required("shared", default=False): BooleanSelector(),
        **_profile_field(profiles),
    }
    return vol.Schema(
        {
            vol.Required("host"): TextSelector(),
            vol.Optional("port"): _whole(1, 65_535),
            vol.Optional("unit"): _whole(0, 255),
            vol.Required("more"): section(vol.Schema(more), {"collapsed": True}),
        }
    )


def serial_form(profiles: Mapping[str, Profile]) -> vol.Schema:
    """The serial line of a device."""
    more = {
        vol.Required("bytesize", default="8"): _select(["7", "8"], "device_bytesize"),
        vol.Required("stopbits", default="1"): _select(["1", "2"], "device_stopbits"),
        vol.Required("shared", default=False): BooleanSelector(),
        **_profile_field(profiles),
    }
    return vol.Schema(
        {
            vol.Required("device"): TextSelector(),
            vol.Required("baudrate", default=9600): _whole(300, 4_000_000),
            vol.Required("parity", default="none"): _select(["none", "even", "odd"], "device_parity"),
            vol.Optional("unit"): _whole(0, 255),
            vol.Required("more"): section(vol.Schema(more), {"collapsed": True}),
        }
    )


def network_link(typed: Mapping[str, Any], timeout_s: float) -> tuple[LinkSettings, bool]:
    """The link that was typed, and whether its port was left open. Raises SettingsError."""
    host = str(typed["host"]).strip().removeprefix("[").removesuffix("]")
    if not host or any(char.isspace() or char in "/@?#" for char in host) or _port_in(host):
        raise SettingsError(
            f"{host!r} is no address; right would be a host name or an IP address", "host_invalid", host=host
        )
    port = typed.get("port")
    kind = LinkKind(typed["more"]["kind"])
    settings = LinkSettings(kind=kind, host=host, timeout_s=timeout_s)
    if port is None:
        return settings, True
    return LinkSettings(kind=kind, host=host, port=int(port), timeout_s=timeout_s), False


def _port_in(host: str) -> bool:
    """Whether a port was typed into the host field."""
    if ":" not in host:
        return False
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return True
    return False


def serial_link(typed: Mapping[str, Any], timeout_s: float) -> LinkSettings:
    """The serial line that was typed. Raises SettingsError."""
    return LinkSettings(
        kind=LinkKind.SERIAL,
        device=str(typed["device"]).strip(),
        baudrate=int(typed["baudrate"]),
        parity={"none": "N", "even": "E", "odd": "O"}[typed["parity"]],
        bytesize=int(typed["more"]["bytesize"]),
        stopbits=int(typed["more"]["stopbits"]),
        timeout_s=timeout_s,
    )


def typed_from_link(data: Mapping[str, Any], unit: int, *, shared: bool) -> dict[str, Any]:
    """What would have to be typed for a kept link: the suggestion when it is changed."""
    if data["kind"] == LinkKind.SERIAL.value:
        return {
            "device": data["device"],
            "baudrate": data["baudrate"],
            "parity": {"N": "none", "E": "even", "O": "odd"}[data["parity"]],
            "unit": unit,
            "more": {
                "bytesize": str(data["bytesize"]),
                "stopbits": str(data["stopbits"]),
                "shared": shared,
            },
        }
    more = {"kind": data["kind"], "shared": shared}
    return {"host": data["host"], "port": data["port"], "unit": unit, "more": more}


def pick_form(found: Sequence[Probed]) -> vol.Schema:
    """Which of several devices."""
    options = [(str(number), probed.label) for number, probed in enumerate(found)]
    return vol.Schema({vol.Required("device"): _labelled(options)})


def kind_form(kinds: Sequence[str]) -> vol.Schema:
    """Which part of a device."""
    return vol.Schema({vol.Required("kind"): _select(kinds, "asset_kind")})


def entities_kind_form() -> vol.Schema:
    """What a device made of entities is."""
    kinds = [kind.value for kind in ENTITY_KINDS]
    return vol.Schema(
        {
            vol.Required("kind"): _select(kinds, "asset_kind"),
            vol.Required("carrier", default=Carrier.ELECTRICITY.value): _select(list(Carrier), "carrier"),
        }
    )


def entities_form(kind: AssetKind) -> vol.Schema:
    """Which entities tell what, and which one takes commands."""
    fields: dict[Any, Any] = {}
    for slot in slots_of(kind):
        fields[vol.Optional(slot.value)] = EntitySelector(EntitySelectorConfig(filter=_filters(slot)))
        directions = DIRECTIONS[kind]
        if slot is Slot.POWER and directions.two_way:
            words = [directions.out_word, directions.in_word]
            fields[vol.Required("positive", default=directions.out_word)] = _select(words, "direction")
    commands = sorted(name.value for name in commands_of(kind))
    if commands:
        command = {
            vol.Optional("entity"): EntitySelector(EntitySelectorConfig(domain=list(COMMAND_DOMAINS))),
            vol.Optional("commands"): _select(commands, "device_command", multiple=True),
            vol.Optional("negative"): _select(commands, "device_command"),
            vol.Optional("release"): EntitySelector(EntitySelectorConfig(domain="script")),
            vol.Optional("renew_s"): _whole(1, 3600, "s"),
        }
        fields[vol.Required("command")] = section(vol.Schema(command), {"collapsed": True})
    return vol.Schema(fields)


def _filters(slot: Slot) -> Any:
    if slot in _POWER_SLOTS:
        return [{"domain": _NUMBER_DOMAINS, "device_class": "power"}, {"domain": "input_number"}]
    if slot in _ENERGY_SLOTS:
        return [{"domain": _NUMBER_DOMAINS, "device_class": "energy"}, {"domain": "input_number"}]
    if slot is Slot.ENERGY_AVAILABLE:
        return [
            {"domain": _NUMBER_DOMAINS, "device_class": ["energy", "energy_storage"]},
            {"domain": "input_number"},
        ]
    return [{"domain": _NUMBER_DOMAINS}]


def part_form(
    kind: AssetKind, meters: Sequence[ConfigSubentry], *, with_name: bool, polled: bool
) -> vol.Schema:
    """The figures of the asset."""
    fields: dict[Any, Any] = {}
    if with_name:
        fields[vol.Required("name")] = TextSelector()
    fields[vol.Required("rating_w")] = _whole(0, MAX_WATTS, "W")
    if kind in STORES:
        fields[vol.Optional("capacity_wh")] = _whole(0, MAX_WATT_HOURS, "Wh")
    if kind is not AssetKind.METER and meters:
        fields[vol.Optional("meter")] = _labelled((each.subentry_id, each.title) for each in meters)
    if polled:
        fields[vol.Required("poll_s", default=DEFAULT_POLL_S)] = _whole(2, 300, "s")
    return vol.Schema(fields)
