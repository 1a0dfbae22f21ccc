"""Events of trading: what a rule decided, also in dry run."""

from typing import Any

from homeassistant.components.event import EventEntity
from homeassistant.core import callback
from homeassistant.helpers.entity import Entity

from ledger_core.market.reasons import Verdict

from ..data import EnergyLedgerEntry
from ..entity import LedgerEntity
from ..quantities import kilo, money
from ..trading.engine import TradingEngine
from ..trading.rule_state import Decided


class DecisionEvent(LedgerEntity, EventEntity):
    """Fires with every new decision of a rule that would lead to a record."""

    _attr_translation_key = "decision"

    def __init__(self, entry: EnergyLedgerEntry, trading: TradingEngine) -> None:
        """Tell what the trading engine decides."""
        super().__init__(entry, "decision")
        self._attr_event_types = [verdict.value for verdict in Verdict if verdict is not Verdict.IGNORE]
        self._trading = trading

    async def async_added_to_hass(self) -> None:
        """Follow the engine."""
        await super().async_added_to_hass()
        self.async_on_remove(self._trading.listen_decisions(self._on_decided))

    @property
    def available(self) -> bool:
        """Always: what was decided stays true while the node is away."""
        return True

    @callback
    def _on_decided(self, decided: Decided) -> None:
        if not decided.decision.acts:
            return
        attributes: dict[str, Any] = {
            "rule": self._trading.rules[decided.rule].name,
            "about": decided.subject,
            "reason": decided.decision.reason.value,
            "quantity": kilo(decided.decision.quantity),
            "price": money(decided.decision.price),
            "figures": decided.decision.figures,
            "dry_run": decided.dry_run,
            "record": decided.record,
            "refused": decided.refused,
        }
        self._trigger_event(decided.decision.verdict.value, attributes)
        self.async_write_ha_state()


def entities(entry: EnergyLedgerEntry) -> list[Entity]:
    """Return the home's own events of trading."""
    trading = entry.runtime_data.trading
    return [DecisionEvent(entry, trading)] if isinstance(trading, TradingEngine) else []
