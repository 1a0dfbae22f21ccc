"""What the ledger refuses, in the user's words and language.

The codes that a user meets have a message of their own with the figures in people's units; any other shows
the ledger's own sentence.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers.translation import async_get_translations

from ledger_core.client import ClientError, RefusedError
from ledger_core.errors import LedgerError
from ledger_core.keys import AddressError

from .const import DOMAIN
from .describe import KW, KWH
from .quantities import KILO, local_clock, money

type Shown = Callable[[Any, str], str]


def _power(value: Any, _unit: str) -> str:
    return f"{value} W"


def _energy(value: Any, _unit: str) -> str:
    return f"{value / KILO:g} kWh"


def _quantity(value: Any, unit: str) -> str:
    return f"{value / KILO:g} {unit}" if unit in (KWH, KW) else str(value)


def _money(value: Any, _unit: str) -> str:
    return f"{money(value):.6f}".rstrip("0").rstrip(".")


def _time(value: Any, _unit: str) -> str:
    return local_clock(value)


def _plain(value: Any, _unit: str) -> str:
    return str(value)


REFUSALS: Final[Mapping[str, Mapping[str, Shown]]] = {
    "acceptance_expired": {"valid_until": _time},
    "acceptance_unknown": {"acceptance": _plain},
    "already_scored": {},
    "asset_booked": {},
    "asset_capacity_missing": {},
    "asset_energy_above_capacity": {"capacity_wh": _energy, "energy_wh": _energy},
    "asset_missing": {},
    "asset_not_a_supplier": {"kind": _plain},
    "asset_unknown": {"asset": _plain},
    "auction_closed": {"closes": _time},
    "auction_closes": {"closes": _time},
    "auction_limits": {"ceiling": _money, "price": _money, "reserve": _money},
    "authority_missing": {},
    "below_minimum_fill": {"minimum": _quantity, "wanted": _quantity},
    "bid_above_ceiling": {"ceiling": _money, "price": _money},
    "bid_below_reserve": {"price": _money, "reserve": _money},
    "bid_binding": {},
    "bid_not_answered": {},
    "carrier_mismatch": {"carrier": _plain},
    "compensation_too_low": {"compensation": _money, "least": _money},
    "connection_full": {"left_w": _power, "wanted_w": _power, "slot": _time},
    "energy_unavailable": {"left_wh": _energy, "wanted_wh": _energy},
    "expires_past": {},
    "funds_insufficient": {"left": _money, "needed": _money},
    "id_invalid": {},
    "member_revoked": {},
    "member_unknown": {},
    "meter_ambiguous": {},
    "meter_carrier": {"carrier": _plain},
    "meter_missing": {},
    "meter_unknown": {},
    "minimum_above_quantity": {"min_quantity": _quantity, "quantity": _quantity},
    "money_not_prepaid": {},
    "not_author": {},
    "not_authority": {},
    "not_in_audience": {},
    "not_owner": {},
    "not_party": {},
    "offer_expired": {"valid_until": _time},
    "offer_is_auction": {"closes": _time},
    "offer_not_auction": {"price": _money},
    "offer_unknown": {"offer": _plain},
    "own_offer": {},
    "partial_refused": {"left": _quantity, "wanted": _quantity},
    "power_unavailable": {"left_w": _power, "wanted_w": _power, "slot": _time},
    "quantity_exceeds_open": {"left": _quantity, "wanted": _quantity},
    "rating_below_booked": {"booked_w": _power, "rating_w": _power, "slot": _time},
    "record_unknown": {"record": _plain},
    "role_missing": {"role": _plain},
    "slot_misaligned": {"slot_s": _plain},
    "target_unknown": {"target": _plain},
    "termination_end": {"earliest": _time, "trade_end": _time},
    "terms_unchanged": {},
    "trade_not_settled": {"trade": _plain},
    "trade_unknown": {"trade": _plain},
    "transfer_to_self": {},
    "window_invalid": {"limit_s": _plain},
    "window_started": {"start": _time},
    "window_too_far": {},
}
"""Codes with a translated message `refused_<code>`, and the figures that it shows."""


def refusal_of(error: LedgerError, unit: str = "") -> HomeAssistantError:
    """Return what an action raises for an error of the ledger; `unit` is what quantities count, if known."""
    if isinstance(error, ClientError) and not isinstance(error, RefusedError):
        return _unanswered(error)
    if isinstance(error, RefusedError) and error.may_pass:
        return _unanswered(error)
    if isinstance(error, AddressError):
        return ServiceValidationError(
            translation_domain=DOMAIN,
            translation_key="address_invalid",
            translation_placeholders={"message": error.message},
        )
    figures = REFUSALS.get(error.code)
    if figures is None or not figures.keys() <= error.details.keys():
        return ServiceValidationError(
            translation_domain=DOMAIN,
            translation_key="refused",
            translation_placeholders={"code": error.code, "message": error.message},
        )
    return ServiceValidationError(
        translation_domain=DOMAIN,
        translation_key=f"refused_{error.code}",
        translation_placeholders={name: show(error.details[name], unit) for name, show in figures.items()},
    )


async def async_reason(hass: HomeAssistant, error: LedgerError) -> str:
    """Return why the ledger refuses, in the system's language; in its own words where there is no text.

    For texts with a place for a reason: forms and repairs.
    """
    refusal = refusal_of(error)
    if refusal.translation_key in (None, "refused"):
        return error.message
    texts = await async_get_translations(hass, hass.config.language, "exceptions", [DOMAIN])
    text = texts.get(f"component.{DOMAIN}.exceptions.{refusal.translation_key}.message", error.message)
    return text.format_map(refusal.translation_placeholders or {})


def _unanswered(error: LedgerError) -> HomeAssistantError:
    """The node did not answer; what was signed may have arrived nevertheless."""
    record = error.details.get("record")
    if record is not None:
        return HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key="record_uncertain",
            translation_placeholders={"record": str(record), "reason": error.message},
        )
    return HomeAssistantError(
        translation_domain=DOMAIN,
        translation_key="node_away",
        translation_placeholders={"reason": error.message},
    )


def invalid(key: str, **placeholders: object) -> ServiceValidationError:
    """Return the error for something that the user gave and that can't be right."""
    return ServiceValidationError(
        translation_domain=DOMAIN,
        translation_key=key,
        translation_placeholders={name: str(value) for name, value in placeholders.items()},
    )
