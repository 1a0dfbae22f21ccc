"""Our own Modbus link on pymodbus: one connection behind one lock, shared by every unit id on it.

What the link guarantees to its users:

* one request at a time, at least `spacing_s` apart, in the order they were asked;
* after anything but a clean answer the connection is closed, so that a late reply can't answer the next
  question; on RTU framing, where a gateway may still pass one on, the unit is resynchronised first;
* a caller that goes away (cancellation) in the middle of an exchange counts as such: the connection closes;
* a write is sent once, and its outcome is reported as unknown when no answer came;
* while a link can't be opened, attempts are a growing pause apart, and everyone waiting shares the result.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Sequence
from typing import Final

from ..errors import (
    DEVICE_BUSY,
    GATEWAY_CODES,
    DeviceBusy,
    ExceptionReply,
    GatewayError,
    LinkClosed,
    LinkError,
    LinkTimeout,
    MalformedReply,
    WriteUnconfirmed,
)
from .base import (
    READ_HOLDING_REGISTERS,
    READ_INPUT_REGISTERS,
    LinkSettings,
    check_read,
    check_unit_id,
    check_write,
)
from .client import Client
from .framing import Expected

_LOGGER = logging.getLogger(__name__)

# How many registers the question that resynchronises a unit asks for: even numbers first, because some
# meters answer only whole 32-bit values.
_RESYNC_COUNTS: Final = (2, 4, 6, 1, 3)


@dataclasses.dataclass(frozen=True, slots=True)
class _Request:
    """One question, and how long to wait for its answer."""

    unit: int
    function: int
    address: int
    count: int
    values: tuple[int, ...] | None
    timeout_s: float

    @property
    def text(self) -> str:
        span = f"{self.address}" if self.count == 1 else f"{self.address}..{self.address + self.count - 1}"
        return f"function {self.function} at {span}"


@dataclasses.dataclass(slots=True)
class LinkStatistics:
    """What has happened on a link since it was made."""

    requests: int = 0
    connections: int = 0
    timeouts: int = 0
    exceptions: int = 0
    malformed: int = 0


@dataclasses.dataclass(slots=True)
class _Unsynced:
    """Lengths of replies that may still come from a unit on an RTU framed link."""

    counts: set[int]
    tried: bool = False


class Link:
    """One physical link, shared by all unit ids on it. Make it inside a running event loop."""

    def __init__(self, settings: LinkSettings) -> None:
        """Remember how to connect; the connection opens with the first request."""
        self.settings = settings
        self.statistics = LinkStatistics()
        self._lock = asyncio.Lock()
        self._client: Client | None = None
        self._closed = False
        self._answered = False  # since the connection was opened
        self._free_at = 0.0  # loop time at which the next request may be sent
        self._retry_at = 0.0  # loop time of the next attempt to connect
        self._retry_pause = settings.retry_first_s
        self._attempts = 0  # failed attempts to connect so far
        self._refusal: LinkError | None = None  # why the last one failed
        self._unsynced: dict[int, _Unsynced] = {}

    @property
    def connected(self) -> bool:
        """Whether the connection is open now."""
        return self._client is not None and self._client.connected

    def unit(self, unit_id: int, *, timeout_s: float | None = None) -> LinkUnit:
        """The transport of one unit id; `timeout_s` instead of the link's for its requests."""
        return LinkUnit(self, check_unit_id(unit_id), timeout_s)

    def require(self, *, spacing_s: float, connect_delay_s: float) -> None:
        """Lengthen spacing and connect delay to what one more device on the link needs."""
        self.settings = dataclasses.replace(
            self.settings,
            spacing_s=max(spacing_s, self.settings.spacing_s),
            connect_delay_s=max(connect_delay_s, self.settings.connect_delay_s),
        )

    async def submit(
        self,
        unit: int,
        function: int,
        address: int,
        count: int,
        values: tuple[int, ...] | None,
        wait_s: float,
    ) -> list[int]:
        """Do one exchange when it is its turn; raises what `ModbusUnit` says."""
        request = _Request(unit, function, address, count, values, wait_s)
        attempts = self._attempts
        async with self._lock:
            if self._attempts != attempts and self._refusal is not None:
                # The link could not be opened while this request waited: no need to try again for it.
                raise self._refusal.retold(str(self._refusal))
            return await self._answer(request)

    async def close(self) -> None:
        """Close the connection and refuse everything that still waits. May be called twice."""
        self._closed = True
        self._drop()

    async def _answer(self, request: _Request) -> list[int]:
        """One request; a read that met a connection closed behind our back is asked once more."""
        established = self._answered and self.connected
        try:
            return await self._exchange(request)
        except LinkClosed:
            if not established or request.values is not None:
                raise
        return await self._exchange(request)

    async def _exchange(self, request: _Request) -> list[int]:
        client = await self._connection()
        if self._unsynced and (unsynced := self._unsynced.get(request.unit)) is not None:
            await self._resynchronise(client, request, unsynced)
        await self._keep_distance()
        return await self._ask(client, request)

    async def _keep_distance(self) -> None:
        wait = self._free_at - asyncio.get_running_loop().time()
        if wait > 0:
            await asyncio.sleep(wait)

    async def _connection(self) -> Client:
        """The open connection, or a new one; failing, everyone who waits is told."""
        if self._client is not None:
            if self._client.connected:
                return self._client
            self._drop()
        loop = asyncio.get_running_loop()
        if (wait := self._retry_at - loop.time()) > 0:
            await asyncio.sleep(wait)
        if self._closed:
            raise LinkClosed(
                f"{self.settings.endpoint} is no longer in use",
                "link_closed",
                endpoint=self.settings.endpoint,
            )
        client = Client(self.settings)
        self.statistics.connections += 1
        try:
            await client.connect()
        except LinkError as error:
            client.close()
            self._postpone()
            self._attempts += 1
            self._refusal = error
            raise
        except asyncio.CancelledError:
            client.close()
            raise
        self._client = client
        self._answered = False
        self._free_at = loop.time() + self.settings.connect_delay_s
        return client

    def _postpone(self) -> None:
        """Let the next attempt to connect wait, twice as long each time."""
        self._retry_at = asyncio.get_running_loop().time() + self._retry_pause
        self._retry_pause = min(2 * self._retry_pause, self.settings.retry_last_s)

    async def _ask(self, client: Client, request: _Request, *, skip_late: bool = False) -> list[int]:
        """Send one request and check its answer; anything else than a clean one closes the connection."""
        expected = Expected(request.function, request.unit, request.address, request.count, request.values)
        self.statistics.requests += 1
        try:
            reply = await client.exchange(expected, request.timeout_s, skip_late=skip_late)
        except LinkError as error:
            self._after_failure(request, error, sent=client.sent)
            where = self._where(request)
            if request.values is not None and client.sent:
                raise WriteUnconfirmed(
                    f"{where}: {request.text} was written but not confirmed ({error})"
                ) from error
            raise error.retold(f"{where}: {request.text}: {error}") from error
        except asyncio.CancelledError:
            self._after_failure(request, LinkTimeout("given up"), sent=client.sent)
            raise
        self._free_at = asyncio.get_running_loop().time() + self.settings.spacing_s
        self._answered = True
        self._retry_pause = self.settings.retry_first_s
        if isinstance(reply, int):
            self.statistics.exceptions += 1
            raise _exception(self._where(request), request, reply)
        return reply

    def _where(self, request: _Request) -> str:
        return f"{self.settings.endpoint} unit {request.unit}"

    def _after_failure(self, request: _Request, error: LinkError, *, sent: bool) -> None:
        """Close, and remember what may still arrive."""
        fresh = not self._answered
        self._drop()
        if isinstance(error, LinkTimeout):
            self.statistics.timeouts += 1
        elif isinstance(error, MalformedReply):
            self.statistics.malformed += 1
        elif fresh:
            self._postpone()  # accepted and thrown out: pause as if it had not been accepted
        if self.settings.rtu_framed and sent and not isinstance(error, LinkClosed):
            late = self._unsynced.setdefault(request.unit, _Unsynced(set()))
            late.counts.add(request.count)

    async def _resynchronise(self, client: Client, request: _Request, unsynced: _Unsynced) -> None:
        """Ask a question whose answer no late reply can resemble, and throw away what comes before it.

        A unit answers in order: after this answer nothing older can come. It is asked at the address that
        is wanted anyway, if possible for fewer registers. A device that does not answer such a question
        at all is asked the plain one the next time.
        """
        if unsynced.tried or len(unsynced.counts) >= len(_RESYNC_COUNTS) - 1:
            del self._unsynced[request.unit]
            return
        unsynced.tried = True
        taken = unsynced.counts | {request.count}
        free = [count for count in _RESYNC_COUNTS if count not in taken]
        count = next((count for count in free if count < request.count), free[0])
        functions = (READ_HOLDING_REGISTERS, READ_INPUT_REGISTERS)
        function = request.function if request.function in functions else READ_HOLDING_REGISTERS
        address = min(request.address, 65536 - count)
        probe = _Request(request.unit, function, address, count, None, request.timeout_s)
        await self._keep_distance()
        with contextlib.suppress(ExceptionReply):
            await self._ask(client, probe, skip_late=True)
        del self._unsynced[request.unit]

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _exception(where: str, request: _Request, code: int) -> ExceptionReply:
    """The error for a Modbus exception reply."""
    kind = ExceptionReply
    if code == DEVICE_BUSY:
        kind = DeviceBusy
    elif code in GATEWAY_CODES:
        kind = GatewayError
    return kind(where, request.function, request.address, request.count, code)


class LinkUnit:
    """One unit id on a `Link`; a `ModbusUnit`."""

    def __init__(self, link: Link, unit_id: int, timeout_s: float | None = None) -> None:
        """Requests wait `timeout_s` for their answer, or as long as the link's settings say."""
        self._link = link
        self._unit_id = unit_id
        self._timeout_s = timeout_s

    @property
    def unit_id(self) -> int:
        """The Modbus unit id."""
        return self._unit_id

    @property
    def name(self) -> str:
        """Endpoint and unit, for messages."""
        return f"{self._link.settings.endpoint} unit {self._unit_id}"

    async def read(self, function: int, address: int, count: int) -> list[int]:
        """See `ModbusUnit.read`."""
        check_read(function, address, count)
        return await self._link.submit(self._unit_id, function, address, count, None, self._wait_s)

    async def write(self, function: int, address: int, values: Sequence[int]) -> None:
        """See `ModbusUnit.write`."""
        check_write(function, address, values)
        words = tuple(values)
        await self._link.submit(self._unit_id, function, address, len(words), words, self._wait_s)

    @property
    def _wait_s(self) -> float:
        return self._timeout_s or self._link.settings.timeout_s
