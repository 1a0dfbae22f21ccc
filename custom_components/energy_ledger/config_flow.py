"""Binds the flows."""

from typing import Any

from homeassistant.config_entries import ConfigFlowResult

from .const import DOMAIN
from .flows.again import AgainSteps
from .flows.creating import CreateSteps
from .flows.joining import JoinSteps
from .flows.remote import RemoteSteps


class EnergyLedgerConfigFlow(CreateSteps, JoinSteps, RemoteSteps, AgainSteps, domain=DOMAIN):
    """Sets up a home in a community."""

    VERSION = 1

    async def async_step_user(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the way into a community."""
        return self.async_show_menu(step_id="user", menu_options=["create", "join", "remote"])
