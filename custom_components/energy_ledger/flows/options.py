"""The options: the settings of a node that runs here, and the members, for who is an authority."""

from typing import Any

import probatio as vol
from homeassistant.config_entries import ConfigEntryState, ConfigFlowResult, OptionsFlowWithReload
from homeassistant.const import CONF_URL
from homeassistant.helpers.selector import (
    BooleanSelector,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectSelector,
    SelectSelectorConfig,
    TextSelector,
    TextSelectorConfig,
)

from ledger_core.client.places import parse_location
from ledger_core.errors import LedgerError

from ..const import (
    CONF_ADVERTISE,
    CONF_LOG_LEVEL,
    CONF_MINING,
    CONF_MINING_SHARE,
    CONF_PEER_VIEW,
    CONF_PEERS,
    DEFAULT_LOG_LEVEL,
    DEFAULT_MINING_SHARE,
)
from ..peer_view import peer_url
from .base import NOT_SET_UP
from .member_options import MemberSteps

LOG_LEVELS = ["debug", "info", "warning", "error"]


class EnergyLedgerOptionsFlow(MemberSteps, OptionsFlowWithReload):
    """What can be changed while the entry stays what it is."""

    automatic_reload = False

    async def async_step_init(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask what to do."""
        choices = [] if CONF_URL in self.config_entry.data else ["settings"]
        if self.config_entry.state is ConfigEntryState.LOADED and self.is_authority:
            choices += ["invite", "members", "approve"]
        if not choices:
            return self.async_abort(reason="nothing_to_change")
        return self.async_show_menu(step_id="init", menu_options=choices)

    async def async_step_settings(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Change the settings of the node that runs here."""
        errors: dict[str, str] = {}
        placeholders = {"peer_url": peer_url(self.hass, self.config_entry) or "-"}
        if user_input is not None:
            chosen = {
                CONF_MINING: user_input[CONF_MINING],
                CONF_MINING_SHARE: int(user_input[CONF_MINING_SHARE]),
                CONF_PEERS: [place for each in user_input[CONF_PEERS] if (place := each.strip())],
                CONF_ADVERTISE: user_input.get(CONF_ADVERTISE, "").strip(),
                CONF_PEER_VIEW: user_input[CONF_PEER_VIEW],
                CONF_LOG_LEVEL: user_input[CONF_LOG_LEVEL],
            }
            places = [(CONF_PEERS, place) for place in chosen[CONF_PEERS]]
            if chosen[CONF_ADVERTISE]:
                places.append((CONF_ADVERTISE, chosen[CONF_ADVERTISE]))
            for key, place in places:
                try:
                    parse_location(place)
                except LedgerError:
                    errors[key] = "place_invalid"
                    placeholders["place"] = place
            if not errors:
                # An entry that is set up reloads by itself; one whose node could not start has to be told.
                self.automatic_reload = self.config_entry.state in NOT_SET_UP
                return self.async_create_entry(data={**self.config_entry.options, **chosen})
        return self.async_show_form(
            step_id="settings",
            data_schema=self.add_suggested_values_to_schema(
                _settings_schema(), user_input or self.config_entry.options
            ),
            errors=errors,
            description_placeholders=placeholders,
        )


def _settings_schema() -> vol.Schema:
    share = NumberSelectorConfig(
        min=1, max=100, step=1, unit_of_measurement="%", mode=NumberSelectorMode.SLIDER
    )
    levels = SelectSelectorConfig(options=LOG_LEVELS, translation_key=CONF_LOG_LEVEL)
    return vol.Schema(
        {
            vol.Required(CONF_MINING, default=True): BooleanSelector(),
            vol.Required(CONF_MINING_SHARE, default=DEFAULT_MINING_SHARE): NumberSelector(share),
            vol.Optional(CONF_PEERS, default=list): TextSelector(TextSelectorConfig(multiple=True)),
            vol.Optional(CONF_ADVERTISE): TextSelector(),
            vol.Required(CONF_PEER_VIEW, default=False): BooleanSelector(),
            vol.Required(CONF_LOG_LEVEL, default=DEFAULT_LOG_LEVEL): SelectSelector(levels),
        }
    )
