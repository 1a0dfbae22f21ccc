"""Steps: join a community by an invitation that was pasted; the community may have been found nearby."""

import re
import secrets
import time
from dataclasses import dataclass
from typing import Any

import probatio as vol
from homeassistant.config_entries import ConfigFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.helpers.selector import TextSelector, TextSelectorConfig
from homeassistant.helpers.service_info.zeroconf import ZeroconfServiceInfo
from msgspec.structs import replace

from ledger_core.client import local
from ledger_core.keys import SoftwareSigner
from ledger_core.records.invitations import InvitationError, InvitationLink, decode_link, encode_link

from ..const import (
    CONF_CHAIN_ID,
    CONF_COMMUNITY,
    CONF_CURRENCY,
    CONF_DIRECTORY,
    CONF_HOME_NAME,
    CONF_INVITATION,
)
from ..node_setup import data_directory
from .home_key import HomeKeySteps

_CHAIN = re.compile(r"[0-9a-f]{64}")


def invitation_schema() -> vol.Schema:
    """Return the form for an invitation."""
    return vol.Schema(
        {
            vol.Required(CONF_INVITATION): TextSelector(TextSelectorConfig(multiline=True)),
            vol.Required(CONF_HOME_NAME): TextSelector(),
        }
    )


def read_invitation(
    text: str, chain_id: str | None = None
) -> tuple[InvitationLink | None, dict[str, str], dict[str, str]]:
    """Return an invitation, or None with the form's errors and their placeholders."""
    try:
        link = decode_link(text)
    except InvitationError as error:
        placeholders = {name: str(value) for name, value in error.details.items()}
        return None, {CONF_INVITATION: error.code.replace("_text", "")}, placeholders
    if link.invitation.expires <= time.time():
        return None, {CONF_INVITATION: "invitation_expired"}, {}
    if chain_id is not None and link.chain_id.hex() != chain_id:
        return None, {CONF_INVITATION: "invitation_elsewhere"}, {"community": link.community.name}
    return link, {}, {}


@dataclass
class JoinPlan:
    """A node of our own that joins by an invitation."""

    hass: HomeAssistant
    link: InvitationLink
    home_name: str
    directory: str

    @property
    def title(self) -> str:
        """The community's name."""
        return self.link.community.name

    async def prepare(self, _signer: SoftwareSigner) -> dict[str, Any]:
        """Make the node's data directory."""
        path = data_directory(self.hass, self.directory)
        await self.hass.async_add_executor_job(local.prepare_joining, path, encode_link(self.link))
        community = self.link.community
        return {
            CONF_CHAIN_ID: self.link.chain_id.hex(),
            CONF_COMMUNITY: community.name,
            CONF_CURRENCY: community.currency,
            CONF_DIRECTORY: self.directory,
            CONF_HOME_NAME: self.home_name,
            CONF_INVITATION: encode_link(self.link),
        }


def new_directory() -> str:
    """Return a name for a data directory."""
    return secrets.token_hex(8)


class JoinSteps(HomeKeySteps):
    """How a home joins; leads to `home_key`."""

    def __init__(self) -> None:
        """Begin with no community found."""
        super().__init__()
        self._found_chain: str | None = None
        self._found_address: str | None = None

    async def async_step_join(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the invitation."""
        return await self._join("join", user_input)

    async def async_step_zeroconf(self, discovery_info: ZeroconfServiceInfo) -> ConfigFlowResult:
        """A community's node was found on the network."""
        chain_id = discovery_info.properties.get("chain") or ""
        if not _CHAIN.fullmatch(chain_id) or discovery_info.port is None:
            return self.async_abort(reason="not_a_node")
        if self.community_configured(chain_id):
            return self.async_abort(reason="already_configured")
        await self.async_set_unique_id(chain_id)
        self._abort_if_unique_id_configured()
        self._found_chain = chain_id
        host = discovery_info.host
        self._found_address = f"{f'[{host}]' if ':' in host else host}:{discovery_info.port}"
        self.context["title_placeholders"] = {"name": chain_id[:8]}
        return await self.async_step_found()

    async def async_step_found(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the invitation to the community that was found."""
        return await self._join("found", user_input)

    async def _join(self, step_id: str, user_input: dict[str, Any] | None) -> ConfigFlowResult:
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            home_name = user_input[CONF_HOME_NAME].strip()
            link, errors, placeholders = read_invitation(user_input[CONF_INVITATION], self._found_chain)
            if not home_name:
                errors[CONF_HOME_NAME] = "empty"
            if link is not None and not errors:
                if self._found_address is not None and self._found_address not in link.addresses:
                    link = replace(link, addresses=(self._found_address, *link.addresses)[:8])
                self.plan = JoinPlan(self.hass, link, home_name, new_directory())
                return await self.async_step_home_key()
        suggested = user_input or {CONF_HOME_NAME: self.hass.config.location_name}
        return self.async_show_form(
            step_id=step_id,
            data_schema=self.add_suggested_values_to_schema(invitation_schema(), suggested),
            errors=errors,
            description_placeholders={"chain": (self._found_chain or "")[:8], **placeholders},
        )
