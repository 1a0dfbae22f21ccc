"""Meter readings: cumulative registers at slot boundaries."""

from enum import IntEnum
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from ledger_core.records.body import Body
from ledger_core.records.types import AssetId, Grams, Time, WattHours


class Quality(IntEnum):
    """How a register value came about."""

    MEASURED = 0
    INTERPOLATED = 1
    """Between two measurements around the boundary."""
    ESTIMATED = 2


class ReadingRow(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A meter's registers at one slot boundary."""

    end: Time
    import_wh: WattHours
    export_wh: WattHours
    quality: Quality


class Stored(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """What an asset behind the meter holds at the last boundary of the record."""

    asset: AssetId
    energy_wh: WattHours
    fuel_g: Grams | None


class Reading(Body, frozen=True, tag=9):
    """One or several slot boundaries of one meter, signed with the meter's key."""

    KIND: ClassVar[str] = "reading"

    meter: AssetId
    rows: Annotated[tuple[ReadingRow, ...], Meta(min_length=1, max_length=192)]
    stored: Annotated[tuple[Stored, ...], Meta(max_length=16)]
