"""Requests in, replies out: what a Modbus PDU asks for and what the registers answer (V1.1b3, section 6)."""

import struct
from typing import TYPE_CHECKING, NamedTuple, Protocol

from simulator.modbus.registers import ExceptionCode, RefusedError, Space

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

READ_FUNCTIONS = frozenset({1, 2, 3, 4})
WRITE_FUNCTIONS = frozenset({5, 6, 15, 16, 22, 23})
_MOST_REGISTERS = 125
_MOST_BITS = 2000


class Unit(Protocol):
    """A device behind a unit id."""

    def read(self, space: Space, address: int, count: int) -> bytes:
        """Return words in the order of the wire; raises RefusedError."""

    def write(self, space: Space, address: int, values: Sequence[int], function: int) -> None:
        """Write words by a function code; raises RefusedError."""

    def silent(self) -> bool:
        """Whether the device answers nothing now (asleep at night)."""

    def reboot(self) -> None:
        """Lose what a device loses without power."""


class Operation(NamedTuple):
    """What a request asks for: `quantity` words or bits from `address`, and the values to write.

    `mask` holds function 22's AND and OR masks; `read_address` and `read_quantity` are function 23's.
    """

    function: int
    address: int
    quantity: int
    values: tuple[int, ...] = ()
    mask: tuple[int, int] | None = None
    read_address: int = 0
    read_quantity: int = 0


def parse(pdu: bytes) -> Operation:
    """Return what a request's PDU asks for; raises RefusedError as devices refuse."""
    parser = _PARSERS.get(pdu[0])
    if parser is None:
        raise RefusedError(ExceptionCode.ILLEGAL_FUNCTION)
    try:
        return parser(pdu)
    except struct.error:
        raise RefusedError(ExceptionCode.ILLEGAL_VALUE) from None


def execute(operation: Operation, unit: Unit) -> bytes:
    """Carry a request out and return the reply's PDU; raises RefusedError."""
    return _EXECUTORS[operation.function](operation, unit)


def _parse_read(pdu: bytes) -> Operation:
    address, quantity = struct.unpack(">HH", pdu[1:])
    return Operation(pdu[0], address, _within(quantity, _MOST_BITS if pdu[0] < 3 else _MOST_REGISTERS))


def _parse_write_coil(pdu: bytes) -> Operation:
    address, value = struct.unpack(">HH", pdu[1:])
    if value not in (0, 0xFF00):
        raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
    return Operation(5, address, 1, (value >> 15,))


def _parse_write_register(pdu: bytes) -> Operation:
    address, value = struct.unpack(">HH", pdu[1:])
    return Operation(6, address, 1, (value,))


def _parse_write_coils(pdu: bytes) -> Operation:
    address, quantity, size = struct.unpack(">HHB", pdu[1:6])
    _same(size, (_within(quantity, 1968) + 7) // 8)
    packed = struct.unpack(f">{size}B", pdu[6:])
    return Operation(15, address, quantity, tuple(packed[i // 8] >> (i % 8) & 1 for i in range(quantity)))


def _parse_write_registers(pdu: bytes) -> Operation:
    address, quantity, size = struct.unpack(">HHB", pdu[1:6])
    _same(size, 2 * _within(quantity, 123))
    return Operation(16, address, quantity, struct.unpack(f">{quantity}H", pdu[6:]))


def _parse_mask(pdu: bytes) -> Operation:
    address, keep, put = struct.unpack(">HHH", pdu[1:])
    return Operation(22, address, 1, mask=(keep, put))


def _parse_read_write(pdu: bytes) -> Operation:
    source, wanted, address, quantity, size = struct.unpack(">HHHHB", pdu[1:10])
    _same(size, 2 * _within(quantity, 121))
    words = struct.unpack(f">{quantity}H", pdu[10:])
    _within(wanted, _MOST_REGISTERS)
    return Operation(23, address, quantity, words, read_address=source, read_quantity=wanted)


def _read_bits(operation: Operation, unit: Unit) -> bytes:
    words = unit.read(Space(operation.function), operation.address, operation.quantity)
    bits = words[1::2]
    packed = bytes(
        sum(bit << place for place, bit in enumerate(bits[start : start + 8]))
        for start in range(0, len(bits), 8)
    )
    return bytes((operation.function, len(packed))) + packed


def _read_holding(operation: Operation, unit: Unit) -> bytes:
    words = unit.read(Space.HOLDING, operation.address, operation.quantity)
    return bytes((3, len(words))) + words


def _read_input(operation: Operation, unit: Unit) -> bytes:
    words = unit.read(Space.INPUT, operation.address, operation.quantity)
    return bytes((4, len(words))) + words


def _write_one(operation: Operation, unit: Unit) -> bytes:
    value = operation.values[0]
    space = Space.COILS if operation.function == 5 else Space.HOLDING
    unit.write(space, operation.address, operation.values, operation.function)
    shown = value * 0xFF00 if operation.function == 5 else value
    return struct.pack(">BHH", operation.function, operation.address, shown)


def _write_many(operation: Operation, unit: Unit) -> bytes:
    space = Space.COILS if operation.function == 15 else Space.HOLDING
    unit.write(space, operation.address, operation.values, operation.function)
    return struct.pack(">BHH", operation.function, operation.address, operation.quantity)


def _write_mask(operation: Operation, unit: Unit) -> bytes:
    keep, put = operation.mask or (0xFFFF, 0)
    (held,) = struct.unpack(">H", unit.read(Space.HOLDING, operation.address, 1))
    unit.write(Space.HOLDING, operation.address, ((held & keep) | (put & ~keep & 0xFFFF),), 22)
    return struct.pack(">BHHH", 22, operation.address, keep, put)


def _write_and_read(operation: Operation, unit: Unit) -> bytes:
    unit.write(Space.HOLDING, operation.address, operation.values, 23)
    words = unit.read(Space.HOLDING, operation.read_address, operation.read_quantity)
    return bytes((23, len(words))) + words


def _within(quantity: int, most: int) -> int:
    if not 1 <= quantity <= most:
        raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
    return quantity


def _same(stated: int, counted: int) -> None:
    if stated != counted:
        raise RefusedError(ExceptionCode.ILLEGAL_VALUE)


_PARSERS: dict[int, Callable[[bytes], Operation]] = {
    **dict.fromkeys((1, 2, 3, 4), _parse_read),
    5: _parse_write_coil,
    6: _parse_write_register,
    15: _parse_write_coils,
    16: _parse_write_registers,
    22: _parse_mask,
    23: _parse_read_write,
}
_EXECUTORS: dict[int, Callable[[Operation, Unit], bytes]] = {
    **dict.fromkeys((1, 2), _read_bits),
    3: _read_holding,
    4: _read_input,
    **dict.fromkeys((5, 6), _write_one),
    **dict.fromkeys((15, 16), _write_many),
    22: _write_mask,
    23: _write_and_read,
}
