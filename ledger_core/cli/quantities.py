"""Quantities, money, prices, times and places as people write and read them; exact in both directions.

Nothing but a place is rounded: what does not come out in whole W, Wh, micro-currency or seconds is refused.
"""

import re
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final

from ledger_core.cli.usage import UsageError
from ledger_core.records.types import Location
from ledger_core.units import MICRO

MICRO_DEGREES: Final = 1_000_000
"""Microdegrees in a degree."""
_MAX_NUMBER: Final = 40
"""Characters of a number: far more than any needs, and soon computed."""
_NUMBER: Final = r"[0-9]+(?:\.[0-9]+)?"
_WITH_UNIT: Final = re.compile(rf"({_NUMBER})\s*([A-Za-z]*)")
_ENERGY: Final = {"wh": 1, "kwh": 1000, "mwh": 1_000_000, "": 1000}
_POWER: Final = {"w": 1, "kw": 1000, "mw": 1_000_000, "": 1000}
_DURATION: Final = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_CLOCK: Final = re.compile(r"(?:(today|tomorrow) +)?([0-9]{1,2}):([0-9]{2})")


def energy(text: str, name: str) -> int:
    """Return Wh; `4`, `4 kWh` and `4000 Wh` are the same. Raises UsageError that names the option."""
    return _scaled(text, name, _ENERGY, "an energy such as 4.5, 4.5kWh or 4500Wh")


def power(text: str, name: str) -> int:
    """Return W; `2`, `2 kW` and `2000 W` are the same."""
    return _scaled(text, name, _POWER, "a power such as 2.5, 2.5kW or 2500W")


def duration(text: str, name: str) -> int:
    """Return seconds; `90min`, `1.5h`, `7d`, `2w`."""
    return _scaled(text, name, _DURATION, "a time span such as 90min, 1.5h, 7d or 2w")


def money(text: str, name: str) -> int:
    """Return micro-currency; up to six decimals."""
    if not re.fullmatch(_NUMBER, text):
        raise UsageError(f"{name}: {text!a} is not an amount such as 12.50")
    return _whole(text, MICRO, name, text, "at most six decimals are possible")


def _scaled(text: str, name: str, units: dict[str, int], what: str) -> int:
    found = _WITH_UNIT.fullmatch(text.strip())
    unit = None if found is None else units.get(found[2].lower())
    if found is None or unit is None:
        raise UsageError(f"{name}: {text!a} is not {what}")
    return _whole(found[1], unit, name, text, "it does not come out whole in the smallest unit")


def _whole(number: str, unit: int, name: str, text: str, why: str) -> int:
    if len(number) > _MAX_NUMBER:
        raise UsageError(f"{name}: {text[:_MAX_NUMBER]!a} is too long for a number")
    # Decimals would round what has more digits than their precision.
    value = Fraction(number) * unit
    if value.denominator != 1:
        raise UsageError(f"{name}: {text!a} is too fine: {why}")
    return value.numerator


def moment(text: str, name: str, now: int | None = None) -> int:
    """Return UTC seconds of a time as people write it, in this computer's time zone.

    `now`, `+90min`, `14:00` (the next one), `today 14:00`, `tomorrow 14:00`, `2026-11-22 14:00`, or with an
    offset: `2026-11-22T14:00+01:00`.
    """
    seconds = int(time.time()) if now is None else now
    text = text.strip()
    if text == "now":
        return seconds
    if text.startswith("+"):
        return seconds + duration(text[1:], name)
    clock = _CLOCK.fullmatch(text)
    try:
        if clock is not None:
            return _clock_time(clock, seconds)
        return _instant(datetime.fromisoformat(text))
    except (ValueError, OverflowError, OSError) as error:
        reason = f" ({error})" if isinstance(error, _UnclearTimeError) else ""
        raise UsageError(
            f"{name}: {text!a} is not a time such as 14:00, 'tomorrow 14:00', '2026-11-22 14:00', "
            f"2026-11-22T14:00+01:00 or +90min{reason}"
        ) from error


def past_moment(text: str, name: str, now: int | None = None) -> int:
    """Return UTC seconds of a time that has been: as `moment`, or a span such as `2d` for so long ago."""
    found = _WITH_UNIT.fullmatch(text.strip())
    if found is None or found[2].lower() not in _DURATION:
        return moment(text, name, now)
    return (int(time.time()) if now is None else now) - duration(text, name)


class _UnclearTimeError(ValueError):
    """A local time that there is twice or not at all."""


def _clock_time(clock: re.Match[str], now: int) -> int:
    local = datetime.fromtimestamp(now)  # noqa: DTZ006 - as the clock on the wall shows it
    today = local.replace(hour=int(clock[2]), minute=int(clock[3]), second=0)
    tomorrow = today + timedelta(days=1)
    if clock[1] is not None:
        return _instant(today if clock[1] == "today" else tomorrow)
    found = _instant(today)
    return found if found > now else _instant(tomorrow)


def _instant(when: datetime) -> int:
    if when.microsecond:
        raise _UnclearTimeError("only whole seconds are possible")
    if when.tzinfo is None:
        early, late = when.replace(fold=0).astimezone(), when.replace(fold=1).astimezone()
        if early.utcoffset() != late.utcoffset():
            what = "comes twice" if early < late else "does not come"
            raise _UnclearTimeError(f"the clocks change and this time {what}: write the offset as well")
        when = early
    seconds = int(when.timestamp())
    if seconds < 0:
        raise _UnclearTimeError("it lies before 1970")
    return seconds


def location_at(latitude: float, longitude: float) -> Location:
    """Return a place given in degrees; raises ValueError or OverflowError for what is no number."""
    return Location(round(latitude * MICRO_DEGREES), round(longitude * MICRO_DEGREES))


def show_energy(watt_hours: int | None) -> str:
    """Return an energy in kWh."""
    return "-" if watt_hours is None else f"{_plain(Decimal(watt_hours) / 1000)} kWh"


def show_power(watts: int) -> str:
    """Return a power in kW."""
    return f"{_plain(Decimal(watts) / 1000)} kW"


def show_quantity(quantity: int, basis: str) -> str:
    """Return what an offer counts: kWh, or kW of capacity."""
    return show_power(quantity) if basis == "capacity" else show_energy(quantity)


def show_money(micro: int, currency: str) -> str:
    """Return an amount with at least two decimals, and all that it has."""
    return f"{_decimals(micro)} {currency}"


def show_amount(micro: int) -> str:
    """Return an amount or a price where its currency is not known."""
    return _decimals(micro)


def show_price(micro: int, currency: str, basis: str) -> str:
    """Return a price per kWh, or per kW and hour of capacity."""
    return f"{_decimals(micro)} {currency}/{'kW h' if basis == 'capacity' else 'kWh'}"


def show_time(seconds: int) -> str:
    """Return a time in this computer's time zone, to the minute; with seconds where it has some."""
    try:
        local = datetime.fromtimestamp(seconds, UTC).astimezone()
    except ValueError, OverflowError, OSError:
        return f"{seconds} s after 1970"
    return local.strftime("%Y-%m-%d %H:%M:%S" if seconds % 60 else "%Y-%m-%d %H:%M")


def show_utc(seconds: int) -> str:
    """Return a time in UTC, the same on every computer."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except ValueError, OverflowError, OSError:
        return f"{seconds} s after 1970"


def show_span(seconds: float) -> str:
    """Return how long something lasts, in whole seconds; in minutes from an hour on."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def show_window(start: int, end: int) -> str:
    """Return a window; its end without the day where it is the same."""
    first, last = show_time(start), show_time(end)
    return f"{first} - {last[11:] if first[:10] == last[:10] else last}"


def show_id(identity: str) -> str:
    """Return as much of an id as tells it from others; commands take it in the place of the whole."""
    return identity[:12]


def show_address(text: str) -> str:
    """Return the ends of an address, for tables."""
    return f"{text[:9]}..{text[-5:]}" if len(text) > 18 else text


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}"


def _decimals(micro: int) -> str:
    whole, part = divmod(abs(micro), MICRO)
    digits = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micro < 0 else ''}{whole}.{digits}"
