"""Whom this node knows, and where: announcements from gossip, kept over restarts, bounded.

What zeroconf finds on the LAN is a hint, not an announcement: anybody there can make one up. Hints are not
stored or passed on; a hint that leads to another node than it names costs a dial.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from random import Random
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from ledger_core.keys import Signer
from ledger_core.node.peers.announcement import MAX_LOCATIONS, Announcement, announce, is_signed
from ledger_core.node.peers.errors import Misbehaviour, PeerError
from ledger_core.node.peers.limits import TokenBucket
from ledger_core.node.peers.location import PeerLocation, parse_location
from ledger_core.records.types import Time

MAX_ENTRIES: Final = 2048
MAX_HINTS: Final = 128
FORGET_AFTER_S: Final = 60 * 86_400
"""A node that was neither heard of nor reached for that long is forgotten."""

RENEWAL_S: Final = 60
RENEWALS_AT_ONCE: Final = 5
"""Announcements of one node that are taken at once, then one in `RENEWAL_S`: everybody passes each one on."""

_TOO_FAR_AHEAD: Final = 2**52
"""Sequences leave room above them, so that a node can always announce itself anew."""


class _Entry(Struct):
    """What is known of a node."""

    announcement: Announcement
    heard: Time
    """When the announcement came, UTC seconds."""
    reached: Time = 0
    """When a link to one of its locations was last made; 0: never."""

    @property
    def last_known(self) -> int:
        return max(self.heard, self.reached)


class _File(Struct):
    sequence: Annotated[int, Meta(ge=0, le=2**53)]
    entries: Annotated[list[_Entry], Meta(max_length=MAX_ENTRIES)]


_decoder = msgspec.json.Decoder(_File)


class AddressBook:
    """The known nodes of one community; times are UTC seconds, given by the caller."""

    def __init__(self, signer: Signer, chain_id: bytes) -> None:
        self._signer = signer
        self._chain_id = chain_id
        self._entries: dict[bytes, _Entry] = {}
        self._hints: OrderedDict[bytes, tuple[PeerLocation, ...]] = OrderedDict()
        self._renewals: dict[bytes, TokenBucket] = {}
        self._sequence = 0
        self.changed = False
        """Set by every change that is stored; whoever stores the book resets it."""
        self.revision = 0
        """Grows with every change of who can be dialled, or where."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def own_key(self) -> bytes:
        """This node's key."""
        return self._signer.public_key

    def announce_self(self, locations: Sequence[PeerLocation], now: float) -> Announcement:
        """Return a new announcement of this node, above all that it made before."""
        self._sequence = max(self._sequence + 1, int(now))
        self.changed = True
        return announce(self._signer, self._chain_id, self._sequence, [each.url for each in locations])

    def learn(
        self, announcement: Announcement, now: float, *, first_hand: bool = False, from_loopback: bool = False
    ) -> bool:
        """Take an announcement from a peer; tell whether it is news, to be passed on.

        What is old, comes too often (unless `first_hand`, from the node itself), or holds a location that is
        not one, is passed over. Loopback locations count from peers on this machine alone.
        Raises Misbehaviour `message_malformed` for a forged one.
        """
        known = self._entries.get(announcement.node)
        if known is not None and announcement.sequence <= known.announcement.sequence:
            return False
        if not self._is_credible(announcement, now, first_hand=first_hand, from_loopback=from_loopback):
            return False
        reached = known.reached if known is not None else 0
        self._entries[announcement.node] = _Entry(announcement, max(int(now), 0), reached)
        self.changed = True
        self.revision += 1
        self._shrink(now)
        return True

    def is_overtaken(self, announcement: Announcement, now: float) -> bool:
        """Tell whether this node's own key announced more, elsewhere or in an older run, than is known here.

        The next own announcement is above it. Raises as `learn`.
        """
        if announcement.sequence <= self._sequence:
            return False
        if not self._is_credible(announcement, now, first_hand=False, from_loopback=True):
            return False
        self._sequence = announcement.sequence
        self.changed = True
        return True

    def _is_credible(
        self, announcement: Announcement, now: float, *, first_hand: bool, from_loopback: bool
    ) -> bool:
        if announcement.sequence > _TOO_FAR_AHEAD or not _are_sound(
            announcement, from_loopback=from_loopback
        ):
            return False
        if not first_hand and not self._may_renew(announcement.node, now):
            return False
        if not is_signed(announcement, self._chain_id):
            raise Misbehaviour("message_malformed", "an announcement of addresses is not signed by its node")
        return True

    def _may_renew(self, key: bytes, now: float) -> bool:
        bucket = self._renewals.get(key)
        if bucket is None:
            bucket = self._renewals[key] = TokenBucket(1 / RENEWAL_S, RENEWALS_AT_ONCE, now)
        return bucket.take(1, now)

    def hint(self, key: bytes, locations: Sequence[PeerLocation]) -> None:
        """Note where a node was found on the LAN; no locations: it is gone from there."""
        self.revision += 1
        self._hints.pop(key, None)
        if locations and key != self.own_key:
            self._hints[key] = tuple(locations)[:MAX_LOCATIONS]
            while len(self._hints) > MAX_HINTS:
                self._hints.popitem(last=False)

    def reached(self, key: bytes, now: float) -> None:
        """Note that a link to the node was made."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.reached = max(int(now), 0)
            self.changed = True

    def locations(self, key: bytes) -> tuple[PeerLocation, ...]:
        """Return where a node may be reached: on the LAN first."""
        entry = self._entries.get(key)
        told = (
            tuple(parse_location(text) for text in entry.announcement.locations) if entry is not None else ()
        )
        return tuple(dict.fromkeys((*self._hints.get(key, ()), *told)))

    def dialable(self) -> list[bytes]:
        """Return the keys of all nodes with a location: those reached last before the others."""
        told = [key for key, entry in self._entries.items() if entry.announcement.locations]
        told.sort(key=lambda key: (-self._entries[key].reached, -self._entries[key].heard))
        return list(dict.fromkeys((*self._hints, *told)))

    def announcement_of(self, key: bytes) -> Announcement | None:
        """Return a node's newest announcement, or None."""
        entry = self._entries.get(key)
        return None if entry is None else entry.announcement

    def sample(self, size: int, random: Random) -> list[Announcement]:
        """Return announcements of some nodes, chosen at random."""
        chosen = random.sample(sorted(self._entries), min(size, len(self._entries)))
        return [self._entries[key].announcement for key in chosen]

    def keep_only(self, wanted: Callable[[bytes], bool], now: float) -> None:
        """Forget the nodes that are not wanted (any more) and those not heard of for long."""
        forgotten = [
            key
            for key, entry in self._entries.items()
            if not wanted(key) or now - entry.last_known > FORGET_AFTER_S
        ]
        for key in forgotten:
            del self._entries[key]
        self._renewals = {key: bucket for key, bucket in self._renewals.items() if key in self._entries}
        self.changed |= bool(forgotten)
        self.revision += bool(forgotten)

    def _shrink(self, now: float) -> None:
        if len(self._entries) > MAX_ENTRIES:
            self.keep_only(lambda _: True, now)
        if len(self._entries) > MAX_ENTRIES:
            del self._entries[min(self._entries, key=lambda key: self._entries[key].reached)]
            self.revision += 1

    def dump(self) -> bytes:
        """Return the book as it is stored."""
        return msgspec.json.encode(_File(self._sequence, list(self._entries.values())))

    @classmethod
    def restore(cls, content: bytes, signer: Signer, chain_id: bytes) -> AddressBook:
        """Return a stored book; raises PeerError `address_book_unreadable`.

        Announcements are verified again: the file may be another community's, or somebody's work.
        """
        try:
            stored = _decoder.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise PeerError("address_book_unreadable", f"the address book does not read: {error}") from error
        book = cls(signer, chain_id)
        book._sequence = stored.sequence
        for entry in stored.entries:
            if _are_sound(entry.announcement, from_loopback=True) and is_signed(entry.announcement, chain_id):
                book._entries[entry.announcement.node] = entry
        return book


def _are_sound(announcement: Announcement, *, from_loopback: bool) -> bool:
    """Tell whether a node may be dialled wherever the announcement says."""
    try:
        locations = [parse_location(text) for text in announcement.locations]
    except PeerError:
        return False
    return all(each.can_be_dialled and (from_loopback or not each.is_loopback) for each in locations)
