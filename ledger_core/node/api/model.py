"""What the API answers: JSON objects with keys, ids and hashes as lower-case hexadecimal.

Units as everywhere: W, Wh, UTC seconds, micro-currency, prices in micro-currency per kWh (per kW and hour
for reserved capacity). A number whose name ends with `_permille` or `_tenths` is that ratio.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct

from ledger_core.node.engine.holds import MINING_CODES, VOTING_CODES

Hex32 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="32 bytes in hexadecimal.")]
Hex16 = Annotated[str, Meta(pattern="^[0-9a-f]{32}$", description="16 bytes in hexadecimal.")]
Hex64 = Annotated[str, Meta(pattern="^[0-9a-f]{128}$", description="64 bytes in hexadecimal.")]
HexBytes = Annotated[str, Meta(pattern="^([0-9a-f]{2})*$", description="Bytes in hexadecimal.")]
Address = Annotated[str, Meta(pattern="^el1[0-9a-z]{58}$", description="The key as people read it.")]
Cursor = Annotated[
    str, Meta(pattern="^[0-9]{1,18}-[0-9a-f]{16}$", description="A place in the stream of events.")
]
Seconds = Annotated[int, Meta(description="UTC seconds since 1970.")]
Watts = Annotated[int, Meta(description="W")]
WattHours = Annotated[int, Meta(description="Wh")]
Quantity = Annotated[int, Meta(description="Wh (basis energy) or W (basis capacity).")]
Money = Annotated[int, Meta(description="Micro-currency.")]
Price = Annotated[int, Meta(description="Micro-currency per kWh; per kW and hour for capacity.")]


class View(Struct, frozen=True, kw_only=True):
    """A part of an answer."""


class Party(View, frozen=True):
    """A member's or a node's key."""

    key: Hex32
    address: Address


class Place(View, frozen=True):
    """A place in microdegrees (WGS 84)."""

    latitude: int
    longitude: int


class AsOf(View, frozen=True):
    """The block after which an answer holds."""

    height: int
    hash: Hex32


class PeerView(View, frozen=True):
    """A link to another home's node."""

    node: Party
    direction: Annotated[str, Meta(pattern="^(inbound|outbound)$")]
    address: str
    up_s: Annotated[float, Meta(ge=0)]
    height: Annotated[int | None, Meta(description="The peer's height; null before it told.")]
    software: Annotated[str, Meta(description="What the peer says it runs.")] = ""
    guest: Annotated[bool, Meta(description="A newcomer that shows an invitation.")] = False
    round_trip_s: Annotated[float | None, Meta(description="Seconds; null before the first answer.")] = None
    bytes_in: int = 0
    bytes_out: int = 0


class DialView(View, frozen=True):
    """A node that this one would like to be linked to, and is not."""

    node: Annotated[Party | None, Meta(description="Null where only the address is known.")]
    location: str
    failures: int
    retry_in_s: float
    last_error: str
    last_code: Annotated[
        str, Meta(description="Code of the last failure; empty where a link just ended.")
    ] = ""


class CommunityView(View, frozen=True):
    """What the community was founded with, and where this node can be reached."""

    chain_id: Hex32
    name: str
    currency: str
    genesis: Annotated[
        HexBytes, Meta(description="The genesis in canonical bytes; the chain id is its hash.")
    ]
    parameters: Annotated[dict[str, Any], Meta(description="What the founder chose, by name.")]
    addresses: Annotated[
        list[str], Meta(description="Where other homes' nodes reach this one, as it tells its peers.")
    ]


class VersionView(View, frozen=True):
    """The one field of StatusView that every version has."""

    version: str


class StatusView(View, frozen=True):
    """How the node and its community are."""

    version: str
    community: str
    currency: str
    chain_id: Hex32
    tip: AsOf
    tip_time: Seconds
    target_height: Annotated[int, Meta(description="Height of the best branch whose headers are here.")]
    synced: bool
    justified: int
    final: Annotated[int, Meta(description="Height of the last final block: never undone.")]
    settled_until: Annotated[int, Meta(description="Slots up to this time (UTC seconds) are settled.")]
    slot_s: int
    waiting_records: int
    peers: int
    node: Party | None
    mining_blocked: Annotated[str | None, Meta(description="Why the node does not mine; null: it does.")]
    voting_blocked: str | None
    cursor: Annotated[Cursor, Meta(description="The newest event.")]
    disk_trouble: Annotated[
        str | None, Meta(description="Why the node can't write its data; null: it can.")
    ] = None
    mining_hold: Annotated[
        str | None,
        Meta(description=f"Code of `mining_blocked`: {', '.join(MINING_CODES)}."),
    ] = None
    voting_hold: Annotated[
        str | None,
        Meta(description=f"Code of `voting_blocked`: {', '.join(VOTING_CODES)}."),
    ] = None
    sync_phase: Annotated[
        str | None,
        Meta(description="What is being fetched: headers, snapshot or blocks; null: the node is synced."),
    ] = None
    claimed_height: Annotated[
        int, Meta(description="The highest block that a linked node says it has; not verified.")
    ] = 0
    parted: Annotated[
        int, Meta(description="Linked nodes to which other blocks are final than to this one.")
    ] = 0


class StateHashView(View, frozen=True):
    """The hash of the whole state: equal on every node after the same block."""

    as_of: AsOf
    state_hash: Hex32


class MiningView(View, frozen=True):
    """Whether and how much this node mines."""

    on: Annotated[bool, Meta(description="Switched on; until the node ends, then its settings count again.")]
    share: Annotated[float, Meta(description="Part of one core that mining may take.")]
    rate: Annotated[float, Meta(description="Hashes a second, lately.")]
    blocked: Annotated[str | None, Meta(description="Why it does not mine though it is on; null: it does.")]


class MemberView(View, frozen=True):
    """A member; one without roles was revoked."""

    member: Party
    roles: list[str]
    node: Party | None
    name_hash: Hex32
    location: Place | None


class CurveStepView(View, frozen=True):
    """From `start` on the asset can give this power."""

    start: Seconds
    watts: Watts


class AssetView(View, frozen=True):
    """An asset as its latest record says, and what it still can give."""

    asset: Hex16
    record: Hex32
    owner: Party
    kind: str
    carrier: str
    rating_w: Annotated[int, Meta(description="W; 0: retired.")]
    curve: list[CurveStepView]
    capacity_wh: WattHours | None
    meter: Hex16 | None
    meter_key: Hex32 | None
    location: Place | None
    energy_wh: Annotated[int | None, Meta(description="Wh held at `energy_at`; null: not energy-limited.")]
    energy_at: Seconds | None
    outstanding_wh: Annotated[int, Meta(description="Wh agreed in its trades for slots not settled yet.")]


class AuctionView(View, frozen=True):
    """An auction's terms."""

    closes: Seconds
    ceiling: Price
    reserve: Price


class OfferView(View, frozen=True):
    """The open part of an offer or request."""

    offer: Hex32
    author: Party
    side: str
    asset: Hex16 | None
    carrier: str
    basis: str
    quantity: Quantity
    open: Quantity
    min_quantity: Annotated[int | None, Meta(description="Smallest part; null: only the whole.")]
    max_w: Watts
    start: Seconds
    end: Seconds
    price: Price
    shortfall_price: Price
    audience: Annotated[list[Party] | None, Meta(description="Who may accept; null: all.")]
    valid_until: Seconds
    auction: AuctionView | None


class WaitingView(View, frozen=True):
    """An acceptance that does not bind yet: changed terms, or a bid."""

    acceptance: Hex32
    author: Party
    offer: Hex32
    offerer: Party | None
    asset: Hex16 | None
    quantity: Quantity
    start: Seconds
    end: Seconds
    price: Price
    valid_until: Seconds
    bid: bool
    held: Money


class TradeView(View, frozen=True):
    """An agreed sale that still has slots to settle."""

    trade: Hex32
    offer: Hex32
    origin: str
    seller: Party
    buyer: Party
    asset: Hex16
    seller_meter: Hex16
    buyer_meter: Hex16
    carrier: str
    basis: str
    quantity: Quantity
    watts: Watts
    start: Seconds
    end: Seconds
    agreed_end: Seconds
    price: Price
    shortfall_price: Price
    held_buyer: Money
    held_seller: Money
    delivered_wh: WattHours
    paid: Money


class EnergyView(View, frozen=True):
    """A member's traded energy of one carrier."""

    carrier: str
    sold_wh: WattHours
    bought_wh: WattHours


class ReputationView(View, frozen=True):
    """What a member delivered of what it agreed, decayed, and the scores that others gave."""

    agreed_wh: WattHours
    delivered_wh: WattHours
    delivered_permille: int
    scores: int
    mean_score_tenths: int | None


class AccountView(View, frozen=True):
    """A member's money, energy and reputation."""

    member: Party
    balance: Money
    held: Money
    spendable: Annotated[int, Meta(description="Micro-currency: balance, and credit, without what is held.")]
    fees_waiting: Annotated[int, Meta(description="Micro-currency: mined fees that are not final yet.")]
    energy: list[EnergyView]
    reputation: ReputationView


class VoteBundleView(View, frozen=True):
    """How many nodes' votes for one link a block carries."""

    source_height: int
    target_height: int
    target_hash: Hex32
    votes: int


class BlockView(View, frozen=True):
    """A block's header, and what its body lists."""

    height: int
    hash: Hex32
    previous: Hex32
    merkle_root: Hex32
    state_hash: Annotated[Hex32 | None, Meta(description="At checkpoints: of the state before the block.")]
    time: Seconds
    target: int
    miner: Party
    nonce: str
    final: bool
    records: Annotated[list[Hex32] | None, Meta(description="Record ids; null: the body was pruned.")]
    votes: list[VoteBundleView]


class SignatureView(View, frozen=True):
    """Who signed, and with what."""

    by: Party
    signature: Hex64


class RecordView(View, frozen=True):
    """A record, where it stands, and its fields by name."""

    record: Hex32
    kind: str
    state: Annotated[
        str,
        Meta(
            pattern="^(waiting|contested|included|final)$",
            description="contested: handed in here, and refused by a block that may still be undone.",
        ),
    ]
    height: int | None
    author: Party
    signatures: list[SignatureView]
    body: dict[str, Any]
    envelope: Annotated[HexBytes, Meta(description="The signed bytes as they travel.")]


class ProofView(View, frozen=True):
    """Shows with a header and a Merkle branch alone that a record stands in a block."""

    record: Hex32
    height: int
    block: Hex32
    header: HexBytes
    index: int
    branch: list[Hex32]
    envelope: HexBytes


class EventView(View, frozen=True):
    """Something that happened. Events of a block carry its height and hash; see `block_undone`."""

    cursor: Cursor
    event: str
    height: int | None
    block: Hex32 | None
    time: Annotated[int, Meta(description="UTC seconds: when the node noticed.")]
    data: dict[str, Any]


class Submitted(View, frozen=True):
    """The node keeps the record until it is final.

    The event `record_contested` would tell that a block refuses it, `record_lost` that this can't be undone.
    """

    record: Hex32


class Problem(View, frozen=True):
    """Why a request was refused: a stable code, one plain sentence, and the figures behind it."""

    code: str
    message: str
    details: dict[str, Any]


class BatchItem(View, frozen=True):
    """What became of one record of a batch: its id, or why it was refused."""

    record: Hex32 | None
    problem: Problem | None


class SubmittedBatch(View, frozen=True):
    """What became of each record, in the order in which they were handed in."""

    items: list[BatchItem]


class Page(View, frozen=True):
    """Part of a list, in the order of the ids."""

    as_of: AsOf
    next: Annotated[
        str | None, Meta(description="`after` (of blocks `before`) of the next page; null: the last.")
    ]


class Members(Page, frozen=True):
    """Members."""

    items: list[MemberView]


class Assets(Page, frozen=True):
    """Assets."""

    items: list[AssetView]


class Offers(Page, frozen=True):
    """Open offers and requests."""

    items: list[OfferView]


class WaitingAcceptances(Page, frozen=True):
    """Acceptances that do not bind yet."""

    items: list[WaitingView]


class Trades(Page, frozen=True):
    """Trades that still have slots to settle."""

    items: list[TradeView]


class Accounts(Page, frozen=True):
    """Accounts."""

    items: list[AccountView]


class Blocks(Page, frozen=True):
    """Blocks of the active branch, highest first."""

    items: list[BlockView]


class Peers(View, frozen=True):
    """Links that are up, and nodes that could not be reached."""

    items: list[PeerView]
    dialling: list[DialView] = []


class Events(View, frozen=True):
    """Events after a cursor, oldest first; `cursor` is what to ask with next."""

    items: list[EventView]
    cursor: Cursor
