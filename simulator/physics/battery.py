"""A battery: power limits, losses and a state of charge, in whole joules."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BatterySpec:
    """What a battery can do.

    `capacity_wh` between empty and full; `max_charge_w` and `max_discharge_w` at its terminals; losses on
    the way in and out in per mille of efficiency; `standby_w` drawn from the store all the time; discharge
    ends at `min_soc_permille`; charging tapers to a tenth between `taper_soc_permille` and full.
    """

    capacity_wh: int = 10_240
    max_charge_w: int = 5_000
    max_discharge_w: int = 5_000
    charge_efficiency_permille: int = 975
    discharge_efficiency_permille: int = 975
    standby_w: int = 5
    min_soc_permille: int = 50
    taper_soc_permille: int = 950

    @property
    def capacity_j(self) -> int:
        """Capacity in joules."""
        return self.capacity_wh * 3600


@dataclass(slots=True)
class Battery:
    """A battery and what it has done: `charged_j - discharged_j == stored now - stored first + lost_j`."""

    spec: BatterySpec = field(default_factory=BatterySpec)
    stored_j: int = 0
    charged_j: int = 0
    discharged_j: int = 0
    lost_j: int = 0

    @property
    def soc_permille(self) -> int:
        """State of charge in per mille, rounded down."""
        return self.stored_j * 1000 // self.spec.capacity_j

    @property
    def stored_wh(self) -> int:
        """Energy in the store in Wh, rounded down."""
        return self.stored_j // 3600

    @property
    def available_wh(self) -> int:
        """Energy in Wh above the lowest state of charge, rounded down; what can still be taken out."""
        return max(0, self.stored_j - self._floor_j) // 3600

    @property
    def _floor_j(self) -> int:
        return self.spec.capacity_j * self.spec.min_soc_permille // 1000

    def charge_limit_w(self, step_s: int) -> int:
        """Return the highest charging power in W that the battery can take for a whole step."""
        spec = self.spec
        limit = spec.max_charge_w
        span = 1000 - spec.taper_soc_permille
        above = self.soc_permille - spec.taper_soc_permille
        if span > 0 and above > 0:
            limit = max(limit // 10, limit * (span - above) // span)
        room_j = spec.capacity_j - self.stored_j
        # The largest power whose energy, after the loss, rounds down to no more than the room left.
        fits = ((room_j + 1) * 1000 - 1) // (step_s * spec.charge_efficiency_permille)
        return max(0, min(limit, fits)) if room_j > 0 else 0

    def discharge_limit_w(self, step_s: int) -> int:
        """Return the highest discharging power in W that the battery can give for a whole step."""
        spare_j = self.stored_j - self._floor_j
        if spare_j <= 0:
            return 0
        return min(
            self.spec.max_discharge_w, spare_j * self.spec.discharge_efficiency_permille // 1000 // step_s
        )

    def step(self, charge_w: int, discharge_w: int, step_s: int) -> None:
        """Charge or discharge at a power in W for a step.

        Raises ValueError for a negative power, for both at once, and beyond the limits.
        """
        if min(charge_w, discharge_w) < 0 or (charge_w and discharge_w):
            raise ValueError(f"a battery either charges or discharges, not {charge_w} W and {discharge_w} W")
        if charge_w > self.charge_limit_w(step_s) or discharge_w > self.discharge_limit_w(step_s):
            raise ValueError(
                f"{charge_w} W in or {discharge_w} W out is more than the battery takes "
                f"({self.charge_limit_w(step_s)} W) or gives ({self.discharge_limit_w(step_s)} W)"
            )
        into_j = charge_w * step_s
        kept_j = into_j * self.spec.charge_efficiency_permille // 1000
        out_j = discharge_w * step_s
        taken_j = -(-out_j * 1000 // self.spec.discharge_efficiency_permille)
        standby_j = min(self.spec.standby_w * step_s, self.stored_j + kept_j - taken_j)
        self.stored_j += kept_j - taken_j - standby_j
        self.charged_j += into_j
        self.discharged_j += out_j
        self.lost_j += (into_j - kept_j) + (taken_j - out_j) + standby_j
