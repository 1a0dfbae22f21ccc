"""Frames, PDUs and register spaces, compared with what the specification and pymodbus say."""

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer.rtu import FramerRTU

from simulator.modbus.framing import FramingError, MbapFraming, Request, RtuFraming, crc
from simulator.modbus.pdu import execute, parse
from simulator.modbus.registers import ExceptionCode, RefusedError, Registers, Space
from tests.simulator.support import slow_crc

if TYPE_CHECKING:
    from collections.abc import Sequence


class FakeUnit:
    """A unit whose spaces are plain registers."""

    def __init__(self) -> None:
        self.spaces = {space: Registers() for space in Space}
        self.functions: list[int] = []

    def read(self, space: Space, address: int, count: int) -> bytes:
        return self.spaces[space].read_bytes(address, count)

    def write(self, space: Space, address: int, values: Sequence[int], function: int) -> None:
        self.functions.append(function)
        self.spaces[space].write(address, values)

    def silent(self) -> bool:
        return False

    def reboot(self) -> None:
        """Nothing to lose."""


@given(st.binary(min_size=1, max_size=256))
def test_crc_agrees_with_the_specification_and_with_pymodbus(data: bytes) -> None:
    assert crc(data) == slow_crc(data)
    assert crc(data) == FramerRTU.compute_CRC(data).to_bytes(2, "big")


@pytest.mark.parametrize(
    "pdu",
    [
        struct.pack(">BHH", 3, 0, 10),
        struct.pack(">BHH", 6, 7, 8),
        struct.pack(">BHHBHH", 16, 0, 2, 4, 1, 2),
        struct.pack(">BHHBB", 15, 0, 3, 1, 5),
        struct.pack(">BHHH", 22, 0, 1, 2),
        struct.pack(">BHHHHBH", 23, 0, 1, 5, 1, 2, 9),
        b"\x2b\x0e\x01\x00",
    ],
)
@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_requests_are_cut_out_of_any_stream(pdu: bytes, piece: int) -> None:
    rtu, mbap = RtuFraming(), MbapFraming()
    rtu_frame = bytes((9,)) + pdu
    rtu_frame += slow_crc(rtu_frame)
    mbap_frame = struct.pack(">HHHB", 77, 0, len(pdu) + 1, 9) + pdu
    for framing, frame, transaction in ((rtu, rtu_frame, 0), (mbap, mbap_frame, 77)):
        found: list[Request] = []
        buffer = bytearray()
        stream = frame * 2
        for start in range(0, len(stream), piece):
            buffer += stream[start : start + piece]
            while (request := framing.take(buffer)) is not None:
                found.append(request)
        assert found == [Request(transaction, 9, pdu)] * 2
        assert not buffer
        assert framing.wrap(found[0], b"\x03\x02\x00\x01").startswith(frame[:4] if transaction else b"\x09")


def test_bytes_that_are_no_frame_are_refused() -> None:
    with pytest.raises(FramingError, match="no Modbus TCP header"):
        MbapFraming().take(bytearray(b"GET / HTTP/1.1\r\n"))
    with pytest.raises(FramingError, match="wrong CRC"):
        RtuFraming().take(bytearray(b"\x01\x03\x00\x00\x00\x01\x00\x00"))
    with pytest.raises(FramingError, match="no CRC within"):
        RtuFraming().take(bytearray(b"\x01\x63" + bytes(300)))


@pytest.mark.parametrize(
    ("pdu", "code"),
    [
        (b"\x07", ExceptionCode.ILLEGAL_FUNCTION),
        (struct.pack(">BHH", 3, 0, 0), ExceptionCode.ILLEGAL_VALUE),
        (struct.pack(">BHH", 3, 0, 126), ExceptionCode.ILLEGAL_VALUE),
        (struct.pack(">BHH", 1, 0, 2001), ExceptionCode.ILLEGAL_VALUE),
        (struct.pack(">BH", 3, 0), ExceptionCode.ILLEGAL_VALUE),
        (struct.pack(">BHH", 5, 0, 1), ExceptionCode.ILLEGAL_VALUE),
        (struct.pack(">BHHBH", 16, 0, 2, 2, 1), ExceptionCode.ILLEGAL_VALUE),
        (struct.pack(">BHHBB", 15, 0, 9, 1, 1), ExceptionCode.ILLEGAL_VALUE),
        (struct.pack(">BHHHHBH", 23, 0, 200, 0, 1, 2, 1), ExceptionCode.ILLEGAL_VALUE),
    ],
)
def test_requests_that_make_no_sense_are_refused(pdu: bytes, code: int) -> None:
    with pytest.raises(RefusedError) as refused:
        parse(pdu)
    assert refused.value.code == code


def test_every_function_reads_or_writes() -> None:
    unit = FakeUnit()
    unit.spaces[Space.HOLDING].map(100, [1, 2, 3, 4])
    unit.spaces[Space.INPUT].map(100, [7])
    unit.spaces[Space.COILS].map(0, [0] * 10)
    unit.spaces[Space.DISCRETE_INPUTS].map(0, [1, 0, 1, 1, 0, 0, 0, 0, 1])

    def ask(pdu: bytes) -> bytes:
        return execute(parse(pdu), unit)

    assert ask(struct.pack(">BHH", 3, 100, 2)) == bytes.fromhex("03 04 0001 0002")
    assert ask(struct.pack(">BHH", 4, 100, 1)) == bytes.fromhex("04 02 0007")
    assert ask(struct.pack(">BHH", 2, 0, 9)) == bytes.fromhex("02 02 0d 01")
    assert ask(struct.pack(">BHH", 5, 3, 0xFF00)) == struct.pack(">BHH", 5, 3, 0xFF00)
    assert ask(struct.pack(">BHHBB", 15, 4, 3, 1, 0b101)) == struct.pack(">BHH", 15, 4, 3)
    assert ask(struct.pack(">BHH", 1, 0, 10)) == bytes.fromhex("01 02 58 00")
    assert ask(struct.pack(">BHH", 6, 100, 500)) == struct.pack(">BHH", 6, 100, 500)
    assert ask(struct.pack(">BHHBHH", 16, 101, 2, 4, 8, 9)) == struct.pack(">BHH", 16, 101, 2)
    # The specification's example of function 22: 0x12 with AND 0xF2 and OR 0x25 is 0x17.
    unit.spaces[Space.HOLDING].write(103, [0x12])
    assert ask(struct.pack(">BHHH", 22, 103, 0xF2, 0x25)) == struct.pack(">BHHH", 22, 103, 0xF2, 0x25)
    assert unit.spaces[Space.HOLDING].read(100, 4) == [500, 8, 9, 0x17]
    assert ask(struct.pack(">BHHHHBH", 23, 100, 2, 101, 1, 2, 44)) == bytes.fromhex("17 04 01f4 002c")
    assert unit.functions == [5, 15, 6, 16, 22, 23]


def test_registers_know_what_is_mapped() -> None:
    registers = Registers()
    registers.map(10, [1, 2])
    registers.map(15, [3])
    registers.map(40, [4])
    registers.fill_gaps(3)
    assert registers.read(10, 6) == [1, 2, 0, 0, 0, 3]
    with pytest.raises(RefusedError):
        registers.read(10, 7)
    registers.unmap(12, 14)
    for start, count in ((12, 1), (9, 2), (65_535, 2)):
        with pytest.raises(RefusedError):
            registers.read(start, count)
    with pytest.raises(RefusedError):
        registers.write(11, [1, 2])
    registers.map_bytes(100, b"\x12\x34")
    assert registers.read(100, 1) == [0x1234]
    registers.clear()
    assert not registers.is_mapped(10)
    with pytest.raises(ValueError, match="outside 0 to 65535"):
        registers.map(65_535, [1, 2])
