"""The flow of a selling rule."""

from typing import Any, override

from ..data import EnergyLedgerEntry
from ..trading.rule_config import SellRule, sell_rule
from .rule_flow import RuleFlow
from .rule_forms import has_supplier, sell_form


class SellSubentryFlow(RuleFlow):
    """Adds a selling rule, or changes one."""

    @override
    def form(self, entry: EnergyLedgerEntry) -> Any:
        return sell_form(entry)

    @override
    def parse(self, data: dict[str, Any]) -> SellRule:
        return sell_rule("", "", data)

    @override
    def obstacle(self, entry: EnergyLedgerEntry) -> str | None:
        return None if has_supplier(entry) else "no_supplier"
