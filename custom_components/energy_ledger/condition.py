"""Conditions of Energy Ledger."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Unpack, override

import probatio as vol
from homeassistant.core import HomeAssistant
from homeassistant.helpers.condition import Condition, ConditionCheckParams, ConditionConfig
from homeassistant.helpers.typing import ConfigType

from . import prices
from .describe import offer_data, role_of
from .loaded import check_options, loaded_entries, split_options
from .matching import FILTER_ROLE, OFFER_FILTERS, matches, options_schema
from .quantities import money, now_s

CONF_BALANCE: Final = "balance"
CONF_OFFER: Final = "offer"
_OF_AN_OFFER: Final = frozenset({"offer", "side", "open", "price"})
"""What trades and counters, which name their offer as well, do not have all of."""


class _LedgerCondition(Condition):
    """Base: options are checked, and name a home or none for any of them."""

    schema: ClassVar[vol.Schema]

    @classmethod
    @override
    async def async_validate_config(cls, hass: HomeAssistant, config: ConfigType) -> ConfigType:
        """Check the options."""
        return check_options(hass, cls.schema, config)

    def __init__(self, hass: HomeAssistant, config: ConditionConfig) -> None:
        """Take the options apart."""
        super().__init__(hass, config)
        self._entry_id, self._options = split_options(config.options)


class OfferMatches(_LedgerCondition):
    """An offer passes filters: the one that the run is about, or else any that this home may accept now.

    The run is about an offer when a trigger of this integration or a buying rule gave it: the variables
    `trigger.data` or `offer` hold it.
    """

    schema = options_schema(OFFER_FILTERS)

    @override
    def _async_check(self, **kwargs: Unpack[ConditionCheckParams]) -> bool:
        given = _given_offer(kwargs.get("variables"))
        if given is not None:
            return matches(self._options, given)
        return any(
            matches(self._options, {**offer_data(offer, home)})
            for entry in loaded_entries(self._hass, self._entry_id)
            for home in (entry.runtime_data.key.signer.public_key.hex(),)
            for offer in entry.runtime_data.ledger.data.offers
            if prices.open_to(offer, home) and offer.valid_until > now_s()
        )


def _given_offer(variables: Any) -> Mapping[str, Any] | None:
    """Return the offer that variables hold, as `describe.offer_data` writes it."""
    given = variables or {}
    trigger = given.get("trigger")
    candidates = (given.get("offer"), trigger.get("data") if isinstance(trigger, Mapping) else None)
    for candidate in candidates:
        if isinstance(candidate, Mapping) and candidate.keys() >= _OF_AN_OFFER:
            return candidate
    return None


class TradingNow(_LedgerCondition):
    """A trade of the home is in its window."""

    schema = options_schema({vol.Optional(FILTER_ROLE): vol.In(["seller", "buyer"])})

    @override
    def _async_check(self, **kwargs: Unpack[ConditionCheckParams]) -> bool:
        wanted = self._options.get(FILTER_ROLE)
        return any(
            wanted in (None, role_of(home, trade.seller.key, trade.buyer.key))
            for entry in loaded_entries(self._hass, self._entry_id)
            for home in (entry.runtime_data.key.signer.public_key.hex(),)
            for trade in prices.running(entry.runtime_data.ledger.data.trades, now_s())
        )


class BalanceAbove(_LedgerCondition):
    """The home's balance is above a limit; without an account it is not."""

    schema = options_schema({vol.Required(CONF_BALANCE): vol.Coerce(float)})

    @override
    def _async_check(self, **kwargs: Unpack[ConditionCheckParams]) -> bool:
        limit: float = self._options[CONF_BALANCE]
        accounts = [
            entry.runtime_data.ledger.data.account for entry in loaded_entries(self._hass, self._entry_id)
        ]
        return any(account is not None and money(account.balance) > limit for account in accounts)


CONDITIONS: Final[dict[str, type[Condition]]] = {
    "offer_matches": OfferMatches,
    "trading_now": TradingNow,
    "balance_above": BalanceAbove,
}


async def async_get_conditions(_hass: HomeAssistant) -> dict[str, type[Condition]]:
    """Return the conditions by name."""
    return CONDITIONS
