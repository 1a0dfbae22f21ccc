"""Steps for an entry that is there: another token or address of its node, other ways to reach it."""

from collections.abc import Mapping
from typing import Any

import probatio as vol
from homeassistant.config_entries import ConfigFlowResult
from homeassistant.const import CONF_TOKEN, CONF_URL
from homeassistant.helpers.selector import NumberSelector, NumberSelectorConfig, NumberSelectorMode

from ..const import CONF_CHAIN_ID, CONF_DISCOVERY, CONF_PEER_PORT, DEFAULT_PEER_PORT
from .base import FlowBase
from .remote import ask_node, node_schema, token_schema

_PORT = NumberSelector(NumberSelectorConfig(min=0, max=65_535, step=1, mode=NumberSelectorMode.BOX))


class AgainSteps(FlowBase):
    """Reauthentication and reconfiguration."""

    async def async_step_reauth(self, _: Mapping[str, Any]) -> ConfigFlowResult:
        """The node refuses the token; that of a node which runs here is read again."""
        entry = self._get_reauth_entry()
        if CONF_URL not in entry.data:
            self.hass.config_entries.async_schedule_reload(entry.entry_id)
            return self.async_abort(reason="reauth_successful")
        return await self.async_step_reauth_confirm()

    async def async_step_reauth_confirm(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the token."""
        entry = self._get_reauth_entry()
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            token = user_input[CONF_TOKEN].strip()
            status, errors, placeholders = await ask_node(self.hass, entry.data[CONF_URL], token)
            if status is not None:
                if status.chain_id != entry.data[CONF_CHAIN_ID]:
                    return self.async_abort(
                        reason="other_community", description_placeholders={"community": status.community}
                    )
                return self.async_update_and_abort(entry, data_updates={CONF_TOKEN: token})
        return self.async_show_form(
            step_id="reauth_confirm",
            data_schema=self.add_suggested_values_to_schema(token_schema(), user_input),
            errors=errors,
            description_placeholders={"url": entry.data[CONF_URL], "community": entry.title, **placeholders},
        )

    async def async_step_reconfigure(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Change where the node is."""
        if CONF_URL in self._get_reconfigure_entry().data:
            return await self.async_step_reconfigure_remote(user_input)
        return await self.async_step_reconfigure_own(user_input)

    async def async_step_reconfigure_remote(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Change address and token of a node elsewhere."""
        entry = self._get_reconfigure_entry()
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            url, token = user_input[CONF_URL].strip(), user_input[CONF_TOKEN].strip()
            status, errors, placeholders = await ask_node(self.hass, url, token)
            if status is not None and status.chain_id != entry.data[CONF_CHAIN_ID]:
                errors = {"base": "other_community"}
                placeholders = {"community": status.community}
            elif status is not None:
                return self.async_update_and_abort(entry, data_updates={CONF_URL: url, CONF_TOKEN: token})
        suggested = user_input or {CONF_URL: entry.data[CONF_URL]}
        return self.async_show_form(
            step_id="reconfigure_remote",
            data_schema=self.add_suggested_values_to_schema(node_schema(), suggested),
            errors=errors,
            description_placeholders=placeholders,
        )

    async def async_step_reconfigure_own(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Change how others on the network reach a node that runs here."""
        entry = self._get_reconfigure_entry()
        if user_input is not None:
            changed = {
                CONF_PEER_PORT: int(user_input[CONF_PEER_PORT]),
                CONF_DISCOVERY: user_input[CONF_DISCOVERY],
            }
            return self.async_update_and_abort(entry, options={**entry.options, **changed})
        schema = vol.Schema(
            {
                vol.Required(
                    CONF_PEER_PORT, default=entry.options.get(CONF_PEER_PORT, DEFAULT_PEER_PORT)
                ): _PORT,
                vol.Required(CONF_DISCOVERY, default=entry.options.get(CONF_DISCOVERY, True)): bool,
            }
        )
        return self.async_show_form(step_id="reconfigure_own", data_schema=schema)
