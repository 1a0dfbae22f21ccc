"""What a profile must fulfil as a whole: names that exist, addresses that don't collide, no circles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .model import PLACEHOLDERS, DerivedPoint, Hole, Profile, RegisterPoint, SunSpecPoint
from .reader import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .tree import Node


def check_profile(profile: Profile, root: Node) -> None:
    """Raise ProfileError, naming file, line and key, for the first thing that can't be right."""
    _check_names(profile, root)
    _check_sunspec(profile, root)
    _check_addresses(profile, root)
    for derived in profile.derived.values():
        _check_operands(profile, derived, root)
    for command in profile.commands.values():
        for condition in command.preconditions:
            if condition.point not in _all_names(profile):
                node = _node(root, "commands", command.name, "require")
                hint = did_you_mean(condition.point, _all_names(profile))
                raise node.error(f'no point "{condition.point}"; {hint}')


def _node(root: Node, *keys: str) -> Node:
    """Return the node at a path, or the nearest one above it."""
    node = root
    for key in keys:
        if not isinstance(node.value, dict) or key not in node.value:
            break
        node = node.value[key]
    return node


def _all_names(profile: Profile) -> frozenset[str]:
    return frozenset((*profile.points, *profile.derived, *profile.settings))


def _check_names(profile: Profile, root: Node) -> None:
    for name in _all_names(profile) & PLACEHOLDERS:
        section = "settings" if name in profile.settings else "points"
        raise _node(root, section, name).error("is the name of a placeholder; take another name")
    for name in profile.settings:
        if name in profile.points or name in profile.derived:
            raise _node(root, "settings", name).error("a point has the same name; take another one")


def _check_sunspec(profile: Profile, root: Node) -> None:
    if profile.sunspec is not None:
        return
    for section, table in (("points", profile.points), ("settings", profile.settings)):
        for point in table.values():
            if isinstance(point, SunSpecPoint):
                raise _node(root, section, point.name, "sunspec").error(
                    "needs a sunspec section in the profile (sunspec: {bases: [40000]})"
                )


def _registers(profile: Profile) -> Iterator[tuple[str, RegisterPoint]]:
    for section, table in (("points", profile.points), ("settings", profile.settings)):
        for point in table.values():
            if isinstance(point, RegisterPoint):
                yield section, point


def _check_addresses(profile: Profile, root: Node) -> None:
    """No two points read the same register (other bits of it are fine), and none lies in a hole."""
    seen: dict[tuple[str | None, int, int, int | None], RegisterPoint] = {}
    for section, point in _registers(profile):
        node = _node(root, section, point.name, "addr")
        place = (point.companion, int(point.function), point.address, point.mask)
        other = seen.setdefault(place, point)
        if other is not point:
            line = _node(root, "points" if other.name in profile.points else "settings", other.name).line
            raise node.error(f'address {point.address} is already "{other.name}" (line {line})')
        for hole in profile.holes:
            if _in_hole(point, hole):
                raise node.error(f"address {point.address} lies in the hole {hole.first} to {hole.last}")


def _in_hole(point: RegisterPoint, hole: Hole) -> bool:
    if point.companion is not None or point.function != hole.function:
        return False
    return any(first <= hole.last and first + count > hole.first for first, count in point.addresses())


def _check_operands(profile: Profile, derived: DerivedPoint, root: Node) -> None:
    known = _all_names(profile)
    names = [operand.point for operand in derived.operands]
    if derived.negative_when is not None:
        names.append(derived.negative_when.point)
    node = _node(root, "points", derived.name)
    for name in names:
        if name not in known:
            raise node.error(f'no point "{name}"; {did_you_mean(name, known)}')
    if _reaches(profile, derived.name, derived.name, set()):
        raise node.error("is computed from itself")


def _reaches(profile: Profile, start: str, goal: str, seen: set[str]) -> bool:
    """Whether computing `start` needs `goal`."""
    derived = profile.derived.get(start)
    if derived is None or start in seen:
        return False
    seen.add(start)
    names = [operand.point for operand in derived.operands]
    if derived.negative_when is not None:
        names.append(derived.negative_when.point)
    return goal in names or any(_reaches(profile, name, goal, seen) for name in names)
