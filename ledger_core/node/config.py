"""A node's settings: from a file, the environment and flags, each checked and documented.

Later sources win: defaults, then `node.toml` in the data directory, then `ENERGY_LEDGER_*` variables, then
flags. An unknown name or a value out of its bounds is refused with the source, the name and what is right.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct

from ledger_core.errors import LedgerError, wanted
from ledger_core.node.peers.errors import PeerError
from ledger_core.node.peers.location import parse_location

ENVIRONMENT_PREFIX = "ENERGY_LEDGER_"
FILE = "node.toml"


class ConfigError(LedgerError):
    """A setting that can't be used."""


def _text(description: str, least: int = 0) -> Meta:
    return Meta(min_length=least, max_length=255, description=description)


class Settings(Struct, frozen=True, kw_only=True):
    """Every setting of a node; the description of each is its help."""

    api_host: Annotated[
        str, _text("Address of the API; anything but loopback opens it to others who know the token.", 1)
    ] = "127.0.0.1"
    api_port: Annotated[
        int,
        Meta(
            ge=0, le=65_535, description="Port of the API; 0 takes a free one, told when the node is ready."
        ),
    ] = 0
    peer_host: Annotated[
        str, _text("Address that other homes' nodes connect to; empty: only this node connects to others.")
    ] = "0.0.0.0"  # noqa: S104 - members connect from outside
    peer_port: Annotated[
        int, Meta(ge=0, le=65_535, description="Port for other homes' nodes; 0 takes a free one.")
    ] = 7946
    advertise: Annotated[
        str,
        _text("Address (host:port or a WebSocket URL) under which others reach this node; empty: not told."),
    ] = ""
    peers: Annotated[
        tuple[str, ...],
        Meta(max_length=16, description="Nodes to connect to first: host:port or WebSocket URLs."),
    ] = ()
    max_peers: Annotated[int, Meta(ge=1, le=256, description="Connections to other nodes at the most.")] = 16
    discovery: Annotated[
        bool, Meta(description="Find the community's nodes on the local network (zeroconf), and be found.")
    ] = True
    mining: Annotated[bool, Meta(description="Mine blocks.")] = True
    mining_share: Annotated[float, Meta(gt=0, le=1, description="Part of one core that mining may take.")] = (
        0.05
    )
    voting: Annotated[
        bool, Meta(description="Vote for checkpoints; off on a copy of another node's data.")
    ] = True
    full_sync: Annotated[
        bool, Meta(description="Fetch and verify every block from the first on, never a snapshot.")
    ] = False
    snapshot_gap: Annotated[
        int,
        Meta(ge=1, le=10_000_000, description="A new node that lacks so many blocks begins at a snapshot."),
    ] = 1000
    verify_workers: Annotated[
        int, Meta(ge=1, le=64, description="Threads that verify the signatures of blocks.")
    ] = 2
    prune_days: Annotated[
        int,
        Meta(
            ge=0, le=36_500, description="Forget the bodies of blocks older than so many days; 0: keep all."
        ),
    ] = 0
    mempool_mib: Annotated[
        int, Meta(ge=1, le=1024, description="Memory for records that wait for a block, MiB.")
    ] = 16
    log_level: Annotated[
        str, Meta(pattern="^(debug|info|warning|error)$", description="Least level of what is logged.")
    ] = "info"


@dataclass(frozen=True)
class Setting:
    """What a person must know of one setting."""

    name: str
    kind: str
    default: Any
    bounds: str
    help: str

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """The flag that sets it."""
        return "--" + self.name.replace("_", "-")


_HINTS = get_type_hints(Settings, include_extras=True)


def _plain_type(hint: Any) -> tuple[Any, Meta]:
    """Return the bare type of a setting and its bounds."""
    kind, meta = get_args(hint)
    return kind, meta


def _bounds(meta: Meta) -> str:
    low = meta.ge if meta.ge is not None else meta.gt
    if low is not None:
        return f"{'above ' if meta.gt is not None else ''}{low} to {meta.le}"
    return meta.pattern.strip("^$()").replace("|", ", ") if meta.pattern else ""


_LABELS: Mapping[Any, str] = {bool: "yes or no", int: "a whole number", float: "a number", str: "text"}
_YES_NO: Mapping[str, bool] = {
    **dict.fromkeys(("1", "yes", "true", "on"), True),
    **dict.fromkeys(("0", "no", "false", "off"), False),
}
_PARSERS: Mapping[Any, Callable[[str], Any]] = {
    bool: lambda text: _YES_NO[text.lower()],
    int: int,
    float: float,
    str: str,
}


def settings_reference() -> list[Setting]:
    """Return every setting with its type, default, bounds and help, in order."""
    defaults = Settings()
    reference = []
    for name in Settings.__struct_fields__:
        kind, meta = _plain_type(_HINTS[name])
        label = _LABELS.get(kind, "texts, separated by commas")
        reference.append(Setting(name, label, getattr(defaults, name), _bounds(meta), meta.description or ""))
    return reference


def parse_text(name: str, text: str, source: str) -> Any:
    """Return a setting's value from a variable's or a flag's text; raises ConfigError `setting_invalid`."""
    kind, _ = _plain_type(_HINTS[name])
    parse = _PARSERS.get(kind)
    if parse is None:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return parse(text)
    except (ValueError, KeyError) as error:
        right = _LABELS[bool] if kind is bool else wanted(_HINTS[name])
        raise _invalid(name, source, f"{text!r} is not {right}") from error


def _invalid(name: str, source: str, what: str) -> ConfigError:
    return ConfigError("setting_invalid", f"{source}: {name}: {what}", setting=name, source=source)


def load_settings(
    directory: Path, environment: Mapping[str, str], flags: Mapping[str, Any] | None = None
) -> Settings:
    """Return the settings of a data directory; raises ConfigError that names source, setting and remedy."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    path = directory / FILE
    _merge(values, sources, _read_file(path), str(path))
    for variable, text in sorted(environment.items()):
        if variable.startswith(ENVIRONMENT_PREFIX):
            name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
            _require_known(name, variable)
            _merge(values, sources, {name: parse_text(name, text, variable)}, variable)
    for name, value in (flags or {}).items():
        _merge(values, sources, {name: value}, flag_source(name))
    for name, value in values.items():
        try:
            msgspec.convert(value, _HINTS[name], strict=True)
        except msgspec.ValidationError as error:
            raise _invalid(name, sources[name], f"{value!r} is not {wanted(_HINTS[name])}") from error
    settings = msgspec.convert(values, Settings)
    for name in ("peers", "advertise"):
        _require_locations(settings, name, sources.get(name, ""))
    return settings


def _require_locations(settings: Settings, name: str, source: str) -> None:
    given = getattr(settings, name)
    for text in (given,) if isinstance(given, str) and given else given:
        try:
            parse_location(text)
        except PeerError as error:
            raise _invalid(name, source, error.message) from error


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("config_unreadable", f"{path} is not TOML: {error}", path=str(path)) from error
    except OSError as error:
        raise ConfigError(
            "config_unreadable", f"{path} can't be read: {error.strerror}", path=str(path)
        ) from error


def flag_source(name: str) -> str:
    """Return what stands before the message about a flag."""
    return f"--{name.replace('_', '-')} on the command line"


def _merge(values: dict[str, Any], sources: dict[str, str], more: Mapping[str, Any], source: str) -> None:
    for name, value in more.items():
        _require_known(name, source)
        values[name] = value
        sources[name] = source


def _require_known(name: str, source: str) -> None:
    if name not in _HINTS:
        raise ConfigError(
            "setting_unknown",
            f"{source}: there is no setting {name!r}; known are {', '.join(Settings.__struct_fields__)}",
            setting=name,
            source=source,
        )
