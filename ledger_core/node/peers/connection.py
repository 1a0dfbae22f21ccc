"""A link in use: one task reads, one writes, one keeps it alive, and all end together.

Messages go one after another to the handler, which is awaited before the next frame is read: a busy node
reads no further, and TCP holds the peer back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from nacl.utils import random

from ledger_core.errors import LedgerError
from ledger_core.node.peers.assembler import Assembled, Assembler
from ledger_core.node.peers.bans import BAN_SECONDS
from ledger_core.node.peers.errors import Misbehaviour
from ledger_core.node.peers.frames import (
    TOKEN_BYTES,
    Addresses,
    Close,
    More,
    Ping,
    Pong,
    Start,
    addresses_frame,
    close_frame,
    decode_frame,
    ping_frame,
    pong_frame,
)
from ledger_core.node.peers.handshake import RemoteNode, Session
from ledger_core.node.peers.limits import Allowance, KindLimits
from ledger_core.node.peers.link import Link, LinkLost
from ledger_core.node.peers.outbox import Outbox, OutboxBudget
from ledger_core.node.peers.settings import PeerSettings
from ledger_core.node.peers.text import short_key

_LOGGER: Final = logging.getLogger(__name__)
_YIELD_FRAMES: Final = 8

type MessageHandler = Callable[[bytes, int, bytes], Awaitable[None]]
"""Takes the peer's key, the message's kind and its payload.

A LedgerError from it counts as the peer's misbehaviour: the link ends, and the error's code says how long
the key is banned (`bans.BAN_SECONDS`; `message_malformed` where it is not listed there).
"""

type AddressHandler = Callable[[bytes, bytes], Awaitable[None]]
"""Takes the peer's key and the content of a frame of addresses; errors count as above."""


type EndHandler = Callable[[bytes, "Ending"], None]
"""Hears of a link's end as soon as it is decided; the link is closed after that."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a link ended, and for how long its peer is banned (0: not at all)."""

    code: str
    reason: str
    by_peer: bool = False
    """Whether the other side ended it, or the network."""
    ban_s: int = 0


@dataclass(slots=True)
class Traffic:
    """What went over a link so far."""

    bytes_in: int = 0
    bytes_out: int = 0
    messages_in: int = 0
    messages_out: int = 0
    round_trip_s: float | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What limits a link."""

    limits: KindLimits
    settings: PeerSettings
    budget: OutboxBudget
    """Shared by all links."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """Who hears what happens on a link."""

    on_message: MessageHandler
    on_addresses: AddressHandler
    on_end: EndHandler


class Connection:
    """A peer whose handshake is done."""

    def __init__(
        self,
        link: Link,
        session: Session,
        *,
        inbound: bool,
        bounds: Bounds,
        handlers: Handlers,
        verdict: bytes = b"",
    ) -> None:
        """Take over a link; `verdict` ends the handshake where this node owes that, before any frame."""
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._session = session
        self._settings = bounds.settings
        self._handlers = handlers
        self._verdict = verdict
        self.inbound = inbound
        self.since = self._loop.time()
        """When the handshake was done, on the event loop's clock."""
        self.told = False
        """Whether the owner was told of it; what is sent to the node before is meant for an earlier link."""
        self.traffic = Traffic()
        self._outbox = Outbox(
            bounds.limits, bounds.settings.outbox_bytes, bounds.budget, self.since, self._overflowed
        )
        self._allowance = Allowance(bounds.limits, self.since, bounds.settings.silent_s)
        self._assembler = Assembler()
        self._wake = asyncio.Event()
        self._ending: asyncio.Future[Ending] = self._loop.create_future()
        self.finished = asyncio.Event()
        """Set when everything of this link has ended."""
        self._received_s = 0.0
        self._sent_at = self.since
        self._ping: tuple[bytes, float] | None = None

    @property
    def remote(self) -> RemoteNode:
        """Who is at the other end."""
        return self._session.remote

    @property
    def address(self) -> str:
        """Network address of the other end."""
        return self._link.remote

    @property
    def is_loopback(self) -> bool:
        """Whether the other end is on this machine, or behind a proxy on it."""
        return self._link.is_loopback

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait to be sent."""
        return self._outbox.bytes

    @property
    def is_ending(self) -> bool:
        """Whether nothing more can be sent."""
        return self._ending.done()

    def send(self, kind: int, payload: bytes) -> bool:
        """Queue a message; tell whether it was. A peer that leaves no room for it is dropped.

        Raises ValueError for what the limits do not allow to send at all.
        """
        if self.is_ending:
            return False
        if not self._outbox.put(kind, payload):
            self._overflowed()
            return False
        self.traffic.messages_out += 1
        self._wake.set()
        return True

    def tell_addresses(self, content: bytes) -> None:
        """Queue a frame of addresses; dropped where too many wait."""
        if not self.is_ending and self._outbox.put_control(addresses_frame(content)):
            self._wake.set()

    def _overflowed(self) -> None:
        reason = "too much waits for a peer that does not take it"
        self.end(Ending("slow_reader", reason, ban_s=BAN_SECONDS["slow_reader"]))

    def end(self, ending: Ending) -> None:
        """End the link; the first ending counts. What waits to be sent is dropped."""
        if not self._ending.done():
            self._ending.set_result(ending)
            self._outbox.clear()
            self._handlers.on_end(self.remote.key, ending)

    async def run(self) -> Ending:
        """Carry frames until the link ends; return why. Leaves no task and nothing queued."""
        name = f"peer {short_key(self.remote.key)}"
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(self._guard(work), name=f"{name} {work.__name__}")
                    for work in (self._read, self._write, self._keep_alive)
                ]
                try:
                    return await asyncio.shield(self._ending)
                finally:
                    for task in running:
                        task.cancel()
        finally:
            self.end(Ending("shutdown", "this node stops"))
            await self._close_link()

    def release(self) -> None:
        """Drop what waits to be sent."""
        self._outbox.clear()

    async def _close_link(self) -> None:
        ending = self._ending.result()
        try:
            async with asyncio.timeout(self._settings.close_s):
                if not ending.by_peer:
                    await self._end_handshake()
                    await self._transmit(close_frame(ending.code, ending.reason))
        except LinkLost, TimeoutError:
            pass
        finally:
            await self._link.close(self._settings.close_s)

    async def _guard(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run one of the tasks; turn its end into the link's."""
        try:
            await work()
        except LinkLost as error:
            self.end(Ending(error.code, error.message, by_peer=True))
        except LedgerError as error:
            self.end(_ending_for(error))
        except Exception:
            _LOGGER.exception("a link fails by this node's own mistake")
            self.end(Ending("internal_error", "this node made a mistake on the link"))

    async def _read(self) -> None:
        for turn in count(1):
            await self._take(await self._receive())
            if not turn % _YIELD_FRAMES:
                # Frames that are there already are read without a pause: let others run.
                await asyncio.sleep(0)

    async def _receive(self) -> bytes:
        """Return the next sealed frame; raises Misbehaviour `slow` or `silent` when it is late."""
        begun = self._loop.time()
        overdue = self._assembler.deadline()
        left = self._settings.silent_s if overdue is None else overdue - self._received_s
        slow = Misbehaviour("slow", "a message did not arrive whole in its time")
        if left <= 0:
            raise slow
        try:
            async with asyncio.timeout(min(left, self._settings.silent_s)):
                sealed = await self._link.receive()
        except TimeoutError as error:
            if overdue is not None:
                raise slow from error
            silent = f"nothing arrived whole for {self._settings.silent_s:g} s"
            raise Misbehaviour("silent", silent) from error
        self._received_s += self._loop.time() - begun
        self.traffic.bytes_in += len(sealed)
        return sealed

    async def _take(self, sealed: bytes) -> None:
        frame = decode_frame(self._session.opener.open(sealed))
        now = self._loop.time()
        match frame:
            case Start():
                limit = self._allowance.message(frame.kind, frame.total, now)
                if frame.lane is not limit.lane:
                    raise Misbehaviour("frame_malformed", f"a {limit.name} in the wrong lane")
                await self._deliver(self._assembler.start(frame, self._received_s + limit.max_seconds))
            case More():
                await self._deliver(self._assembler.more(frame))
            case Close():
                self.end(Ending(frame.code, frame.reason, by_peer=True))
            case Ping() | Pong() | Addresses():
                self._allowance.control(now)
                await self._take_control(frame)

    async def _deliver(self, message: Assembled | None) -> None:
        if message is not None:
            self.traffic.messages_in += 1
            await self._handle(self._handlers.on_message(self.remote.key, *message))

    async def _take_control(self, frame: Ping | Pong | Addresses) -> None:
        match frame:
            case Ping():
                if self._outbox.put_control(pong_frame(frame.token)):
                    self._wake.set()
            case Pong():
                if self._ping is not None and self._ping[0] == frame.token:
                    self.traffic.round_trip_s = self._loop.time() - self._ping[1]
                    self._ping = None
            case Addresses():
                await self._handle(self._handlers.on_addresses(self.remote.key, frame.content))

    async def _handle(self, handling: Awaitable[None]) -> None:
        """Await a handler; what the peer could have sent meanwhile is not counted against it."""
        begun = self._loop.time()
        await handling
        now = self._loop.time()
        self._allowance.credit(now - begun, now)

    async def _write(self) -> None:
        for turn in count(1):
            self._wake.clear()
            frame = self._outbox.next_frame(self._loop.time())
            if isinstance(frame, bytes):
                await self._transmit_in_time(frame)
                if not turn % _YIELD_FRAMES:
                    # A socket that takes everything never makes this task wait: let others run.
                    await asyncio.sleep(0)
                continue
            try:
                async with asyncio.timeout(frame):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _transmit_in_time(self, frame: bytes) -> None:
        try:
            async with asyncio.timeout(self._settings.silent_s):
                await self._end_handshake()
                await self._transmit(frame)
        except TimeoutError as error:
            silent = f"the peer took nothing for {self._settings.silent_s:g} s"
            raise Misbehaviour("slow_reader", silent) from error

    async def _end_handshake(self) -> None:
        verdict, self._verdict = self._verdict, b""
        if verdict:
            await self._link.send(verdict)

    async def _transmit(self, frame: bytes) -> None:
        sealed = self._session.sealer.seal(frame)
        self.traffic.bytes_out += len(sealed)
        self._sent_at = self._loop.time()
        await self._link.send(sealed)

    async def _keep_alive(self) -> None:
        """Ping at the beginning, and whenever nothing else was sent for a while."""
        left = 0.0
        while True:
            if left <= 0:
                self._send_ping()
            await asyncio.sleep(left or self._settings.keepalive_s)
            left = max(self._sent_at + self._settings.keepalive_s - self._loop.time(), 0.0)

    def _send_ping(self) -> None:
        token = random(TOKEN_BYTES)
        self._sent_at = self._loop.time()
        if self._outbox.put_control(ping_frame(token)):
            self._ping = token, self._sent_at
            self._wake.set()


def _ending_for(error: LedgerError) -> Ending:
    code = error.code if error.code in BAN_SECONDS else "message_malformed"
    return Ending(code, error.message, ban_s=BAN_SECONDS[code])
