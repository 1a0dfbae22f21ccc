"""Options of an authority: invite, change and revoke members, approve what others propose."""

import time
from typing import Any

import probatio as vol
from homeassistant.config_entries import ConfigFlowResult, OptionsFlow
from homeassistant.core import HomeAssistant
from homeassistant.helpers.selector import (
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    QrCodeSelector,
    QrCodeSelectorConfig,
    QrErrorCorrectionLevel,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    TextSelector,
    TextSelectorConfig,
)
from homeassistant.helpers.translation import async_get_translations

from ledger_core.client import ClientError, RefusedError
from ledger_core.client.bodies import roles_value
from ledger_core.client.places import parse_location
from ledger_core.client.signed import SignedRecord
from ledger_core.client.views import MemberView
from ledger_core.errors import LedgerError
from ledger_core.keys import address
from ledger_core.records.assets import Asset
from ledger_core.records.members import Member
from ledger_core.records.types import Role

from ..const import DOMAIN
from ..data import EnergyLedgerData
from ..refusals import async_reason

CONF_ROLES = "roles"
CONF_VALID_DAYS = "valid_days"
CONF_ADDRESSES = "addresses"
CONF_TEXT = "invitation"
CONF_QR = "qr_code"
CONF_MEMBER = "member"
CONF_PROPOSAL = "proposal"

ROLES = [role.name.lower() for role in Role if role.name]
HOUSEHOLD = ["home", "node"]
_DAY_S = 86_400
_MULTILINE = TextSelector(TextSelectorConfig(multiline=True))


class MemberSteps(OptionsFlow):
    """What an authority does for the community."""

    def __init__(self) -> None:
        """Begin with nothing chosen."""
        self._invitation = ""
        self._member: MemberView | None = None
        self._proposal: SignedRecord | None = None

    @property
    def _data(self) -> EnergyLedgerData:
        data: EnergyLedgerData = self.config_entry.runtime_data
        return data

    @property
    def is_authority(self) -> bool:
        """Whether this home is an authority of the community."""
        own = self._data.key.signer.public_key.hex()
        members = self._data.ledger.data.members
        return any(member.member.key == own and "authority" in member.roles for member in members)

    def _done(self) -> ConfigFlowResult:
        """End the flow with the options as they were."""
        return self.async_create_entry(data=dict(self.config_entry.options))

    async def async_step_invite(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Make an invitation."""
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            addresses = [place for each in user_input[CONF_ADDRESSES] if (place := each.strip())]
            errors, placeholders = _place_errors(addresses)
            if not user_input[CONF_ROLES]:
                errors[CONF_ROLES] = "roles_missing"
            if not errors:
                expires = int(time.time()) + int(user_input[CONF_VALID_DAYS]) * _DAY_S
                roles = roles_value(user_input[CONF_ROLES])
                try:
                    self._invitation = await self._data.home.make_invitation(
                        expires, roles, addresses or None
                    )
                except LedgerError as error:
                    errors, placeholders = await _refusal(self.hass, error)
                else:
                    return await self.async_step_invited()
        days = NumberSelectorConfig(min=1, max=90, step=1, mode=NumberSelectorMode.BOX)
        schema = vol.Schema(
            {
                vol.Required(CONF_ROLES, default=HOUSEHOLD): _roles_selector(),
                vol.Required(CONF_VALID_DAYS, default=2): NumberSelector(days),
                vol.Optional(CONF_ADDRESSES, default=list): TextSelector(TextSelectorConfig(multiple=True)),
            }
        )
        return self.async_show_form(
            step_id="invite",
            data_schema=self.add_suggested_values_to_schema(schema, user_input),
            errors=errors,
            description_placeholders=placeholders,
        )

    async def async_step_invited(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show the invitation as text and picture."""
        if user_input is not None:
            return self._done()
        picture = QrCodeSelectorConfig(
            data=self._invitation, scale=3, error_correction_level=QrErrorCorrectionLevel.LOW
        )
        schema = vol.Schema(
            {
                vol.Optional(CONF_TEXT, default=self._invitation): _MULTILINE,
                vol.Optional(CONF_QR): QrCodeSelector(picture),
            }
        )
        return self.async_show_form(step_id="invited", data_schema=schema)

    async def async_step_members(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Choose a member."""
        members = {member.member.address: member for member in self._data.ledger.data.members}
        if user_input is not None:
            self._member = members[user_input[CONF_MEMBER]]
            return await self.async_step_member()
        options = [
            SelectOptionDict(value=who, label=f"{who[:16]}… ({', '.join(member.roles) or '-'})")
            for who, member in members.items()
        ]
        schema = vol.Schema(
            {vol.Required(CONF_MEMBER): SelectSelector(SelectSelectorConfig(options=options))}
        )
        return self.async_show_form(step_id="members", data_schema=schema)

    async def async_step_member(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Change a member's roles; without any it is revoked."""
        member = self._member
        if member is None:
            return await self.async_step_members()
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            try:
                roles = roles_value(user_input[CONF_ROLES])
                await self._data.home.change_member(member.member.key, roles=roles)
            except LedgerError as error:
                errors, placeholders = await _refusal(self.hass, error)
            else:
                return self._done()
        schema = vol.Schema({vol.Required(CONF_ROLES, default=list(member.roles)): _roles_selector()})
        return self.async_show_form(
            step_id="member",
            data_schema=self.add_suggested_values_to_schema(schema, user_input),
            errors=errors,
            description_placeholders={"member": member.member.address, **placeholders},
        )

    async def async_step_approve(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Read what another home proposes: its membership, or an asset that needs an approval."""
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            try:
                self._proposal = await self._data.home.read_proposal(user_input[CONF_PROPOSAL])
            except ClientError as error:
                errors, placeholders = await _refusal(self.hass, error)
            except LedgerError as error:
                errors, placeholders = {CONF_PROPOSAL: "proposal_invalid"}, {"reason": error.message}
            else:
                return await self.async_step_agree()
        schema = vol.Schema({vol.Required(CONF_PROPOSAL): _MULTILINE})
        return self.async_show_form(
            step_id="approve",
            data_schema=self.add_suggested_values_to_schema(schema, user_input),
            errors=errors,
            description_placeholders=placeholders,
        )

    async def async_step_agree(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Show what is proposed, and sign it when the user says so."""
        proposal = self._proposal
        if proposal is None:
            return await self.async_step_approve()
        errors: dict[str, str] = {}
        placeholders: dict[str, str] = {}
        if user_input is not None:
            try:
                await self._data.home.agree(proposal)
            except LedgerError as error:
                errors, placeholders = await _refusal(self.hass, error)
            else:
                return self._done()
        return self.async_show_form(
            step_id="agree",
            errors=errors,
            description_placeholders={"proposal": await describe(self.hass, proposal), **placeholders},
        )


async def describe(hass: HomeAssistant, proposal: SignedRecord) -> str:
    """Return what a proposal says, in the system's language."""
    texts: dict[str, str] = {}
    for category in ("common", "selector"):
        texts |= await async_get_translations(hass, hass.config.language, category, [DOMAIN])

    def option(selector: str, code: str) -> str:
        return texts.get(f"component.{DOMAIN}.selector.{selector}.options.{code}", code)

    def line(record: str, /, **figures: object) -> str:
        return texts[f"component.{DOMAIN}.common.proposal_{record}"].format_map(figures)

    body = proposal.body
    match body:
        case Member():
            roles = [option("member_role", str(role.name).lower()) for role in Role(body.roles)]
            node = "-" if body.node is None else address(body.node)
            return line("member", member=address(body.member), roles=", ".join(roles) or "-", node=node)
        case Asset():
            stored = "-" if body.capacity_wh is None else f"{body.capacity_wh} Wh"
            kind, owner = option("asset_kind", body.kind.value), address(body.author)
            asset = body.asset.hex()
            return line("asset", kind=kind, asset=asset, rating=body.rating_w, stored=stored, owner=owner)
        case _:
            return f"{type(body).__name__}; {address(body.author)}"


def _roles_selector() -> SelectSelector:
    return SelectSelector(SelectSelectorConfig(options=ROLES, multiple=True, translation_key="member_role"))


def _place_errors(places: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    for place in places:
        try:
            parse_location(place)
        except LedgerError:
            return {CONF_ADDRESSES: "place_invalid"}, {"place": place}
    return {}, {}


async def _refusal(hass: HomeAssistant, error: LedgerError) -> tuple[dict[str, str], dict[str, str]]:
    """Return the form's error for what the ledger or the way to it refuses."""
    away = isinstance(error, ClientError) and not isinstance(error, RefusedError)
    return {"base": "cannot_connect" if away else "refused"}, {"reason": await async_reason(hass, error)}
