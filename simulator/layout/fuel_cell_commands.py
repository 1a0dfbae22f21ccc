"""How fuel cells obey their control registers. Addresses are 0-based wire addresses."""

from typing import TYPE_CHECKING

from simulator.layout.settings import words_of
from simulator.physics.orders import FuelCellOrder, Orders

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from simulator.layout.settings import Ratings, Settings

type Defaults = Mapping[int, tuple[int, ...]]

# SFC EFOY Hydrogen: starts by itself when its DC bus falls below the low limit, and no power can be set.
_EFOY_LOW, _EFOY_HIGH, _EFOY_STOP = 400, 402, 451
_EFOY_LOW_MV, _EFOY_HIGH_MV = 47_000, 52_000

_EFOY_PRO_REMOTE, _EFOY_PRO_HEARTBEAT, _EFOY_PRO_HEARTBEAT_S = 1029, 2003, 15
_CUMMINS_WORD, _CUMMINS_KW = 14_500, 14_501
_FIELDBUS_CONTROL, _RUN = 1 << 15, 1


def efoy_defaults(kind: str) -> Callable[[Ratings], Defaults]:
    """Start limits of 47 V and 52 V as integers ("s32") or floats ("f32"), external stop off."""

    def defaults(_ratings: Ratings) -> Defaults:
        return {
            _EFOY_LOW: (*words_of(kind, _EFOY_LOW_MV), *words_of(kind, _EFOY_HIGH_MV)),
            _EFOY_STOP: (0,),
        }

    return defaults


def obey_efoy(kind: str) -> Callable[[Settings, Ratings], Orders]:
    """Run below the low start limit until the high one, unless the external stop is on."""

    def obey(settings: Settings, ratings: Ratings) -> Orders:
        low, high = settings.watts(kind, _EFOY_LOW), settings.watts(kind, _EFOY_HIGH)
        run = ratings.bus_mv < low or (ratings.fuel_cell_running and ratings.bus_mv < high)
        return Orders(fuel_cell=FuelCellOrder(run=run and settings.u16(_EFOY_STOP) == 0))

    return obey


def cummins_defaults(_ratings: Ratings) -> Defaults:
    """Local control, no power."""
    return {_CUMMINS_WORD: (0, 0), 14_111: (0,)}


def obey_cummins(settings: Settings, _ratings: Ratings) -> Orders:
    """Run at the power in kW while the fieldbus has control and the run bit is set; else stand by."""
    word = settings.u16(_CUMMINS_WORD)
    if not word & _FIELDBUS_CONTROL:
        return Orders(fuel_cell=FuelCellOrder(run=False))
    power = max(0, settings.s16(_CUMMINS_KW)) * 1000
    return Orders(fuel_cell=FuelCellOrder(run=bool(word & _RUN) and power > 0, power_w=power))


def obey_efoy_pro(settings: Settings, _ratings: Ratings) -> Orders:
    """Run while remote start is on and the hybrid heartbeat is fresh."""
    alive = settings.age(_EFOY_PRO_HEARTBEAT) < _EFOY_PRO_HEARTBEAT_S
    return Orders(fuel_cell=FuelCellOrder(run=alive and settings.u16(_EFOY_PRO_REMOTE) == 1))


def switch_defaults(address: int) -> Callable[[Ratings], Defaults]:
    """Return the defaults of a single on/off register."""

    def defaults(_ratings: Ratings) -> Defaults:
        return {address: (0,)}

    return defaults


def obey_switch(address: int) -> Callable[[Settings, Ratings], Orders]:
    """Run while a register is 1."""

    def obey(settings: Settings, _ratings: Ratings) -> Orders:
        return Orders(fuel_cell=FuelCellOrder(run=settings.u16(address) == 1))

    return obey
