"""Signatures that were verified already: what came as a record is not verified again in its block."""

from collections import deque
from collections.abc import Callable, Iterable
from hashlib import blake2b

from ledger_core.rules.finality import SignatureCheck

DEFAULT_ENTRIES = 50_000
"""About 5 MB: a day of a street's records."""


class SignatureCache:
    """A bounded memory of valid signatures, oldest forgotten first.

    Entries are a salted digest of key, message and signature together, so that nobody outside can aim at
    one. The salt comes from outside: nothing here draws random numbers. Threads may share it: at worst an
    entry that two of them add at once is forgotten early.
    """

    __slots__ = ("_entries", "_key_of", "_order", "capacity")

    def __init__(self, salt: bytes, capacity: int = DEFAULT_ENTRIES) -> None:
        if len(salt) < 16:
            raise ValueError("the salt needs at least 16 bytes")
        self.capacity = capacity
        self._entries: set[bytes] = set()
        self._order: deque[bytes] = deque()
        """The entries as they came. A dict alone would search its own gaps for the oldest."""
        self._key_of: Callable[[SignatureCheck], bytes] = _keyed(salt)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, check: SignatureCheck) -> bool:
        return self._key_of(check) in self._entries

    def add(self, check: SignatureCheck) -> None:
        """Remember a signature that is valid."""
        self._add_entry(self._key_of(check))

    def unknown(self, checks: Iterable[SignatureCheck]) -> tuple[list[SignatureCheck], list[bytes]]:
        """Return the signatures that are not known to be valid, in order, and the entry of each."""
        todo, entries, known, key_of = [], [], self._entries, self._key_of
        for check in checks:
            entry = key_of(check)
            if entry not in known:
                todo.append(check)
                entries.append(entry)
        return todo, entries

    def add_entries(self, entries: Iterable[bytes]) -> None:
        """Remember signatures that are valid by the entries that `unknown` gave."""
        for entry in entries:
            self._add_entry(entry)

    def _add_entry(self, entry: bytes) -> None:
        if entry in self._entries:
            return
        self._entries.add(entry)
        self._order.append(entry)
        if len(self._order) > self.capacity:
            self._entries.discard(self._order.popleft())


def _keyed(salt: bytes) -> Callable[[SignatureCheck], bytes]:
    base = blake2b(key=salt, digest_size=16)

    def key_of(check: SignatureCheck) -> bytes:
        key, message, signature = check
        # Key and signature have fixed lengths: no two checks share their joined bytes.
        digest = base.copy()
        digest.update(key + signature + message)
        return digest.digest()

    return key_of
