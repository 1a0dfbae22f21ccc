"""Steps: found a community; what is chosen here stays as it is for good."""

import time
from dataclasses import dataclass, field
from typing import Any

import probatio as vol
from homeassistant.config_entries import ConfigFlowResult
from homeassistant.const import PERCENTAGE
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import section
from homeassistant.helpers.selector import (
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectSelector,
    SelectSelectorConfig,
    TextSelector,
)

from ledger_core.client import local
from ledger_core.keys import SoftwareSigner
from ledger_core.units import MICRO

from ..const import (
    CONF_CHAIN_ID,
    CONF_COMMUNITY,
    CONF_CURRENCY,
    CONF_DIRECTORY,
    CONF_HOME_NAME,
)
from ..currencies import magnitude
from ..node_setup import data_directory
from .home_key import HomeKeySteps
from .joining import new_directory

CONF_NAME = "community_name"
CONF_ADVANCED = "advanced"
CONF_SLOT = "slot_s"
CONF_SPACING = "block_spacing_s"
CONF_CHECKPOINT = "checkpoint_interval"
CONF_GRACE = "grace_s"
CONF_MONEY = "money_mode"
CONF_CREDIT = "credit_limit"
CONF_APPROVAL = "asset_approval"
CONF_TERMINATION = "termination_permille"

SLOTS = ("60", "300", "900", "1800", "3600")
MAX_NAME = 64
BLOCKS_OF_HALF_LIFE = 120
MAX_CURRENCY = 8
DEFAULT_CREDIT = 50
"""Units of a currency like the euro: what a household uses in some weeks."""


def _number(least: int, most: int, unit: str) -> NumberSelector:
    return NumberSelector(
        NumberSelectorConfig(
            min=least, max=most, step=1, unit_of_measurement=unit, mode=NumberSelectorMode.BOX
        )
    )


def _choice(name: str, options: list[str]) -> SelectSelector:
    return SelectSelector(SelectSelectorConfig(options=options, translation_key=name))


def community_schema() -> vol.Schema:
    """Return the form for a new community."""
    advanced = vol.Schema(
        {
            vol.Required(CONF_SLOT, default="900"): _choice(CONF_SLOT, list(SLOTS)),
            vol.Required(CONF_SPACING, default=30): _number(1, 3600, "s"),
            vol.Required(CONF_CHECKPOINT, default=30): _number(2, 10_000, ""),
            vol.Required(CONF_GRACE, default=30): _number(0, 10_080, "min"),
            vol.Required(CONF_MONEY, default="mutual_credit"): _choice(
                CONF_MONEY, ["mutual_credit", "prepaid"]
            ),
            vol.Optional(CONF_CREDIT): _number(0, 1_000_000, ""),
            vol.Required(
                CONF_TERMINATION, default=local.default_parameters()[CONF_TERMINATION] // 10
            ): _number(0, 100, PERCENTAGE),
            vol.Required(CONF_APPROVAL, default="owner"): _choice(CONF_APPROVAL, ["owner", "authority"]),
        }
    )
    return vol.Schema(
        {
            vol.Required(CONF_NAME): TextSelector(),
            vol.Required(CONF_CURRENCY): TextSelector(),
            vol.Required(CONF_HOME_NAME): TextSelector(),
            vol.Required(CONF_ADVANCED): section(advanced, {"collapsed": True}),
        }
    )


@dataclass
class CreatePlan:
    """A community that this home founds, and its first node."""

    hass: HomeAssistant
    name: str
    currency: str
    home_name: str
    directory: str
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The community's name."""
        return self.name

    async def prepare(self, signer: SoftwareSigner) -> dict[str, Any]:
        """Make the genesis, and the node's data directory."""
        path = data_directory(self.hass, self.directory)
        founding = local.Founding(
            name=self.name,
            currency=self.currency,
            founder_name=self.home_name,
            parameters=self.parameters,
        )
        genesis = await self.hass.async_add_executor_job(
            local.found, path, founding, signer.public_key, int(time.time())
        )
        return {
            CONF_CHAIN_ID: genesis.chain_id.hex(),
            CONF_COMMUNITY: self.name,
            CONF_CURRENCY: self.currency,
            CONF_DIRECTORY: self.directory,
            CONF_HOME_NAME: self.home_name,
        }


def read_parameters(advanced: dict[str, Any], currency: str) -> dict[str, Any]:
    """Return the genesis' parameters of what the form says."""
    spacing_s = int(advanced[CONF_SPACING])
    parameters = {
        CONF_SLOT: int(advanced[CONF_SLOT]),
        CONF_SPACING: spacing_s,
        # The difficulty follows within so many blocks, however fast they are.
        "difficulty_half_life_s": BLOCKS_OF_HALF_LIFE * spacing_s,
        CONF_CHECKPOINT: int(advanced[CONF_CHECKPOINT]),
        CONF_GRACE: int(advanced[CONF_GRACE]) * 60,
        CONF_MONEY: advanced[CONF_MONEY],
        CONF_TERMINATION: int(advanced[CONF_TERMINATION]) * 10,
        CONF_APPROVAL: advanced[CONF_APPROVAL],
    }
    if advanced[CONF_MONEY] == "mutual_credit":
        credit = advanced.get(CONF_CREDIT, DEFAULT_CREDIT * magnitude(currency))
        parameters[CONF_CREDIT] = int(credit) * MICRO
    return parameters


class CreateSteps(HomeKeySteps):
    """How a community is founded; leads to `home_key`."""

    async def async_step_create(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the community's name and terms."""
        errors: dict[str, str] = {}
        if user_input is not None:
            texts = {key: user_input[key].strip() for key in (CONF_NAME, CONF_CURRENCY, CONF_HOME_NAME)}
            longest = {CONF_NAME: MAX_NAME, CONF_CURRENCY: MAX_CURRENCY, CONF_HOME_NAME: MAX_NAME}
            for key, text in texts.items():
                if not text:
                    errors[key] = "empty"
                elif len(text) > longest[key]:
                    errors[key] = "too_long"
            if not errors:
                self.plan = CreatePlan(
                    self.hass,
                    name=texts[CONF_NAME],
                    currency=texts[CONF_CURRENCY],
                    home_name=texts[CONF_HOME_NAME],
                    directory=new_directory(),
                    parameters=read_parameters(user_input[CONF_ADVANCED], texts[CONF_CURRENCY]),
                )
                return await self.async_step_home_key()
        suggested = user_input or {
            CONF_CURRENCY: self.hass.config.currency,
            CONF_HOME_NAME: self.hass.config.location_name,
        }
        return self.async_show_form(
            step_id="create",
            data_schema=self.add_suggested_values_to_schema(community_schema(), suggested),
            errors=errors,
            description_placeholders={"longest": str(MAX_NAME), "longest_currency": str(MAX_CURRENCY)},
        )
