"""The peers of this node: dials, takes calls, keeps one link per node key, carries messages.

Everything runs on one event loop. The manager knows no message kinds: it takes and hands on numbers and
bytes.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Final

from aiohttp import web

from ledger_core.node.peers.admission import Admission, Policy
from ledger_core.node.peers.bans import Ban
from ledger_core.node.peers.carrier import Carrier, PeerEvents
from ledger_core.node.peers.connection import Ending, Traffic
from ledger_core.node.peers.dial_plan import DialPlan
from ledger_core.node.peers.errors import PeerError, Refusal, RefusedByPeer
from ledger_core.node.peers.establish import respond
from ledger_core.node.peers.gossip import Gossip
from ledger_core.node.peers.handshake import Bearer, LocalNode, RemoteNode
from ledger_core.node.peers.limits import MAX_KIND, KindLimits
from ledger_core.node.peers.link import Link, LinkLost
from ledger_core.node.peers.listener import Listener, PeerRoute
from ledger_core.node.peers.location import PeerLocation, parse_location
from ledger_core.node.peers.outbound import Outbound
from ledger_core.node.peers.registry import Registry
from ledger_core.node.peers.settings import PeerSettings
from ledger_core.node.peers.storage import Storage
from ledger_core.node.peers.text import short_key

_LOGGER: Final = logging.getLogger(__name__)
_SAVE_BANS_EVERY_S: Final = 1.0
_SAVE_BOOK_EVERY: Final = 60
"""Times that the bans may have been written: memory cards wear, and addresses can be learned again."""


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """A link, for people."""

    remote: RemoteNode
    inbound: bool
    address: str
    up_s: float
    waiting_bytes: int
    traffic: Traffic


@dataclass(frozen=True, slots=True)
class DialStatus:
    """A node that this node would like to be linked to, for people."""

    key: bytes | None
    location: str
    failures: int
    retry_in_s: float
    last_error: str
    last_code: str = ""


class PeerManager:
    """Owns every link, and every task that belongs to one, between `start` and `close`."""

    def __init__(  # noqa: PLR0913 - by name
        self,
        local: LocalNode,
        *,
        policy: Policy,
        limits: KindLimits,
        events: PeerEvents,
        settings: PeerSettings,
        directory: Path,
        random: Random,
        clock: Callable[[], float] = time.time,
        answered: Callable[[bytes], None] = lambda _key: None,
        met_copy: Callable[[], None] = lambda: None,
    ) -> None:
        """Read bans and address book from `directory`; `clock` gives UTC seconds.

        `answered` is told, before the policy is asked, the proven key of who answers at a location that the
        owner of this node configured. `met_copy` is told when another process runs with this node's key.

        Raises ValueError for a kind outside 0 to 255 and PeerError for a location that is not one.
        """
        if any(not 0 <= kind <= MAX_KIND for kind in limits):
            raise ValueError(f"kinds are numbers from 0 to {MAX_KIND}")
        self._local = local
        self._limits = limits
        self._events = events
        self._settings = settings
        self._clock = clock
        self._storage = Storage(directory)
        self._bans = self._storage.load_bans(clock())
        self.book = self._storage.load_book(local.signer, local.chain_id)
        self._admission = Admission(policy, self._bans, clock)
        self._registry = Registry(local.signer.public_key, settings)
        self._plan = DialPlan(
            self.book, settings, random, is_up=self._is_up, may_dial=self._admission.may_dial
        )
        self._gossip = Gossip(
            self.book, self._registry, settings, random, self._admission.is_member, clock, met_copy
        )
        self._carrier = Carrier(
            registry=self._registry,
            admission=self._admission,
            book=self.book,
            gossip=self._gossip,
            events=events,
            limits=limits,
            settings=settings,
            clock=clock,
        )
        self._outbound = Outbound(
            self._plan, self._carrier, self._registry, settings, lambda: self._local, answered
        )
        self._route = PeerRoute(settings, self._answer)
        self._listener = Listener(settings, self._route) if settings.listen_host is not None else None
        self._tasks: set[asyncio.Task[None]] = set()

    def _is_up(self, key: bytes) -> bool:
        return self._registry.find(key) is not None

    async def start(self) -> None:
        """Listen and dial; raises PeerError `listen_failed`."""
        if self._listener is not None:
            await self._listener.start()
        self._gossip.begin(self._settings.advertised)
        works = (
            ("dialling", self._outbound.run),
            ("gossip", self._gossip.run),
            ("storage", self._keep_stored),
        )
        self._tasks = {asyncio.create_task(work(), name=f"peers {name}") for name, work in works}

    async def close(self) -> None:
        """End every link in good order and every task, and store bans and address book."""
        self._route.refuse()
        for connection in self._registry.listed():
            connection.end(Ending("shutdown", "this node stops"))
        links = [connection.finished.wait() for connection in self._registry.listed()]
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * self._settings.close_s):
                await asyncio.gather(*links)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._route.close()
        if self._listener is not None:
            await self._listener.close()
        await self._storage.save_bans(self._bans)
        await self._storage.save_book(self.book)

    @property
    def port(self) -> int:
        """The port that this node listens on; 0 where it does not."""
        return self._listener.port if self._listener is not None else 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Take a peer's WebSocket: a request handler for any aiohttp application."""
        return await self._route.handle(request)

    def send(self, key: bytes, kind: int, payload: bytes) -> bool:
        """Queue a message for a peer; tell whether it was; raises ValueError for one beyond its limits."""
        connection = self._registry.find(key)
        return connection is not None and connection.told and connection.send(kind, payload)

    def drop(self, key: bytes, code: str, reason: str, ban_s: int = 0) -> None:
        """End a peer's link, and ban its key for some seconds; both sides' logs say why."""
        if ban_s > 0:
            self._admission.ban(key, ban_s, code)
        connection = self._registry.find(key)
        if connection is not None:
            connection.end(Ending(code, reason, ban_s=ban_s))

    def recheck(self) -> None:
        """Ask the policy about every peer again: the members have changed."""
        for connection in self._registry.listed():
            try:
                self._admission.check(connection.remote)
            except Refusal as refusal:
                connection.end(Ending(refusal.code, refusal.message))

    def show_invitation(self, bearer: Bearer | None) -> None:
        """Show an invitation in handshakes from now on, or none any more."""
        self._local = replace(self._local, bearer=bearer)

    def add_location(self, text: str) -> None:
        """Dial a location in any case; raises PeerError `location_invalid`."""
        self._plan.add(parse_location(text))

    def advertise(self, locations: Sequence[PeerLocation]) -> None:
        """Announce where this node can be reached, from now on."""
        self._gossip.set_own(locations)

    def announce_again(self) -> None:
        """Announce this node anew: others may listen only now, or a copy of it has ended."""
        self._gossip.renew()

    def lift_ban(self, key: bytes) -> bool:
        """End a key's ban; tell whether it had one."""
        return self._bans.lift(key)

    def bans(self) -> list[Ban]:
        """Return the bans that hold."""
        return self._bans.listed(self._clock())

    def peers(self) -> list[PeerStatus]:
        """Return the links that are up."""
        now = asyncio.get_running_loop().time()
        return [
            PeerStatus(
                each.remote, each.inbound, each.address, now - each.since, each.waiting_bytes, each.traffic
            )
            for each in self._registry.listed()
        ]

    def dials(self) -> list[DialStatus]:
        """Return the nodes whose links failed, and when the next try is."""
        now = asyncio.get_running_loop().time()
        return [
            DialStatus(
                each.key,
                each.location.url,
                each.backoff.failures,
                max(each.backoff.not_before - now, 0.0),
                each.last_error,
                each.last_code,
            )
            for each in self._plan.targets()
            if each.backoff.failures
        ]

    async def _keep_stored(self) -> None:
        for turn in count(1):
            await asyncio.sleep(_SAVE_BANS_EVERY_S)
            await self._storage.save_bans(self._bans)
            if not turn % _SAVE_BOOK_EVERY:
                await self._storage.save_book(self.book)

    async def _answer(self, link: Link, settled: Callable[[], None]) -> None:
        """Take a caller's link through the handshake, and carry it to its end."""
        caller = f"a caller from {link.remote}"

        def check(remote: RemoteNode) -> None:
            nonlocal caller
            caller = f"{short_key(remote.key)} from {link.remote}"
            self._carrier.check(remote, dialled_at=None)

        try:
            async with asyncio.timeout(self._settings.handshake_s):
                verdict, session = await respond(link, self._local, check)
        except TimeoutError:
            _LOGGER.debug("%s did not end the handshake within %g s", caller, self._settings.handshake_s)
        except LinkLost as error:
            _LOGGER.debug("%s: %s", caller, error.message)
        except RefusedByPeer as refusal:
            _LOGGER.info("%s refuses this node: %s: %s", caller, refusal.code, refusal.message)
        except Refusal as refusal:
            _LOGGER.info("this node refuses %s: %s: %s", caller, refusal.code, refusal.message)
        except PeerError as error:
            _LOGGER.info("%s broke the handshake: %s: %s", caller, error.code, error.message)
        else:
            settled()
            await self._carrier.carry(link, session, dialled_at=None, verdict=verdict)
