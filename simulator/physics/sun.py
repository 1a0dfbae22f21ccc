"""Where the sun stands, what the clouds let through, and what a photovoltaic array makes of it."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from simulator.physics.noise import value_noise

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Site:
    """Where the home stands: latitude and longitude in microdegrees, north and east positive."""

    latitude_udeg: int = 52_520_000
    longitude_udeg: int = 13_405_000


@dataclass(frozen=True, slots=True)
class PvArray:
    """A photovoltaic array.

    `peak_w` is its DC power at 1000 W/m²; `tilt_deg` is measured from the horizontal, `azimuth_deg`
    clockwise from north; `performance_permille` covers temperature, wiring and dirt;
    `cloud_cover_permille` is the mean cover around which the seeded weather moves.
    """

    peak_w: int = 9_000
    tilt_deg: int = 35
    azimuth_deg: int = 180
    performance_permille: int = 850
    cloud_cover_permille: int = 750


@dataclass(frozen=True, slots=True)
class SunPosition:
    """The sun's elevation above the horizon and its azimuth clockwise from north, both in radians."""

    elevation_rad: float
    azimuth_rad: float


def sun_position(time_s: int, site: Site) -> SunPosition:
    """Return where the sun stands at a UTC time (Cooper 1969 declination, Spencer 1971 equation of time)."""
    day = datetime.fromtimestamp(time_s, UTC).timetuple().tm_yday
    angle = math.tau * (day - 1) / 365.0
    equation_s = (
        60.0
        * 229.18
        * (
            0.000075
            + 0.001868 * math.cos(angle)
            - 0.032077 * math.sin(angle)
            - 0.014615 * math.cos(2 * angle)
            - 0.040849 * math.sin(2 * angle)
        )
    )
    declination = math.radians(23.45) * math.sin(math.tau * (284 + day) / 365.0)
    latitude = math.radians(site.latitude_udeg / 1e6)
    solar_s = (time_s % _DAY_S) + site.longitude_udeg / 1e6 * 240.0 + equation_s
    hour_angle = math.tau * (solar_s / _DAY_S - 0.5)
    sine = math.sin(latitude) * math.sin(declination) + math.cos(latitude) * math.cos(declination) * math.cos(
        hour_angle
    )
    azimuth = math.pi + math.atan2(
        math.sin(hour_angle),
        math.cos(hour_angle) * math.sin(latitude) - math.tan(declination) * math.cos(latitude),
    )
    return SunPosition(math.asin(max(-1.0, min(1.0, sine))), azimuth % math.tau)


def clear_sky_irradiance(position: SunPosition, array: PvArray) -> float:
    """Return W/m² on the array's plane under a clear sky (Meinel 1976; air mass of Kasten and Young 1989)."""
    elevation_deg = math.degrees(position.elevation_rad)
    if elevation_deg <= 0.0:
        return 0.0
    air_mass = 1.0 / (math.sin(position.elevation_rad) + 0.50572 * math.pow(elevation_deg + 6.07995, -1.6364))
    beam = 1353.0 * math.pow(0.7, math.pow(air_mass, 0.678))
    tilt = math.radians(array.tilt_deg)
    cos_incidence = math.sin(position.elevation_rad) * math.cos(tilt) + math.cos(
        position.elevation_rad
    ) * math.sin(tilt) * math.cos(position.azimuth_rad - math.radians(array.azimuth_deg))
    diffuse = 0.1 * beam * (1.0 + math.cos(tilt)) / 2.0
    return beam * max(0.0, cos_incidence) + diffuse


def cloud_transmission(seed: int, time_s: int, cover_permille: int) -> float:
    """Return the share of irradiance that passes the clouds (Kasten and Czeplak 1980: 1 - 0.75 c^3.4)."""
    weather = value_noise(seed, time_s, 6 * 3600)
    field = value_noise(seed, time_s, 1200)
    passing = value_noise(seed, time_s, 120)
    swing = 0.9 * (weather - 0.5) + 0.5 * (field - 0.5) + 0.3 * (passing - 0.5)
    cover = cover_permille / 1000.0
    # A clear or an overcast sky stays so; in between, the weather moves the cover both ways.
    cover = max(0.0, min(1.0, cover + swing * min(1.0, 4.0 * cover * (1.0 - cover))))
    return 1.0 - 0.75 * math.pow(cover, 3.4)


def pv_power_w(time_s: int, seed: int, site: Site, array: PvArray) -> int:
    """Return the DC power in W that the array can give at a UTC time; 0 at night."""
    irradiance = clear_sky_irradiance(sun_position(time_s, site), array)
    if irradiance <= 0.0:
        return 0
    irradiance *= cloud_transmission(seed, time_s, array.cloud_cover_permille)
    return int(array.peak_w * array.performance_permille * irradiance / 1e6)
