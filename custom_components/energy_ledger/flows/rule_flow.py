"""What the flows of selling and buying rules share: one form, checked whole; what was typed is kept."""

from abc import ABC, abstractmethod
from typing import Any

import voluptuous as vol
from homeassistant.config_entries import SOURCE_RECONFIGURE, ConfigSubentryFlow, SubentryFlowResult
from homeassistant.const import CONF_NAME
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import condition
from homeassistant.helpers import config_validation as cv

from ..data import EnergyLedgerEntry
from ..trading.rule_config import CONF_CONDITIONS, BuyRule, RuleProblem, SellRule
from .rule_forms import check_rule, trimmed


class RuleFlow(ConfigSubentryFlow, ABC):
    """Adds a rule, or changes one."""

    @abstractmethod
    def form(self, entry: EnergyLedgerEntry) -> Any:
        """Return the form's schema."""

    @abstractmethod
    def parse(self, data: dict[str, Any]) -> SellRule | BuyRule:
        """Return the rule that was typed; raises RuleProblem."""

    def obstacle(self, entry: EnergyLedgerEntry) -> str | None:  # noqa: ARG002 - for those that look
        """Return why no rule can be made; None: it can."""
        return None

    async def async_step_user(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Make a rule."""
        return await self._step("user", user_input)

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Change a rule."""
        return await self._step("reconfigure", user_input)

    async def _step(self, step: str, user_input: dict[str, Any] | None) -> SubentryFlowResult:
        entry: EnergyLedgerEntry = self._get_entry()
        if not hasattr(entry, "runtime_data"):
            return self.async_abort(reason="entry_not_loaded")
        if (obstacle := self.obstacle(entry)) is not None:
            return self.async_abort(reason=obstacle)
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        changing = self.source == SOURCE_RECONFIGURE
        if user_input is not None:
            try:
                data = await self._checked(user_input)
            except RuleProblem as problem:
                # A field within a section has no place for an error of its own.
                errors["base"] = problem.code
                placeholders = problem.values
            else:
                title = str(user_input[CONF_NAME])
                if changing:
                    subentry = self._get_reconfigure_subentry()
                    return self.async_update_and_abort(entry, subentry, title=title, data=data)
                return self.async_create_entry(title=title, data=data)
        elif changing:
            subentry = self._get_reconfigure_subentry()
            user_input = {CONF_NAME: subentry.title, **subentry.data}
        return self.async_show_form(
            step_id=step,
            data_schema=self.add_suggested_values_to_schema(self.form(entry), user_input),
            errors=errors,
            description_placeholders=placeholders,
        )

    async def _checked(self, user_input: dict[str, Any]) -> dict[str, Any]:
        """Return what is stored; raises RuleProblem."""
        data = trimmed(user_input)
        check_rule(self.hass, self.parse(data))
        if conditions := data.get(CONF_CONDITIONS):
            try:
                await condition.async_validate_conditions_config(self.hass, cv.CONDITIONS_SCHEMA(conditions))
            except (vol.Invalid, HomeAssistantError) as error:
                raise RuleProblem("conditions_invalid", error=str(error)[:200]) from error
        return data
