"""Servers for the transport and device tests: units of plain registers, and a serial gateway on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import pytest

from custom_components.energy_ledger.devices.transport.base import LinkKind, LinkSettings
from simulator.modbus.framing import crc
from simulator.modbus.registers import ExceptionCode, RefusedError, Registers, Space
from simulator.modbus.server import Link as ServerLink
from simulator.modbus.server import LinkSettings as ServerSettings
from simulator.modbus.server import Transport
from simulator.modbus.wire_log import WireLog

_TRANSPORTS = {
    LinkKind.TCP: Transport.TCP,
    LinkKind.RTU_OVER_TCP: Transport.RTU_OVER_TCP,
    LinkKind.UDP: Transport.UDP,
    LinkKind.RTU_OVER_UDP: Transport.RTU_OVER_UDP,
}


class Memory:
    """A unit that holds what is mapped and takes every write to what is mapped.

    `longest`: most registers it answers at once; `refused`: addresses that it refuses to write.
    """

    def __init__(self, registers: Mapping[int, Sequence[int]] | None = None, *, longest: int = 125) -> None:
        self.spaces = {space: Registers() for space in Space}
        self.longest = longest
        self.refused: set[int] = set()
        self.ignored: set[int] = set()
        self.reads: list[tuple[int, int, int]] = []
        self.writes: list[tuple[int, int, tuple[int, ...]]] = []
        for address, words in (registers or {}).items():
            self.spaces[Space.HOLDING].map(address, words)

    def map(self, function: int, address: int, words: Sequence[int]) -> None:
        self.spaces[Space(function)].map(address, words)

    def word(self, address: int) -> int:
        return int.from_bytes(self.spaces[Space.HOLDING].read_bytes(address, 1), "big")

    def read(self, space: Space, address: int, count: int) -> bytes:
        self.reads.append((int(space), address, count))
        if count > self.longest:
            raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
        return self.spaces[space].read_bytes(address, count)

    def write(self, space: Space, address: int, values: Sequence[int], function: int) -> None:
        if any(address + index in self.refused for index in range(len(values))):
            raise RefusedError(ExceptionCode.ILLEGAL_VALUE)
        self.spaces[space].read_bytes(address, len(values))  # refuses what is not mapped
        self.writes.append((function, address, tuple(values)))
        if not any(address + index in self.ignored for index in range(len(values))):
            self.spaces[space].map(address, values)

    def silent(self) -> bool:
        return False

    def reboot(self) -> None:
        pass


@contextlib.asynccontextmanager
async def serving(
    units: Mapping[int, Memory],
    kind: LinkKind = LinkKind.TCP,
    *,
    latency_s: float = 0.0,
    max_clients: int | None = None,
) -> AsyncIterator[ServerLink]:
    """A server for these units; `settings_for` gives the way to it."""
    settings = ServerSettings("test", _TRANSPORTS[kind], latency_s=latency_s, max_clients=max_clients)
    server = ServerLink(settings, units, WireLog(lambda: 0))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def settings_for(server: ServerLink, *, timeout_s: float = 0.3, spacing_s: float = 0.0) -> LinkSettings:
    """Link settings that lead to a test server, with short times."""
    kind = next(kind for kind, way in _TRANSPORTS.items() if way is server.settings.transport)
    return LinkSettings(
        kind=kind,
        host="127.0.0.1",
        port=server.port,
        timeout_s=timeout_s,
        spacing_s=spacing_s,
        retry_first_s=0.02,
        retry_last_s=0.1,
    )


def no_answer(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Let connections never come about, as with a host that is switched off; returns the attempts."""
    attempts: list[object] = []

    async def create_connection(_loop: object, _factory: object, *address: object, **_: object) -> None:
        attempts.append(address)
        await asyncio.sleep(60)

    monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", create_connection)
    return attempts


class Gateway:
    """A transparent serial-to-network gateway: RTU replies go to whoever is connected when they come.

    `answer` gives the reply's PDU for (unit, function, address, count), `delay` the seconds until it comes.
    """

    def __init__(self, answer: Callable[[int, int, int, int], bytes]) -> None:
        self.answer = answer
        self.delay: Callable[[int, int, int, int], float | None] = lambda *_: 0.0
        self.port = 0
        self.asked: list[tuple[int, int, int, int]] = []
        self._clients: list[asyncio.StreamWriter] = []
        self._bus = asyncio.Queue[tuple[int, int, int, int]]()
        self._server: asyncio.Server | None = None
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Gateway:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._worker = asyncio.create_task(self._devices())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        assert self._worker is not None
        self._worker.cancel()
        await asyncio.wait([self._worker])
        self._server.close()
        for writer in self._clients:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.append(writer)
        with contextlib.suppress(OSError):
            while frame := await reader.read(256):
                question = (
                    frame[0],
                    frame[1],
                    int.from_bytes(frame[2:4], "big"),
                    int.from_bytes(frame[4:6], "big"),
                )
                self.asked.append(question)
                self._bus.put_nowait(question)
        self._clients.remove(writer)
        writer.close()

    async def _devices(self) -> None:
        """The bus: one answer after another, in the order of the questions."""
        while True:
            question = await self._bus.get()
            delay = self.delay(*question)
            if delay is None:
                continue
            await asyncio.sleep(delay)
            body = bytes((question[0],)) + self.answer(*question)
            for writer in self._clients:
                writer.write(body + crc(body))


def registers_equal_addresses(_unit: int, function: int, address: int, count: int) -> bytes:
    """A reply in which every register holds its own address."""
    words = b"".join((address + index).to_bytes(2, "big") for index in range(count))
    return bytes((function, len(words))) + words
