"""The fix of a meter's register that jumped or fell for good: the user accepts its new count."""

from typing import Any, Final

from homeassistant.components.repairs import RepairsFlowResult
from homeassistant.config_entries import ConfigEntryState

from .repair_flow import NOT_RESOLVED, EntryRepairFlow
from .trading.engine import TradingEngine
from .trading.meter_core import Problem

ACCEPTS: Final = (Problem.BACKWARDS.value, Problem.JUMP.value)
"""Issues that accepting the new count cures."""


class AcceptCountFlow(EntryRepairFlow):
    """Starts a new baseline; what was counted before stays, what flowed meanwhile is not counted."""

    async def async_step_confirm(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Say what accepting means, then do it; a meter that is back meanwhile needs nothing."""
        if user_input is None:
            return self.show()
        if self._entry.state is not ConfigEntryState.LOADED:
            return self.async_abort(reason="entry_not_loaded")
        trading = self._entry.runtime_data.trading
        metering = trading.metering if isinstance(trading, TradingEngine) else None
        # Only what the meter tells can be accepted: the user is asked again until it answers.
        if metering is not None and metering.pause is not None and not await metering.async_accept():
            return self.show(NOT_RESOLVED)
        return self.async_create_entry(data={})
