"""Field types of the records: bounds are checked by the decoder, before any rule sees a value."""

from enum import IntFlag, StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from ledger_core.units import MAX_AMOUNT, MAX_PRICE, MAX_TIME, MAX_WATT_HOURS, MAX_WATTS

Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""An Ed25519 public key."""

Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""A SHA-256 digest: of a record (its id), a block or the genesis."""

Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
"""A detached Ed25519 signature."""

Nonce = Annotated[bytes, Meta(min_length=8, max_length=8)]
"""Random bytes that tell two otherwise equal records apart."""

AssetId = Annotated[bytes, Meta(min_length=16, max_length=16)]
"""A random id that an owner gives to an asset; it stays the same when the asset is updated."""

Time = Annotated[int, Meta(ge=0, le=MAX_TIME)]
"""UTC seconds since 1970."""

Watts = Annotated[int, Meta(ge=0, le=MAX_WATTS)]
WattHours = Annotated[int, Meta(ge=0, le=MAX_WATT_HOURS)]
Grams = Annotated[int, Meta(ge=0, le=10**9)]
Quantity = Annotated[int, Meta(ge=1, le=MAX_WATT_HOURS)]
"""What is traded: Wh of an energy offer, W of a capacity offer."""

Price = Annotated[int, Meta(ge=0, le=MAX_PRICE)]
"""Micro-currency per kWh; per kW and hour for reserved capacity."""

Amount = Annotated[int, Meta(ge=1, le=MAX_AMOUNT)]
"""Micro-currency."""

Height = Annotated[int, Meta(ge=0, le=2**32 - 1)]


class Role(IntFlag):
    """What a member may do; roles add up."""

    HOME = 1
    """Trades."""
    NODE = 2
    """Mines and votes with its node key."""
    AUTHORITY = 4
    """Admits members, approves assets, issues prepaid credit."""
    OPERATOR = 8
    """Sets network limits."""


ALL_ROLES = int(Role.HOME | Role.NODE | Role.AUTHORITY | Role.OPERATOR)

Roles = Annotated[int, Meta(ge=0, le=ALL_ROLES)]


class Carrier(StrEnum):
    """What an asset supplies, stores or measures."""

    ELECTRICITY = "electricity"
    HEAT = "heat"
    GAS = "gas"
    HYDROGEN = "hydrogen"
    WATER = "water"


class AssetKind(StrEnum):
    """The kinds of things that supply, store, consume or measure."""

    PV = "pv"
    WIND = "wind"
    BATTERY = "battery"
    FUEL_CELL = "fuel_cell"
    GENERATOR = "generator"
    LOAD = "load"
    EV = "ev"
    CHARGE_POINT = "charge_point"
    PORTABLE = "portable"
    METER = "meter"
    LINE = "line"


class Side(StrEnum):
    """Whether an offer gives or asks."""

    SELL = "sell"
    BUY = "buy"


class Basis(StrEnum):
    """What the quantity of an offer counts."""

    ENERGY = "energy"
    """Wh, delivered evenly over the window."""
    CAPACITY = "capacity"
    """W, reserved for the whole window."""


class Location(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A place, as coarse as its owner wishes to say it; microdegrees (WGS 84)."""

    latitude: Annotated[int, Meta(ge=-90_000_000, le=90_000_000)]
    longitude: Annotated[int, Meta(ge=-180_000_000, le=180_000_000)]
