"""The fix of a meter's register that jumped or fell for good: the user accepts its new count."""

from typing import Final

from homeassistant.components.repairs import RepairsFlow, RepairsFlowResult
from homeassistant.config_entries import ConfigEntryState

from .data import EnergyLedgerEntry
from .trading.engine import TradingEngine
from .trading.meter_core import Problem

ACCEPTS: Final = (Problem.BACKWARDS.value, Problem.JUMP.value)
"""Issues that accepting the new count cures."""


class AcceptCountFlow(RepairsFlow):
    """Starts a new baseline; what was counted before stays, what flowed meanwhile is not counted."""

    def __init__(self, entry: EnergyLedgerEntry, placeholders: dict[str, str]) -> None:
        """Prepare to accept the count of an entry's meter."""
        self._entry = entry
        self._placeholders = placeholders

    async def async_step_init(self, user_input: dict[str, str] | None = None) -> RepairsFlowResult:
        """Begin."""
        return await self.async_step_confirm(user_input)

    async def async_step_confirm(self, user_input: dict[str, str] | None = None) -> RepairsFlowResult:
        """Say what accepting means, then do it; a meter that is back meanwhile needs nothing."""
        if user_input is None:
            return self._form({})
        if self._entry.state is not ConfigEntryState.LOADED:
            return self.async_abort(reason="entry_not_loaded")
        trading = self._entry.runtime_data.trading
        metering = trading.metering if isinstance(trading, TradingEngine) else None
        # Only what the meter tells can be accepted: the user is asked again until it answers.
        if metering is not None and metering.pause is not None and not await metering.async_accept():
            return self._form({"base": "not_resolved"})
        return self.async_create_entry(data={})

    def _form(self, errors: dict[str, str]) -> RepairsFlowResult:
        return self.async_show_form(
            step_id="confirm", errors=errors, description_placeholders=self._placeholders
        )
