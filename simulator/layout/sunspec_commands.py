"""How SunSpec devices obey models 123, 124 and 704, with their revert timers.

Source: model definitions of the SunSpec Alliance and, for negative rates of model 124, Fronius' use of them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulator.layout.words import encode_number
from simulator.physics.orders import BatteryOrder, Orders

if TYPE_CHECKING:
    from collections.abc import Mapping

    from simulator.layout.settings import Ratings, Settings
    from simulator.layout.sunspec_layout import Model, SunSpecMap

_PERCENT_SCALE = {123: 10, 124: 100, 704: 10}  # raw units a percent, by the scale factors of the layout
_SIZES = {
    "int16": "s16",
    "int32": "s32",
    "uint16": "u16",
    "uint32": "u32",
    "enum16": "u16",
    "bitfield16": "u16",
}

# Writable points and their values from the factory, in raw units.
_FACTORY: Mapping[int, Mapping[str, int]] = {
    123: {
        "Conn_WinTms": 0, "Conn_RvrtTms": 0, "Conn": 1, "WMaxLimPct": 1000, "WMaxLimPct_WinTms": 0,
        "WMaxLimPct_RvrtTms": 0, "WMaxLimPct_RmpTms": 0, "WMaxLim_Ena": 0, "OutPFSet": 100,
        "OutPFSet_WinTms": 0, "OutPFSet_RvrtTms": 0, "OutPFSet_RmpTms": 0, "OutPFSet_Ena": 0,
        "VArWMaxPct": 0,
        "VArPct_WinTms": 0, "VArPct_RvrtTms": 0, "VArPct_RmpTms": 0, "VArPct_Mod": 1, "VArPct_Ena": 0,
    },
    124: {
        "StorCtl_Mod": 0, "MinRsvPct": 500, "OutWRte": 10_000, "InWRte": 10_000, "InOutWRte_WinTms": 0,
        "InOutWRte_RvrtTms": 0, "InOutWRte_RmpTms": 0, "ChaGriSet": 0,
    },
    704: {
        "WMaxLimPctEna": 0, "WMaxLimPct": 1000, "WMaxLimPctRvrt": 1000, "WMaxLimPctEnaRvrt": 0,
        "WMaxLimPctRvrtTms": 0, "WSetEna": 0, "WSetMod": 1, "WSet": 0, "WSetRvrt": 0, "WSetPct": 0,
        "WSetPctRvrt": 0, "WSetEnaRvrt": 0, "WSetRvrtTms": 0,
    },
}  # fmt: skip
# Counting down, shown and not written.
_COUNTDOWNS = {
    "WMaxLimPctRvrtRem": ("WMaxLimPctEna", "WMaxLimPctRvrtTms"),
    "WSetRvrtRem": ("WSetEna", "WSetRvrtTms"),
}


@dataclass(frozen=True, slots=True)
class _Controls:
    """A control model of a device together with what was written to it."""

    model: Model
    settings: Settings

    def get(self, path: str) -> int:
        place = self.model.places[path]
        return int(self.settings.number(_SIZES[place.type], self.model.address_of(path)))

    def put(self, path: str, value: int) -> None:
        place = self.model.places[path]
        self.settings.put(self.model.address_of(path), *encode_number(_SIZES[place.type], value))

    def age(self, *paths: str) -> float:
        return self.settings.age(*(self.model.address_of(path) for path in paths))


def sunspec_defaults(sunspec: SunSpecMap) -> Mapping[int, tuple[int, ...]]:
    """Return the writable words of a map's control models, by address."""
    words: dict[int, tuple[int, ...]] = {}
    for number, factory in _FACTORY.items():
        if sunspec.has(number):
            model = sunspec.model(number)
            for path, value in factory.items():
                kind = _SIZES[model.places[path].type]
                words[model.address_of(path)] = encode_number(kind, value)
    return words


def obey_sunspec(sunspec: SunSpecMap, settings: Settings, ratings: Ratings) -> Orders:
    """Return the orders in force, after the revert timers that have run out were obeyed."""
    orders = Orders()
    for number, obey in ((123, _obey_123), (124, _obey_124), (704, _obey_704)):
        if sunspec.has(number):
            orders = orders.combined(obey(_Controls(sunspec.model(number), settings), ratings))
    return orders


def countdowns(sunspec: SunSpecMap, settings: Settings) -> Mapping[str, int]:
    """Return the seconds left on model 704's revert timers, by path; nothing without the model."""
    if not sunspec.has(704):
        return {}
    controls = _Controls(sunspec.model(704), settings)
    left = {}
    for path, (enable, seconds) in _COUNTDOWNS.items():
        running = controls.get(enable) and controls.get(seconds)
        left[path] = max(0, int(controls.get(seconds) - controls.age(*_timed(enable)))) if running else 0
    return left


def _timed(enable: str) -> tuple[str, ...]:
    """Return the points of model 704 whose writing starts an enable's timer anew."""
    if enable == "WSetEna":
        return ("WSetEna", "WSet", "WSetRvrtTms")
    return ("WMaxLimPctEna", "WMaxLimPct", "WMaxLimPctRvrtTms")


def _obey_123(controls: _Controls, ratings: Ratings) -> Orders:
    """Connection and the output limit as a share of the rating, each with its revert time."""
    seconds = controls.get("Conn_RvrtTms")
    if not controls.get("Conn") and seconds and controls.age("Conn", "Conn_RvrtTms") >= seconds:
        controls.put("Conn", 1)
    seconds = controls.get("WMaxLimPct_RvrtTms")
    age = controls.age("WMaxLimPct", "WMaxLim_Ena", "WMaxLimPct_RvrtTms")
    if controls.get("WMaxLim_Ena") and seconds and age >= seconds:
        controls.put("WMaxLim_Ena", 0)
    limit = None
    if controls.get("WMaxLim_Ena"):
        limit = ratings.rated_w * controls.get("WMaxLimPct") // (100 * _PERCENT_SCALE[123])
    return Orders(production_limit_w=limit, connected=controls.get("Conn") == 1)


def _obey_124(controls: _Controls, ratings: Ratings) -> Orders:
    """Charge and discharge rates as shares of WChaMax; a negative rate forces the other direction."""
    seconds = controls.get("InOutWRte_RvrtTms")
    age = controls.age("StorCtl_Mod", "OutWRte", "InWRte", "InOutWRte_RvrtTms")
    if controls.get("StorCtl_Mod") and seconds and age >= seconds:
        controls.put("StorCtl_Mod", 0)
    mode = controls.get("StorCtl_Mod")
    whole = max(ratings.max_charge_w, ratings.max_discharge_w)
    per_mille = 100 * _PERCENT_SCALE[124]
    if not mode & 3:
        return Orders()
    charge_w = whole * controls.get("InWRte") // per_mille if mode & 1 else None
    discharge_w = whole * controls.get("OutWRte") // per_mille if mode & 2 else None
    forced_w = max(0, -discharge_w) if discharge_w is not None else 0
    return Orders(
        battery=BatteryOrder(
            min_charge_w=forced_w,
            max_charge_w=None if charge_w is None else max(0, charge_w),
            min_discharge_w=max(0, -charge_w) if charge_w is not None else 0,
            max_discharge_w=None if discharge_w is None else max(0, discharge_w),
            # A forced charge takes from the grid only where that is allowed.
            from_grid=not forced_w or controls.get("ChaGriSet") == 1,
        )
    )


def _obey_704(controls: _Controls, ratings: Ratings) -> Orders:
    """The output limit and the active power set point: generate above 0, absorb below."""
    for enable, value, revert_value, revert_enable, timer in (
        ("WSetEna", "WSet", "WSetRvrt", "WSetEnaRvrt", "WSetRvrtTms"),
        ("WMaxLimPctEna", "WMaxLimPct", "WMaxLimPctRvrt", "WMaxLimPctEnaRvrt", "WMaxLimPctRvrtTms"),
    ):
        seconds = controls.get(timer)
        if controls.get(enable) and seconds and controls.age(*_timed(enable)) >= seconds:
            controls.put(enable, controls.get(revert_enable))
            controls.put(value, controls.get(revert_value))
            controls.put(timer, 0)
    limit = None
    if controls.get("WMaxLimPctEna"):
        limit = ratings.rated_w * controls.get("WMaxLimPct") // (100 * _PERCENT_SCALE[704])
    battery = BatteryOrder()
    if controls.get("WSetEna"):
        if controls.get("WSetMod") == 1:
            power = controls.get("WSet")
        else:
            power = ratings.rated_w * controls.get("WSetPct") // (100 * _PERCENT_SCALE[704])
        battery = BatteryOrder(output_w=max(0, power), absorb_w=max(0, -power))
        limit = max(0, power) if limit is None else min(limit, max(0, power))
    return Orders(battery=battery, production_limit_w=limit)
