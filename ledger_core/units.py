"""Units and exact integer arithmetic of everything that is signed, hashed or settled.

W, Wh, UTC seconds, micro-currency (1 000 000 = 1), prices in micro-currency per kWh (per kW and hour for
reserved capacity), locations in microdegrees, ratios in per mille. No float enters here.
"""

from collections.abc import Sequence

MICRO = 1_000_000
"""Micro-currency in one unit of currency."""

SECONDS_PER_HOUR = 3600

MAX_WATTS = 10**9
"""Upper bound of a power in a record (1 GW), far above any home or street."""

MAX_WATT_HOURS = 10**12
"""Upper bound of an energy or a cumulative register in a record (1 TWh)."""

MAX_PRICE = 10**9
"""Upper bound of a price: 1000 units of currency per kWh, in micro-currency."""

MAX_AMOUNT = 10**15
"""Upper bound of an amount of money in a record: 10^9 units of currency, in micro-currency."""

MAX_TIME = 2**40
"""Upper bound of a time in UTC seconds (the year 36812)."""


def amount(watt_hours: int, price: int) -> int:
    """Return the price of an energy in micro-currency, rounded down (design: Wh x price // 1000)."""
    return watt_hours * price // 1000


def energy(watts: int, seconds: int) -> int:
    """Return the whole Wh that a constant power gives over a time, rounded down."""
    return watts * seconds // SECONDS_PER_HOUR


def mean_power(watt_hours: int, seconds: int) -> int:
    """Return the constant power in W, rounded up, that gives an energy within a time."""
    return -(-watt_hours * SECONDS_PER_HOUR // seconds)


def slot_share(quantity: int, index: int, count: int) -> int:
    """Return part `index` of a quantity spread evenly over `count` slots; the parts sum to the quantity."""
    return quantity * (index + 1) // count - quantity * index // count


def share_out(total: int, claims: Sequence[int], order: Sequence[bytes]) -> list[int]:
    """Share `total` over claims pro rata: largest remainder first, then the smaller key of `order`.

    No share exceeds its claim; when the claims fit into the total, each gets what it claims. The shares sum
    to the smaller of the total and the sum of the claims.
    """
    wanted = sum(claims)
    if wanted <= total:
        return list(claims)
    shares = [total * claim // wanted for claim in claims]
    missing = total - sum(shares)
    if missing:
        ranked = sorted(range(len(claims)), key=lambda i: (-(total * claims[i] % wanted), order[i]))
        for i in ranked[:missing]:
            shares[i] += 1
    return shares
