"""A home's description, from YAML or from flags: errors name what is wrong and what would be right."""

from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import yaml

from custom_components.energy_ledger.devices.errors import ProfileError
from custom_components.energy_ledger.devices.profile.load import BUILT_IN, load_profile, load_profiles
from simulator.layout.registry import family_of
from simulator.modbus.server import LinkSettings, Transport
from simulator.physics.battery import BatterySpec
from simulator.physics.fuel_cell import FuelCellSpec
from simulator.physics.home import HomeSpec
from simulator.physics.inverter import InverterSpec
from simulator.physics.load import LoadProfile
from simulator.physics.noise import mix64
from simulator.physics.sun import PvArray, Site

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from custom_components.energy_ledger.devices.profile.model import Check, Profile
    from simulator.layout.families import Family
    from simulator.layout.view import Identity

_COUNTERS = ("pv", "charge", "discharge", "fuel_cell", "load", "import", "export", "ac_out", "ac_in")


class ConfigError(Exception):
    """A home that can't be: the message names the key, what it holds and what would be right."""


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """A device on a link: its profile and family, and its unit ids by companion ("" is the device itself)."""

    profile: Profile
    family: Family
    identity: Identity
    units: Mapping[str, int]
    sleeps_at_night: bool = False
    variant_checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """A link and the devices on it."""

    settings: LinkSettings
    devices: tuple[DeviceConfig, ...]


@dataclass(frozen=True, slots=True)
class HomeConfig:
    """Everything about a simulated home.

    `start_s` is the UTC time at which it starts, `factor` the simulated seconds per real second, `step_s` the
    physics' step, `boundary_s` how often the counters are kept for comparison, `timers` the clock that the
    devices' revert timers follow, `first_counters_wh` what the lifetime counters show at the start.
    """

    name: str
    spec: HomeSpec
    links: tuple[LinkConfig, ...]
    start_s: int
    factor: float = 1.0
    step_s: int = 1
    boundary_s: int = 900
    timers: Literal["simulated", "real"] = "simulated"
    first_counters_wh: Mapping[str, int] = field(default_factory=dict)
    control_host: str = "127.0.0.1"
    control_port: int = 0


class _Keys:
    """A mapping of the description, read key by key; `done` refuses what was not asked for."""

    def __init__(self, where: str, values: object) -> None:
        if not isinstance(values, dict):
            raise ConfigError(f"{where or 'the home'} must be a mapping of keys to values, not {values!r}")
        self._where = where
        self._values = dict(values)
        self._known: list[str] = []

    def path(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key

    def take(self, key: str, default: Any = None) -> Any:
        self._known.append(key)
        value = self._values.pop(key, default)
        return default if value is None else value

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ConfigError(f"{self.path(key)} must be a whole number {low} to {high}, not {value!r}")
        return value

    def number(self, key: str, default: float, low: float, high: float) -> float:
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ConfigError(f"{self.path(key)} must be a number {low:g} to {high:g}, not {value!r}")
        return float(value)

    def text(self, key: str, default: str) -> str:
        value = self.take(key, default)
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{self.path(key)} must be a text, not {value!r}")
        return value

    def choice(self, key: str, default: str, choices: Iterable[str]) -> str:
        value = self.take(key, default)
        if value not in list(choices):
            raise ConfigError(f"{self.path(key)} must be one of {', '.join(choices)}, not {value!r}")
        return str(value)

    def switch(self, key: str, default: bool) -> bool:
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise ConfigError(f"{self.path(key)} must be true or false, not {value!r}")
        return value

    def entries(self, key: str) -> list[Any]:
        value = self.take(key, [])
        if not isinstance(value, list):
            raise ConfigError(f"{self.path(key)} must be a list, not {value!r}")
        return value

    def done(self) -> None:
        if self._values:
            unknown = ", ".join(self.path(str(key)) for key in self._values)
            raise ConfigError(f"unknown: {unknown}; known here: {', '.join(self._known)}")


def read_config(path: Path, *, now_s: int, profile_folders: tuple[Path, ...] = ()) -> HomeConfig:
    """Return the home that a YAML file describes; raises ConfigError. `now_s` is the start by default."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    try:
        return build_config(values, now_s=now_s, profile_folders=profile_folders)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def build_config(values: object, *, now_s: int, profile_folders: tuple[Path, ...] = ()) -> HomeConfig:
    """Return the home that a mapping describes; raises ConfigError."""
    keys = _Keys("", values)
    name = keys.text("name", "home")
    seed = keys.integer("seed", 1, 0, (1 << 63) - 1)
    step_s = keys.integer("step_s", 1, 1, 900)
    control = _Keys("control", keys.take("control", {}))
    config = HomeConfig(
        name=name,
        spec=_spec(keys, seed),
        links=_links(keys.entries("links"), seed, profile_folders),
        start_s=_start(keys.take("start"), now_s),
        factor=keys.number("factor", 1.0, 0, 1_000_000),
        step_s=step_s,
        boundary_s=keys.integer("boundary_s", 900, step_s, 86_400),
        timers="real" if keys.choice("timers", "simulated", ("simulated", "real")) == "real" else "simulated",
        first_counters_wh=_counters(keys.take("first_counters_wh"), seed),
        control_host=control.text("host", "127.0.0.1"),
        control_port=control.integer("port", 0, 0, 65_535),
    )
    control.done()
    keys.done()
    return config


def _start(value: object, now_s: int) -> int:
    """Return a start given as a UTC time or as seconds; "now" and nothing are the present."""
    if value is None or value == "now":
        return now_s
    if isinstance(value, bool):
        raise ConfigError(f"start must be a time, not {value!r}")
    if isinstance(value, int) and 0 <= value < 1 << 32:
        return value
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise ConfigError(
                f'start must be "now" or a UTC time such as 2026-06-21T10:00:00Z, not {value!r}'
            ) from None
    if not isinstance(moment, datetime):
        raise ConfigError(f'start must be "now" or a UTC time such as 2026-06-21T10:00:00Z, not {value!r}')
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _counters(value: object, seed: int) -> Mapping[str, int]:
    """Return what the lifetime counters show at the start, in Wh: given, or drawn from the seed."""
    if value is None:
        return {name: 100_000 + mix64(seed, 500 + place) % 20_000_000 for place, name in enumerate(_COUNTERS)}
    keys = _Keys("first_counters_wh", value)
    counters = {name: keys.integer(name, 0, 0, 1 << 40) for name in _COUNTERS}
    keys.done()
    return counters


# The bounds of every whole number that describes a part, by field.
_BOUNDS: Mapping[str, tuple[int, int]] = {
    "peak_w": (1, 1_000_000),
    "tilt_deg": (0, 90),
    "azimuth_deg": (0, 360),
    "capacity_wh": (1, 10_000_000),
    "rated_w": (1, 1_000_000),
    "annual_kwh": (0, 1_000_000),
    "utc_offset_s": (-50_400, 50_400),
    "fuel_mg_per_kwh": (1, 10_000_000),
    "tank_mg": (1, 1_000_000_000),
    "tank_litre": (1, 100_000),
    "ramp_w_per_s": (1, 1_000_000),
    "nominal_mv": (1_000, 1_000_000),
    "efficiency_permille": (500, 1000),
    "charge_efficiency_permille": (500, 1000),
    "discharge_efficiency_permille": (500, 1000),
    "converter_efficiency_permille": (500, 1000),
}


def _part[T](keys: _Keys, key: str, kind: type[T], *, default: T | None) -> T | None:
    """Return a part by its fields, all of them whole numbers; `true` is a part as it comes, false is none."""
    value = keys.take(key)
    if value is None:
        return default
    if isinstance(value, bool):
        return kind() if value else None
    inner = _Keys(keys.path(key), value)
    numbers = {}
    blank = kind()
    for item in fields(kind):  # type: ignore[arg-type]  # every part is a dataclass
        low, high = _BOUNDS.get(item.name, (0, 1000 if item.name.endswith("_permille") else 1_000_000))
        numbers[item.name] = inner.integer(item.name, getattr(blank, item.name), low, high)
    inner.done()
    return kind(**numbers)


def _spec(keys: _Keys, seed: int) -> HomeSpec:
    site = _Keys("site", keys.take("site", {}))
    latitude = site.number("latitude", 52.52, -90, 90)
    longitude = site.number("longitude", 13.405, -180, 180)
    site.done()
    first_soc = keys.integer("first_soc_permille", 500, 0, 1000)
    first_fuel = keys.integer("first_fuel_permille", 1000, 0, 1000)
    return HomeSpec(
        seed=seed,
        site=Site(round(latitude * 1_000_000), round(longitude * 1_000_000)),
        inverter=_part(keys, "inverter", InverterSpec, default=None) or InverterSpec(),
        pv=_part(keys, "pv", PvArray, default=None),
        battery=_part(keys, "battery", BatterySpec, default=None),
        fuel_cell=_part(keys, "fuel_cell", FuelCellSpec, default=None),
        load=_part(keys, "load", LoadProfile, default=LoadProfile()),
        first_soc_permille=first_soc,
        first_fuel_permille=first_fuel,
    )


@cache
def _profiles(folders: tuple[Path, ...]) -> Mapping[str, Profile]:
    """Return ours and the user's profiles, read once in a process."""
    return load_profiles(*folders)


@cache
def _own_profile(profile_id: str) -> Profile | None:
    """Return one of our profiles, without reading them all, if its file is named after it."""
    files = {path.stem: path for path in BUILT_IN.glob("*.yaml")}
    profile = load_profile(files[profile_id]) if profile_id in files else None
    return profile if profile is not None and profile.id == profile_id else None


def _profile(keys: _Keys, folders: tuple[Path, ...]) -> Profile:
    """Return the profile that a device names; a user's own one goes before ours."""
    named = keys.take("profile", "")
    own = _own_profile(named) if isinstance(named, str) and not folders else None
    if own is not None:
        return own
    profiles = _profiles(folders)
    if named not in list(profiles):
        known = ", ".join(sorted(profiles))
        raise ConfigError(f"{keys.path('profile')} must be one of {known}, not {named!r}")
    return profiles[named]


def _links(entries: list[Any], seed: int, profile_folders: tuple[Path, ...]) -> tuple[LinkConfig, ...]:
    if not entries:
        raise ConfigError("links must name at least one link with a device")
    links: list[LinkConfig] = []
    for number, entry in enumerate(entries):
        link = _link(f"links[{number}]", entry, mix64(seed, number), profile_folders)
        if any(other.settings.name == link.settings.name for other in links):
            raise ConfigError(f"links[{number}].name {link.settings.name!r} is taken by another link")
        port = link.settings.port
        if port and any(
            (other.settings.host, other.settings.port) == (link.settings.host, port) for other in links
        ):
            raise ConfigError(f"links[{number}].port {port} is taken by another link")
        links.append(link)
    return tuple(links)


def _link(where: str, entry: object, seed: int, folders: tuple[Path, ...]) -> LinkConfig:
    keys = _Keys(where, entry)
    devices: list[DeviceConfig] = []
    taken: set[int] = set()
    for number, device_entry in enumerate(keys.entries("devices")):
        device = _device(f"{where}.devices[{number}]", device_entry, mix64(seed, number), folders)
        for unit in device.units.values():
            if unit in taken:
                raise ConfigError(
                    f"{where}.devices[{number}].unit {unit} is taken by another device on this link"
                )
            taken.add(unit)
        devices.append(device)
    if not devices:
        raise ConfigError(f"{where}.devices must name at least one device")
    default_name = devices[0].profile.id
    transport = Transport(
        keys.choice("transport", _transport_of(devices[0].profile), [item.value for item in Transport])
    )
    settings = LinkSettings(
        name=keys.text("name", default_name),
        transport=transport,
        host=keys.text("host", "127.0.0.1"),
        port=keys.integer("port", 0, 0, 65_535),
        latency_s=keys.number("latency_ms", 0, 0, 60_000) / 1000,
        max_clients=keys.integer("max_clients", 0, 0, 1000) or None,
    )
    keys.done()
    return LinkConfig(settings, tuple(devices))


def _transport_of(profile: Profile) -> str:
    """Return the transport that suits a profile: its own first one, serial lines through a gateway."""
    first = profile.link.transports[0].transport.value if profile.link.transports else "tcp"
    return "rtu_over_tcp" if first == "rtu" else first


def _device(where: str, entry: object, seed: int, folders: tuple[Path, ...]) -> DeviceConfig:
    keys = _Keys(where, entry)
    try:
        profile = _profile(keys, folders)
    except ProfileError as error:
        raise ConfigError(str(error)) from None
    checks: tuple[Check, ...] = ()
    if profile.variants:
        variant = keys.choice("variant", next(iter(profile.variants), ""), sorted(profile.variants))
        checks = profile.variants[variant].when
        profile = profile.choose(variant)
    family = family_of(profile)
    identity = replace(
        family.identity,
        serial=keys.text("serial", f"{family.identity.serial[:-4]}{seed % 10_000:04d}"),
        model=keys.text("model", family.identity.model),
    )
    units = {"": keys.integer("unit", profile.link.units[0] if profile.link.units else 1, 0, 247)}
    for companion, unit in profile.link.companions.items():
        units[companion] = keys.integer(f"{companion}_unit", unit, 0, 247)
    asleep = keys.switch("sleeps_at_night", False)
    keys.done()
    return DeviceConfig(profile, family, identity, units, asleep, checks)
