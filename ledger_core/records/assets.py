"""Assets: what supplies, stores, consumes or measures."""

from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from ledger_core.records.body import Body
from ledger_core.records.types import (
    AssetId,
    AssetKind,
    Carrier,
    Hash,
    Key,
    Location,
    Time,
    WattHours,
    Watts,
)


class CurveStep(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """From this slot boundary on, until the next step, the asset can give this power."""

    start: Time
    watts: Watts


class Asset(Body, frozen=True, tag=2):
    """Registers an asset or changes it; the author is the owner.

    An update names the record that it supersedes, so that two updates can't overwrite each other. A change
    of owner is signed by the new owner and co-signed by the old one. A rating of 0 W retires the asset.
    """

    KIND: ClassVar[str] = "asset"

    asset: AssetId
    kind: AssetKind
    carrier: Carrier
    rating_w: Watts
    """Rated power; of a meter: of the grid connection that its assets share."""
    curve: Annotated[tuple[CurveStep, ...], Meta(max_length=192)]
    """Lower power by time, where the rating is not always there; empty: the rating always holds."""
    energy_wh: WattHours | None
    """Energy available at registration, for a battery or a fuel cell; readings replace it."""
    capacity_wh: WattHours | None
    meter: AssetId | None
    """The meter that the asset settles through; None for a meter."""
    meter_key: Key | None
    """The key that signs a meter's readings; None for anything but a meter."""
    location: Location | None
    supersedes: Hash | None
