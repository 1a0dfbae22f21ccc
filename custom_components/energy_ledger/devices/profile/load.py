"""Device profiles from YAML files: ours, and the user's own, which override ours by id.

Every error is a `ProfileError` that names file, line and key, says what was wrong and what would be right.
Reading files blocks; call it outside an event loop.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ..errors import ProfileError
from .check import check_profile
from .load_commands import load_commands
from .load_points import Defaults, PointTables, load_checks, load_points
from .model import (
    Evidence,
    Function,
    Hole,
    LinkDefaults,
    Profile,
    SerialSettings,
    SunSpecMap,
    Transport,
    TransportDefaults,
    Variant,
    WordOrder,
)
from .reader import Keys
from .tree import Node, merge, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BUILT_IN: Final = Path(__file__).parent.parent / "profiles"
"""The folder of the profiles that come with the integration."""

KINDS: Final = ("pv", "wind", "battery", "fuel_cell", "generator", "load", "ev", "charge_point", "meter")
"""Asset kinds that a profile may stand for."""

_BODY: Final = (
    *("id", "title", "manufacturer", "models", "kinds", "priority", "sources", "proven", "unproven"),
    *("link", "types", "sunspec", "holes", "detect", "identity", "points", "settings", "commands"),
)
_VARIANT: Final = (
    "link",
    "types",
    "sunspec",
    "holes",
    "identity",
    "points",
    "settings",
    "commands",
    "unproven",
)
_LINK: Final = (
    *("units", "companions", "word_order", "fc", "write_fc", "nan", "max_registers", "max_gap"),
    *("spacing_ms", "connect_delay_ms", "timeout_s", "max_clients", "sleeps_at_night"),
)
_SERIAL: Final = re.compile(r"([0-9]{3,7}) ([78])([NEO])([12])")
_MAX_BYTES: Final = 256 * 1024


def load_profiles(*folders: Path) -> Mapping[str, Profile]:
    """Read our profiles, then those of each folder; a later one replaces an earlier one of the same id.

    Raises ProfileError for the first file that is wrong, for two files of one folder with the same id, and
    for a folder that is not there.
    """
    profiles: dict[str, Profile] = {}
    for folder in (BUILT_IN, *folders):
        if not folder.is_dir():
            raise ProfileError(f"{folder}: no such folder; right would be a folder of profiles (*.yaml)")
        found: dict[str, Profile] = {}
        for path in sorted(folder.glob("*.yaml")):
            profile = load_profile(path)
            if profile.id in found:
                other = found[profile.id].path
                raise ProfileError(f'{path}:1: id "{profile.id}" is already used by {other}')
            found[profile.id] = profile
        profiles.update(found)
    return MappingProxyType(profiles)


def load_profile(path: Path) -> Profile:
    """Read one profile file. Raises ProfileError."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ProfileError(f"{path}: larger than {_MAX_BYTES // 1024} KiB, which no profile needs")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ProfileError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ProfileError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    return parse_profile(text, str(path), path)


def parse_profile(text: str, file: str, path: Path | None = None) -> Profile:
    """Read a profile from text; `file` names it in errors. Raises ProfileError."""
    root = parse(text, file)
    keys = Keys(root, (*_BODY, "variants"))
    variants_node = keys.get("variants")
    base = Node({k: v for k, v in root.mapping().items() if k != "variants"}, file, root.line, "")
    profile, defaults, tables = _build(base, path)
    variants: dict[str, Variant] = {}
    for name, node in (variants_node.mapping() if variants_node else {}).items():
        variants[name] = _variant(name, node, base, (defaults, tables), path)
    if not variants:
        return profile
    return replace(profile, variants=MappingProxyType(variants))


def _variant(
    name: str, node: Node, base: Node, context: tuple[Defaults, PointTables], path: Path | None
) -> Variant:
    keys = Keys(node, ("title", "when", *_VARIANT))
    defaults, tables = context
    when = load_checks(keys.get("when"), defaults, tables)
    changes = {k: v for k, v in node.mapping().items() if k in _VARIANT}
    changed = merge(base, Node(changes, node.file, node.line, node.key))
    profile, _, _ = _build(changed, path)
    return Variant(
        name=name, title=keys.need("title").text(), when=when, profile=replace(profile, variant=name)
    )


def _build(root: Node, path: Path | None) -> tuple[Profile, Defaults, PointTables]:
    keys = Keys(root, _BODY)
    identifier = keys.need("id")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", identifier.text()):
        raise identifier.error("right would be lower-case letters, digits and _")
    link = _link(keys.need("link"))
    defaults = _defaults(keys, link)
    tables = load_points(keys.get("points"), keys.get("settings"), defaults)
    profile = Profile(
        id=identifier.text(),
        title=keys.need("title").text(),
        manufacturer=keys.text("manufacturer"),
        kinds=_kinds(keys.need("kinds")),
        link=link,
        models=keys.texts("models"),
        priority=keys.integer("priority", 0, 100, 50),
        detect=load_checks(keys.get("detect"), defaults, tables),
        identity=load_checks(keys.get("identity"), defaults, tables),
        sunspec=_sunspec(keys.get("sunspec")),
        holes=_holes(keys.get("holes"), link.read_function),
        points=MappingProxyType(tables.points),
        derived=MappingProxyType(tables.derived),
        settings=MappingProxyType(tables.settings),
        commands=load_commands(keys.get("commands"), tables, defaults),
        sources=keys.texts("sources"),
        proven=_evidence(keys.get("proven")),
        unproven=keys.texts("unproven"),
        path=path,
    )
    check_profile(profile, root)
    return profile, defaults, tables


def _defaults(keys: Keys, link: LinkDefaults) -> Defaults:
    link_node = keys.need("link").mapping()
    nan = link_node.get("nan")
    if nan is not None and nan.value not in ("usual", "none"):
        raise nan.error("right would be usual (0xFFFF, 0x8000 and so on mean no value) or none")
    types = keys.get("types")
    return Defaults(
        function=link.read_function,
        write_function=link.write_function,
        word_order=link.word_order,
        usual_nan=nan is not None and nan.value == "usual",
        types={name: node.text() for name, node in types.mapping().items()} if types else {},
        companions=frozenset(link.companions),
    )


def _kinds(node: Node) -> tuple[str, ...]:
    kinds = tuple(item.text() for item in node.sequence())
    for kind, item in zip(kinds, node.sequence(), strict=True):
        if kind not in KINDS:
            raise item.error(f'"{kind}" is no kind of asset; right would be one of {", ".join(KINDS)}')
    if not kinds:
        raise node.error(f"is empty; right would be some of {', '.join(KINDS)}")
    return kinds


def _link(node: Node) -> LinkDefaults:
    keys = Keys(node, (*(transport.value for transport in Transport), *_LINK))
    transports = tuple(
        _transport(transport, child) for transport in Transport if (child := keys.get(transport)) is not None
    )
    if not transports:
        raise node.error(f"names no way to the device; right would be one of {', '.join(Transport)}")
    companions = keys.get("companions")
    return LinkDefaults(
        transports=transports,
        units=keys.integers("units", 0, 255) or (1,),
        companions=MappingProxyType(
            {name: n.integer(0, 255) for name, n in companions.mapping().items()} if companions else {}
        ),
        word_order=keys.choice("word_order", WordOrder, WordOrder.BIG),
        read_function=Function(keys.integer("fc", 1, 4, 3)),
        write_function=_write_function(keys),
        max_registers=keys.integer("max_registers", 1, 125, 125),
        max_gap=keys.integer("max_gap", 0, 124, 8),
        spacing=keys.seconds("spacing_ms", 0.0, 10),
        connect_delay=keys.seconds("connect_delay_ms", 0.0, 60),
        timeout=keys.seconds("timeout_s", 3.0, 60),
        max_clients=keys.maybe_integer("max_clients", 1, 64),
        sleeps_at_night=keys.boolean("sleeps_at_night"),
    )


def _write_function(keys: Keys) -> Function:
    function = keys.integer("write_fc", 5, 16, 16)
    if function not in (Function.WRITE_SINGLE, Function.WRITE_MULTIPLE):
        raise keys.error("write_fc", "right would be 6 or 16")
    return Function(function)


def _transport(transport: Transport, node: Node) -> TransportDefaults:
    if transport is not Transport.SERIAL:
        items = node.sequence() if isinstance(node.value, list) else [node]
        return TransportDefaults(transport=transport, ports=tuple(item.integer(1, 65535) for item in items))
    match = _SERIAL.fullmatch(node.text())
    if match is None:
        raise node.error('right would be bits per second and format, such as "9600 8N1"')
    serial = SerialSettings(
        baudrate=int(match[1]), bytesize=int(match[2]), parity=match[3], stopbits=int(match[4])
    )
    return TransportDefaults(transport=transport, serial=serial)


def _sunspec(node: Node | None) -> SunSpecMap | None:
    if node is None:
        return None
    keys = Keys(node, ("bases", "fc", "required"))
    required: list[tuple[int, ...]] = []
    for item in keys.need("required").sequence() if "required" in keys else ():
        models = item.sequence() if isinstance(item.value, list) else [item]
        required.append(tuple(model.integer(1, 0xFFFE) for model in models))
    return SunSpecMap(
        bases=keys.integers("bases", 0, 65535) or SunSpecMap().bases,
        function=Function(keys.integer("fc", 3, 4, 3)),
        required=tuple(required),
    )


def _holes(node: Node | None, function: Function) -> tuple[Hole, ...]:
    holes: list[Hole] = []
    for item in node.sequence() if node else ():
        keys = Keys(item, ("fc", "first", "last"))
        first = keys.need("first").integer(0, 65535)
        last = keys.integer("last", first, 65535, first)
        holes.append(Hole(function=Function(keys.integer("fc", 1, 4, function)), first=first, last=last))
    return tuple(holes)


def _evidence(node: Node | None) -> tuple[Evidence, ...]:
    evidence: list[Evidence] = []
    for item in node.sequence() if node else ():
        keys = Keys(item, ("dump", "points"))
        evidence.append(Evidence(dump=keys.need("dump").text(), points=keys.need("points").text()))
    return tuple(evidence)


def profile_ids(profiles: Iterable[Profile]) -> tuple[str, ...]:
    """Return the ids, most specific profile first: the order in which detection tries them."""
    return tuple(p.id for p in sorted(profiles, key=lambda p: (-p.priority, p.id)))
