"""What one sealed frame holds: a chunk of a message, a sign of life, addresses, or the end of the link.

A message is cut into chunks of `CHUNK_BYTES`, all full but the last. The first one names the message's kind
and length, so that limits apply before the message has arrived. Two messages may be under way at a time,
one per lane: an urgent one does not wait for a bulky one.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from ledger_core.node.peers.cipher import TAG_BYTES
from ledger_core.node.peers.errors import MAX_CODE_LENGTH, MAX_REASON_LENGTH, Misbehaviour
from ledger_core.node.peers.text import printable

CHUNK_BYTES: Final = 32 * 1024
MAX_MESSAGE_BYTES: Final = 2 * 1024 * 1024
"""No kind may allow larger messages."""

_START_HEADER: Final = 7
_MORE_HEADER: Final = 2
TOKEN_BYTES: Final = 8
MAX_ANNOUNCEMENT_BYTES: Final = 24 * 1024

MAX_SEALED_FRAME_BYTES: Final = CHUNK_BYTES + _START_HEADER + TAG_BYTES
"""The largest sealed frame; a WebSocket message beyond it is refused before it is read."""


class Lane(IntEnum):
    """Which of the two messages under way a chunk belongs to."""

    URGENT = 0
    BULK = 1


class FrameType(IntEnum):
    """First byte of a frame; a number is never given again."""

    START = 1
    MORE = 2
    PING = 3
    PONG = 4
    ADDRESSES = 5
    CLOSE = 6


class Start(NamedTuple):
    """The first chunk of a message."""

    lane: Lane
    kind: int
    total: int
    """Bytes of the whole message."""
    chunk: bytes


class More(NamedTuple):
    """A further chunk of the message under way in a lane."""

    lane: Lane
    chunk: bytes


class Ping(NamedTuple):
    """Asks for a pong with the same token; sent regularly, so that each side hears the other."""

    token: bytes


class Pong(NamedTuple):
    """The answer to a ping."""

    token: bytes


class Addresses(NamedTuple):
    """Where nodes can be reached, as `gossip` encodes it."""

    content: bytes


class Close(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The last frame of a side that ends the link: why."""

    code: Annotated[str, Meta(min_length=1, max_length=MAX_CODE_LENGTH)]
    reason: Annotated[str, Meta(max_length=MAX_REASON_LENGTH)]


type Frame = Start | More | Ping | Pong | Addresses | Close

_encoder = msgspec.msgpack.Encoder()
_close_decoder = msgspec.msgpack.Decoder(Close)


def frame_count(size: int) -> int:
    """Return how many frames a message of that many bytes takes."""
    return max(1, -(-size // CHUNK_BYTES))


def message_frames(lane: Lane, kind: int, payload: bytes) -> Iterator[bytes]:
    """Give the plaintext frames of a message, in order."""
    first = payload[:CHUNK_BYTES]
    yield bytes((FrameType.START, lane, kind)) + len(payload).to_bytes(4) + first
    for offset in range(CHUNK_BYTES, len(payload), CHUNK_BYTES):
        yield bytes((FrameType.MORE, lane)) + payload[offset : offset + CHUNK_BYTES]


def ping_frame(token: bytes) -> bytes:
    """Return a ping's plaintext; the token has 8 bytes."""
    return bytes((FrameType.PING,)) + token


def pong_frame(token: bytes) -> bytes:
    """Return a pong's plaintext."""
    return bytes((FrameType.PONG,)) + token


def addresses_frame(content: bytes) -> bytes:
    """Return the plaintext of a frame of addresses."""
    return bytes((FrameType.ADDRESSES,)) + content


def close_frame(code: str, reason: str) -> bytes:
    """Return the plaintext of the last frame."""
    close = Close(printable(code, MAX_CODE_LENGTH), printable(reason, MAX_REASON_LENGTH))
    return bytes((FrameType.CLOSE,)) + _encoder.encode(close)


def decode_frame(plaintext: bytes) -> Frame:
    """Return what a frame holds; raises Misbehaviour `frame_malformed`."""
    if not plaintext:
        raise _malformed("it is empty")
    kind, content = plaintext[0], plaintext[1:]
    match kind:
        case FrameType.START:
            return _start(content)
        case FrameType.MORE:
            if len(content) < _MORE_HEADER:
                raise _malformed("a further chunk is empty")
            return More(_lane(content[0]), content[1:])
        case FrameType.PING | FrameType.PONG:
            if len(content) != TOKEN_BYTES:
                raise _malformed(f"a token has {TOKEN_BYTES} bytes, not {len(content)}")
            return Ping(content) if kind == FrameType.PING else Pong(content)
        case FrameType.ADDRESSES:
            if len(content) > MAX_ANNOUNCEMENT_BYTES:
                raise _malformed(f"{len(content)} bytes of addresses; at most {MAX_ANNOUNCEMENT_BYTES}")
            return Addresses(content)
        case FrameType.CLOSE:
            return _close(content)
        case _:
            raise _malformed(f"its type {kind} is unknown")


def _start(content: bytes) -> Start:
    if len(content) < _START_HEADER:
        raise _malformed("a first chunk is cut short")
    total = int.from_bytes(content[2:6])
    return Start(_lane(content[0]), content[1], total, content[6:])


def _close(content: bytes) -> Close:
    try:
        close = _close_decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(f"the end's reason does not decode: {error}") from error
    return Close(printable(close.code, MAX_CODE_LENGTH), printable(close.reason, MAX_REASON_LENGTH))


def _lane(value: int) -> Lane:
    if value not in (Lane.URGENT, Lane.BULK):
        raise _malformed(f"lane {value} is unknown")
    return Lane(value)


def _malformed(what: str) -> Misbehaviour:
    return Misbehaviour("frame_malformed", f"a frame is malformed: {what}")
