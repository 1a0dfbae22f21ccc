"""What the peer transport can be told; every value is checked, with its bounds."""

from dataclasses import dataclass, field, fields
from typing import Final

from ledger_core.node.peers.errors import PeerError
from ledger_core.node.peers.location import PeerLocation, parse_location

MAX_LOCATIONS: Final = 16


def _bounded(default: float, low: float, high: float) -> float:
    value: float = field(default=default, metadata={"low": low, "high": high})
    return value


def _count(default: int, low: int, high: int) -> int:
    value: int = field(default=default, metadata={"low": low, "high": high})
    return value


@dataclass(frozen=True, kw_only=True)
class PeerSettings:
    """Settings of the peer transport; raises PeerError `setting_out_of_bounds` or as `parse_location`."""

    listen_host: str | None = None
    """Address to listen on, empty: every one; None: this node dials others and is not dialled."""
    listen_port: int = _count(0, 0, 65_535)
    """Port to listen on; 0: any that is free."""
    path: str = "/peer"
    """Path of the WebSocket."""
    advertise: tuple[str, ...] = ()
    """Where others reach this node (`host:port` or `wss://host/path`), told by gossip; at most 4."""
    bootstrap: tuple[str, ...] = ()
    """Nodes to dial in any case; at most 16."""
    outbound_target: int = _count(8, 0, 64)
    """Links that this node seeks to have dialled itself."""
    max_inbound: int = _count(24, 0, 1000)
    """Links that others may have dialled."""
    max_guests: int = _count(4, 0, 100)
    """Among them, links of newcomers with an invitation."""
    max_unheard: int = _count(128, 1, 10_000)
    """Connections that have not sent their request yet."""
    max_pending: int = _count(16, 1, 1000)
    """Handshakes under way at a time, of those who dial."""
    max_pending_per_source: int = _count(4, 1, 1000)
    """The same from one network address; loopback, where a proxy may stand, counts as many."""
    handshake_s: float = _bounded(10.0, 0.1, 120.0)
    """Time for reaching a node and for the handshake."""
    keepalive_s: float = _bounded(30.0, 0.05, 300.0)
    """Time without anything else to send after which a ping is sent."""
    silent_s: float = _bounded(90.0, 0.15, 900.0)
    """Time after which a link on which no frame comes whole, or none leaves, is ended."""
    close_s: float = _bounded(2.0, 0.05, 30.0)
    """Time for ending a link in good order."""
    outbox_bytes: int = _count(8 * 2**20, 2**21, 2**28)
    """Bytes that may wait on one link; a peer that does not take them is dropped."""
    outboxes_bytes: int = _count(64 * 2**20, 2**21, 2**32)
    """The same for all links together."""
    dial_every_s: float = _bounded(1.0, 0.01, 60.0)
    """Time between two looks at whom to dial."""
    backoff_base_s: float = _bounded(1.0, 0.01, 60.0)
    """Time before the second try at a node that failed; doubles with each failure."""
    backoff_cap_s: float = _bounded(600.0, 0.05, 86_400.0)
    """Longest time between two tries."""
    stable_s: float = _bounded(60.0, 0.0, 3600.0)
    """A link that held that long clears its node's failures."""
    gossip_every_s: float = _bounded(3600.0, 0.05, 86_400.0)
    """Time between two samples of known addresses to each peer."""
    announce_every_s: float = _bounded(86_400.0, 1.0, 604_800.0)
    """Time between two announcements of this node's own addresses."""

    def __post_init__(self) -> None:
        for each in fields(self):
            low, high = each.metadata.get("low"), each.metadata.get("high")
            value = getattr(self, each.name)
            if low is not None and not low <= value <= high:
                raise PeerError(
                    "setting_out_of_bounds",
                    f"{each.name} must be {low} to {high}, not {value}",
                    setting=each.name,
                    low=low,
                    high=high,
                )
        if self.silent_s < 3 * self.keepalive_s:
            raise PeerError(
                "setting_out_of_bounds",
                f"silent_s must be at least 3 times keepalive_s ({self.keepalive_s}), not {self.silent_s}",
                setting="silent_s",
            )
        for name, most in (("advertise", 4), ("bootstrap", MAX_LOCATIONS)):
            if len(getattr(self, name)) > most:
                raise PeerError(
                    "setting_out_of_bounds", f"{name} takes at most {most} addresses", setting=name
                )
        _ = self.advertised, self.bootstrapped

    @property
    def advertised(self) -> tuple[PeerLocation, ...]:
        """`advertise`, parsed."""
        return tuple(parse_location(text) for text in self.advertise)

    @property
    def bootstrapped(self) -> tuple[PeerLocation, ...]:
        """`bootstrap`, parsed."""
        return tuple(parse_location(text) for text in self.bootstrap)
