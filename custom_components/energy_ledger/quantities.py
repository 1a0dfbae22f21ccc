"""Between people's units and the ledger's integers: exactly, by decimals.

People see kWh, kW and currency; the ledger holds Wh, W and micro-currency. What people type is rounded to the
nearest whole unit of the ledger, half away from zero: a template that computes 1.2499999999999998 kWh means
1250 Wh. What was signed is told back in the answer.
"""

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

from homeassistant.util import dt as dt_util

from ledger_core.units import MICRO

KILO = 1000

type Number = int | float | str | Decimal


def whole(value: Number, factor: int) -> int:
    """Return `value * factor` as the nearest integer; raises ValueError for what is no finite number."""
    try:
        exact = Decimal(str(value)) * factor
        if not exact.is_finite():
            raise ValueError(f"{value!r} is not a finite number")
        return int(exact.to_integral_value(ROUND_HALF_UP))
    except InvalidOperation as error:
        raise ValueError(f"{value!r} is not a number") from error


def wh_from_kwh(kwh: Number) -> int:
    """Return Wh."""
    return whole(kwh, KILO)


def w_from_kw(kilowatts: Number) -> int:
    """Return W."""
    return whole(kilowatts, KILO)


def micro_from_money(money: Number) -> int:
    """Return micro-currency; the same for a price: micro-currency per kWh."""
    return whole(money, MICRO)


def kilo(value: int) -> float:
    """Return kWh of Wh, kW of W."""
    return value / KILO


def optional_kilo(value: int | None) -> float | None:
    """Return kWh of Wh, kW of W; None stays None."""
    return None if value is None else value / KILO


def money(micro: int) -> float:
    """Return units of currency of micro-currency; of a price: per kWh."""
    return micro / MICRO


def optional_money(micro: int | None) -> float | None:
    """Return units of currency of micro-currency; None stays None."""
    return None if micro is None else micro / MICRO


def moment(seconds: int) -> datetime:
    """Return UTC seconds as a time."""
    return datetime.fromtimestamp(seconds, UTC)


def local_text(seconds: int) -> str:
    """Return UTC seconds as local time with its offset (ISO 8601), as templates take it."""
    return dt_util.as_local(moment(seconds)).isoformat()


def local_clock(seconds: int) -> str:
    """Return UTC seconds as people read a local time in a message."""
    return dt_util.as_local(moment(seconds)).strftime("%Y-%m-%d %H:%M:%S")


def now_s() -> int:
    """Return UTC seconds."""
    return int(dt_util.utcnow().timestamp())
