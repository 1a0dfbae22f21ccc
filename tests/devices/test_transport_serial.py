"""RTU on a serial line: a pseudo-terminal with a responder of our own at the other end."""

import asyncio
import contextlib
import os
import pty
import tty
from collections.abc import AsyncIterator, Callable

import pytest

from custom_components.energy_ledger.devices.errors import LinkClosed, LinkTimeout
from custom_components.energy_ledger.devices.transport.base import LinkKind, LinkSettings
from custom_components.energy_ledger.devices.transport.link import Link
from simulator.modbus.framing import crc
from tests.devices.wire import registers_equal_addresses


class Line:
    """One end of a serial line. It answers what `answers` lets it; `late` replies come before that answer."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        tty.setraw(slave)
        self.device = os.ttyname(slave)
        self._slave = slave
        self.answers: Callable[[int], bool] = lambda _address: True
        self.late = b""

    def read(self) -> None:
        frame = os.read(self.master, 256)
        address, count = int.from_bytes(frame[2:4], "big"), int.from_bytes(frame[4:6], "big")
        body = bytes((frame[0],)) + registers_equal_addresses(frame[0], frame[1], address, count)
        reply = body + crc(body)
        if self.answers(address):
            os.write(self.master, self.late + reply)
            self.late = b""
        else:
            self.late += reply

    def close(self) -> None:
        for handle in (self.master, self._slave):
            with contextlib.suppress(OSError):
                os.close(handle)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    end = Line()
    loop = asyncio.get_running_loop()
    loop.add_reader(end.master, end.read)
    yield end
    loop.remove_reader(end.master)
    end.close()


def link_to(line: Line) -> Link:
    return Link(
        LinkSettings(
            kind=LinkKind.SERIAL, device=line.device, baudrate=115200, timeout_s=0.15, retry_first_s=0.02
        )
    )


async def test_reads_over_a_serial_line(line: Line) -> None:
    link = link_to(line)
    assert await link.unit(5).read(3, 300, 4) == [300, 301, 302, 303]
    assert await link.unit(6).read(4, 7, 1) == [7]
    assert link.unit(5).name == f"{line.device} unit 5"
    await link.close()


async def test_a_late_reply_on_a_serial_line_never_answers_the_next_question(line: Line) -> None:
    link = link_to(line)
    line.answers = lambda address: address != 100
    with pytest.raises(LinkTimeout):
        await link.unit(5).read(3, 100, 2)
    for address in (200, 210, 220):
        assert await link.unit(5).read(3, address, 2) == [address, address + 1]
    await link.close()


async def test_a_serial_device_that_is_not_there() -> None:
    link = Link(LinkSettings(kind=LinkKind.SERIAL, device="/dev/no-such-tty", timeout_s=0.2))
    with pytest.raises(LinkClosed, match=r"/dev/no-such-tty can't be opened.*check that"):
        await link.unit(1).read(3, 0, 1)
    await link.close()
