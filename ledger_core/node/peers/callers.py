"""Callers who have not proven who they are: bounded, and none of them keeps the others out.

Where all places are taken, the caller who waited longest gives way, of the source that has the most places.
So a stranger displaces itself, and only who shares its network address feels it: refusing newcomers instead
would let one stranger shut everybody out by waiting.
"""

import ipaddress
from collections import Counter
from collections.abc import Callable
from typing import Final

_HOST_BITS: Final = 64


class Place:
    """A caller's place among those who are waited for."""

    __slots__ = ("send_away", "source")

    def __init__(self, source: str, send_away: Callable[[], None]) -> None:
        self.source = source
        self.send_away = send_away
        """Ends the caller's connection."""


class Callers:
    """The places of callers, in all and per source."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._places: dict[Place, None] = {}
        """Who came first stands first."""

    def __len__(self) -> int:
        return len(self._places)

    def enter(self, source: str, send_away: Callable[[], None], most_of_source: int | None = None) -> Place:
        """Give a caller a place, which `leave` takes back; sends another away where there is none."""
        place = Place(source, send_away)
        self._places[place] = None
        held = Counter(each.source for each in self._places)
        if most_of_source is not None and held[source] > most_of_source:
            self._send_away(source)
        elif len(self._places) > self._most:
            ((busiest, _),) = held.most_common(1)
            self._send_away(busiest)
        return place

    def leave(self, place: Place) -> None:
        """Take a place back, also from a caller who was sent away."""
        self._places.pop(place, None)

    def _send_away(self, source: str) -> None:
        first = next(place for place in self._places if place.source == source)
        del self._places[first]
        first.send_away()


def source_of(address: str) -> str:
    """Return what counts as one source: an IPv4 address, or the IPv6 network that one customer has."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    if ip.is_loopback or ip.is_link_local:
        # All neighbours have the same network there, and each of them one address.
        return str(ip)
    return str(ipaddress.IPv6Network((int(ip), _HOST_BITS), strict=False))
