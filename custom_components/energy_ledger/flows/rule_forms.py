"""The forms of selling and buying rules, in people's units, a section for each question."""

from copy import deepcopy
from typing import Any

import voluptuous as vol
from homeassistant.const import CONF_NAME
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import section
from homeassistant.helpers import selector
from homeassistant.util import dt as dt_util

from ledger_core.records.types import AssetKind, Basis, Carrier

from ..const import CONF_CURRENCY, SUBENTRY_DEVICE
from ..data import EnergyLedgerEntry
from ..trading import rule_config as keys
from ..trading.loads import DOMAINS
from ..trading.prices_now import price_now
from ..trading.rule_config import BuyRule, RuleProblem, SellRule, SourceKind

SUPPLIERS = frozenset(
    {
        *(AssetKind.PV, AssetKind.WIND, AssetKind.BATTERY, AssetKind.FUEL_CELL, AssetKind.GENERATOR),
        *(AssetKind.EV, AssetKind.PORTABLE),
    }
)
LATER = frozenset({"entity_unavailable"})
"""What a rule may be set up with: it waits."""


class RawConditionSelector(selector.ConditionSelector):
    """Checks conditions and keeps them as they were typed, which is what can be stored."""

    def __call__(self, data: Any) -> Any:
        """Return the conditions unchanged; raises vol.Invalid for what is none."""
        super().__call__(deepcopy(data))
        return data


def _section(fields: dict[Any, Any], *, collapsed: bool = False) -> section:
    schema: Any = vol.Schema(fields)
    return section(schema, {"collapsed": collapsed})


def _number(least: float, most: float, step: float | str, unit: str | None = None) -> Any:
    config = selector.NumberSelectorConfig(
        min=least,
        max=most,
        step=step,  # type: ignore[typeddict-item]
        mode=selector.NumberSelectorMode.BOX,
    )
    if unit is not None:
        config["unit_of_measurement"] = unit
    return selector.NumberSelector(config)


def _choice(options: list[str], translation_key: str, *, multiple: bool = False) -> Any:
    return selector.SelectSelector(
        selector.SelectSelectorConfig(
            options=options,
            translation_key=translation_key,
            multiple=multiple,
            mode=selector.SelectSelectorMode.DROPDOWN,
        )
    )


def _price(entry: EnergyLedgerEntry) -> Any:
    return _number(0, 1000, "any", f"{entry.data[CONF_CURRENCY]}/kWh")


def _money(entry: EnergyLedgerEntry) -> Any:
    return _number(0, 1_000_000, "any", entry.data[CONF_CURRENCY])


def _entity() -> Any:
    return selector.EntitySelector(selector.EntitySelectorConfig(domain=["sensor", "number", "input_number"]))


def _members(entry: EnergyLedgerEntry) -> Any:
    own = entry.runtime_data.key.address
    options = [each.member.address for each in entry.runtime_data.ledger.data.members if each.roles]
    return selector.SelectSelector(
        selector.SelectSelectorConfig(
            options=[address for address in options if address != own], multiple=True, custom_value=True
        )
    )


def _devices(entry: EnergyLedgerEntry) -> Any:
    options = [
        selector.SelectOptionDict(value=subentry.subentry_id, label=subentry.title)
        for subentry in entry.subentries.values()
        if subentry.subentry_type == SUBENTRY_DEVICE and subentry.data.get("kind") in SUPPLIERS
    ]
    return selector.SelectSelector(selector.SelectSelectorConfig(options=options))


def has_supplier(entry: EnergyLedgerEntry) -> bool:
    """Whether the home has a device that can sell."""
    return any(
        subentry.subentry_type == SUBENTRY_DEVICE and subentry.data.get("kind") in SUPPLIERS
        for subentry in entry.subentries.values()
    )


def _hours() -> section:
    fields = {
        vol.Optional(keys.CONF_WEEKDAYS): _choice(list(keys.WEEKDAYS), "weekday", multiple=True),
        vol.Optional(keys.CONF_FROM): selector.TimeSelector(),
        vol.Optional(keys.CONF_TO): selector.TimeSelector(),
        vol.Optional(keys.CONF_LAST_DAY): selector.DateSelector(),
    }
    return _section(fields, collapsed=True)


def sell_form(entry: EnergyLedgerEntry) -> vol.Schema:
    """Return the form of a selling rule."""
    sources = [SourceKind.FIXED, SourceKind.ENTITY, SourceKind.TEMPLATE, SourceKind.BY_HOUR]
    price = {
        vol.Required(keys.CONF_SOURCE, default=SourceKind.FIXED.value): _choice(
            [source.value for source in sources], "price_source"
        ),
        vol.Optional(keys.CONF_PRICE): _price(entry),
        vol.Optional(keys.CONF_ENTITY): _entity(),
        vol.Optional(keys.CONF_TEMPLATE): selector.TemplateSelector(),
        vol.Optional(keys.CONF_HOURLY): selector.TextSelector(selector.TextSelectorConfig(multiline=True)),
        vol.Optional(keys.CONF_FLOOR): _price(entry),
        vol.Optional(keys.CONF_CEILING): _price(entry),
        vol.Optional(keys.CONF_SCARCITY): _number(0, 500, 1, "%"),
        vol.Optional(keys.CONF_DEMAND): _number(0, 500, 1, "%"),
        vol.Optional(keys.CONF_PER_KM): _price(entry),
        vol.Optional(keys.CONF_FEEDER_PRICE): _number(-1000, 1000, "any", f"{entry.data[CONF_CURRENCY]}/kWh"),
        vol.Optional(keys.CONF_SHORTFALL): _price(entry),
    }
    amount = {
        vol.Required(keys.CONF_BASIS, default=Basis.ENERGY.value): _choice(
            [basis.value for basis in Basis], "basis"
        ),
        vol.Optional(keys.CONF_MIN_KWH): _number(0.001, 10_000, "any", "kWh"),
        vol.Optional(keys.CONF_MAX_KWH): _number(0.001, 10_000, "any", "kWh"),
        vol.Optional(keys.CONF_MIN_KW): _number(0.001, 10_000, "any", "kW"),
        vol.Optional(keys.CONF_MAX_KW): _number(0.001, 10_000, "any", "kW"),
        vol.Required(keys.CONF_HYSTERESIS, default=20): _number(0, 100, 1, "%"),
        vol.Required(keys.CONF_WINDOW, default=1): _number(1, 96, 1),
        vol.Required(keys.CONF_HORIZON, default=8): _number(1, 96, 1),
        vol.Required(keys.CONF_PARTS, default=True): selector.BooleanSelector(),
        vol.Required(keys.CONF_GRID, default=False): selector.BooleanSelector(),
        vol.Required(keys.CONF_KEEP, default=True): selector.BooleanSelector(),
        vol.Optional(keys.CONF_GAIN): _money(entry),
    }
    partners = {
        vol.Optional(keys.CONF_MEMBERS): _members(entry),
        vol.Optional(keys.CONF_FEEDER): _members(entry),
        vol.Required(keys.CONF_REQUESTS, default=True): selector.BooleanSelector(),
        vol.Required(keys.CONF_BARGAIN, default=True): selector.BooleanSelector(),
        vol.Required(keys.CONF_AUCTION, default=False): selector.BooleanSelector(),
    }
    return vol.Schema(
        {
            vol.Required(CONF_NAME): selector.TextSelector(),
            vol.Required(keys.CONF_DEVICE): _devices(entry),
            vol.Required(keys.SECTION_PRICE): _section(price),
            vol.Required(keys.SECTION_AMOUNT): _section(amount),
            vol.Required(keys.SECTION_PARTNERS): _section(partners, collapsed=True),
            vol.Required(keys.SECTION_HOURS): _hours(),
        }
    )


def buy_form(entry: EnergyLedgerEntry) -> vol.Schema:
    """Return the form of a buying rule."""
    price = {
        vol.Required(keys.CONF_SOURCE, default=SourceKind.FIXED.value): _choice(
            [source.value for source in SourceKind], "price_source"
        ),
        vol.Optional(keys.CONF_PRICE): _price(entry),
        vol.Optional(keys.CONF_ENTITY): _entity(),
        vol.Optional(keys.CONF_TEMPLATE): selector.TemplateSelector(),
        vol.Optional(keys.CONF_HOURLY): selector.TextSelector(selector.TextSelectorConfig(multiline=True)),
        vol.Optional(keys.CONF_TARIFF): _entity(),
        vol.Optional(keys.CONF_DISCOUNT): _price(entry),
        vol.Optional(keys.CONF_COUNTER): _number(0, 100, 1, "%"),
        vol.Required(keys.CONF_BID, default=True): selector.BooleanSelector(),
    }
    amount = {
        vol.Required(keys.CONF_BASIS, default=Basis.ENERGY.value): _choice(
            [basis.value for basis in Basis], "basis"
        ),
        vol.Optional(keys.CONF_MIN_KWH): _number(0.001, 10_000, "any", "kWh"),
        vol.Optional(keys.CONF_MAX_KWH): _number(0.001, 10_000, "any", "kWh"),
        vol.Optional(keys.CONF_BUDGET): _money(entry),
        vol.Required(keys.CONF_ONLY_NEED, default=True): selector.BooleanSelector(),
        vol.Optional(keys.CONF_GAIN): _money(entry),
    }
    partners = {
        vol.Optional(keys.CONF_MEMBERS): _members(entry),
        vol.Optional(keys.CONF_BLOCKED): _members(entry),
        vol.Optional(keys.CONF_SCORE): _number(0, 10, 0.1),
        vol.Optional(keys.CONF_DELIVERED): _number(0, 100, 1, "%"),
        vol.Required(keys.CONF_CARRIER, default=Carrier.ELECTRICITY.value): _choice(
            [carrier.value for carrier in Carrier], "carrier"
        ),
        vol.Required(keys.CONF_RATE, default=False): selector.BooleanSelector(),
    }
    return vol.Schema(
        {
            vol.Required(CONF_NAME): selector.TextSelector(),
            vol.Required(keys.SECTION_PRICE): _section(price),
            vol.Required(keys.SECTION_AMOUNT): _section(amount),
            vol.Required(keys.SECTION_PARTNERS): _section(partners, collapsed=True),
            vol.Required(keys.SECTION_HOURS): _hours(),
            vol.Optional(keys.CONF_CONDITIONS): RawConditionSelector(),
            vol.Optional(keys.CONF_LOADS): selector.EntitySelector(
                selector.EntitySelectorConfig(domain=list(DOMAINS), multiple=True)
            ),
        }
    )


def check_rule(hass: HomeAssistant, rule: SellRule | BuyRule) -> None:
    """Check what only Home Assistant can tell: entities, templates, the day. Raises RuleProblem."""
    now = int(dt_util.utcnow().timestamp())
    if rule.last_day is not None and dt_util.now().date() > rule.last_day:
        raise RuleProblem("window_past", keys.CONF_LAST_DAY, last_day=rule.last_day.isoformat())
    source = rule.price if isinstance(rule, SellRule) else rule.ceiling
    try:
        price_now(hass, source, now)
    except RuleProblem as problem:
        if problem.code not in LATER:
            raise


def trimmed(data: dict[str, Any]) -> dict[str, Any]:
    """Return what was typed without the name, which is the subentry's title, and without empty fields."""
    kept: dict[str, Any] = {}
    for key, value in data.items():
        if key == CONF_NAME or value in (None, "", []):
            continue
        kept[key] = trimmed(value) if isinstance(value, dict) else value
    return kept
