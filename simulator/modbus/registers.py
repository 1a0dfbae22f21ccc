"""The registers of one unit: four address spaces of 16-bit words, mapped or not, and refusals by code."""

import struct
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SPACE_WORDS = 65_536


class ExceptionCode(IntEnum):
    """Modbus exception codes (Application Protocol V1.1b3, section 7)."""

    ILLEGAL_FUNCTION = 1
    ILLEGAL_ADDRESS = 2
    ILLEGAL_VALUE = 3
    DEVICE_FAILURE = 4
    ACKNOWLEDGE = 5
    BUSY = 6
    GATEWAY_PATH = 10
    GATEWAY_TARGET = 11


class RefusedError(Exception):
    """A request that the device answers with an exception reply."""

    def __init__(self, code: int) -> None:
        """Refuse with an exception code."""
        super().__init__(f"Modbus exception {code}")
        self.code = code


class Space(IntEnum):
    """Address spaces, numbered by the function that reads them."""

    COILS = 1
    DISCRETE_INPUTS = 2
    HOLDING = 3
    INPUT = 4


class Registers:
    """One address space. Bits (coils, discrete inputs) take a word each, 0 or 1."""

    def __init__(self) -> None:
        """Start with nothing mapped."""
        self._data = bytearray(2 * _SPACE_WORDS)
        self._mapped = bytearray(_SPACE_WORDS)

    def map(self, address: int, values: Iterable[int]) -> None:
        """Map words from an address on, with these values 0 to 65535."""
        words = tuple(values)
        self._check_inside(address, len(words))
        struct.pack_into(f">{len(words)}H", self._data, 2 * address, *words)
        self._mapped[address : address + len(words)] = b"\x01" * len(words)

    def map_bytes(self, address: int, data: bytes) -> None:
        """Map words from an address on, given as bytes in the order of the wire."""
        self._check_inside(address, len(data) // 2)
        self._data[2 * address : 2 * address + len(data)] = data
        self._mapped[address : address + len(data) // 2] = b"\x01" * (len(data) // 2)

    def unmap(self, first: int, last: int) -> None:
        """Take the words from first to last (both included) away."""
        self._mapped[first : last + 1] = bytes(last - first + 1)

    def clear(self) -> None:
        """Take every word away."""
        self._data = bytearray(2 * _SPACE_WORDS)
        self._mapped = bytearray(_SPACE_WORDS)

    def is_mapped(self, address: int, count: int = 1) -> bool:
        """Whether all these words are mapped."""
        end = address + count
        return end <= _SPACE_WORDS and self._mapped.find(0, address, end) < 0

    def fill_gaps(self, longest: int) -> None:
        """Map gaps of up to `longest` words between mapped ones, with 0: reserved but readable."""
        start = self._mapped.find(1)
        while start >= 0:
            gap = self._mapped.find(0, start)
            following = self._mapped.find(1, gap) if gap >= 0 else -1
            if following >= 0 and following - gap <= longest:
                self._mapped[gap:following] = b"\x01" * (following - gap)
            start = following

    def read_bytes(self, address: int, count: int) -> bytes:
        """Return words in the order of the wire; raises RefusedError if one is not mapped."""
        if not self.is_mapped(address, count):
            raise RefusedError(ExceptionCode.ILLEGAL_ADDRESS)
        return bytes(self._data[2 * address : 2 * (address + count)])

    def read(self, address: int, count: int) -> list[int]:
        """Return words as numbers; raises RefusedError (illegal address) if one is not mapped."""
        return list(struct.unpack(f">{count}H", self.read_bytes(address, count)))

    def write(self, address: int, values: Sequence[int]) -> None:
        """Overwrite mapped words; raises RefusedError (illegal address) if one is not mapped."""
        if not self.is_mapped(address, len(values)):
            raise RefusedError(ExceptionCode.ILLEGAL_ADDRESS)
        struct.pack_into(f">{len(values)}H", self._data, 2 * address, *values)

    @staticmethod
    def _check_inside(address: int, count: int) -> None:
        if address < 0 or address + count > _SPACE_WORDS:
            raise ValueError(f"registers {address} to {address + count - 1} lie outside 0 to 65535")
