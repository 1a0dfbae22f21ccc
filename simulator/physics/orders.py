"""What a home's devices have been told to do, in watts positive in the direction that each field names."""

from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True, slots=True)
class BatteryOrder:
    """A window for the battery's power; the home's own control chooses within it.

    `min_*` above 0 forces that direction, `max_*` 0 forbids it, None is the battery's own limit.
    `import_target_w` and `export_target_w` replace the aim of an empty grid connection.
    `output_w` (or `absorb_w`) is the inverter's AC power to hold instead, whatever the household draws.
    `from_grid` allows charging from the grid (a forced charge beyond the sun needs it).
    `to_grid` False keeps a discharge to what the household draws.
    """

    min_charge_w: int = 0
    max_charge_w: int | None = None
    min_discharge_w: int = 0
    max_discharge_w: int | None = None
    import_target_w: int = 0
    export_target_w: int = 0
    output_w: int | None = None
    absorb_w: int | None = None
    from_grid: bool = True
    to_grid: bool = True

    @classmethod
    def charge(cls, power_w: int, *, from_grid: bool = True) -> Self:
        """Order a charge at a power in W."""
        return cls(min_charge_w=power_w, max_charge_w=power_w, max_discharge_w=0, from_grid=from_grid)

    @classmethod
    def discharge(cls, power_w: int, *, to_grid: bool = True) -> Self:
        """Order a discharge at a power in W."""
        return cls(min_discharge_w=power_w, max_discharge_w=power_w, max_charge_w=0, to_grid=to_grid)

    @classmethod
    def hold(cls) -> Self:
        """Order the battery to stay idle."""
        return cls(max_charge_w=0, max_discharge_w=0)


@dataclass(frozen=True, slots=True)
class FuelCellOrder:
    """Whether the fuel cell runs (None: its own rule decides) and its power in W (None: rated)."""

    run: bool | None = None
    power_w: int | None = None


@dataclass(frozen=True, slots=True)
class Orders:
    """Everything in force; the default is a home left to itself.

    `production_limit_w` caps the inverter's AC output, `export_limit_w` the power fed into the grid.
    `connected` False takes the inverter off the grid side: it neither gives nor takes AC power.
    """

    battery: BatteryOrder = field(default_factory=BatteryOrder)
    fuel_cell: FuelCellOrder = field(default_factory=FuelCellOrder)
    production_limit_w: int | None = None
    export_limit_w: int | None = None
    connected: bool = True

    def combined(self, other: Self) -> Self:
        """Return these orders with another device's put on top; the tighter of two limits holds."""
        idle = type(self)()
        return type(self)(
            battery=self.battery if other.battery == idle.battery else other.battery,
            fuel_cell=self.fuel_cell if other.fuel_cell == idle.fuel_cell else other.fuel_cell,
            production_limit_w=_tighter(self.production_limit_w, other.production_limit_w),
            export_limit_w=_tighter(self.export_limit_w, other.export_limit_w),
            connected=self.connected and other.connected,
        )


def _tighter(one: int | None, other: int | None) -> int | None:
    limits = [limit for limit in (one, other) if limit is not None]
    return min(limits) if limits else None
