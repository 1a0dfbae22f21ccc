"""Binds the flows."""

from typing import Any

from homeassistant.config_entries import ConfigEntry, ConfigFlowResult, ConfigSubentryFlow, OptionsFlow
from homeassistant.core import callback

from .const import DOMAIN, SUBENTRY_BUY, SUBENTRY_DEVICE, SUBENTRY_SELL
from .flows.again import AgainSteps
from .flows.buy import BuySubentryFlow
from .flows.creating import CreateSteps
from .flows.device import DeviceSubentryFlow
from .flows.joining import JoinSteps
from .flows.options import EnergyLedgerOptionsFlow
from .flows.remote import RemoteSteps
from .flows.sell import SellSubentryFlow


class EnergyLedgerConfigFlow(CreateSteps, JoinSteps, RemoteSteps, AgainSteps, domain=DOMAIN):
    """Sets up a home in a community."""

    VERSION = 1

    @classmethod
    @callback
    def async_get_supported_subentry_types(
        cls, _config_entry: ConfigEntry[Any]
    ) -> dict[str, type[ConfigSubentryFlow]]:
        """Return the kinds of subentries, each with its flow."""
        return {
            SUBENTRY_DEVICE: DeviceSubentryFlow,
            SUBENTRY_SELL: SellSubentryFlow,
            SUBENTRY_BUY: BuySubentryFlow,
        }

    @staticmethod
    @callback
    def async_get_options_flow(_config_entry: ConfigEntry[Any]) -> OptionsFlow:
        """Return the flow of an entry's options."""
        return EnergyLedgerOptionsFlow()

    async def async_step_user(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the way into a community."""
        return self.async_show_menu(step_id="user", menu_options=["create", "join", "remote"])
