"""What happened when a block was applied; the node's API streams these."""

from msgspec import Struct


class Event(Struct, frozen=True, gc=False, tag_field="event"):
    """Something that happened; ids and keys are raw bytes."""


class MemberChanged(Event, frozen=True, tag="member_changed"):
    """A member was admitted, changed or (without roles) revoked."""

    member: bytes
    roles: int
    admitted: bool


class AssetChanged(Event, frozen=True, tag="asset_changed"):
    """An asset was registered, updated or (rating 0) retired."""

    asset: bytes
    owner: bytes
    rating_w: int


class OfferOpened(Event, frozen=True, tag="offer_opened"):
    """An offer or request can be accepted."""

    offer: bytes
    author: bytes


class OfferClosed(Event, frozen=True, tag="offer_closed"):
    """Nothing of an offer is open any more: taken, withdrawn, expired or auctioned off."""

    offer: bytes
    author: bytes
    reason: str


class AcceptanceWaits(Event, frozen=True, tag="acceptance_waits"):
    """Changed terms wait for the offerer, or a bid waits for its auction."""

    acceptance: bytes
    author: bytes
    offer: bytes
    offerer: bytes
    bid: bool


class AcceptanceEnded(Event, frozen=True, tag="acceptance_ended"):
    """A waiting acceptance was rejected, withdrawn, expired, or its bid lost."""

    acceptance: bytes
    author: bytes
    offer: bytes
    reason: str


class TradeAgreed(Event, frozen=True, tag="trade_agreed"):
    """A sale is binding and booked."""

    trade: bytes
    offer: bytes
    origin: str
    seller: bytes
    buyer: bytes
    asset: bytes
    basis: str
    quantity: int
    watts: int
    start: int
    end: int
    price: int


class TradeTerminated(Event, frozen=True, tag="trade_terminated"):
    """A trade ends early."""

    trade: bytes
    by: bytes
    end: int
    compensation: int


class SlotSettled(Event, frozen=True, tag="slot_settled"):
    """One settlement line, a KWP: what was agreed, sent, received, delivered and paid in one slot."""

    trade: bytes
    slot_end: int
    seller: bytes
    buyer: bytes
    agreed_wh: int
    sent_wh: int | None
    """None: the seller's readings are missing."""
    received_wh: int | None
    delivered_wh: int
    paid: int
    shortfall_paid: int
    disputed: bool


class TradeClosed(Event, frozen=True, tag="trade_closed"):
    """All slots of a trade are settled."""

    trade: bytes
    seller: bytes
    buyer: bytes
    delivered_wh: int
    paid: int


class ReadingTaken(Event, frozen=True, tag="reading_taken"):
    """A meter's registers up to a boundary are in the chain."""

    meter: bytes
    end: int
    rows: int


class MoneyMoved(Event, frozen=True, tag="money_moved"):
    """A transfer, an issue or a redemption."""

    record: bytes
    kind: str
    source: bytes
    target: bytes
    amount: int


class ScoreGiven(Event, frozen=True, tag="score_given"):
    """One side of a settled trade scored the other."""

    trade: bytes
    by: bytes
    member: bytes
    score: int


class CheckpointJustified(Event, frozen=True, tag="checkpoint_justified"):
    """More than two thirds of the nodes voted for a checkpoint."""

    height: int
    hash: bytes


class CheckpointFinal(Event, frozen=True, tag="checkpoint_final"):
    """A checkpoint, and all before it, will never be undone."""

    height: int
    hash: bytes


class NodePunished(Event, frozen=True, tag="node_punished"):
    """A node signed two conflicting votes and lost its role."""

    member: bytes
    node: bytes
    offence: str
