"""A price of a rule as it is now: from an entity, a template, by hour or fixed; never a guess."""

import math
from typing import Any

from homeassistant.const import ATTR_UNIT_OF_MEASUREMENT, STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import TemplateError
from homeassistant.helpers.template import Template
from homeassistant.util import dt as dt_util

from ledger_core.units import MAX_PRICE

from ..quantities import micro_from_money, moment
from .rule_config import PriceSource, RuleProblem, SourceKind, price_at

_HUNDREDTHS = ("ct", "cent", "c/", "p/", "øre", "öre", "gr/", "rp")


def price_now(hass: HomeAssistant, source: PriceSource, at: int) -> int:
    """Return micro-currency per kWh for a window that starts at a time; raises RuleProblem."""
    if source.kind is SourceKind.FIXED:
        return source.fixed
    if source.kind is SourceKind.BY_HOUR:
        local = dt_util.as_local(moment(at))
        return price_at(source, local.hour * 60 + local.minute)
    if source.kind is SourceKind.TEMPLATE:
        return _of_template(hass, source.template, at)
    price = entity_price(hass, source.entity)
    if source.kind is SourceKind.BELOW_TARIFF:
        return max(price - source.discount, 0)
    return price


def entity_price(hass: HomeAssistant, entity: str) -> int:
    """Return an entity's price; raises RuleProblem for one that tells none now."""
    state = hass.states.get(entity)
    if state is None:
        raise RuleProblem("entity_missing", entity=entity)
    if state.state in (STATE_UNAVAILABLE, STATE_UNKNOWN):
        raise RuleProblem("entity_unavailable", entity=entity)
    price = _price(state.state)
    if price is None:
        raise RuleProblem("entity_no_price", entity=entity, value=state.state[:50])
    return _scaled(price, str(state.attributes.get(ATTR_UNIT_OF_MEASUREMENT) or "").lower())


def _of_template(hass: HomeAssistant, text: str, at: int) -> int:
    try:
        result: Any = Template(text, hass).async_render({"window_start": dt_util.as_local(moment(at))})
    except TemplateError as error:
        raise RuleProblem("template_failed", error=str(error)[:200]) from error
    price = _price(result)
    if price is None:
        raise RuleProblem("template_no_price", value=str(result)[:50])
    return price


def _price(value: Any) -> int | None:
    """Return the micro-currency of a number; None for anything else, and for what no price can be."""
    try:
        number = float(value)
    except TypeError, ValueError:
        return None
    if isinstance(value, bool) or not math.isfinite(number) or not 0 <= number <= MAX_PRICE / 1e6:
        return None
    return micro_from_money(value)


def _scaled(price: int, unit: str) -> int:
    """Return a price per kWh of one in another unit, such as ct/kWh or EUR/MWh."""
    if unit.startswith(_HUNDREDTHS):
        price //= 100
    if unit.endswith("/mwh"):
        price //= 1000
    elif unit.endswith("/wh"):
        price *= 1000
    return min(price, MAX_PRICE)
