"""Filters that triggers and conditions share, against what happened in people's units."""

from collections.abc import Mapping
from typing import Any, Final

import probatio as vol
from homeassistant.const import ATTR_CONFIG_ENTRY_ID, CONF_OPTIONS
from homeassistant.helpers import config_validation as cv

from ledger_core.records.types import Basis, Carrier, Side

FILTER_AUTHOR: Final = "author"
FILTER_BASIS: Final = "basis"
FILTER_CARRIER: Final = "carrier"
FILTER_MAX_QUANTITY: Final = "max_quantity"
FILTER_MIN_QUANTITY: Final = "min_quantity"
FILTER_PARTNER: Final = "partner"
FILTER_PRICE_ABOVE: Final = "price_above"
FILTER_PRICE_BELOW: Final = "price_below"
FILTER_ROLE: Final = "role"
FILTER_SIDE: Final = "side"

_NUMBER: Final = vol.All(vol.Coerce(float), vol.Range(min=0))
_MEMBERS: Final = vol.All(cv.ensure_list, [vol.All(cv.string, str.strip)])

AUTHOR_FILTER: Final[dict[vol.Marker, Any]] = {vol.Optional(FILTER_AUTHOR): _MEMBERS}
AMOUNT_FILTERS: Final[dict[vol.Marker, Any]] = {
    vol.Optional(FILTER_PRICE_BELOW): _NUMBER,
    vol.Optional(FILTER_PRICE_ABOVE): _NUMBER,
    vol.Optional(FILTER_MIN_QUANTITY): _NUMBER,
    vol.Optional(FILTER_MAX_QUANTITY): _NUMBER,
}
TERMS_FILTERS: Final[dict[vol.Marker, Any]] = {
    vol.Optional(FILTER_CARRIER): vol.In([carrier.value for carrier in Carrier]),
    vol.Optional(FILTER_BASIS): vol.In([basis.value for basis in Basis]),
    **AMOUNT_FILTERS,
}
OFFER_FILTERS: Final[dict[vol.Marker, Any]] = {
    vol.Optional(FILTER_SIDE): vol.In([side.value for side in Side]),
    **AUTHOR_FILTER,
    **TERMS_FILTERS,
}
TRADE_FILTERS: Final[dict[vol.Marker, Any]] = {
    vol.Optional(FILTER_ROLE): vol.In(["seller", "buyer"]),
    vol.Optional(FILTER_PARTNER): _MEMBERS,
}


def options_schema(filters: Mapping[vol.Marker, Any]) -> vol.Schema:
    """Return the schema of a trigger's or a condition's configuration: a home, and these filters."""
    home = {vol.Optional(ATTR_CONFIG_ENTRY_ID): cv.string}
    return vol.Schema({vol.Required(CONF_OPTIONS, default={}): {**home, **filters}})


def matches(options: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """Return whether what happened, or an offer, passes every filter that is given.

    Both are in people's units. Prices compare strictly, quantities include the bound; the quantity of an
    offer is its open part.
    """
    return all(_passes(name, wanted, data) for name, wanted in options.items())


def _passes(name: str, wanted: Any, data: Mapping[str, Any]) -> bool:
    match name:
        case "side" | "carrier" | "basis" | "role":
            return bool(data.get(name) == wanted)
        case "author" | "partner":
            return bool(not wanted or data.get(name) in wanted)
        case "price_below":
            return bool(_number(data, "price", wanted) < wanted)
        case "price_above":
            price = data.get("price")
            return bool(price is not None and price > wanted)
        case "min_quantity":
            return bool(_quantity(data) >= wanted)
        case "max_quantity":
            return bool(_quantity(data) <= wanted)
        case _:
            return True


def _number(data: Mapping[str, Any], name: str, otherwise: float) -> float:
    value = data.get(name)
    return otherwise if value is None else float(value)


def _quantity(data: Mapping[str, Any]) -> float:
    value = data.get("open", data.get("quantity"))
    return 0.0 if value is None else float(value)
