"""The flow of a buying rule."""

from typing import Any, override

from ..data import EnergyLedgerEntry
from ..trading.rule_config import BuyRule, buy_rule
from .rule_flow import RuleFlow
from .rule_forms import buy_form


class BuySubentryFlow(RuleFlow):
    """Adds a buying rule, or changes one."""

    @override
    def form(self, entry: EnergyLedgerEntry) -> Any:
        return buy_form(entry)

    @override
    def parse(self, data: dict[str, Any]) -> BuyRule:
        return buy_rule("", "", data)
