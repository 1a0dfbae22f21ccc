"""What an asking price is made of: a base, and what scarcity, demand and distance add or take."""

from msgspec import Struct


class PriceParts(Struct, frozen=True, kw_only=True):
    """Every part of a price, micro-currency per kWh; they add up to `price` before the limits."""

    base: int
    scarcity: int
    demand: int
    distance: int
    price: int
    """After floor and ceiling."""
    limited: str | None
    """`floor` or `ceiling`, where one of them decided."""


class PriceRule(Struct, frozen=True, kw_only=True):
    """How a base price moves; ratios in per mille of the base."""

    scarcity_permille: int = 0
    """Added when the asset is at its reserve, in proportion less the more it holds."""
    demand_permille: int = 0
    """Added when twice as much is asked for as offered, taken when nothing is asked for."""
    per_km: int = 0
    """Micro-currency per kWh and kilometre."""
    same_feeder: int = 0
    """Added (negative: taken) within the same feeder."""
    floor: int = 0
    ceiling: int | None = None


class Market(Struct, frozen=True, kw_only=True):
    """What moves a price now."""

    left_wh: int | None = None
    """What the asset still holds above its reserve …"""
    full_wh: int | None = None
    """… of so much when it is full; None: it can't run out."""
    asked_wh: int = 0
    """What others ask for in the window."""
    offered_wh: int = 0
    """What others offer in the window."""
    distance_m: int | None = None
    same_feeder: bool = False


def asking_price(base: int, rule: PriceRule, market: Market) -> PriceParts:
    """Return the price to ask for; integers, rounded down part by part."""
    scarcity = 0
    if rule.scarcity_permille and market.left_wh is not None and market.full_wh:
        gone = max(market.full_wh - max(market.left_wh, 0), 0)
        scarcity = base * rule.scarcity_permille * gone // (1000 * market.full_wh)
    demand = 0
    if rule.demand_permille and (market.asked_wh or market.offered_wh):
        # -1 … +1: nothing asked for … nothing offered, or twice as much asked for as offered.
        balance = market.asked_wh - market.offered_wh
        scale = max(market.offered_wh, 1)
        part = max(min(balance * 1000 // scale, 1000), -1000)
        demand = base * rule.demand_permille * part // 1_000_000
    distance = 0
    if market.distance_m is not None:
        distance += rule.per_km * market.distance_m // 1000
    if market.same_feeder:
        distance += rule.same_feeder
    price = max(base + scarcity + demand + distance, 0)
    limited = None
    if rule.ceiling is not None and price > rule.ceiling:
        price, limited = rule.ceiling, "ceiling"
    if price < rule.floor:
        price, limited = rule.floor, "floor"
    return PriceParts(
        base=base, scarcity=scarcity, demand=demand, distance=distance, price=price, limited=limited
    )


def distance_m(here: tuple[int, int], there: tuple[int, int]) -> int:
    """Return the distance of two places in microdegrees, in metres: flat, which a neighbourhood is.

    A degree of latitude is 111 320 m; one of longitude shrinks with the cosine, taken from a table of whole
    degrees, so that no float enters.
    """
    north = (there[0] - here[0]) * 111_320 // 1_000_000
    cosine = _COSINE[min(abs(here[0]) // 1_000_000, 90)]
    east = (there[1] - here[1]) * 111_320 * cosine // 1_000_000_000
    return _root(north * north + east * east)


def _root(square: int) -> int:
    guess = square
    while guess * guess > square:
        guess = (guess + square // guess) // 2
    return guess


_COSINE = (
    *(1000, 1000, 999, 999, 998, 996, 995, 993, 990, 988, 985, 982, 978, 974, 970, 966, 961, 956, 951),
    *(946, 940, 934, 927, 921, 914, 906, 899, 891, 883, 875, 866, 857, 848, 839, 829, 819, 809, 799, 788),
    *(777, 766, 755, 743, 731, 719, 707, 695, 682, 669, 656, 643, 629, 616, 602, 588, 574, 559, 545, 530),
    *(515, 500, 485, 469, 454, 438, 423, 407, 391, 375, 358, 342, 326, 309, 292, 276, 259, 242, 225, 208),
    *(191, 174, 156, 139, 122, 105, 87, 70, 52, 35, 17, 0),
)
