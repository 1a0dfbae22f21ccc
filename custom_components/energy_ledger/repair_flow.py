"""What the repair flows of an entry have in common: one form, shown until what it asks for is done."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import probatio as vol
from homeassistant.components.repairs import RepairsFlow, RepairsFlowResult

from .data import EnergyLedgerEntry

NOT_RESOLVED: Final = MappingProxyType({"base": "not_resolved"})
"""The form's errors when the cause is still there."""


class EntryRepairFlow(RepairsFlow, ABC):
    """Fixes an issue of an entry by the one step that a subclass gives."""

    def __init__(self, entry: EnergyLedgerEntry, placeholders: dict[str, str]) -> None:
        """Prepare to fix an issue of an entry; the form's text names the placeholders."""
        self._entry = entry
        self._placeholders = placeholders

    async def async_step_init(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Begin."""
        return await self.async_step_confirm(user_input)

    @abstractmethod
    async def async_step_confirm(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Say what is to be done; do it, or look at it, when the user sends the form."""

    def show(
        self,
        errors: Mapping[str, str] | None = None,
        schema: vol.Schema | None = None,
        told: dict[str, str] | None = None,
    ) -> RepairsFlowResult:
        """Show the form, with placeholders that only this time are told."""
        return self.async_show_form(
            step_id="confirm",
            data_schema=schema,
            errors=dict(errors or {}),
            description_placeholders={**self._placeholders, **(told or {})},
        )
