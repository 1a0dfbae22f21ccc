"""The notation for places in a SunSpec map: `124.ChaState`, `160[StDisCha].DCW`, `20x@2.W`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .points import SunSpecReference

if TYPE_CHECKING:
    from .tree import Node

_REFERENCE: Final = re.compile(
    r"(?P<models>[0-9x|]+)(@(?P<instance>[1-9][0-9]?))?(\[(?P<module>[^\]]+)\])?\.(?P<point>[A-Za-z_][A-Za-z0-9_]*)"
)
_FAMILIES: Final = {
    "10x": (101, 102, 103),
    "11x": (111, 112, 113),
    "20x": (201, 202, 203, 204),
    "21x": (211, 212, 213, 214),
}


def parse_reference(node: Node) -> SunSpecReference:
    """Read a reference; of several models, the one that comes first in the device's map is used.

    `10x`, `11x`, `20x` and `21x` stand for the inverter and meter families; `|` separates alternatives; `@2`
    is the second model of that kind; `[StDisCha]` or `[MPPT*]` selects modules by name, `[#1]` by number.
    """
    match = _REFERENCE.fullmatch(node.text())
    if match is None:
        raise node.error(f'"{node.text()}" is no SunSpec point; right would be such as 124.ChaState')
    models: list[int] = []
    for word in match["models"].split("|"):
        if word in _FAMILIES:
            models.extend(_FAMILIES[word])
        elif word.isdigit() and 0 < int(word) < 0xFFFF:
            models.append(int(word))
        else:
            known = ", ".join(_FAMILIES)
            raise node.error(f'"{word}" is no SunSpec model; right would be a number or one of {known}')
    instance = int(match["instance"] or 1)
    return SunSpecReference(
        models=tuple(models), point=match["point"], instance=instance, module=match["module"]
    )
