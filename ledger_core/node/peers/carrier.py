"""Carries links from the end of the handshake to their end, and tells the owner of each."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from ledger_core.node.peers.address_book import AddressBook
from ledger_core.node.peers.admission import Admission
from ledger_core.node.peers.connection import Bounds, Connection, Ending, Handlers
from ledger_core.node.peers.errors import Refusal
from ledger_core.node.peers.gossip import Gossip
from ledger_core.node.peers.handshake import RemoteNode, Session
from ledger_core.node.peers.limits import KindLimits
from ledger_core.node.peers.link import Link
from ledger_core.node.peers.outbox import OutboxBudget
from ledger_core.node.peers.registry import Registry
from ledger_core.node.peers.settings import PeerSettings
from ledger_core.node.peers.text import short_key

_LOGGER: Final = logging.getLogger(__name__)


class PeerEvents(Protocol):
    """What the owner of the peers is told, on the event loop.

    For one link: `joined`, then messages one after another, then `left`. A further frame is read when
    `message` has returned, so a busy owner holds its peers back.
    """

    async def joined(self, remote: RemoteNode, *, inbound: bool) -> None:
        """A link to a node is up; messages can be sent to it."""

    async def message(self, key: bytes, kind: int, payload: bytes) -> None:
        """Take a message.

        A LedgerError counts as the peer's misbehaviour: the link ends and the key is banned. Whoever
        decodes the payload must check that it is of the kind told, or a peer could escape its limits.
        """

    async def left(self, key: bytes, ending: Ending) -> None:
        """The link is gone. What was sent and not answered is lost."""


class Carrier:
    """Makes connections of links and keeps them in the registry while they are up."""

    def __init__(
        self,
        *,
        registry: Registry,
        admission: Admission,
        book: AddressBook,
        gossip: Gossip,
        events: PeerEvents,
        limits: KindLimits,
        settings: PeerSettings,
        clock: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._admission = admission
        self._book = book
        self._gossip = gossip
        self._events = events
        self._clock = clock
        self._bounds = Bounds(limits, settings, OutboxBudget(settings.outboxes_bytes))
        self._handlers = Handlers(events.message, gossip.hear, self._ended)

    def check(self, remote: RemoteNode, *, dialled_at: float | None) -> None:
        """Raise Refusal for a node that may not have a link now; `dialled_at` as for `Registry.check`."""
        self._admission.check(remote)
        self._registry.check(remote, dialled_at=dialled_at, now=asyncio.get_running_loop().time())

    async def carry(
        self, link: Link, session: Session, *, dialled_at: float | None, verdict: bytes = b""
    ) -> Ending:
        """Carry a link until it ends; return why it did.

        Between the check and this call nothing else may run, or the link may be refused still, by its last
        frame.
        """
        connection = Connection(
            link,
            session,
            inbound=dialled_at is None,
            bounds=self._bounds,
            handlers=self._handlers,
            verdict=verdict,
        )
        try:
            self.check(session.remote, dialled_at=dialled_at)
        except Refusal as refusal:
            connection.end(Ending(refusal.code, refusal.message))
            return await connection.run()
        replaced = self._registry.add(connection)
        try:
            if replaced is not None:
                replaced.end(Ending("replaced", "the same node has made a new link"))
                await replaced.finished.wait()
            return await self._carry_told(connection)
        finally:
            self._registry.remove(connection)
            connection.release()
            connection.finished.set()

    async def _carry_told(self, connection: Connection) -> Ending:
        """Carry a link whose beginning and end the owner is told of."""
        remote = connection.remote
        direction = "from" if connection.inbound else "to"
        _LOGGER.info(
            "linked with %s %s %s (%s)", short_key(remote.key), direction, connection.address, remote.software
        )
        ending = Ending("shutdown", "this node stops")
        connection.told = True
        try:
            await self._events.joined(remote, inbound=connection.inbound)
            if not connection.inbound:
                self._book.reached(remote.key, self._clock())
            self._gossip.greet(connection)
            ending = await connection.run()
        except Exception:
            _LOGGER.exception("a link fails by this node's own mistake")
            ending = Ending("internal_error", "this node made a mistake on the link")
        finally:
            await self._events.left(remote.key, ending)
        return ending

    def _ended(self, key: bytes, ending: Ending) -> None:
        ban = f"; banned for {ending.ban_s} s" if ending.ban_s else ""
        side = "the other side ends it" if ending.by_peer else "this node ends it"
        _LOGGER.info("link with %s: %s: %s: %s%s", short_key(key), side, ending.code, ending.reason, ban)
        if ending.ban_s:
            self._admission.ban(key, ending.ban_s, ending.code)
