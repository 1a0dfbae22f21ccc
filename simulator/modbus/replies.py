"""Spoiled replies: a fault's way with a PDU or a frame that would have been right."""

from typing import TYPE_CHECKING

from simulator.modbus.faults import Fault, FaultKind
from simulator.modbus.framing import crc

if TYPE_CHECKING:
    import random


def corrupt_pdu(fault: Fault, pdu: bytes) -> bytes:
    """Return the reply's PDU with a wrong length if the fault says so; exceptions and writes stay whole."""
    if fault.kind is not FaultKind.WRONG_LENGTH or pdu[0] not in (3, 4):
        return pdu
    words = pdu[2:]
    if fault.words < 0:
        words = words[: max(0, len(words) + 2 * fault.words)]
    else:
        words += b"\x00" * (2 * fault.words)
    words = words[:250]
    return bytes((pdu[0], len(words))) + words


def corrupt_frame(fault: Fault, frame: bytes, rtu: bool, source: random.Random) -> bytes:
    """Return the frame as the fault spoils it."""
    match fault.kind:
        case FaultKind.TRUNCATED:
            return frame[: max(1, len(frame) // 2)]
        case FaultKind.GARBAGE:
            return source.randbytes(len(frame))
        case FaultKind.WRONG_UNIT if rtu:
            body = bytes((frame[0] ^ 0x7F,)) + frame[1:-2]
            return body + crc(body)
        case FaultKind.WRONG_UNIT:
            return frame[:6] + bytes((frame[6] ^ 0x7F,)) + frame[7:]
        case FaultKind.WRONG_TRANSACTION if not rtu:
            return bytes((frame[0] ^ 0x55,)) + frame[1:]
        case FaultKind.BAD_CRC if rtu:
            return frame[:-1] + bytes((frame[-1] ^ 0xFF,))
        case _:
            return frame
