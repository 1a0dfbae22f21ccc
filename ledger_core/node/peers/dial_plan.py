"""Whom to dial next: the configured nodes in any case, others from the address book up to a number."""

from collections.abc import Callable, Iterable
from random import Random

from ledger_core.node.peers.address_book import AddressBook
from ledger_core.node.peers.backoff import Backoff
from ledger_core.node.peers.location import PeerLocation
from ledger_core.node.peers.settings import PeerSettings


class Target:
    """A node to dial: by its key, or by a configured location whose node is not known before."""

    def __init__(self, backoff: Backoff, key: bytes | None, locations: tuple[PeerLocation, ...]) -> None:
        self.backoff = backoff
        self.key = key
        self.locations = locations
        self.is_configured = key is None
        self.is_dialled = False
        self.last_code = ""
        self.last_error = ""
        """What the last failure was, for status and log."""

    @property
    def location(self) -> PeerLocation:
        """Where to try now: after a failure the next of its locations."""
        return self.locations[self.backoff.failures % len(self.locations)]


class DialPlan:
    """The targets and their failures; times are seconds of the event loop's clock."""

    def __init__(
        self,
        book: AddressBook,
        settings: PeerSettings,
        random: Random,
        *,
        is_up: Callable[[bytes], bool],
        may_dial: Callable[[bytes], bool],
    ) -> None:
        """Plan by the book; `may_dial` tells of a key of the book whether a link to it is wanted."""
        self._book = book
        self._is_up = is_up
        self._settings = settings
        self._random = random
        self._may_dial = may_dial
        self._configured: dict[PeerLocation, Target] = {}
        self._known: dict[bytes, Target] = {}
        self._revision = -1
        for location in settings.bootstrapped:
            self.add(location)

    def add(self, location: PeerLocation) -> None:
        """Add a configured location."""
        self._configured.setdefault(location, Target(self._backoff(), None, (location,)))

    def _backoff(self) -> Backoff:
        return Backoff(self._random, self._settings.backoff_base_s, self._settings.backoff_cap_s)

    def due(self, wanted: int, now: float) -> list[Target]:
        """Return the targets to dial now: configured ones in any case, of the others at most `wanted`."""
        configured = [target for target in self._configured.values() if self._is_due(target, now)]
        if wanted <= len(configured):
            return configured
        self._follow_book()
        others = [target for target in self._known.values() if self._is_due(target, now)]
        self._random.shuffle(others)
        return configured + others[: wanted - len(configured)]

    def targets(self) -> Iterable[Target]:
        """Return every target."""
        return [*self._configured.values(), *self._known.values()]

    def _is_due(self, target: Target, now: float) -> bool:
        if target.is_dialled or not target.backoff.is_due(now):
            return False
        if target.key is None:
            return True
        # At a configured location another node may answer by now, whatever became of the one before.
        return not self._is_up(target.key) and (target.is_configured or self._may_dial(target.key))

    def _follow_book(self) -> None:
        if self._revision == self._book.revision:
            return
        self._revision = self._book.revision
        configured = {target.key for target in self._configured.values()}
        known = [key for key in self._book.dialable() if key not in configured]
        for key in known:
            locations = self._book.locations(key)
            target = self._known.get(key)
            if target is None:
                self._known[key] = Target(self._backoff(), key, locations)
            elif target.locations != locations:
                # It has moved: what failed elsewhere says nothing of the new place.
                target.locations = locations
                target.backoff.succeeded()
        for key in self._known.keys() - set(known):
            if not self._known[key].is_dialled:
                del self._known[key]
