"""The fix of an invitation that does not hold: the user enters another one, and the home joins by it."""

from typing import Any

import probatio as vol
from homeassistant.components.repairs import RepairsFlowResult
from homeassistant.config_entries import ConfigEntryState

from ledger_core.client import local
from ledger_core.errors import LedgerError

from .const import CONF_CHAIN_ID, CONF_DIRECTORY, CONF_INVITATION
from .flows.joining import read_invitation
from .node.keeper import node_keeper
from .node_setup import data_directory
from .repair_flow import EntryRepairFlow


class NewInvitationFlow(EntryRepairFlow):
    """Puts another invitation in the place of an entry's, and sets the entry up with it."""

    async def async_step_confirm(self, user_input: dict[str, Any] | None = None) -> RepairsFlowResult:
        """Ask for the invitation, and use it."""
        errors: dict[str, str] = {}
        told: dict[str, str] = {}
        if user_input is not None:
            text = user_input[CONF_INVITATION].strip()
            link, errors, told = read_invitation(text, self._entry.data[CONF_CHAIN_ID])
            if link is not None:
                try:
                    await self._replace(text)
                except (LedgerError, OSError) as error:
                    errors, told = {"base": "cannot_prepare"}, {"reason": str(error)}
                else:
                    return self.async_create_entry(data={})
        schema = vol.Schema({vol.Required(CONF_INVITATION): str})
        return self.show(errors, self.add_suggested_values_to_schema(schema, user_input), told)

    async def _replace(self, text: str) -> None:
        """Write the invitation where the entry and its node look for it; the node is started anew."""
        entries, entry = self.hass.config_entries, self._entry
        try:
            if CONF_DIRECTORY in entry.data:
                node_keeper(self.hass).renew(entry.entry_id)
                if entry.state is ConfigEntryState.LOADED:
                    await entries.async_unload(entry.entry_id)
                directory = data_directory(self.hass, entry.data[CONF_DIRECTORY])
                await self.hass.async_add_executor_job(local.prepare_joining, directory, text)
            entries.async_update_entry(entry, data={**entry.data, CONF_INVITATION: text})
        finally:
            entries.async_schedule_reload(entry.entry_id)
