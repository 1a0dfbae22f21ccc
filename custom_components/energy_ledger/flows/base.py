"""What the steps of the config flow share: what was chosen so far, and how the flow ends."""

from itertools import count
from typing import Any, Final, Protocol

from homeassistant.config_entries import ConfigEntry, ConfigEntryState, ConfigFlow, ConfigFlowResult
from homeassistant.core import callback

from ledger_core.errors import LedgerError
from ledger_core.keys import SoftwareSigner, address

from ..const import (
    CONF_CHAIN_ID,
    CONF_DIRECTORY,
    CONF_HOME,
    CONF_PEER_PORT,
    DEFAULT_PEER_PORT,
    DOMAIN,
)
from ..key_store import async_key_store
from ..refusals import async_reason

NOT_SET_UP: Final = (ConfigEntryState.SETUP_ERROR, ConfigEntryState.SETUP_RETRY)
"""An entry whose set-up failed: nothing listens for what is changed to mend it."""


class Plan(Protocol):
    """A way into a community, once everything but the home's key is known."""

    @property
    def title(self) -> str:
        """The community's name."""

    async def prepare(self, signer: SoftwareSigner) -> dict[str, Any]:
        """Do what comes before the entry, and return the entry's data; raises LedgerError, OSError.

        Repeating it after a failure does no harm.
        """


class FlowBase(ConfigFlow):
    """The end of every way into a community."""

    def __init__(self) -> None:
        """Begin with nothing chosen."""
        self.plan: Plan | None = None
        self.signer: SoftwareSigner | None = None

    @callback
    def async_update_and_abort(self, entry: ConfigEntry, **changes: Any) -> ConfigFlowResult:
        """Change an entry, and set it up with that; one that is set up already reloads by itself."""
        result = super().async_update_and_abort(entry, **changes)
        if entry.state in NOT_SET_UP:
            self.hass.config_entries.async_schedule_reload(entry.entry_id)
        return result

    def community_configured(self, chain_id: str) -> bool:
        """Tell whether this Home Assistant has an entry of a community already."""
        return any(
            entry.data.get(CONF_CHAIN_ID) == chain_id
            for entry in self.hass.config_entries.async_entries(DOMAIN)
        )

    async def async_step_prepare(self, _: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Prepare what the entry needs, and make it; after a failure again when the user says so."""
        if self.plan is None or self.signer is None:
            return self.async_abort(reason="unknown")
        try:
            data = await self.plan.prepare(self.signer)
        except (LedgerError, OSError) as error:
            reason = await async_reason(self.hass, error) if isinstance(error, LedgerError) else str(error)
            return self.async_show_form(
                step_id="prepare",
                errors={"base": "cannot_prepare"},
                description_placeholders={"reason": reason},
            )
        home = address(self.signer.public_key)
        await self.async_set_unique_id(f"{data[CONF_CHAIN_ID]}_{home}")
        self._abort_if_unique_id_configured()
        await (await async_key_store(self.hass)).async_add(self.signer)
        self._end_discovered(data[CONF_CHAIN_ID])
        return self.async_create_entry(
            title=self.plan.title, data={**data, CONF_HOME: home}, options=self._options(data)
        )

    def _options(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return a port for a node that runs here, if another entry's node has the usual one."""
        if CONF_DIRECTORY not in data:
            return {}
        taken = {
            entry.options.get(CONF_PEER_PORT, DEFAULT_PEER_PORT)
            for entry in self.hass.config_entries.async_entries(DOMAIN)
            if CONF_DIRECTORY in entry.data
        }
        port = next(port for port in count(DEFAULT_PEER_PORT) if port not in taken)
        return {} if port == DEFAULT_PEER_PORT else {CONF_PEER_PORT: port}

    def _end_discovered(self, chain_id: str) -> None:
        """End the flow of a community that was found on the network: this one joins it."""
        flows = self.hass.config_entries.flow
        for flow in flows.async_progress_by_handler(DOMAIN):
            if flow["flow_id"] != self.flow_id and flow["context"].get("unique_id") == chain_id:
                flows.async_abort(flow["flow_id"])
