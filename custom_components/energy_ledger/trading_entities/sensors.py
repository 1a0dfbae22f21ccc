"""Sensors of trading: the home's surplus, and each rule's state."""

from typing import Any

from homeassistant.components.sensor import SensorDeviceClass, SensorEntity, SensorStateClass
from homeassistant.const import EntityCategory, UnitOfEnergy
from homeassistant.helpers.device_registry import DeviceEntryType, DeviceInfo
from homeassistant.helpers.entity import Entity

from ledger_core.market.surplus import Balance, SlotBalance, StoreBudget

from ..const import DOMAIN, SUBENTRY_BUY, SUBENTRY_SELL
from ..data import EnergyLedgerEntry
from ..entity import MANUFACTURER, LedgerEntity, model_name
from ..quantities import kilo, local_text, money
from ..trading.engine import TradingEngine
from ..trading.rule_state import RuleState, RuleStatus, SellFigures

SLOTS_TOLD = 8


class SurplusSensor(LedgerEntity, SensorEntity):
    """What the home can spare in the next slot, and why."""

    _attr_translation_key = "surplus"
    _attr_device_class = SensorDeviceClass.ENERGY_STORAGE
    _attr_state_class = SensorStateClass.MEASUREMENT
    _attr_native_unit_of_measurement = UnitOfEnergy.KILO_WATT_HOUR
    _attr_suggested_display_precision = 2
    _unrecorded_attributes = frozenset({"slots"})

    def __init__(self, entry: EnergyLedgerEntry, trading: TradingEngine) -> None:
        """Tell what the trading engine plans with."""
        super().__init__(entry, "surplus")
        self._trading = trading

    async def async_added_to_hass(self) -> None:
        """Follow the engine."""
        await super().async_added_to_hass()
        self.async_on_remove(self._trading.listen(self.async_write_ha_state))

    @property
    def available(self) -> bool:
        """While generation and consumption are known."""
        return self._trading.plan is not None

    @property
    def native_value(self) -> float | None:
        """KWh to spare in the next slot."""
        plan = self._trading.plan
        if plan is None or len(plan.slots) < 2:
            return None
        return kilo(self._spare(plan, plan.slots[1]))

    def _spare(self, plan: Balance, slot: SlotBalance) -> int:
        """Return the Wh that can be sold in a slot, if the stores give to no other."""
        plans = (plan, self._trading.tanks)
        return sum(each.surplus_between(slot.start, slot.start + 1) for each in plans if each is not None)

    @property
    def extra_state_attributes(self) -> dict[str, Any]:
        """The figures behind it."""
        plan, flows = self._trading.plan, self._trading.forecaster.flows
        if plan is None:
            return {}
        told: dict[str, Any] = {
            "generation_w": flows.generation_w,
            "consumption_w": flows.load_w,
            "solar_forecast": self._trading.forecaster.has_solar_forecast,
            "slots": [
                {
                    "start": local_text(slot.start),
                    "generation_kwh": kilo(slot.generation_wh),
                    "consumption_kwh": kilo(slot.load_wh),
                    "sold_kwh": kilo(slot.sold_wh),
                    "bought_kwh": kilo(slot.bought_wh),
                    "spare_kwh": kilo(self._spare(plan, slot)),
                    "needed_kwh": kilo(slot.need_wh),
                }
                for slot in plan.slots[:SLOTS_TOLD]
            ],
        }
        if plan.store is not None:
            told |= _divided(plan.store)
        tanks = self._trading.tanks
        if tanks is not None and tanks.store is not None:
            told["tanks"] = _divided(tanks.store)
        return told


def _divided(store: StoreBudget) -> dict[str, float]:
    """Return how what a store holds is divided, in kWh."""
    return {
        "stored_kwh": kilo(store.held_wh),
        "reserve_kwh": kilo(store.reserve_wh),
        "bought_from_grid_kwh": kilo(store.bought_from_grid_wh),
        "kept_for_home_kwh": kilo(store.for_home_wh),
        "sold_from_store_kwh": kilo(store.outstanding_wh),
        "free_in_store_kwh": kilo(store.free_wh),
    }


def _why(figures: SellFigures) -> dict[str, Any]:
    """Return why a rule offers so much at such a price: what it is made of."""
    told: dict[str, Any] = {
        "window": local_text(figures.start),
        "spare_kwh": kilo(figures.spare_wh),
        "offered_kwh": kilo(figures.offered_wh),
        "base_price": money(figures.price.base),
        "added_by_scarcity": money(figures.price.scarcity),
        "added_by_demand": money(figures.price.demand),
        "added_by_distance": money(figures.price.distance),
        "limited_by": figures.price.limited,
    }
    return told if figures.store is None else told | _divided(figures.store)


class RuleSensor(LedgerEntity, SensorEntity):
    """How a rule stands: active, in dry run, or paused and why; and what it decided last."""

    _attr_translation_key = "rule"
    _attr_device_class = SensorDeviceClass.ENUM
    _attr_entity_category = EntityCategory.DIAGNOSTIC
    _unrecorded_attributes = frozenset({"decisions"})

    def __init__(self, entry: EnergyLedgerEntry, trading: TradingEngine, rule: RuleState) -> None:
        """Tell of a rule, which is a device of its own under its subentry."""
        super().__init__(entry, f"{rule.rule_id}_rule")
        self._attr_options = [status.value for status in RuleStatus]
        self._trading = trading
        self._rule = rule
        self._attr_device_info = DeviceInfo(
            identifiers={(DOMAIN, rule.rule_id)},
            entry_type=DeviceEntryType.SERVICE,
            manufacturer=MANUFACTURER,
            model=model_name(entry, "selling_rule" if rule.selling else "buying_rule"),
            name=rule.name,
            via_device_id=entry.runtime_data.home_device_id,
        )

    async def async_added_to_hass(self) -> None:
        """Follow the engine."""
        await super().async_added_to_hass()
        self.async_on_remove(self._trading.listen(self.async_write_ha_state))

    @property
    def available(self) -> bool:
        """Always: a rule that waits for the node says so."""
        return True

    @property
    def native_value(self) -> str:
        """The state."""
        return self._rule.status.value

    @property
    def extra_state_attributes(self) -> dict[str, Any]:
        """Why it is paused, and its newest decisions."""
        rule = self._rule
        return {
            "reason": rule.problem,
            "details": dict(rule.values) or None,
            "price": None if rule.price is None else money(rule.price),
            **({} if rule.figures is None else _why(rule.figures)),
            "decisions": [
                {
                    "time": local_text(decided.time),
                    "about": decided.subject,
                    "verdict": decided.decision.verdict.value,
                    "reason": decided.decision.reason.value,
                    "quantity": kilo(decided.decision.quantity),
                    "price": money(decided.decision.price),
                    "figures": decided.decision.figures,
                    "dry_run": decided.dry_run,
                    "record": decided.record,
                    "refused": decided.refused,
                }
                for decided in list(rule.decisions)[-10:]
            ],
        }


def entities(entry: EnergyLedgerEntry) -> list[Entity]:
    """Return the home's own sensors of trading."""
    trading = entry.runtime_data.trading
    return [SurplusSensor(entry, trading)] if isinstance(trading, TradingEngine) else []


def rule_entities(entry: EnergyLedgerEntry, subentry_id: str) -> list[Entity]:
    """Return the sensors of a rule; none for a subentry of another type."""
    trading = entry.runtime_data.trading
    if entry.subentries[subentry_id].subentry_type not in (SUBENTRY_SELL, SUBENTRY_BUY):
        return []
    if not isinstance(trading, TradingEngine) or subentry_id not in trading.rules:
        return []
    return [RuleSensor(entry, trading, trading.rules[subentry_id])]
