"""What each family of devices is: its nameplate, its writable registers, and how it obeys them."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from simulator.layout.view import Identity
from simulator.physics.orders import Orders

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from fractions import Fraction

    from simulator.layout.settings import Ratings, Settings

type Obey = Callable[[Settings, Ratings], Orders]
type Defaults = Callable[[Ratings], Mapping[int, tuple[int, ...]]]


def _no_orders(_settings: Settings, _ratings: Ratings) -> Orders:
    return Orders()


def _no_defaults(_ratings: Ratings) -> Mapping[int, tuple[int, ...]]:
    return {}


@dataclass(frozen=True, slots=True)
class Family:
    """A family of devices.

    * `defaults`: the writable words from the factory, by first address
    * `obey`: turns what they hold into orders
    * `functions`: the function codes that an address takes, where not every one does
    * `hidden`: addresses that take writes but show something else, or nothing
    * `volatile`: addresses that a reboot resets
    * `mirrors`: the space and address that show what was written to another address
    * `sunspec`: the models of its SunSpec map, by companion ("" is the device itself)
    * `sunspec_lengths`: lengths of models that differ from the standard
    * `sunspec_export_positive`: its SunSpec meter counts export above 0 (the standard counts import)
    * `constants`: values of points that never change, by name, in their units
    * `battery_mv`: its battery's nominal voltage
    """

    identity: Identity = field(default_factory=Identity)
    defaults: Defaults = _no_defaults
    obey: Obey = _no_orders
    functions: Mapping[int, frozenset[int]] = field(default_factory=dict)
    hidden: frozenset[int] = frozenset()
    volatile: frozenset[int] = frozenset()
    mirrors: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    sunspec: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    sunspec_lengths: Mapping[int, int] = field(default_factory=dict)
    sunspec_export_positive: bool = False
    constants: Mapping[str, Fraction] = field(default_factory=dict)
    battery_mv: int = 400_000
