"""What a device's subentry says, typed. The set-up flow writes it, the runtime reads it; pure."""

import dataclasses
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Self

from ledger_core.records.types import AssetKind, Carrier

from ..devices.errors import SettingsError
from ..devices.profile.model import CommandName
from ..devices.transport.base import LinkKind, LinkSettings

DEFAULT_POLL_S: Final = 10
STORES: Final = frozenset({AssetKind.BATTERY, AssetKind.FUEL_CELL, AssetKind.EV, AssetKind.PORTABLE})
"""Kinds that hold energy, so that the ledger asks for their capacity."""

CONF_SOURCE: Final = "source"
CONF_KIND: Final = "kind"
CONF_CARRIER: Final = "carrier"
CONF_RATING: Final = "rating_w"
CONF_RATING_FOLLOWS: Final = "rating_follows"
CONF_CAPACITY: Final = "capacity_wh"
CONF_CAPACITY_FOLLOWS: Final = "capacity_follows"
CONF_METER: Final = "meter"
CONF_ASSET_ID: Final = "asset_id"
CONF_UID: Final = "device_uid"
CONF_PROFILE: Final = "profile"
CONF_VARIANT: Final = "variant"
CONF_SERIAL: Final = "serial"
CONF_MANUFACTURER: Final = "manufacturer"
CONF_MODEL: Final = "model"
CONF_LINK: Final = "link"
CONF_UNIT: Final = "unit"
CONF_COMPANIONS: Final = "companions"
CONF_SHARED: Final = "shared"
CONF_POLL: Final = "poll_s"
CONF_ENTITIES: Final = "entities"
CONF_POSITIVE: Final = "positive"
CONF_COMMAND: Final = "command"

_LINK_KEYS: Final = ("kind", "host", "port", "device", "baudrate", "bytesize", "parity", "stopbits")


class Source(StrEnum):
    """Where a device's readings come from."""

    MODBUS = "modbus"
    ENTITIES = "entities"


def link_to_json(settings: LinkSettings) -> dict[str, Any]:
    """A link's address as plain JSON; pauses and timeouts follow from the profile."""
    return {key: getattr(settings, key) for key in _LINK_KEYS} | {"kind": settings.kind.value}


def link_from_json(data: Mapping[str, Any]) -> LinkSettings:
    """A link's address from plain JSON. Raises SettingsError."""
    values = {key: data[key] for key in _LINK_KEYS if key in data}
    try:
        return LinkSettings(**values | {"kind": LinkKind(values.get("kind", LinkKind.TCP))})
    except (TypeError, ValueError) as error:
        raise SettingsError(f"a kept link can't be read: {error}") from error


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModbusSource:
    """Which device of which link, and as what it is read."""

    profile: str
    variant: str | None
    link: LinkSettings
    unit: int
    companions: Mapping[str, int] | None
    serial: str | None
    shared: bool
    """Over Home Assistant's shared connection instead of one of our own."""
    poll_s: float = DEFAULT_POLL_S


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EntityCommand:
    """The entity by which a device is told what to do.

    `entity`: a number (set to the power), a switch (on while in force) or a script (called with `command`,
    `power_w` and `until`). `release`: a script called at the end; without it the number gets back what it
    held before and the switch is turned off. `negative`: the command for which a number counts negative.
    `renew_s`: give it again that often; None: once.
    """

    entity: str
    commands: tuple[CommandName, ...]
    release: str | None = None
    negative: CommandName | None = None
    renew_s: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EntitySource:
    """Which entities tell what. `entities`: entity id by slot (see `entity_readings`).

    `positive`: the direction in which a single power entity of two directions counts positive.
    """

    entities: Mapping[str, str]
    positive: str | None = None
    command: EntityCommand | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSettings:
    """All of one device's subentry. Powers in W, energies in Wh."""

    subentry_id: str
    name: str
    kind: AssetKind
    carrier: Carrier
    rating_w: int
    rating_follows: bool
    """The rating is the device's own figure; when the device tells another one, the rating follows."""
    capacity_wh: int | None
    capacity_follows: bool
    meter: str | None
    """Subentry id of the meter that it settles through; None: the only one of its carrier."""
    asset_id: bytes
    uid: str
    """Names the physical device; parts of one device (its PV, its battery) share it."""
    manufacturer: str | None
    model: str | None
    source: ModbusSource | EntitySource

    @classmethod
    def from_data(cls, subentry_id: str, title: str, data: Mapping[str, Any]) -> Self:
        """Read a subentry's data. Raises SettingsError naming what can't be read."""
        try:
            source = _modbus(data) if Source(data[CONF_SOURCE]) is Source.MODBUS else _entities(data)
            return cls(
                subentry_id=subentry_id,
                name=title,
                kind=AssetKind(data[CONF_KIND]),
                carrier=Carrier(data[CONF_CARRIER]),
                rating_w=int(data[CONF_RATING]),
                rating_follows=bool(data.get(CONF_RATING_FOLLOWS, False)),
                capacity_wh=data.get(CONF_CAPACITY),
                capacity_follows=bool(data.get(CONF_CAPACITY_FOLLOWS, False)),
                meter=data.get(CONF_METER),
                asset_id=bytes.fromhex(data[CONF_ASSET_ID]),
                uid=data[CONF_UID],
                manufacturer=data.get(CONF_MANUFACTURER),
                model=data.get(CONF_MODEL),
                source=source,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SettingsError(f"the kept settings of {title} can't be read: {error!r}") from error

    @property
    def is_meter(self) -> bool:
        """Whether it is a meter on the ledger."""
        return self.kind is AssetKind.METER


def _modbus(data: Mapping[str, Any]) -> ModbusSource:
    return ModbusSource(
        profile=data[CONF_PROFILE],
        variant=data.get(CONF_VARIANT),
        link=link_from_json(data[CONF_LINK]),
        unit=int(data[CONF_UNIT]),
        companions=data.get(CONF_COMPANIONS),
        serial=data.get(CONF_SERIAL),
        shared=bool(data.get(CONF_SHARED, False)),
        poll_s=float(data.get(CONF_POLL, DEFAULT_POLL_S)),
    )


def _entities(data: Mapping[str, Any]) -> EntitySource:
    command = data.get(CONF_COMMAND)
    return EntitySource(
        entities=dict(data[CONF_ENTITIES]),
        positive=data.get(CONF_POSITIVE),
        command=None if command is None else command_from_json(command),
    )


def command_from_json(data: Mapping[str, Any]) -> EntityCommand:
    """The command entity from plain JSON. Raises KeyError or ValueError."""
    negative = data.get("negative")
    return EntityCommand(
        entity=data["entity"],
        commands=tuple(CommandName(name) for name in data["commands"]),
        release=data.get("release"),
        negative=None if negative is None else CommandName(negative),
        renew_s=data.get("renew_s"),
    )
