"""What the engine asks the outside to do, and what it tells of."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from ledger_core.node.messages import Message
from ledger_core.records.votes import Vote
from ledger_core.rules.events import Event


class Send(Struct, frozen=True, gc=False):
    """Send a message to a peer."""

    peer: bytes
    message: Message


class Drop(Struct, frozen=True, gc=False):
    """Close the connection to a peer; with `ban_s` above zero refuse its key for so long."""

    peer: bytes
    code: str
    reason: str
    ban_s: int


class NodeEvent(Struct, frozen=True, gc=False, tag_field="event"):
    """Something that the node's owner may want to know."""


class BlockConnected(NodeEvent, frozen=True, tag="block_connected"):
    """A block joined the active branch, and what it did."""

    hash: bytes
    height: int
    events: Sequence[Event]


class BlockDisconnected(NodeEvent, frozen=True, tag="block_disconnected"):
    """A block left the active branch; what it did is undone."""

    hash: bytes


class RecordPooled(NodeEvent, frozen=True, tag="record_pooled"):
    """A record waits for its block: the rules take it on top of the chain and of what waits already."""

    record: bytes
    own: bool


class RecordContested(NodeEvent, frozen=True, tag="record_contested"):
    """The chain refuses a record that was submitted here, but what it conflicts with may still be undone.

    It is kept and tried again: `record_pooled` or a block tells that it got through, `record_lost` that not.
    """

    record: bytes
    code: str
    message: str
    details: dict[str, Any]


class RecordLost(NodeEvent, frozen=True, tag="record_lost"):
    """A record that was submitted here is impossible for good; the rule's code says why."""

    record: bytes
    code: str
    message: str
    details: dict[str, Any]


class RecordFinal(NodeEvent, frozen=True, tag="record_final"):
    """A record that was submitted here stands in a final block."""

    record: bytes
    height: int | None
    """Of that block; None where it is not here (any more)."""


class Voted(NodeEvent, frozen=True, tag="voted"):
    """This node voted."""

    vote: Vote


class VotingStopped(NodeEvent, frozen=True, tag="voting_stopped"):
    """This node will not vote until its owner says that no other copy of it runs."""

    reason: str


class Equivocation(NodeEvent, frozen=True, tag="equivocation"):
    """A node signed two votes that conflict: a member can put both into an evidence record."""

    node: bytes
    first: Vote
    first_signature: bytes
    second: Vote
    second_signature: bytes


class BranchParted(NodeEvent, frozen=True, tag="branch_parted"):
    """To a linked node other blocks are final than to this one: the street has parted, people must decide."""

    node: bytes
    final: int
    """Height of the last block that is final to the other node."""
    own_final: int


class ClockDoubted(NodeEvent, frozen=True, tag="clock_doubted"):
    """The node's clock is implausible: it neither mines nor votes."""

    reason: str


class ClockTrusted(NodeEvent, frozen=True, tag="clock_trusted"):
    """The node's clock is plausible again."""


class SnapshotAdopted(NodeEvent, frozen=True, tag="snapshot_adopted"):
    """The chain goes on from a snapshot: a client that keeps figures of its own reads them anew."""

    height: int
    hash: bytes


class Notify(Struct, frozen=True, gc=False):
    """Tell of an event."""

    event: NodeEvent


type Output = Send | Drop | Notify
