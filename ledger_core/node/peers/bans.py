"""Timed bans of node keys.

Keys are banned, not addresses: homes behind one carrier share an address, and a key costs a membership.
Only a key that is proven can be banned, or anybody could have others banned.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from ledger_core.node.peers.errors import PeerError
from ledger_core.records.types import Key, Time

BAN_SECONDS: Final = {
    "frame_forged": 60,  # may be the work of somebody on the way
    "frame_malformed": 600,
    "message_malformed": 600,
    "oversized": 600,
    "flooding": 300,
    "slow": 60,
    "slow_reader": 10,
    "silent": 10,  # may be a broken link
}
"""How long a peer is banned for what it did on a link, in seconds."""

MAX_BAN_SECONDS: Final = 30 * 86_400
MAX_BANS: Final = 4096


class Ban(Struct, frozen=True):
    """A ban: until when (UTC seconds), and for what."""

    key: Key
    until: Time
    code: Annotated[str, Meta(max_length=64)]


class _File(Struct, frozen=True):
    bans: Annotated[list[Ban], Meta(max_length=MAX_BANS)]


_decoder = msgspec.json.Decoder(_File)


class Bans:
    """The keys that are banned now; times are UTC seconds, given by the caller."""

    def __init__(self) -> None:
        self._bans: dict[bytes, Ban] = {}
        self.changed = False
        """Set by every change; whoever stores the bans resets it."""

    def ban(self, key: bytes, seconds: int, code: str, now: float) -> Ban:
        """Ban a key for some seconds (at most 30 days); a longer ban that it has stays."""
        ban = Ban(key, int(now) + min(max(seconds, 1), MAX_BAN_SECONDS), code)
        present = self._bans.get(key)
        if present is not None and present.until >= ban.until:
            return present
        self._bans[key] = ban
        if len(self._bans) > MAX_BANS:
            self.expire(now)
        if len(self._bans) > MAX_BANS:
            del self._bans[min(self._bans.values(), key=lambda each: each.until).key]
        self.changed = True
        return ban

    def find(self, key: bytes, now: float) -> Ban | None:
        """Return the key's ban if it holds still."""
        ban = self._bans.get(key)
        return ban if ban is not None and ban.until > now else None

    def lift(self, key: bytes) -> bool:
        """End a key's ban; tell whether it had one."""
        self.changed |= key in self._bans
        return self._bans.pop(key, None) is not None

    def expire(self, now: float) -> None:
        """Forget the bans that have ended."""
        ended = [ban.key for ban in self._bans.values() if ban.until <= now]
        for key in ended:
            del self._bans[key]
        self.changed |= bool(ended)

    def listed(self, now: float) -> list[Ban]:
        """Return the bans that hold, the one that ends first before the others."""
        return sorted((ban for ban in self._bans.values() if ban.until > now), key=lambda ban: ban.until)

    def dump(self) -> bytes:
        """Return the bans as they are stored."""
        return msgspec.json.encode(_File(list(self._bans.values())))

    @classmethod
    def restore(cls, content: bytes, now: float) -> Bans:
        """Return stored bans; raises PeerError `bans_unreadable`.

        A ban that would last longer than any can (the clock was set back) lasts as long as one can.
        """
        try:
            stored = _decoder.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise PeerError("bans_unreadable", f"the list of bans does not read: {error}") from error
        bans = cls()
        latest = int(now) + MAX_BAN_SECONDS
        bans._bans = {ban.key: Ban(ban.key, min(ban.until, latest), ban.code) for ban in stored.bans}
        bans.expire(now)
        return bans
