"""Modbus frames as the server sees them: MBAP headers (TCP, UDP) and RTU frames (serial lines, gateways).

Source: MODBUS Messaging on TCP/IP V1.0b, MODBUS over Serial Line V1.02, Application Protocol V1.1b3.
"""

import struct
from typing import NamedTuple, Protocol

_MBAP = struct.Struct(">HHHB")
_MAX_PDU = 253
# Whole RTU request, address to CRC, for functions of fixed length.
_RTU_FIXED = {1: 8, 2: 8, 3: 8, 4: 8, 5: 8, 6: 8, 22: 10}
# Place of the byte count, and the frame's length without the counted bytes, for the others.
_RTU_COUNTED = {15: (6, 9), 16: (6, 9), 23: (10, 13)}
_RTU_MAX = 256


def _crc_of_byte(byte: int) -> int:
    """Return the CRC register after one byte: CRC-16 with the reflected polynomial 0xA001."""
    for _ in range(8):
        byte = byte >> 1 ^ (0xA001 if byte & 1 else 0)
    return byte


_CRC_TABLE = tuple(_crc_of_byte(byte) for byte in range(256))


class Request(NamedTuple):
    """One request: transaction id (0 with RTU), unit id and PDU."""

    transaction: int
    unit: int
    pdu: bytes


class FramingError(Exception):
    """Bytes that are no Modbus frame; a real device drops the connection or stays silent."""


class Framing(Protocol):
    """Cuts requests out of a stream of bytes and wraps replies."""

    def take(self, buffer: bytearray) -> Request | None:
        """Remove and return the first whole request, None if there is none yet; raises FramingError."""

    def wrap(self, request: Request, pdu: bytes) -> bytes:
        """Return the reply's frame."""


class MbapFraming:
    """Modbus TCP: transaction, protocol 0, length, unit, PDU."""

    def take(self, buffer: bytearray) -> Request | None:
        """Remove and return the first whole request, None if there is none yet; raises FramingError."""
        if len(buffer) < _MBAP.size:
            return None
        transaction, protocol, length, unit = _MBAP.unpack_from(buffer)
        if protocol != 0 or not 2 <= length <= _MAX_PDU + 1:
            raise FramingError(f"protocol {protocol} and length {length} are no Modbus TCP header")
        end = 6 + length
        if len(buffer) < end:
            return None
        pdu = bytes(buffer[_MBAP.size : end])
        del buffer[:end]
        return Request(transaction, unit, pdu)

    def wrap(self, request: Request, pdu: bytes) -> bytes:
        """Return the reply's frame."""
        return _MBAP.pack(request.transaction, 0, len(pdu) + 1, request.unit) + pdu


class RtuFraming:
    """Modbus RTU: unit, PDU, CRC. A frame's end follows from its function code: gateways keep no pauses."""

    def take(self, buffer: bytearray) -> Request | None:
        """Remove and return the first whole request, None if there is none yet; raises FramingError."""
        if len(buffer) < 4:
            return None
        length = self._length(buffer)
        if length is None or len(buffer) < length:
            return None
        frame = bytes(buffer[:length])
        if frame[-2:] != crc(frame[:-2]):
            raise FramingError(f"wrong CRC in {frame.hex()}")
        del buffer[:length]
        return Request(0, frame[0], frame[1:-2])

    def wrap(self, request: Request, pdu: bytes) -> bytes:
        """Return the reply's frame."""
        frame = bytes((request.unit,)) + pdu
        return frame + crc(frame)

    @staticmethod
    def _length(buffer: bytearray) -> int | None:
        """Return the whole frame's length in bytes, None if more bytes are needed to know it."""
        function = buffer[1]
        if function in _RTU_FIXED:
            return _RTU_FIXED[function]
        if function in _RTU_COUNTED:
            place, rest = _RTU_COUNTED[function]
            return rest + buffer[place] if len(buffer) > place else None
        # A function that this server does not know: the frame ends where a CRC fits.
        for end in range(4, min(len(buffer), _RTU_MAX) + 1):
            if bytes(buffer[end - 2 : end]) == crc(bytes(buffer[: end - 2])):
                return end
        if len(buffer) >= _RTU_MAX:
            raise FramingError(f"function {function} and no CRC within {_RTU_MAX} bytes")
        return None


def crc(data: bytes) -> bytes:
    """Return the two CRC bytes of an RTU frame in the order of the wire (low byte first)."""
    register = 0xFFFF
    for byte in data:
        register = register >> 8 ^ _CRC_TABLE[(register ^ byte) & 0xFF]
    return register.to_bytes(2, "little")
