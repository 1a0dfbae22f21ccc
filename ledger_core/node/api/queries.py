"""What a request may ask: every parameter with its bounds."""

from typing import Annotated

from msgspec import Meta, Struct

from ledger_core.node.api.model import Cursor, Hex16, Hex32
from ledger_core.records.types import AssetKind, Basis, Carrier, Side

Who = Annotated[
    str,
    Meta(
        pattern="^([0-9a-f]{64}|el1[0-9a-z]{58})$",
        description="A member's key in hexadecimal, or its address.",
    ),
]
Limit = Annotated[int, Meta(ge=1, le=500, description="How many at the most.")]
BlockHeight = Annotated[int, Meta(ge=0, le=2**32 - 1, description="A block's height.")]
Time = Annotated[int, Meta(ge=0, le=2**40, description="UTC seconds since 1970.")]


class Query(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of a request; an unknown one is refused."""


class Nothing(Query, frozen=True):
    """No parameters."""


class MembersQuery(Query, frozen=True):
    """Which members."""

    after: Hex32 | None = None
    limit: Limit = 100


class AccountsQuery(MembersQuery, frozen=True):
    """Which accounts."""


class AssetsQuery(Query, frozen=True):
    """Which assets."""

    owner: Who | None = None
    kind: AssetKind | None = None
    carrier: Carrier | None = None
    after: Hex16 | None = None
    limit: Limit = 100


class OffersQuery(Query, frozen=True):
    """Which open offers."""

    author: Who | None = None
    side: Side | None = None
    carrier: Carrier | None = None
    basis: Basis | None = None
    visible_to: Annotated[Who | None, Meta(description="Only offers that this member may accept.")] = None
    from_time: Annotated[Time | None, Meta(description="Windows that end after this time.")] = None
    until_time: Annotated[Time | None, Meta(description="Windows that start before this time.")] = None
    after: Hex32 | None = None
    limit: Limit = 100


class WaitingQuery(Query, frozen=True):
    """Which acceptances that do not bind yet."""

    author: Who | None = None
    offer: Hex32 | None = None
    offerer: Who | None = None
    after: Hex32 | None = None
    limit: Limit = 100


class TradesQuery(Query, frozen=True):
    """Which trades."""

    member: Annotated[Who | None, Meta(description="Seller or buyer.")] = None
    asset: Hex16 | None = None
    offer: Hex32 | None = None
    from_time: Annotated[Time | None, Meta(description="Windows that end after this time.")] = None
    until_time: Annotated[Time | None, Meta(description="Windows that start before this time.")] = None
    after: Hex32 | None = None
    limit: Limit = 100


class BlocksQuery(Query, frozen=True):
    """Which blocks, downwards."""

    before: Annotated[BlockHeight | None, Meta(description="Only blocks below this height.")] = None
    limit: Annotated[int, Meta(ge=1, le=50, description="How many at the most.")] = 10


class RecordQuery(Query, frozen=True):
    """Where a record may stand."""

    height: Annotated[
        BlockHeight | None, Meta(description="Its block; without it only the newest blocks are searched.")
    ] = None


class EventsQuery(Query, frozen=True):
    """From where on events are wanted."""

    after: Annotated[Cursor | None, Meta(description="The last event known; without it the oldest kept.")] = (
        None
    )
    limit: Limit = 100


class StreamQuery(Query, frozen=True):
    """From where on events are streamed."""

    after: Annotated[Cursor | None, Meta(description="The last event known; without it only new ones.")] = (
        None
    )


class WhoPath(Query, frozen=True):
    """A member in the path."""

    member: Who


class AssetPath(Query, frozen=True):
    """An asset in the path."""

    asset: Hex16


class IdPath(Query, frozen=True):
    """A record's id in the path."""

    id: Hex32


class HeightPath(Query, frozen=True):
    """A block's height in the path."""

    height: BlockHeight


class MiningChange(Query, frozen=True):
    """What to change of mining."""

    on: bool | None = None
    share: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None, Meta(description="Part of one core that mining may take.")
    ] = None


class Submission(Query, frozen=True):
    """A signed record."""

    envelope: Annotated[
        bytes,
        Meta(min_length=1, max_length=17_000, description="The canonical envelope (MessagePack) in base64."),
    ]


class BatchSubmission(Query, frozen=True):
    """Signed records, of which each is taken or refused by itself, in order."""

    envelopes: Annotated[
        list[Annotated[bytes, Meta(min_length=1, max_length=17_000)]],
        Meta(min_length=1, max_length=256, description="Canonical envelopes (MessagePack) in base64."),
    ]
