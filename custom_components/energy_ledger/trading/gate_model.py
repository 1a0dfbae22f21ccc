"""What goes into the delivery gate and comes out of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ledger_core.client.views import TradeView


class TradeState(StrEnum):
    """How a sale of this home stands at the gate."""

    WAITING = "waiting"
    """For its window."""
    UNCONFIRMED = "unconfirmed"
    """Not as deep in the chain as the user wants."""
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    """This slot's energy has left the home; the next slot goes on."""
    BLOCKED = "blocked"
    """It should be delivered and can't be; the reason tells why."""


class Block(StrEnum):
    """Why a sale that should be delivered is not."""

    DRY_RUN = "dry_run"
    NODE_AWAY = "node_away"
    METER_AWAY = "meter_away"
    NO_DEVICE = "no_device"
    DEVICE_LOST = "device_lost"
    REFUSED = "refused"
    RESERVE = "reserve"


class End(StrEnum):
    """Why a delivery ended."""

    WINDOW = "window_ended"
    ENERGY = "energy_delivered"
    RESERVE = "reserve_reached"
    TERMINATED = "terminated"
    LOST = "device_lost"
    METER_AWAY = "meter_away"
    UNLOADED = "unloaded"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNow:
    """A device that delivers for an asset, as it stands now; W and per mille."""

    commandable: bool
    """False: it feeds in by itself, such as PV; nothing is commanded."""
    reachable: bool
    max_w: int
    output_w: int | None = None
    """What it gives now; None: not known."""
    output_age_s: float = 0.0
    """How long ago it told that."""
    level_permille: int | None = None
    """How full its store is; None: it has none, or does not tell."""
    reserve_permille: int | None = None
    """None: no reserve is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that the gate looks at; times in UTC seconds."""

    now: float
    slot_s: int
    home: str
    """This home's key, hexadecimal."""
    enabled: bool
    trades: tuple[TradeView, ...]
    tip: int
    final: int
    known_until: float | None
    """Until when the newest view of the chain is relied on; None: it is kept up to date."""
    devices: Mapping[str, DeviceNow]
    """By asset, hexadecimal."""
    surplus_w: int | None = None
    """What the home gives to the grid now, negative when it draws; None: not measured."""
    measured_at: float = 0.0
    exported_wh: int | None = None
    """The meter's cumulative export; None: not measured."""
    imported_wh: int | None = None
    uncounted_since: float | None = None
    """Since when nobody counts what leaves the home; None: the meter does."""


@dataclass(frozen=True, slots=True)
class Command:
    """Have an asset's device give this power until a time; the reserve is the device's own watch."""

    asset: str
    power_w: int
    until: float
    reserve_permille: int | None


@dataclass(frozen=True, slots=True)
class Release:
    """Take an asset's command back."""

    asset: str
    reason: str


@dataclass(frozen=True, slots=True)
class Started:
    """A trade's delivery began."""

    trade: TradeView


@dataclass(frozen=True, slots=True)
class Ended:
    """A trade's delivery ended; Wh that left the home for it."""

    trade: TradeView
    reason: End
    sent_wh: int


@dataclass(frozen=True, slots=True)
class Short:
    """A slot's agreed energy will not be reached."""

    trade: TradeView
    slot_end: int
    agreed_wh: int
    expected_wh: int
    reason: Block | None


type Action = Command | Release | Started | Ended | Short


@dataclass(frozen=True, slots=True)
class SaleView:
    """How a sale stands, for people."""

    trade: TradeView
    state: TradeState
    block: Block | None
    sent_wh: int
    confirmations: int
