"""What may be left out when something is changed: keyword arguments of `Home`, in its units."""

from typing import TypedDict

from ledger_core.client.bodies import IdText, KeyText
from ledger_core.records.assets import CurveStep
from ledger_core.records.types import Location


class AssetChanges(TypedDict, total=False):
    """Fields of an asset that can change."""

    rating_w: int
    curve: tuple[CurveStep, ...]
    energy_wh: int | None
    capacity_wh: int | None
    meter: bytes | None
    meter_key: bytes | None
    location: Location | None


class MemberChanges(TypedDict, total=False):
    """Fields of a member that can change."""

    roles: int
    node: KeyText
    name: str
    location: Location


class NewTerms(TypedDict, total=False):
    """Terms of an offer that an acceptance may change; what is left out stays as offered."""

    price: int
    quantity: int
    start: int
    end: int
    valid_until: int
    """Until when the offerer may confirm; left out: until the offer ends or the window starts."""
    asset: IdText | None
