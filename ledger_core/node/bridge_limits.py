"""How much of each kind of message a peer may send; both sides of a link hold this table.

Sizes follow from the messages' own bounds, rates from what an honest node needs in a busy minute of a large
community: blocks of a second, a sync at the speed of verification. What exceeds them is a flood.
"""

from typing import Final

from ledger_core.node import messages
from ledger_core.node.messages import MAX_MESSAGE_BYTES, Message
from ledger_core.node.peers import KindLimit, KindLimits

KIB: Final = 1024
MIB: Final = 1024 * KIB


def kind_of(message: Message | type[Message]) -> int:
    """Return the number of a message's kind, as frames carry it."""
    tag = message.__struct_config__.tag
    if not isinstance(tag, int):
        raise TypeError(f"{message!r} is no kind of message")
    return tag


def _limit(
    kind: type[Message],
    max_bytes: int,
    per_second: float,
    burst: int,
    bytes_per_second: float,
    *,
    bulk: bool = False,
) -> tuple[int, KindLimit]:
    # A burst of bytes lasts as long as one of messages, and holds at least two of the largest.
    burst_bytes = max(int(bytes_per_second * burst / per_second), 2 * max_bytes)
    return kind_of(kind), KindLimit(
        name=kind.__name__,
        max_bytes=max_bytes,
        per_second=per_second,
        burst=burst,
        bytes_per_second=bytes_per_second,
        burst_bytes=burst_bytes,
        bulk=bulk,
    )


LIMITS: Final[KindLimits] = dict(
    (
        _limit(messages.Hello, 1 * KIB, 0.1, 2, 1 * KIB),
        _limit(messages.Ping, 1 * KIB, 1, 10, 1 * KIB),
        _limit(messages.Pong, 1 * KIB, 1, 10, 1 * KIB),
        _limit(messages.NewBlock, 1 * KIB, 20, 100, 20 * KIB),
        _limit(messages.GetHeaders, 8 * KIB, 20, 60, 64 * KIB),
        _limit(messages.Headers, 512 * KIB, 20, 60, 8 * MIB, bulk=True),
        _limit(messages.GetBodies, 16 * KIB, 100, 300, 512 * KIB),
        _limit(messages.Bodies, MAX_MESSAGE_BYTES, 100, 300, 16 * MIB, bulk=True),
        _limit(messages.GetCompact, 1 * KIB, 20, 100, 8 * KIB),
        _limit(messages.Compact, 1 * MIB, 20, 100, 2 * MIB),
        _limit(messages.GetParts, 1 * MIB, 20, 100, 1 * MIB),
        _limit(messages.Parts, MAX_MESSAGE_BYTES, 20, 100, 4 * MIB),
        _limit(messages.Inventory, 40 * KIB, 50, 300, 1 * MIB),
        _limit(messages.GetRecords, 40 * KIB, 50, 300, 1 * MIB),
        _limit(messages.Records, MAX_MESSAGE_BYTES, 100, 400, 8 * MIB),
        _limit(messages.VoteSummary, 640 * KIB, 5, 30, 1 * MIB),
        _limit(messages.GetVotes, 640 * KIB, 10, 60, 1 * MIB),
        _limit(messages.Votes, MAX_MESSAGE_BYTES, 20, 100, 4 * MIB),
        _limit(messages.GetSnapshots, 1 * KIB, 1, 10, 1 * KIB),
        _limit(messages.Snapshots, 4 * KIB, 1, 10, 4 * KIB),
        _limit(messages.GetSnapshotPart, 1 * KIB, 50, 150, 16 * KIB),
        _limit(messages.SnapshotPart, 520 * KIB, 50, 150, 16 * MIB, bulk=True),
    )
)
