"""Binds the flows."""

from homeassistant.config_entries import ConfigFlow

from .const import DOMAIN


class EnergyLedgerConfigFlow(ConfigFlow, domain=DOMAIN):
    """Sets up a home in a community."""

    VERSION = 1
