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
    ) -> None:
        self._book = book
        self._registry = registry
        self._settings = settings
        self._random = random
        self._is_member = is_member
        self._clock = clock
        self._own: Announcement | None = None
        self._locations: tuple[PeerLocation, ...] = ()

    def set_own(self, locations: Sequence[PeerLocation]) -> None:
        """Announce this node anew, to every peer."""
        self._locations = tuple(locations)
        self._own = self._book.announce_self(locations, self._clock())
        for connection in self._registry.listed():
            connection.tell_addresses(encode_announcements([self._own]))

    def renew(self) -> None:
        """Announce this node as before, with a new date; nothing where it never was announced."""
        if self._own is not None:
            self.set_own(self._locations)

    def greet(self, connection: Connection) -> None:
        """Tell a new peer where this node and some others can be reached."""
        known = self._book.sample(MAX_ANNOUNCEMENTS - 1, self._random)
        told = [*([self._own] if self._own is not None else []), *known]
        if told:
            connection.tell_addresses(encode_announcements(told))

    async def hear(self, key: bytes, content: bytes) -> None:
        """Take a frame of addresses; raises Misbehaviour for a malformed or forged one."""
        connection = self._registry.find(key)
        on_this_machine = connection is not None and connection.is_loopback
        news = []
        for number, announcement in enumerate(decode_announcements(content), start=1):
            node = announcement.node
            wanted = node == self._book.own_key or self._is_member(node)
            if wanted and self._book.learn(
                announcement, self._clock(), first_hand=node == key, from_loopback=on_this_machine
            ):
                news.append(announcement)
            if not number % _YIELD_EVERY:
                # Signatures take time: let others run.
                await asyncio.sleep(0)
        if news:
            _LOGGER.debug("%s tells of %d new addresses", short_key(key), len(news))
            self._pass_on(news, key)

    def _pass_on(self, news: Sequence[Announcement], source: bytes) -> None:
        for connection in self._registry.listed():
            told = [each for each in news if each.node != connection.remote.key]
            if connection.remote.key != source and told:
                connection.tell_addresses(encode_announcements(told))

    async def run(self) -> None:
        """Tell every peer some addresses now and then, and announce this node once a day, until cancelled."""
        loop = asyncio.get_running_loop()
        announced = loop.time()
        while True:
            await asyncio.sleep(self._settings.gossip_every_s * self._random.uniform(0.8, 1.2))
            now = self._clock()
            self._book.keep_only(self._is_member, now)
            if self._own is not None and loop.time() - announced >= self._settings.announce_every_s:
                announced = loop.time()
                self._own = self._book.announce_self(self._locations, now)
            for connection in self._registry.listed():
                self.greet(connection)
