"""Physical units that a profile may name, and exact conversion between units of one dimension."""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class Unit(StrEnum):
    """Unit of a decoded value. `NONE` is a plain number, a code or a text."""

    NONE = ""
    W = "W"
    KW = "kW"
    VA = "VA"
    VAR = "var"
    WH = "Wh"
    KWH = "kWh"
    V = "V"
    MV = "mV"
    A = "A"
    MA = "mA"
    AH = "Ah"
    HZ = "Hz"
    PER_MILLE = "‰"
    PERCENT = "%"
    CELSIUS = "°C"
    PASCAL = "Pa"
    MBAR = "mbar"
    BAR = "bar"
    MPA = "MPa"
    G = "g"
    KG = "kg"
    LITRE = "l"
    LITRE_PER_MINUTE = "l/min"
    SECOND = "s"
    MINUTE = "min"
    HOUR = "h"


# unit -> (dimension, how many of the dimension's first unit one of it is)
_DIMENSIONS: Final[Mapping[Unit, tuple[str, Fraction]]] = MappingProxyType(
    {
        Unit.NONE: ("number", Fraction(1)),
        Unit.W: ("power", Fraction(1)),
        Unit.KW: ("power", Fraction(1000)),
        Unit.VA: ("apparent power", Fraction(1)),
        Unit.VAR: ("reactive power", Fraction(1)),
        Unit.WH: ("energy", Fraction(1)),
        Unit.KWH: ("energy", Fraction(1000)),
        Unit.V: ("voltage", Fraction(1)),
        Unit.MV: ("voltage", Fraction(1, 1000)),
        Unit.A: ("current", Fraction(1)),
        Unit.MA: ("current", Fraction(1, 1000)),
        Unit.AH: ("charge", Fraction(1)),
        Unit.HZ: ("frequency", Fraction(1)),
        Unit.PER_MILLE: ("ratio", Fraction(1)),
        Unit.PERCENT: ("ratio", Fraction(10)),
        Unit.CELSIUS: ("temperature", Fraction(1)),
        Unit.PASCAL: ("pressure", Fraction(1)),
        Unit.MBAR: ("pressure", Fraction(100)),
        Unit.BAR: ("pressure", Fraction(100_000)),
        Unit.MPA: ("pressure", Fraction(1_000_000)),
        Unit.G: ("mass", Fraction(1)),
        Unit.KG: ("mass", Fraction(1000)),
        Unit.LITRE: ("volume", Fraction(1)),
        Unit.LITRE_PER_MINUTE: ("flow", Fraction(1)),
        Unit.SECOND: ("time", Fraction(1)),
        Unit.MINUTE: ("time", Fraction(60)),
        Unit.HOUR: ("time", Fraction(3600)),
    }
)


def dimension(unit: Unit) -> str:
    """Name of the physical dimension of `unit`, in plain words ("power", "energy", …)."""
    return _DIMENSIONS[unit][0]


def convertible(unit: Unit, target: Unit) -> bool:
    """Whether a value in `unit` can be expressed in `target`."""
    return dimension(unit) == dimension(target)


def convert(value: Fraction, unit: Unit, target: Unit) -> Fraction:
    """Express `value` in `target` instead of `unit`, exactly.

    Raises ValueError when the two units measure different things.
    """
    if not convertible(unit, target):
        raise ValueError(
            f"{unit or 'a plain number'} is {dimension(unit)} and can't be expressed in "
            f"{target or 'a plain number'}, which is {dimension(target)}"
        )
    return value * _DIMENSIONS[unit][1] / _DIMENSIONS[target][1]
