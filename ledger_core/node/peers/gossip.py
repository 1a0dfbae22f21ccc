"""Passes on where nodes can be reached: at the beginning of a link, when there is news, and now and then."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from ledger_core.node.peers.address_book import AddressBook
from ledger_core.node.peers.announcement import (
    MAX_ANNOUNCEMENTS,
    Announcement,
    decode_announcements,
    encode_announcements,
)
from ledger_core.node.peers.connection import Connection
from ledger_core.node.peers.location import PeerLocation
from ledger_core.node.peers.registry import Registry
from ledger_core.node.peers.settings import PeerSettings
from ledger_core.node.peers.text import short_key

_LOGGER: Final = logging.getLogger(__name__)
_YIELD_EVERY: Final = 8
SPREAD_S: Final = 60
"""The first announcement is dated up to so much ahead: two copies that start together differ in it."""


class Gossip:
    """Keeps the address book by what peers tell, and tells them."""

    def __init__(
        self,
        book: AddressBook,
        registry: Registry,
        settings: PeerSettings,
        random: Random,
        is_member: Callable[[bytes], bool],
        clock: Callable[[], float] = time.time,
        met_copy: Callable[[], None] = lambda: None,
    ) -> None:
        """`met_copy` is called when another process announces itself with this node's key."""
        self._book = book
        self._registry = registry
        self._settings = settings
        self._random = random
        self._is_member = is_member
        self._clock = clock
        self._own: Announcement | None = None
        self._locations: tuple[PeerLocation, ...] = ()
        self._met_copy = met_copy
        self._overtaken = 0
        """How often this node's key announced itself above this process's own word."""

    def begin(self, locations: Sequence[PeerLocation]) -> None:
        """Announce this process, also without a location: so a copy of the node is noticed."""
        self.set_own(locations, ahead_s=self._random.uniform(0, SPREAD_S))

    def set_own(self, locations: Sequence[PeerLocation], *, ahead_s: float = 0) -> None:
        """Announce this node anew, to every peer."""
        self._locations = tuple(locations)
        self._own = self._book.announce_self(locations, self._clock() + ahead_s)
        for connection in self._registry.listed():
            connection.tell_addresses(encode_announcements([self._own]))

    def renew(self) -> None:
        """Announce this node as before, with a new date, whatever was heard of a copy."""
        self._overtaken = 0
        self.set_own(self._locations)

    def greet(self, connection: Connection) -> None:
        """Tell a new peer where this node and some others can be reached, and what is known of itself."""
        first = (self._own, self._book.announcement_of(connection.remote.key))
        told = [each for each in first if each is not None]
        known = self._book.sample(MAX_ANNOUNCEMENTS - len(told), self._random)
        told += [each for each in known if each not in told]
        if told:
            connection.tell_addresses(encode_announcements(told))

    async def hear(self, key: bytes, content: bytes) -> None:
        """Take a frame of addresses; raises Misbehaviour for a malformed or forged one."""
        connection = self._registry.find(key)
        on_this_machine = connection is not None and connection.is_loopback
        news = []
        for number, announcement in enumerate(decode_announcements(content), start=1):
            node = announcement.node
            if node == self._book.own_key:
                if self._book.is_overtaken(announcement, self._clock()):
                    self._hear_of_self(announcement)
            elif self._is_member(node) and self._book.learn(
                announcement, self._clock(), first_hand=node == key, from_loopback=on_this_machine
            ):
                news.append(announcement)
            if not number % _YIELD_EVERY:
                # Signatures take time: let others run.
                await asyncio.sleep(0)
        if news:
            _LOGGER.debug("%s tells of %d new addresses", short_key(key), len(news))
            self._pass_on(news, key)

    def _hear_of_self(self, announcement: Announcement) -> None:
        """Take what this node's key announced above this process's own word.

        The first time it may be from an older run, whose clock was ahead or whose book is lost. Once this
        process has announced itself well above that, only one that runs now is above it again. The one that
        learns of it gives way, so that the other one does not.
        """
        self._overtaken += 1
        if self._overtaken > 1:
            self._met_copy()
        else:
            self.set_own(self._locations, ahead_s=announcement.sequence + SPREAD_S - self._clock())

    def _pass_on(self, news: Sequence[Announcement], source: bytes) -> None:
        """Tell every other peer; also the node that is meant, which may know nothing of a copy of itself."""
        for connection in self._registry.listed():
            if connection.remote.key != source:
                connection.tell_addresses(encode_announcements(news))

    async def run(self) -> None:
        """Tell every peer some addresses now and then, and announce this node once a day, until cancelled."""
        loop = asyncio.get_running_loop()
        announced = loop.time()
        while True:
            await asyncio.sleep(self._settings.gossip_every_s * self._random.uniform(0.8, 1.2))
            now = self._clock()
            self._book.keep_only(self._is_member, now)
            if self._overtaken <= 1 and loop.time() - announced >= self._settings.announce_every_s:
                announced = loop.time()
                self._own = self._book.announce_self(self._locations, now)
            for connection in self._registry.listed():
                self.greet(connection)
