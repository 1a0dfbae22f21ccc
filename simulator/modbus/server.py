"""One link of a home: a listening socket with units behind it, answering, or failing as it is told to."""

import asyncio
import contextlib
import random
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

from simulator.modbus.faults import Fault, FaultBoard, FaultKind
from simulator.modbus.framing import Framing, FramingError, MbapFraming, Request, RtuFraming
from simulator.modbus.pdu import READ_FUNCTIONS, WRITE_FUNCTIONS, Operation, Unit, execute, parse
from simulator.modbus.registers import ExceptionCode, RefusedError
from simulator.modbus.replies import corrupt_frame, corrupt_pdu

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from simulator.modbus.wire_log import WireLog


class Transport(StrEnum):
    """How a link carries Modbus."""

    TCP = "tcp"
    RTU_OVER_TCP = "rtu_over_tcp"
    UDP = "udp"
    RTU_OVER_UDP = "rtu_over_udp"

    @property
    def is_datagram(self) -> bool:
        """Whether frames travel in UDP datagrams."""
        return self in (Transport.UDP, Transport.RTU_OVER_UDP)

    @property
    def is_rtu(self) -> bool:
        """Whether frames are RTU frames."""
        return self in (Transport.RTU_OVER_TCP, Transport.RTU_OVER_UDP)


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Where a link listens, the latency of every reply in s, and the clients it takes (None: any)."""

    name: str
    transport: Transport = Transport.TCP
    host: str = "127.0.0.1"
    port: int = 0
    latency_s: float = 0.0
    max_clients: int | None = None


class Link:
    """A Modbus server for the units of one link. Use `start`, then `stop`."""

    def __init__(
        self,
        settings: LinkSettings,
        units: Mapping[int, Unit],
        log: WireLog,
        *,
        seed: int = 1,
        before_write: Callable[[], None] | None = None,
    ) -> None:
        """Serve units by their ids; call `before_write` before any write takes effect."""
        self.settings = settings
        self.units = dict(units)
        self.faults = FaultBoard(seed, self._faults_changed)
        self.random = random.Random(seed + 1)
        self.port = settings.port
        self.framing: Framing = RtuFraming() if settings.transport.is_rtu else MbapFraming()
        self._log = log
        self._before_write = before_write
        self._connections: dict[_Connection, None] = {}
        self._server: asyncio.Server | None = None
        self._datagrams: asyncio.DatagramTransport | None = None
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._relisten: asyncio.Task[None] | None = None
        self._stopped = True

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    async def start(self) -> None:
        """Listen; raises OSError if the address cannot be had. `port` then holds the real one."""
        self._stopped = False
        await self._listen()

    async def stop(self) -> None:
        """Close everything."""
        self._stopped = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._relisten is not None:
            self._relisten.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._relisten
            self._relisten = None
        self._close_sockets()

    def inject(self, fault: Fault) -> int:
        """Switch a fault on; return its number. A reboot takes place at once."""
        number = self.faults.add(fault)
        if fault.seconds is not None:
            loop = asyncio.get_running_loop()
            self._timers[number] = loop.call_later(fault.seconds, self.clear, number)
        if fault.kind is FaultKind.REBOOT:
            for unit in self.units.values():
                unit.reboot()
        return number

    def clear(self, number: int | None = None) -> bool:
        """Switch one fault off, or all; return whether there was one."""
        for key in [number] if number is not None else list(self._timers):
            timer = self._timers.pop(key, None)
            if timer is not None:
                timer.cancel()
        return self.faults.clear(number)

    def serve(self, request: Request) -> Reply:
        """Answer one request, or fail as the faults on this link want it."""
        operation, refusal = _parsed(request.pdu)
        self._note_read(request.unit, operation)
        unit = self.units.get(request.unit)
        if unit is None or unit.silent():
            # Serial lines stay silent for a unit that is not there, and so does a device asleep.
            self._note_write(request.unit, operation, ExceptionCode.GATEWAY_TARGET)
            return Reply(None, self.settings.latency_s)
        last = operation.address + max(operation.quantity, 1) - 1
        hits = self.faults.hit(request.unit, operation.function, operation.address, last)
        if not hits:
            pdu = self._carry_out(unit, request, operation, refusal)
            return Reply(self.framing.wrap(request, pdu), self.settings.latency_s)
        return self._fail(unit, request, operation, refusal, hits)

    def _fail(
        self,
        unit: Unit,
        request: Request,
        operation: Operation,
        refusal: RefusedError | None,
        hits: tuple[Fault, ...],
    ) -> Reply:
        """Answer a request that faults have hit."""
        delay = self.settings.latency_s
        wordless, lost, close = False, False, False
        for fault in hits:
            match fault.kind:
                case FaultKind.LATE:
                    delay += fault.delay_s
                case FaultKind.DROP | FaultKind.SLEEP | FaultKind.CLOSE:
                    wordless = True
                    lost = lost or not fault.applied
                    close = close or fault.kind is FaultKind.CLOSE
                case FaultKind.EXCEPTION:
                    refusal = RefusedError(fault.code)
                case FaultKind.BUSY:
                    refusal = RefusedError(ExceptionCode.BUSY)
        if lost:
            self._note_write(request.unit, operation, ExceptionCode.GATEWAY_TARGET)
            return Reply(None, delay, close=close)
        pdu = self._carry_out(unit, request, operation, refusal)
        if wordless:
            return Reply(None, delay, close=close)
        for fault in hits:
            pdu = corrupt_pdu(fault, pdu)
        frame = self.framing.wrap(request, pdu)
        for fault in hits:
            frame = corrupt_frame(fault, frame, self.settings.transport.is_rtu, self.random)
        return Reply(frame, delay)

    def _carry_out(
        self, unit: Unit, request: Request, operation: Operation, refusal: RefusedError | None
    ) -> bytes:
        """Return the reply's PDU, an exception's if the request is refused; note what was written."""
        try:
            if refusal is not None:
                raise refusal
            if operation.function in WRITE_FUNCTIONS and self._before_write is not None:
                self._before_write()
            pdu = execute(operation, unit)
        except RefusedError as error:
            self._note_write(request.unit, operation, error.code)
            return bytes((operation.function | 0x80, error.code))
        self._note_write(request.unit, operation, 0)
        return pdu

    def _note_read(self, unit: int, operation: Operation) -> None:
        if operation.function in READ_FUNCTIONS:
            self._log.read(
                self.settings.name, unit, operation.function, operation.address, operation.quantity
            )
        elif operation.read_quantity:
            self._log.read(self.settings.name, unit, 23, operation.read_address, operation.read_quantity)

    def _note_write(self, unit: int, operation: Operation, exception: int) -> None:
        if operation.function in WRITE_FUNCTIONS:
            values = operation.values if operation.mask is None else operation.mask
            self._log.write(
                self.settings.name, unit, operation.function, operation.address, values, exception
            )

    # --- connections ------------------------------------------------------------------------------------

    def admit(self, connection: _Connection) -> bool:
        """Take a new connection in, or refuse it as a second client."""
        limits = [self.settings.max_clients]
        fault = self.faults.find(FaultKind.SECOND_CLIENT)
        if fault is not None:
            limits.append(fault.clients)
        allowed = min((limit for limit in limits if limit is not None), default=None)
        if self._away or (allowed is not None and len(self._connections) >= allowed):
            return False
        self._connections[connection] = None
        return True

    def forget(self, connection: _Connection) -> None:
        """Drop a connection that has ended."""
        self._connections.pop(connection, None)

    @property
    def _away(self) -> bool:
        return any(
            fault.kind in (FaultKind.OFFLINE, FaultKind.REBOOT) for fault in self.faults.active().values()
        )

    def _faults_changed(self) -> None:
        """Leave the network, or come back, as the faults now say."""
        if self._stopped:
            return
        listening = self._server is not None or self._datagrams is not None
        if self._away and listening:
            self._close_sockets()
        elif not self._away and not listening and (self._relisten is None or self._relisten.done()):
            self._relisten = asyncio.get_running_loop().create_task(self._listen_again())

    async def listening(self) -> None:
        """Wait until the link listens again after a fault that took it off the network."""
        if self._relisten is not None:
            await asyncio.shield(self._relisten)

    async def _listen_again(self) -> None:
        # The kernel may hold the port for a moment after the sockets closed.
        for _ in range(50):
            try:
                await self._listen()
            except OSError:
                await asyncio.sleep(0.1)
            else:
                if self._away:
                    self._close_sockets()  # a new fault while the old one ended
                return
        await self._listen()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        host, port = self.settings.host, self.port
        if self.settings.transport.is_datagram:
            self._datagrams, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self), local_addr=(host, port)
            )
            self.port = self._datagrams.get_extra_info("sockname")[1]
        else:
            self._server = await loop.create_server(lambda: _Connection(self), host, port, reuse_address=True)
            self.port = self._server.sockets[0].getsockname()[1]

    def _close_sockets(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._datagrams is not None:
            self._datagrams.abort()
            self._datagrams = None
        for connection in list(self._connections):
            connection.abort()
        self._connections.clear()


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply's bytes (None: silence), when to send it in s from now, and whether to close instead."""

    frame: bytes | None
    delay_s: float
    close: bool = False


def _parsed(pdu: bytes) -> tuple[Operation, RefusedError | None]:
    try:
        return parse(pdu), None
    except RefusedError as refusal:
        return Operation(pdu[0], 0, 0), refusal


class _Connection(asyncio.Protocol):
    """One TCP client. Replies leave in the order of the requests; a late one holds up those behind it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._framing = link.framing
        self._buffer = bytearray()
        self._waiting: deque[Request] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if not self._link.admit(self):
            transport.close()
            self._transport = None

    def connection_lost(self, _exc: Exception | None) -> None:
        self._end()

    def abort(self) -> None:
        """Close at once, without sending what waits."""
        if self._transport is not None:
            self._transport.abort()
        self._end()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            while self._transport is not None and (request := self._framing.take(self._buffer)) is not None:
                self._waiting.append(request)
                self._answer_next()
        except FramingError:
            self._buffer.clear()
            if not self._link.settings.transport.is_rtu:
                self.abort()

    def _answer_next(self) -> None:
        """Answer waiting requests until one's reply has to wait."""
        while self._timer is None and self._waiting and self._transport is not None:
            reply = self._link.serve(self._waiting.popleft())
            if reply.delay_s > 0:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(reply.delay_s, self._send_late, reply)
            else:
                self._send(reply)

    def _send_late(self, reply: Reply) -> None:
        self._timer = None
        self._send(reply)
        self._answer_next()

    def _send(self, reply: Reply) -> None:
        if reply.close:
            self.abort()
        elif reply.frame is not None and self._transport is not None:
            self._transport.write(reply.frame)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.clear()
        self._transport = None
        self._link.forget(self)


class _Datagrams(asyncio.DatagramProtocol):
    """UDP: one frame per datagram, each answered to its sender."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        try:
            request = self._link.framing.take(bytearray(data))
        except FramingError:
            return
        if request is None:
            return
        reply = self._link.serve(request)
        if reply.frame is None:
            return
        if reply.delay_s > 0:
            asyncio.get_running_loop().call_later(reply.delay_s, self._send, reply.frame, addr)
        else:
            self._send(reply.frame, addr)

    def _send(self, frame: bytes, addr: tuple[Any, ...]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(frame, addr)
