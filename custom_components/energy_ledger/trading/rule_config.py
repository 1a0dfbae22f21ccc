"""What a rule's subentry says, typed and checked. The flows write it in people's units; pure.

Keys lie in the sections of the form. Whatever is wrong raises RuleProblem with a code that the form and the
rule's own state translate.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any, Final

from ledger_core.keys import AddressError, parse_address
from ledger_core.market.buying import BuyCriteria
from ledger_core.market.prices import PriceRule
from ledger_core.market.selling import SellCriteria
from ledger_core.market.terms import MINUTES_A_DAY, Hours
from ledger_core.records.types import Basis, Carrier
from ledger_core.units import MAX_PRICE

from ..quantities import micro_from_money, w_from_kw, wh_from_kwh

SECTION_PRICE: Final = "price_section"
SECTION_AMOUNT: Final = "amount_section"
SECTION_PARTNERS: Final = "partners_section"
SECTION_HOURS: Final = "hours_section"
CONF_DEVICE: Final = "device"
CONF_SOURCE: Final = "source"
CONF_PRICE: Final = "price"
CONF_ENTITY: Final = "price_entity"
CONF_TEMPLATE: Final = "price_template"
CONF_HOURLY: Final = "price_by_hour"
CONF_DISCOUNT: Final = "discount"
CONF_TARIFF: Final = "tariff_entity"
CONF_FLOOR: Final = "floor"
CONF_CEILING: Final = "ceiling"
CONF_SCARCITY: Final = "scarcity"
CONF_DEMAND: Final = "demand"
CONF_SHORTFALL: Final = "shortfall_price"
CONF_COUNTER: Final = "counter"
CONF_BID: Final = "bid"
CONF_BASIS: Final = "basis"
CONF_MIN_KWH: Final = "min_kwh"
CONF_MIN_KW: Final = "min_kw"
CONF_HYSTERESIS: Final = "hysteresis"
CONF_MAX_KWH: Final = "max_kwh"
CONF_MAX_KW: Final = "max_kw"
CONF_WINDOW: Final = "window_slots"
CONF_HORIZON: Final = "horizon_slots"
CONF_PARTS: Final = "parts"
CONF_GRID: Final = "grid_energy"
CONF_KEEP: Final = "keep_for_home"
CONF_GAIN: Final = "min_gain"
CONF_BUDGET: Final = "daily_budget"
CONF_ONLY_NEED: Final = "only_need"
CONF_MEMBERS: Final = "members"
CONF_BLOCKED: Final = "blocked"
CONF_SCORE: Final = "min_score"
CONF_DELIVERED: Final = "min_delivered"
CONF_CARRIER: Final = "carrier"
CONF_REQUESTS: Final = "answer_requests"
CONF_BARGAIN: Final = "confirm_from_floor"
CONF_AUCTION: Final = "auction"
CONF_RATE: Final = "rate"
CONF_WEEKDAYS: Final = "weekdays"
CONF_FROM: Final = "from"
CONF_TO: Final = "to"
CONF_LAST_DAY: Final = "last_day"
CONF_CONDITIONS: Final = "conditions"
CONF_LOADS: Final = "loads"
CONF_PER_KM: Final = "per_km"
CONF_FEEDER_PRICE: Final = "feeder_price"
CONF_FEEDER: Final = "feeder_members"

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SPAN: Final = re.compile(r"^(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})=(\d+(?:[.,]\d+)?)$")


class SourceKind(StrEnum):
    """Where a price comes from."""

    FIXED = "fixed"
    ENTITY = "entity"
    TEMPLATE = "template"
    BY_HOUR = "by_hour"
    BELOW_TARIFF = "below_tariff"


class RuleProblem(Exception):
    """A rule can't be as it is: `code` is translated, `field` names what to change, `values` are told."""

    def __init__(self, code: str, field: str = "base", **values: str) -> None:
        super().__init__(f"{code} {values}" if values else code)
        self.code = code
        self.field = field
        self.values = values


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSource:
    """Where a price comes from; micro-currency per kWh."""

    kind: SourceKind
    fixed: int = 0
    entity: str = ""
    template: str = ""
    by_hour: tuple[tuple[int, int, int], ...] = ()
    """Minute of the day from, to, price; outside of them the fixed price."""
    discount: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SellRule:
    """A selling rule."""

    rule_id: str
    name: str
    device: str
    criteria: SellCriteria
    price: PriceSource
    formation: PriceRule
    audience: tuple[bytes, ...] | None
    auction: bool
    shortfall_price: int
    grid_energy: bool
    """Also sell what a store has drawn from the grid."""
    keep_for_home: bool
    """Keep in a store what the home needs until its own generation returns."""
    last_day: date | None
    feeder: frozenset[bytes] = frozenset()
    """Members behind the same feeder as this home, as the user knows it: the ledger does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuyRule:
    """A buying rule."""

    rule_id: str
    name: str
    criteria: BuyCriteria
    ceiling: PriceSource
    tariff: str | None
    last_day: date | None
    rate: bool
    conditions: list[dict[str, Any]] = field(default_factory=list)
    loads: tuple[str, ...] = ()
    """Entities that are switched on while what this rule bought is delivered."""


def sell_rule(rule_id: str, name: str, data: Mapping[str, Any]) -> SellRule:
    """Return a selling rule; raises RuleProblem."""
    price, amount = data.get(SECTION_PRICE, {}), data.get(SECTION_AMOUNT, {})
    partners, hours = data.get(SECTION_PARTNERS, {}), data.get(SECTION_HOURS, {})
    floor = _money(price, CONF_FLOOR) or 0
    ceiling = _money(price, CONF_CEILING)
    if ceiling is not None and floor > ceiling:
        raise RuleProblem(
            "floor_above_ceiling", CONF_FLOOR, floor=f"{floor / 1e6:g}", ceiling=f"{ceiling / 1e6:g}"
        )
    least, most = _energies(amount)
    least_w, most_w = _powers(amount)
    criteria = SellCriteria(
        carrier=Carrier.ELECTRICITY,
        basis=Basis(amount.get(CONF_BASIS, Basis.ENERGY)),
        hours=_hours(hours),
        # Whoever sets a least power alone means that alone.
        min_wh=least if least is not None else 1 if least_w else 100,
        min_w=least_w or 0,
        hysteresis_permille=_permille(amount, CONF_HYSTERESIS, 20),
        max_wh=most,
        max_w=most_w,
        window_slots=int(amount.get(CONF_WINDOW, 1)),
        horizon_slots=max(int(amount.get(CONF_HORIZON, 8)), int(amount.get(CONF_WINDOW, 1))),
        parts=bool(amount.get(CONF_PARTS, True)),
        counter_floor=bool(partners.get(CONF_BARGAIN, True)),
        min_gain=_money(amount, CONF_GAIN) or 0,
        answer_requests=bool(partners.get(CONF_REQUESTS, True)),
    )
    return SellRule(
        rule_id=rule_id,
        name=name,
        device=str(data.get(CONF_DEVICE, "")),
        criteria=criteria,
        price=_source(price, allowed=_SELL_SOURCES),
        formation=PriceRule(
            scarcity_permille=_permille(price, CONF_SCARCITY),
            demand_permille=_permille(price, CONF_DEMAND),
            per_km=_money(price, CONF_PER_KM) or 0,
            same_feeder=_money(price, CONF_FEEDER_PRICE) or 0,
            floor=floor,
            ceiling=ceiling,
        ),
        audience=_members(partners, CONF_MEMBERS),
        auction=bool(partners.get(CONF_AUCTION, False)),
        shortfall_price=_money(price, CONF_SHORTFALL) or 0,
        grid_energy=bool(amount.get(CONF_GRID, False)),
        keep_for_home=bool(amount.get(CONF_KEEP, True)),
        last_day=_last_day(hours),
        feeder=frozenset(_members(partners, CONF_FEEDER) or ()),
    )


def buy_rule(rule_id: str, name: str, data: Mapping[str, Any]) -> BuyRule:
    """Return a buying rule; raises RuleProblem."""
    price, amount = data.get(SECTION_PRICE, {}), data.get(SECTION_AMOUNT, {})
    partners, hours = data.get(SECTION_PARTNERS, {}), data.get(SECTION_HOURS, {})
    least, most = _energies(amount)
    score, delivered = partners.get(CONF_SCORE), partners.get(CONF_DELIVERED)
    counter = _permille(price, CONF_COUNTER)
    criteria = BuyCriteria(
        carrier=Carrier(partners.get(CONF_CARRIER, Carrier.ELECTRICITY)),
        basis=Basis(amount.get(CONF_BASIS, Basis.ENERGY)),
        min_wh=least or 1,
        max_wh=most,
        hours=_hours(hours),
        sellers=None if (listed := _members(partners, CONF_MEMBERS)) is None else frozenset(listed),
        blocked=frozenset(_members(partners, CONF_BLOCKED) or ()),
        min_score_tenths=None if score is None else int(float(score) * 10),
        min_delivered_permille=None if delivered is None else int(float(delivered) * 10),
        daily_budget=_money(amount, CONF_BUDGET),
        only_need=bool(amount.get(CONF_ONLY_NEED, True)),
        counter_permille=counter or None,
        bid=bool(price.get(CONF_BID, True)),
        min_gain=_money(amount, CONF_GAIN) or 0,
    )
    source = _source(price, allowed=_BUY_SOURCES)
    return BuyRule(
        rule_id=rule_id,
        name=name,
        criteria=criteria,
        ceiling=source,
        tariff=price.get(CONF_TARIFF) or None,
        last_day=_last_day(hours),
        rate=bool(partners.get(CONF_RATE, False)),
        conditions=list(data.get(CONF_CONDITIONS) or []),
        loads=tuple(data.get(CONF_LOADS) or ()),
    )


_SELL_SOURCES: Final = (SourceKind.FIXED, SourceKind.ENTITY, SourceKind.TEMPLATE, SourceKind.BY_HOUR)
_BUY_SOURCES: Final = (*_SELL_SOURCES, SourceKind.BELOW_TARIFF)


def _source(price: Mapping[str, Any], allowed: tuple[SourceKind, ...]) -> PriceSource:
    kind = SourceKind(price.get(CONF_SOURCE, SourceKind.FIXED))
    if kind not in allowed:
        raise RuleProblem("price_missing", CONF_SOURCE)
    fixed = _money(price, CONF_PRICE)
    needed = {
        SourceKind.FIXED: CONF_PRICE,
        SourceKind.ENTITY: CONF_ENTITY,
        SourceKind.TEMPLATE: CONF_TEMPLATE,
        SourceKind.BY_HOUR: CONF_HOURLY,
        SourceKind.BELOW_TARIFF: CONF_TARIFF,
    }[kind]
    if price.get(needed) in (None, ""):
        raise RuleProblem("price_missing", needed)
    by_hour = price_by_hour(price.get(CONF_HOURLY) or "") if kind is SourceKind.BY_HOUR else ()
    if kind is SourceKind.BY_HOUR and fixed is None and not _whole_day(by_hour):
        raise RuleProblem("hours_incomplete", CONF_PRICE)
    return PriceSource(
        kind=kind,
        fixed=fixed or 0,
        entity=str(price.get(CONF_TARIFF if kind is SourceKind.BELOW_TARIFF else CONF_ENTITY) or ""),
        template=str(price.get(CONF_TEMPLATE) or ""),
        by_hour=by_hour,
        discount=_money(price, CONF_DISCOUNT) or 0,
    )


def price_by_hour(text: str) -> tuple[tuple[int, int, int], ...]:
    """Return prices by hour from a text such as `06:00-09:00=0.30; 22:00-06:00=0.12`; raises RuleProblem."""
    spans = []
    for part in filter(None, (part.replace(" ", "") for part in re.split(r"[;\n]", text))):
        found = _SPAN.match(part)
        if found is None:
            raise RuleProblem("hours_malformed", CONF_HOURLY, text=part)
        numbers = [int(number) for number in found.groups()[:4]]
        start, end = numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]
        if max(numbers[1], numbers[3]) > 59 or max(start, end) > MINUTES_A_DAY:
            raise RuleProblem("hours_malformed", CONF_HOURLY, text=part)
        price = micro_from_money(found.group(5).replace(",", "."))
        if price > MAX_PRICE:
            raise RuleProblem("hours_malformed", CONF_HOURLY, text=part)
        spans.append((start % MINUTES_A_DAY, end % MINUTES_A_DAY, price))
    return tuple(spans)


def price_at(source: PriceSource, minute: int) -> int:
    """Return the price of a source by hour at a minute of the day."""
    for start, end, price in source.by_hour:
        if (minute - start) % MINUTES_A_DAY < ((end - start) % MINUTES_A_DAY or MINUTES_A_DAY):
            return price
    return source.fixed


def _whole_day(spans: tuple[tuple[int, int, int], ...]) -> bool:
    covered = {
        (start + offset) % MINUTES_A_DAY
        for start, end, _ in spans
        for offset in range((end - start) % MINUTES_A_DAY or MINUTES_A_DAY)
    }
    return len(covered) == MINUTES_A_DAY


def _money(section: Mapping[str, Any], key: str) -> int | None:
    value = section.get(key)
    return None if value is None else micro_from_money(value)


def _permille(section: Mapping[str, Any], key: str, default: float = 0) -> int:
    """Return per mille of a percentage."""
    return int(float(section.get(key, default) or 0) * 10)


def _energies(amount: Mapping[str, Any]) -> tuple[int | None, int | None]:
    least = None if amount.get(CONF_MIN_KWH) is None else wh_from_kwh(amount[CONF_MIN_KWH])
    most = None if amount.get(CONF_MAX_KWH) is None else wh_from_kwh(amount[CONF_MAX_KWH])
    if least is not None and most is not None and least > most:
        raise RuleProblem(
            "least_above_most", CONF_MIN_KWH, least=f"{least / 1000:g} kWh", most=f"{most / 1000:g} kWh"
        )
    return least, most


def _powers(amount: Mapping[str, Any]) -> tuple[int | None, int | None]:
    least = None if amount.get(CONF_MIN_KW) is None else w_from_kw(amount[CONF_MIN_KW])
    most = None if amount.get(CONF_MAX_KW) is None else w_from_kw(amount[CONF_MAX_KW])
    if least is not None and most is not None and least > most:
        raise RuleProblem(
            "least_above_most", CONF_MIN_KW, least=f"{least / 1000:g} kW", most=f"{most / 1000:g} kW"
        )
    return least, most


def _members(section: Mapping[str, Any], key: str) -> tuple[bytes, ...] | None:
    texts = section.get(key) or []
    if not texts:
        return None
    try:
        return tuple(sorted({parse_address(text) for text in texts}))
    except AddressError as error:
        raise RuleProblem("member_invalid", key, reason=str(error)) from error


def _hours(section: Mapping[str, Any]) -> Hours:
    days = frozenset(WEEKDAYS.index(day) for day in section.get(CONF_WEEKDAYS) or WEEKDAYS)
    start, end = section.get(CONF_FROM), section.get(CONF_TO)
    if start is None and end is None:
        return Hours(days)
    return Hours(days, ((_minute(start or "00:00"), _minute(end or "00:00")),))


def _minute(text: str) -> int:
    parts = [int(part) for part in text.split(":")]
    return parts[0] * 60 + parts[1]


def _last_day(section: Mapping[str, Any]) -> date | None:
    text = section.get(CONF_LAST_DAY)
    return None if not text else date.fromisoformat(text)
