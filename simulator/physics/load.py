"""What the household draws: a daily shape, its seasons and weekends, and appliances that come and go."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from simulator.physics.noise import uniform, value_noise

# Power by hour of the local day in per mille of the mean: the two humps of a household's standard
# load profile (morning and evening). Sums to 24 000.
_HOUR_SHAPE = (
    620, 540, 500, 490, 510, 620, 900, 1150, 1120, 1040, 1010, 1080,
    1220, 1130, 980, 940, 1010, 1250, 1560, 1620, 1480, 1310, 1060, 860,
)  # fmt: skip
_APPLIANCE_WINDOW_S = 900
# power W, length s, chance per window: kettle, oven, washing, iron
_APPLIANCES = ((2000, 180, 0.10), (2400, 900, 0.03), (1800, 600, 0.04), (1200, 420, 0.02))
# The share of the mean that appliances make, so that the base can be lowered by it.
_APPLIANCE_MEAN_W = sum(p * s * c for p, s, c in _APPLIANCES) / _APPLIANCE_WINDOW_S


@dataclass(frozen=True, slots=True)
class LoadProfile:
    """A household: `annual_kwh` in all, never below `standby_w`, its clock `utc_offset_s` ahead of UTC."""

    annual_kwh: int = 4_000
    standby_w: int = 90
    utc_offset_s: int = 3_600


def _appliances_w(seed: int, local_s: int, activity: float) -> int:
    """Return the power of the appliances running now; each starts at a random second of its window."""
    total = 0
    window, offset = divmod(local_s, _APPLIANCE_WINDOW_S)
    for kind, (power_w, length_s, chance) in enumerate(_APPLIANCES):
        if uniform(seed, 11, kind, window) >= chance * activity:
            continue
        latest = _APPLIANCE_WINDOW_S - length_s
        start = int(uniform(seed, 12, kind, window) * (latest + 1))
        if start <= offset < start + length_s:
            total += power_w
    return total


def load_power_w(time_s: int, seed: int, profile: LoadProfile) -> int:
    """Return the household's power in W at a UTC time."""
    local_s = time_s + profile.utc_offset_s
    moment = datetime.fromtimestamp(local_s, UTC)
    minute = moment.minute + moment.second / 60.0
    here, following = _HOUR_SHAPE[moment.hour], _HOUR_SHAPE[(moment.hour + 1) % 24]
    shape = (here + (following - here) * minute / 60.0) / 1000.0
    season = 1.0 + 0.15 * math.cos(math.tau * (moment.timetuple().tm_yday - 15) / 365.0)
    weekend = 1.08 if moment.weekday() >= 5 else 0.97
    mean_w = profile.annual_kwh * 1000 / 8760.0
    # Small homes run fewer appliances: never let them make more than 40 % of the mean.
    activity = min(1.0, 0.4 * mean_w / _APPLIANCE_MEAN_W)
    base_w = (mean_w - activity * _APPLIANCE_MEAN_W) * shape * season * weekend
    base_w *= 0.8 + 0.4 * value_noise(seed, time_s, 300)
    return max(profile.standby_w, int(base_w)) + _appliances_w(seed, local_s, activity * shape)
