"""What peers say to each other: canonical MessagePack of one tagged struct, positional, every field bounded.

A frame holds one message of at most 2 MiB. Lists are bounded in number here and in bytes by the frame. An
answer holds less than was asked for rather than more than a frame takes.
"""

from functools import reduce
from operator import or_
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, ValidationError

from ledger_core.errors import RecordError
from ledger_core.records.block import HEADER_BYTES, MAX_BLOCK_BYTES
from ledger_core.records.codec import Envelope
from ledger_core.records.types import Hash, Height, Signature, Time
from ledger_core.records.votes import VoteBundle

MAX_MESSAGE_BYTES = 2 * 1024 * 1024
MAX_PAYLOAD_BYTES = MAX_MESSAGE_BYTES - 64 * 1024
"""Contents that whoever answers may put together: the rest is room for the framing."""

MAX_HEADERS = 2000
MAX_LOCATOR = 64
MAX_BODIES = 256
MAX_IDS = 1000
MAX_LINKS = 64
MAX_SNAPSHOTS = 8
SNAPSHOT_PART_BYTES = 512 * 1024
MAX_SNAPSHOT_BYTES = 256 * 1024 * 1024
SHORT_ID_BYTES = 8
"""A record inside a compact block: the first bytes of its id. Two that collide cost one more request."""

MAX_VOTER_BYTES = 65_536 // 8
MAX_BLOCK_RECORDS = 16_384
"""Records in a compact block: more than a block of 1 MiB can hold."""

Voters = Annotated[bytes, Meta(max_length=MAX_VOTER_BYTES)]
"""A bit for each member index, big-endian: the last bit is index 0."""

ShortText = Annotated[str, Meta(max_length=256)]


class Item(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A part of a message."""


class Message(Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """What one peer tells another; a kind's number is never given again."""


class BlockRef(Item, frozen=True):
    """A block by height and hash: the height finds it where final blocks are filed by height."""

    height: Height
    hash: Hash


class Status(Item, frozen=True):
    """Where a peer's chain stands, and its clock."""

    clock: Time
    tip: BlockRef
    justified: Height
    """Highest justified checkpoint of its branch."""
    final: BlockRef


class SealedHeader(Item, frozen=True):
    """A header and its miner's signature."""

    header: Annotated[bytes, Meta(min_length=HEADER_BYTES, max_length=HEADER_BYTES)]
    signature: Signature


class Hello(Message, frozen=True, tag=1):
    """The first message on a connection, from both sides."""

    status: Status
    oldest_body: Height
    """The lowest height whose body this peer can still give."""
    software: ShortText


class Ping(Message, frozen=True, tag=2):
    """Asks for a sign of life; tells where the chain stands."""

    token: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    status: Status


class Pong(Message, frozen=True, tag=3):
    """The answer to a ping."""

    token: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    status: Status


class NewBlock(Message, frozen=True, tag=4):
    """A block that is new at the top of the sender's branch."""

    sealed: SealedHeader
    justified: Height
    final: Height


class GetHeaders(Message, frozen=True, tag=5):
    """Asks for what follows the first block of the locator that the other side has on its branch."""

    locator: Annotated[tuple[BlockRef, ...], Meta(min_length=1, max_length=MAX_LOCATOR)]
    """Blocks of the asking side's branch, highest first; the last one is the genesis (height 0, chain id)."""
    limit: Annotated[int, Meta(ge=1, le=MAX_HEADERS)]


class Headers(Message, frozen=True, tag=6):
    """Consecutive headers of the sender's branch; empty where it has nothing above the locator."""

    headers: Annotated[tuple[SealedHeader, ...], Meta(max_length=MAX_HEADERS)]


class GetBodies(Message, frozen=True, tag=7):
    """Asks for the bodies of blocks."""

    blocks: Annotated[tuple[BlockRef, ...], Meta(min_length=1, max_length=MAX_BODIES)]


class Body(Item, frozen=True):
    """A block's body; None where the sender does not have it (any more)."""

    hash: Hash
    body: Annotated[bytes, Meta(max_length=MAX_BLOCK_BYTES)] | None


class Bodies(Message, frozen=True, tag=8):
    """Bodies in the order asked for: as many as fit into the message, at least one."""

    bodies: Annotated[tuple[Body, ...], Meta(min_length=1, max_length=MAX_BODIES)]


class GetCompact(Message, frozen=True, tag=9):
    """Asks for a block without the records and votes that the asking side probably has."""

    block: BlockRef


class CompactBundle(Item, frozen=True):
    """The votes of one link in a block, by voters alone."""

    created: Time
    source: BlockRef
    target: BlockRef
    voters: Voters


class Compact(Message, frozen=True, tag=10):
    """A block's contents in short: short record ids in order, and who voted."""

    hash: Hash
    shorts: Annotated[bytes, Meta(max_length=SHORT_ID_BYTES * MAX_BLOCK_RECORDS)]
    bundles: Annotated[tuple[CompactBundle, ...], Meta(max_length=MAX_LINKS)]


class GetParts(Message, frozen=True, tag=11):
    """Asks for what was missing to rebuild a compact block."""

    block: BlockRef
    records: Annotated[tuple[Annotated[int, Meta(ge=0, lt=MAX_BLOCK_RECORDS)], ...], Meta(max_length=MAX_IDS)]
    """Places of records in the block, ascending."""
    voters: Annotated[tuple[Voters, ...], Meta(max_length=MAX_LINKS)]
    """For each of the block's bundles the voters whose signatures are missing; empty: of none."""


class Parts(Message, frozen=True, tag=12):
    """The records and, per bundle, the signatures (64 bytes each, ascending by index) that were asked for."""

    hash: Hash
    records: Annotated[tuple[Envelope, ...], Meta(max_length=MAX_IDS)]
    signatures: Annotated[tuple[bytes, ...], Meta(max_length=MAX_LINKS)]


class Inventory(Message, frozen=True, tag=13):
    """Ids of records that the sender took into its pool."""

    ids: Annotated[tuple[Hash, ...], Meta(min_length=1, max_length=MAX_IDS)]


class GetRecords(Message, frozen=True, tag=14):
    """Asks for records by id."""

    ids: Annotated[tuple[Hash, ...], Meta(min_length=1, max_length=MAX_IDS)]


class Records(Message, frozen=True, tag=15):
    """Records that were asked for."""

    records: Annotated[tuple[Envelope, ...], Meta(min_length=1, max_length=MAX_IDS)]


class LinkVoters(Item, frozen=True):
    """A link between two checkpoints, and some of the nodes that voted for it."""

    source: BlockRef
    target: BlockRef
    voters: Voters


class VoteSummary(Message, frozen=True, tag=16):
    """Whose votes the sender has, per link that is not final yet."""

    links: Annotated[tuple[LinkVoters, ...], Meta(min_length=1, max_length=MAX_LINKS)]


class GetVotes(Message, frozen=True, tag=17):
    """Asks for votes that a summary told of."""

    links: Annotated[tuple[LinkVoters, ...], Meta(min_length=1, max_length=MAX_LINKS)]


class Votes(Message, frozen=True, tag=18):
    """Votes by link, as blocks carry them."""

    bundles: Annotated[tuple[VoteBundle, ...], Meta(min_length=1, max_length=MAX_LINKS)]


class GetSnapshots(Message, frozen=True, tag=19):
    """Asks which snapshots the other side can give."""


class SnapshotOffer(Item, frozen=True):
    """A snapshot: the state after a block, in parts of `SNAPSHOT_PART_BYTES`."""

    block: BlockRef
    state_hash: Hash
    size: Annotated[int, Meta(ge=1, le=MAX_SNAPSHOT_BYTES)]


class Snapshots(Message, frozen=True, tag=20):
    """The snapshots that the sender can give, highest first."""

    offers: Annotated[tuple[SnapshotOffer, ...], Meta(max_length=MAX_SNAPSHOTS)]


class GetSnapshotPart(Message, frozen=True, tag=21):
    """Asks for a part of a snapshot, counted from 0."""

    block: BlockRef
    part: Annotated[int, Meta(ge=0, lt=MAX_SNAPSHOT_BYTES // SNAPSHOT_PART_BYTES)]


class SnapshotPart(Message, frozen=True, tag=22):
    """A part of a snapshot; None where the sender does not have it (any more)."""

    hash: Hash
    part: Annotated[int, Meta(ge=0, lt=MAX_SNAPSHOT_BYTES // SNAPSHOT_PART_BYTES)]
    data: Annotated[bytes, Meta(max_length=SNAPSHOT_PART_BYTES)] | None


KINDS: tuple[type[Message], ...] = (
    Hello,
    Ping,
    Pong,
    NewBlock,
    GetHeaders,
    Headers,
    GetBodies,
    Bodies,
    GetCompact,
    Compact,
    GetParts,
    Parts,
    Inventory,
    GetRecords,
    Records,
    VoteSummary,
    GetVotes,
    Votes,
    GetSnapshots,
    Snapshots,
    GetSnapshotPart,
    SnapshotPart,
)

_UNION: list[Any] = list(KINDS)
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(reduce(or_, _UNION))


def encode_message(message: Message) -> bytes:
    """Return a message's bytes; raises ValueError for one that no frame takes (the sender's own mistake)."""
    data = _encoder.encode(message)
    if len(data) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a {type(message).__name__} of {len(data)} bytes; at most {MAX_MESSAGE_BYTES}")
    return data


def decode_message(data: bytes) -> Message:
    """Return the message in a frame.

    Raises RecordError `message_too_large`, `message_malformed` (what and where), `message_not_canonical`.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise RecordError(
            "message_too_large",
            f"the message has {len(data)} bytes; at most {MAX_MESSAGE_BYTES} are allowed",
            size=len(data),
            limit=MAX_MESSAGE_BYTES,
        )
    try:
        message: Message = _decoder.decode(data)
    except (ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordError("message_malformed", f"not a message: {error}") from error
    if _encoder.encode(message) != data:
        raise RecordError("message_not_canonical", "the message does not re-encode to the same bytes")
    return message


def voters_of(bits: int) -> bytes:
    """Return voters as bytes: bit n stands for member index n."""
    return bits.to_bytes((bits.bit_length() + 7) // 8)


def bits_of(voters: bytes) -> int:
    """Return voters as bits."""
    return int.from_bytes(voters)
