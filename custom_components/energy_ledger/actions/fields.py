"""Fields of the actions: their schemas, and from people's units to the ledger's.

`services.yaml` bounds only what the UI offers; a call by YAML or API is checked here.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import probatio as vol
from homeassistant.const import ATTR_CONFIG_ENTRY_ID, ATTR_DEVICE_ID
from homeassistant.core import HomeAssistant, ServiceCall
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.service import async_get_config_entry
from homeassistant.util import dt as dt_util

from ledger_core.client.views import AssetView, OfferView
from ledger_core.records.types import AssetKind, Basis
from ledger_core.units import MAX_AMOUNT, MAX_PRICE, MAX_WATT_HOURS, MICRO

from ..const import DOMAIN
from ..data import EnergyLedgerData, EnergyLedgerEntry
from ..describe import KW, KWH, unit_of
from ..quantities import KILO, Number, local_clock, whole
from ..refusals import invalid

ATTR_ASSET: Final = "asset"
ATTR_OFFER: Final = "offer"
ATTR_PRICE: Final = "price"
ATTR_QUANTITY: Final = "quantity"
ATTR_UNIT: Final = "unit"
ATTR_START: Final = "start"
ATTR_END: Final = "end"
ATTR_DURATION: Final = "duration"
ATTR_VALID_UNTIL: Final = "valid_until"

UNITS: Final[Mapping[str, tuple[Basis, int]]] = {
    "kWh": (Basis.ENERGY, KILO),
    "Wh": (Basis.ENERGY, 1),
    "kW": (Basis.CAPACITY, KILO),
    "W": (Basis.CAPACITY, 1),
}
LEAD_S: Final = 120
"""A window that is not given starts no sooner: offer and acceptance must get into blocks before."""
DEFAULT_DURATION: Final = timedelta(hours=1)

NOT_SUPPLYING: Final = frozenset(
    {AssetKind.METER.value, AssetKind.LOAD.value, AssetKind.CHARGE_POINT.value, AssetKind.LINE.value}
)
"""Kinds that are never meant when no asset is named; a charge point can supply, but then it is named."""

IDENTIFIER: Final = vol.All(cv.string, str.strip, str.lower, vol.Match(r"^[0-9a-f]{64}$"))
ASSET_ID: Final = vol.All(cv.string, str.strip, str.lower, vol.Match(r"^[0-9a-f]{32}$"))
AMOUNT: Final = vol.All(vol.Coerce(float), vol.Range(min=0, max=MAX_AMOUNT / MICRO))
PRICE: Final = vol.All(vol.Coerce(float), vol.Range(min=0, max=MAX_PRICE / MICRO))
QUANTITY: Final = vol.All(vol.Coerce(float), vol.Range(min=0, min_included=False, max=MAX_WATT_HOURS))
UNIT: Final = vol.In(list(UNITS))

ENTRY: Final[dict[vol.Marker, Any]] = {vol.Optional(ATTR_CONFIG_ENTRY_ID): cv.string}
WINDOW: Final[dict[vol.Marker, Any]] = {
    vol.Optional(ATTR_START): cv.datetime,
    vol.Exclusive(ATTR_END, "end"): cv.datetime,
    vol.Exclusive(ATTR_DURATION, "end"): cv.positive_time_period,
}
OWN_ASSET: Final[dict[vol.Marker, Any]] = {
    vol.Exclusive(ATTR_DEVICE_ID, "asset"): cv.string,
    vol.Exclusive(ATTR_ASSET, "asset"): ASSET_ID,
}


def entry_of(hass: HomeAssistant, call: ServiceCall) -> EnergyLedgerEntry:
    """Return the loaded entry that a call is for: the named one, or the only one."""
    return async_get_config_entry(hass, DOMAIN, call.data.get(ATTR_CONFIG_ENTRY_ID))


def number(value: Number, factor: int, name: str) -> int:
    """Return a number in the ledger's unit; raises a translated error for infinity and the like."""
    try:
        return whole(value, factor)
    except ValueError as error:
        raise invalid("number_invalid", field=name, value=value) from error


def micro(value: Number, name: str = ATTR_PRICE) -> int:
    """Return money or a price in micro-currency."""
    return number(value, MICRO, name)


def optional_micro(data: Mapping[str, Any], name: str) -> int | None:
    """Return money or a price in micro-currency, if it is given."""
    return micro(data[name], name) if name in data else None


def quantity_of(value: Number, unit: str, name: str = ATTR_QUANTITY) -> int:
    """Return a quantity in Wh or W; raises a translated error where it is less than one."""
    result = number(value, UNITS[unit][1], name)
    if result < 1:
        raise invalid("quantity_too_small", value=f"{value} {unit}")
    return result


def quantity_of_offer(data: Mapping[str, Any], offer: OfferView) -> int | None:
    """Return how much of an offer is meant, None for all; refuses a unit of the other basis."""
    if ATTR_QUANTITY not in data:
        return None
    unit = data.get(ATTR_UNIT, unit_of(offer.basis))
    if UNITS[unit][0].value != offer.basis:
        raise invalid("unit_wrong", unit=unit, wanted=KWH if offer.basis == Basis.ENERGY.value else KW)
    return quantity_of(data[ATTR_QUANTITY], unit)


def seconds_of(time: datetime) -> int:
    """Return UTC seconds; a time without an offset is local."""
    return int(dt_util.as_timestamp(dt_util.as_utc(time)))


def optional_seconds(data: Mapping[str, Any], name: str) -> int | None:
    """Return UTC seconds, if the time is given."""
    return seconds_of(data[name]) if name in data else None


def boundary(time: datetime, slot_s: int, name: str) -> int:
    """Return a time that must lie on a slot boundary; the error names the nearest ones."""
    seconds = seconds_of(time)
    before = seconds // slot_s * slot_s
    if seconds != before:
        raise invalid(
            "not_on_slot",
            field=name,
            slot_minutes=f"{slot_s / 60:g}",
            before=local_clock(before),
            after=local_clock(before + slot_s),
        )
    return seconds


def window_of(data: Mapping[str, Any], slot_s: int, now: int) -> tuple[int, int]:
    """Return the window; by default from the next slot on that can still be agreed, for an hour."""
    if ATTR_START in data:
        start = boundary(data[ATTR_START], slot_s, ATTR_START)
    else:
        start = -(-(now + min(LEAD_S, slot_s)) // slot_s) * slot_s
    if ATTR_END in data:
        end = boundary(data[ATTR_END], slot_s, ATTR_END)
    elif ATTR_DURATION in data:
        duration = int(data[ATTR_DURATION].total_seconds())
        if duration % slot_s or not duration:
            raise invalid("duration_not_slots", slot_minutes=f"{slot_s / 60:g}")
        end = start + duration
    else:
        end = start + max(int(DEFAULT_DURATION.total_seconds()) // slot_s, 1) * slot_s
    if start <= now:
        raise invalid("refused_window_started", start=local_clock(start))
    if end <= start:
        raise invalid("window_empty", start=local_clock(start), end=local_clock(end))
    return start, end


def own_asset(hass: HomeAssistant, entry: EnergyLedgerEntry, data: Mapping[str, Any]) -> bytes | None:
    """Return the asset that a call names, by itself or by its device; None: none is named."""
    if ATTR_ASSET in data:
        return bytes.fromhex(data[ATTR_ASSET])
    if ATTR_DEVICE_ID not in data:
        return None
    device = dr.async_get(hass).async_get(data[ATTR_DEVICE_ID])
    if device is None or device.config_entry_id != entry.entry_id or device.config_subentry_id is None:
        raise invalid("device_no_asset", device=data[ATTR_DEVICE_ID])
    name = device.name_by_user or device.name or ""
    runtime = entry.runtime_data.devices.get(device.config_subentry_id)
    if runtime is None or runtime.asset_id is None:
        raise invalid("device_no_asset", device=name)
    return runtime.asset_id


def supplies(asset: AssetView) -> bool:
    """Whether an asset can be sold from."""
    return asset.kind not in NOT_SUPPLYING and asset.rating_w > 0


def supplying_asset(hass: HomeAssistant, entry: EnergyLedgerEntry, data: Mapping[str, Any]) -> AssetView:
    """Return the asset that supplies: the named one, or the only one that can."""
    named = own_asset(hass, entry, data)
    assets = entry.runtime_data.ledger.data.assets
    if named is not None:
        found = next((each for each in assets if each.asset == named.hex()), None)
        if found is None:
            raise invalid("asset_not_own", asset=named.hex())
        return found
    suppliers = [each for each in assets if supplies(each)]
    if len(suppliers) != 1:
        known = ", ".join(f"{each.kind} {each.asset}" for each in suppliers) or "-"
        raise invalid("asset_needed", assets=known)
    return suppliers[0]


def offer_of(data: EnergyLedgerData, offer_id: str) -> OfferView:
    """Return an open offer; the error for a closed one says so."""
    found = next((each for each in data.ledger.data.offers if each.offer == offer_id), None)
    if found is None:
        raise invalid("refused_offer_unknown", offer=offer_id)
    return found
