"""A look at incoming bytes before pymodbus decodes them; pure.

pymodbus takes a reply of another length or function for the answer, or fails inside the event loop's
callback. Here such a reply is recognised from the raw frame, at once instead of after a timeout.
"""

from __future__ import annotations

import dataclasses
from enum import Enum, auto
from typing import Final

_MBAP_SIZE: Final = 7
_BIT_READS: Final = (1, 2)
_REGISTER_READS: Final = (3, 4)
_RTU_EXCEPTION_SIZE: Final = 5
_RTU_WRITE_REPLY_SIZE: Final = 8


class Verdict(Enum):
    """What a frame is to the request under way."""

    ANSWER = auto()  # or not complete yet: leave it to pymodbus
    WRONG = auto()


@dataclasses.dataclass(slots=True)
class Expected:
    """The request under way, as far as its answer must match it. `values`: words or bits written."""

    function: int
    unit: int
    address: int
    count: int
    values: tuple[int, ...] | None = None
    transaction: int = 0


def judge_socket(data: bytes, expected: Expected) -> Verdict | bytes:
    """Judge a buffer of Modbus TCP frames (one or several, the last perhaps incomplete).

    The registers of a complete answer to a register read come back as they are on the wire.
    """
    start = 0
    while len(data) - start >= _MBAP_SIZE + 1:
        length = int.from_bytes(data[start + 4 : start + 6], "big")
        end = start + 6 + length
        protocol = int.from_bytes(data[start + 2 : start + 4], "big")
        if protocol or length < 3 or length > 254 + 6:
            return Verdict.WRONG
        if len(data) < end:
            return Verdict.ANSWER
        transaction = int.from_bytes(data[start : start + 2], "big")
        unit_fits = expected.unit == 0 or data[start + 6] == expected.unit
        if transaction == expected.transaction and unit_fits:
            pdu = data[start + _MBAP_SIZE : end]
            verdict = _judge(pdu, expected)
            if verdict is Verdict.ANSWER and pdu[0] in _REGISTER_READS:
                return pdu[2:]
            return verdict
        start = end
    return Verdict.ANSWER


def judge_rtu(data: bytes, expected: Expected) -> Verdict:
    """Judge one RTU reply. Leading noise is left to pymodbus, which hunts for a frame with a good CRC."""
    size = rtu_frame_size(data)
    if size is None or len(data) < size or (expected.unit and data[0] != expected.unit):
        return Verdict.ANSWER
    return _judge(data[1 : size - 2], expected)


def rtu_frame_size(data: bytes) -> int | None:
    """Bytes of the RTU reply at the start of `data`, CRC included; None when its start can't tell."""
    if len(data) < 3:
        return None
    function = data[1]
    if function & 0x80:
        return _RTU_EXCEPTION_SIZE
    if function in _BIT_READS or function in _REGISTER_READS:
        return 5 + data[2]
    if function in (5, 6, 15, 16):
        return _RTU_WRITE_REPLY_SIZE
    return None


def skip_late_rtu(data: bytes, expected: Expected) -> bytes:
    """Drop complete RTU replies at the start that answer an earlier, timed out question."""
    while (size := rtu_frame_size(data)) is not None and len(data) >= size:
        if judge_rtu(data, expected) is not Verdict.WRONG:
            break
        data = data[size:]
    return data


def _judge(pdu: bytes, expected: Expected) -> Verdict:
    """Judge one complete reply: function code, then lengths (reads) or the echo (writes)."""
    function = pdu[0]
    if function & 0x80:
        return Verdict.ANSWER if function & 0x7F == expected.function else Verdict.WRONG
    if function != expected.function:
        return Verdict.WRONG
    if expected.values is None:
        bits = function in _BIT_READS
        size = (expected.count + 7) // 8 if bits else 2 * expected.count
        return Verdict.ANSWER if len(pdu) == 2 + size and pdu[1] == size else Verdict.WRONG
    if len(pdu) != 5 or int.from_bytes(pdu[1:3], "big") != expected.address:
        return Verdict.WRONG
    echo = int.from_bytes(pdu[3:5], "big")
    return Verdict.ANSWER if echo == _echo(function, expected.values) else Verdict.WRONG


def _echo(function: int, values: tuple[int, ...]) -> int:
    """The last word of a write's reply: the value (functions 5, 6) or how many were written (15, 16)."""
    if function == 5:
        return 0xFF00 if values[0] else 0
    return values[0] if function == 6 else len(values)
