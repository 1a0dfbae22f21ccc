"""Puts the chunks of messages together again; memory grows with what has arrived, not with what was told."""

from typing import NamedTuple

from ledger_core.node.peers.errors import Misbehaviour
from ledger_core.node.peers.frames import CHUNK_BYTES, Lane, More, Start


class Assembled(NamedTuple):
    """A whole message."""

    kind: int
    payload: bytes


class _UnderWay:
    """The message of one lane that has arrived in part."""

    __slots__ = ("chunks", "deadline", "kind", "missing")

    def __init__(self, kind: int, missing: int, chunk: bytes, deadline: float) -> None:
        self.kind = kind
        self.missing = missing
        self.chunks = [chunk]
        self.deadline = deadline


class Assembler:
    """The messages under way on one link, at most one per lane."""

    def __init__(self) -> None:
        self._under_way: dict[Lane, _UnderWay] = {}

    def start(self, frame: Start, deadline: float) -> Assembled | None:
        """Take a first chunk; return the message if that is all of it.

        `deadline` is when the rest must have come, on the caller's clock. Raises Misbehaviour
        `frame_malformed`.
        """
        if frame.lane in self._under_way:
            raise Misbehaviour("frame_malformed", "a message begins before the one under way has ended")
        if len(frame.chunk) != min(frame.total, CHUNK_BYTES):
            raise Misbehaviour(
                "frame_malformed", "a first chunk is not as long as its message's length asks for"
            )
        missing = frame.total - len(frame.chunk)
        if not missing:
            return Assembled(frame.kind, frame.chunk)
        self._under_way[frame.lane] = _UnderWay(frame.kind, missing, frame.chunk, deadline)
        return None

    def more(self, frame: More) -> Assembled | None:
        """Take a further chunk; return the message if it is whole; raises Misbehaviour `frame_malformed`."""
        message = self._under_way.get(frame.lane)
        if message is None:
            raise Misbehaviour("frame_malformed", "a further chunk belongs to no message")
        if len(frame.chunk) != min(message.missing, CHUNK_BYTES):
            raise Misbehaviour(
                "frame_malformed", "a further chunk is not as long as its message's length asks for"
            )
        message.missing -= len(frame.chunk)
        message.chunks.append(frame.chunk)
        if message.missing:
            return None
        del self._under_way[frame.lane]
        return Assembled(message.kind, b"".join(message.chunks))

    def deadline(self) -> float | None:
        """Return when the first message under way is overdue; None where none is."""
        return min((message.deadline for message in self._under_way.values()), default=None)
