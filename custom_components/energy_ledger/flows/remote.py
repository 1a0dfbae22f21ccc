"""Steps: use a node that runs elsewhere, and later another address or token of it."""

from dataclasses import dataclass
from typing import Any

import probatio as vol
from homeassistant.config_entries import ConfigFlowResult
from homeassistant.const import CONF_TOKEN, CONF_URL
from homeassistant.core import HomeAssistant
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.helpers.selector import TextSelector, TextSelectorConfig, TextSelectorType

from ledger_core import __version__
from ledger_core.client import AnswerInvalidError, ClientError, NodeClient, RefusedError, UnauthorizedError
from ledger_core.client.views import StatusView
from ledger_core.keys import SoftwareSigner, address

from ..const import CONF_CHAIN_ID, CONF_COMMUNITY, CONF_CURRENCY, CONF_HOME_NAME, CONF_INVITATION
from ..node.versions import version_fits
from .home_key import HomeKeySteps
from .joining import invitation_schema, read_invitation

_URL = TextSelector(TextSelectorConfig(type=TextSelectorType.URL))
_TOKEN = TextSelector(TextSelectorConfig(type=TextSelectorType.PASSWORD))


def node_schema() -> vol.Schema:
    """Return the form for a node's address and token."""
    return vol.Schema({vol.Required(CONF_URL): _URL, vol.Required(CONF_TOKEN): _TOKEN})


def token_schema() -> vol.Schema:
    """Return the form for a token."""
    return vol.Schema({vol.Required(CONF_TOKEN): _TOKEN})


async def ask_node(
    hass: HomeAssistant, url: str, token: str
) -> tuple[StatusView | None, dict[str, str], dict[str, str]]:
    """Return a node's status, or None with the form's errors and their placeholders."""
    try:
        client = NodeClient(url, token, session=async_get_clientsession(hass))
        status = await client.status()
    except ClientError as error:
        return None, _errors(error), {"reason": error.message}
    if not version_fits(status.version, __version__):
        return None, {"base": "other_version"}, {"found": status.version, "wanted": __version__}
    return status, {}, {}


def _errors(error: ClientError) -> dict[str, str]:
    if error.code == "url_invalid":
        return {CONF_URL: "url_invalid"}
    if isinstance(error, UnauthorizedError):
        return {CONF_TOKEN: "token_refused"}
    if isinstance(error, AnswerInvalidError):
        return {"base": "not_a_node"}
    return {"base": "cannot_connect"}


@dataclass
class RemotePlan:
    """A node elsewhere, used by a member or by a home that joins through it."""

    hass: HomeAssistant
    status: StatusView
    url: str
    token: str
    home_name: str = ""
    invitation: str | None = None

    @property
    def title(self) -> str:
        """The community's name."""
        return self.status.community

    async def is_member(self, signer: SoftwareSigner) -> bool:
        """Ask the node whether a key is a member's; raises ClientError."""
        client = NodeClient(self.url, self.token, session=async_get_clientsession(self.hass))
        try:
            member = await client.member(address(signer.public_key))
        except RefusedError as error:
            if error.code != "member_unknown":
                raise
            return False
        return bool(member.roles)

    async def prepare(self, _signer: SoftwareSigner) -> dict[str, Any]:
        """Return the entry's data: everything is there."""
        data = {
            CONF_CHAIN_ID: self.status.chain_id,
            CONF_COMMUNITY: self.status.community,
            CONF_CURRENCY: self.status.currency,
            CONF_HOME_NAME: self.home_name,
            CONF_URL: self.url,
            CONF_TOKEN: self.token,
        }
        return data if self.invitation is None else {**data, CONF_INVITATION: self.invitation}


class RemoteSteps(HomeKeySteps):
    """How a node elsewhere is used; leads to `home_key`."""

    async def async_step_remote(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the node's address and token."""
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            url, token = user_input[CONF_URL].strip(), user_input[CONF_TOKEN].strip()
            status, errors, placeholders = await ask_node(self.hass, url, token)
            if status is not None:
                self.plan = RemotePlan(self.hass, status, url, token, self.hass.config.location_name)
                return await self.async_step_home_key()
        return self.async_show_form(
            step_id="remote",
            data_schema=self.add_suggested_values_to_schema(node_schema(), user_input),
            errors=errors,
            description_placeholders=placeholders,
        )

    async def async_step_prepare(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for an invitation where the home's key is no member's; then go on."""
        plan, signer = self.plan, self.signer
        if isinstance(plan, RemotePlan) and signer is not None and plan.invitation is None:
            try:
                is_member = await plan.is_member(signer)
            except ClientError as error:
                return self.async_show_form(
                    step_id="prepare",
                    errors={"base": "cannot_prepare"},
                    description_placeholders={"reason": error.message},
                )
            if not is_member:
                return await self.async_step_remote_invitation()
        return await super().async_step_prepare(user_input)

    async def async_step_remote_invitation(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for the invitation by which the home joins through a node elsewhere."""
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        plan = self.plan
        if user_input is not None and isinstance(plan, RemotePlan):
            text, home_name = user_input[CONF_INVITATION], user_input[CONF_HOME_NAME].strip()
            link, errors, placeholders = read_invitation(text, plan.status.chain_id)
            if not home_name:
                errors[CONF_HOME_NAME] = "empty"
            if link is not None and not errors:
                plan.invitation, plan.home_name = text, home_name
                return await self.async_step_prepare()
        suggested = user_input or {CONF_HOME_NAME: self.hass.config.location_name}
        return self.async_show_form(
            step_id="remote_invitation",
            data_schema=self.add_suggested_values_to_schema(invitation_schema(), suggested),
            errors=errors,
            description_placeholders=placeholders,
        )
