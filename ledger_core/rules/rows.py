"""Rows of the state: immutable; a change replaces the row."""

from msgspec import Struct

from ledger_core.records.assets import CurveStep
from ledger_core.records.offers import Auction
from ledger_core.records.types import AssetKind, Basis, Carrier, Location, Side


class Row(Struct, frozen=True, array_like=True, gc=False):
    """A row is a plain tuple of values in the state's canonical bytes."""


class MemberRow(Row, frozen=True):
    """A member, also after it was revoked (no roles left): its index is never given again."""

    index: int
    roles: int
    node: bytes | None
    name_hash: bytes
    location: Location | None


class NodeRow(Row, frozen=True):
    """A node that may mine and vote, by its member's index."""

    member: bytes
    key: bytes
    joined: int
    """Height at which it joined."""
    counts: bool
    """Whether it counts for the quorum yet: from the first final checkpoint after it joined."""


class FormerNodeRow(Row, frozen=True):
    """A key with which a member's node voted before: evidence against it still counts for a while."""

    member: bytes
    until: int


class AssetRow(Row, frozen=True):
    """An asset as its latest record says."""

    record: bytes
    owner: bytes
    kind: AssetKind
    carrier: Carrier
    rating_w: int
    curve: tuple[CurveStep, ...]
    capacity_wh: int | None
    meter: bytes | None
    meter_key: bytes | None
    location: Location | None


class StoreRow(Row, frozen=True):
    """What an energy-limited asset holds, and at which time."""

    energy_wh: int
    at: int


class OfferRow(Row, frozen=True):
    """The open part of an offer or request."""

    author: bytes
    side: Side
    asset: bytes | None
    carrier: Carrier
    basis: Basis
    quantity: int
    open: int
    min_quantity: int | None
    max_w: int
    start: int
    end: int
    price: int
    shortfall_price: int
    audience: tuple[bytes, ...] | None
    valid_until: int
    auction: Auction | None


class WaitingRow(Row, frozen=True):
    """An acceptance that does not bind yet: changed terms, or a bid."""

    author: bytes
    offer: bytes
    asset: bytes | None
    quantity: int
    start: int
    end: int
    price: int
    valid_until: int
    sequence: int
    """Position among all records of the chain: earlier wins ties."""
    held: int
    """Micro-currency held for a bid."""


class TradeRow(Row, frozen=True):
    """An agreed sale that still has slots to settle."""

    offer: bytes
    origin: str
    """posted, countered or auction."""
    seller: bytes
    buyer: bytes
    asset: bytes
    seller_meter: bytes
    buyer_meter: bytes
    carrier: Carrier
    basis: Basis
    quantity: int
    watts: int
    """Booked power."""
    start: int
    end: int
    """End of what is still to be delivered; earlier than `agreed_end` after a termination."""
    agreed_end: int
    price: int
    shortfall_price: int
    held_buyer: int
    held_seller: int
    delivered_wh: int
    paid: int


class ClosedRow(Row, frozen=True):
    """A trade whose slots are all settled, kept until it can no longer be scored."""

    seller: bytes
    buyer: bytes
    scored_by_seller: bool
    scored_by_buyer: bool


class AccountRow(Row, frozen=True):
    """A member's money in micro-currency; `held` is what binding trades and bids may still take."""

    balance: int
    held: int


class EnergyRow(Row, frozen=True):
    """A member's traded energy of one carrier."""

    sold_wh: int
    bought_wh: int


class ReputationRow(Row, frozen=True):
    """What a seller agreed and delivered, decayed, and the scores that others gave."""

    agreed_wh: int
    delivered_wh: int
    day: int
    """Day (UTC) up to which both are decayed."""
    scores: int
    score_sum: int


class CheckpointRow(Row, frozen=True):
    """A checkpoint of this branch that can still matter to votes."""

    hash: bytes
    time: int
    justified: bool


class FeeRow(Row, frozen=True):
    """Fees of one block, waiting to be final."""

    member: bytes
    amount: int


class ChainRow(Row, frozen=True):
    """Where the chain stands: one row, replaced by every block."""

    height: int
    hash: bytes
    times: tuple[int, ...]
    """Times of the last 11 blocks, oldest first."""
    settled_until: int
    """Slot end up to which every slot is settled."""
    sequence: int
    """Records applied since the genesis."""
    deadline: int
    """Time up to which deadlines have been handled."""
    issued: int
    """Prepaid money in existence, micro-currency."""
    justified: int
    """Height of the highest justified checkpoint."""
    final: int
    """Height of the highest final checkpoint."""
