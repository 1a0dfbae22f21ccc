"""Where a node can be reached: a WebSocket URL, or `host:port` in short."""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from ledger_core.node.peers.errors import PeerError
from ledger_core.node.peers.text import printable

DEFAULT_PATH: Final = "/peer"
MAX_LOCATION_LENGTH: Final = 200

_DEFAULT_PORTS: Final = {"ws": 80, "wss": 443}
_HOST_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?")
_PATH: Final = re.compile(r"/[A-Za-z0-9/._~-]*")


class PeerLocation(Struct, frozen=True, order=True):
    """A checked location; two that lead to the same place are equal."""

    scheme: str
    host: str
    """Name in lower case, or IP address without brackets."""
    port: int
    path: str = DEFAULT_PATH

    @property
    def url(self) -> str:
        """The WebSocket's URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def is_loopback(self) -> bool:
        """Whether it can mean only the machine that reads it."""
        name = self.host.rstrip(".")
        return name == "localhost" or name.endswith(".localhost") or is_loopback_address(self.host)

    @property
    def can_be_dialled(self) -> bool:
        """Whether it can be a node at all: not an unspecified or multicast address."""
        try:
            ip = ipaddress.ip_address(self.host)
        except ValueError:
            return True
        return not (ip.is_unspecified or ip.is_multicast or ip.is_reserved)


def is_loopback_address(text: str) -> bool:
    """Tell whether a text is an IP address of this machine's own loopback."""
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def parse_location(text: str) -> PeerLocation:
    """Return the location that a text tells.

    Takes `host:port`, `[IPv6]:port`, `ws://host[:port][/path]` and `wss://...`. Raises PeerError
    `location_invalid`, which says what is wrong.
    """
    if not 1 <= len(text) <= MAX_LOCATION_LENGTH:
        raise _invalid(text, f"it has {len(text)} characters; 1 to {MAX_LOCATION_LENGTH} are allowed")
    if not text.isprintable() or " " in text:
        raise _invalid(text, "it holds a character that no address has")
    try:
        parts = urlsplit(text if "://" in text else f"ws://{text}")
        host = parts.hostname or ""
    except ValueError as error:
        raise _invalid(text, str(error)) from error
    try:
        port = parts.port
    except ValueError as error:
        raise _invalid(text, "its port is not a whole number from 1 to 65535") from error
    if parts.scheme not in _DEFAULT_PORTS:
        raise _invalid(text, "it must begin with ws:// or wss://, or be host:port")
    if "://" not in text and port is None:
        raise _invalid(text, "the port is missing: write host:port")
    if port == 0:
        raise _invalid(text, "port 0 can't be dialled")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise _invalid(text, "user, password, query and fragment have no place in it")
    path = parts.path if parts.path not in ("", "/") else DEFAULT_PATH
    if not _PATH.fullmatch(path):
        raise _invalid(text, "its path may hold letters, digits and / . _ ~ - only")
    location = PeerLocation(parts.scheme, _host(text, host), port or _DEFAULT_PORTS[parts.scheme], path)
    if len(location.url) > MAX_LOCATION_LENGTH:
        raise _invalid(
            text, f"written out it has {len(location.url)} characters; at most {MAX_LOCATION_LENGTH}"
        )
    return location


def _host(text: str, host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        if len(host) <= 253 and _HOST_NAME.fullmatch(host) and not re.fullmatch(r"[0-9.]+", host):
            return host
    raise _invalid(text, "its host is neither a name nor an IP address")


def _invalid(text: str, what: str) -> PeerError:
    shown = printable(text, 80)
    return PeerError("location_invalid", f"'{shown}' is not a peer's address: {what}", location=shown)
