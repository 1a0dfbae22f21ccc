"""Links to the nodes of other homes: mutually authenticated, encrypted, bounded.  Knows no message kinds.

manager      PeerManager: what the rest of the node uses
handshake    who is at the other end, proven, and the keys of the link (sans-I/O)
cipher       sealed frames; `frames`, `assembler`: what is in them
connection   a link in use; `outbox`, `limits`: what may wait, and how much of each kind may come
admission    who gets in; `bans`: who does not for a while; `registry`: one link per key
dial_plan    whom to dial; `outbound`, `dialer`, `backoff`: dialling; `listener`, `callers`: being dialled
address_book where nodes can be reached; `announcement`, `gossip`, `discovery`: how that gets around
"""

from ledger_core.node.peers.admission import Policy
from ledger_core.node.peers.announcement import Announcement
from ledger_core.node.peers.bans import BAN_SECONDS, Ban
from ledger_core.node.peers.carrier import PeerEvents
from ledger_core.node.peers.connection import Ending, Traffic
from ledger_core.node.peers.discovery import SERVICE_TYPE, Discovery
from ledger_core.node.peers.errors import (
    DialError,
    HandshakeError,
    Misbehaviour,
    PeerError,
    Refusal,
    RefusedByPeer,
)
from ledger_core.node.peers.handshake import PROTOCOL_VERSIONS, Bearer, LocalNode, RemoteNode
from ledger_core.node.peers.limits import KindLimit, KindLimits
from ledger_core.node.peers.location import PeerLocation, parse_location
from ledger_core.node.peers.manager import DialStatus, PeerManager, PeerStatus
from ledger_core.node.peers.settings import PeerSettings

__all__ = [
    "BAN_SECONDS",
    "PROTOCOL_VERSIONS",
    "SERVICE_TYPE",
    "Announcement",
    "Ban",
    "Bearer",
    "DialError",
    "DialStatus",
    "Discovery",
    "Ending",
    "HandshakeError",
    "KindLimit",
    "KindLimits",
    "LocalNode",
    "Misbehaviour",
    "PeerError",
    "PeerEvents",
    "PeerLocation",
    "PeerManager",
    "PeerSettings",
    "PeerStatus",
    "Policy",
    "Refusal",
    "RefusedByPeer",
    "RemoteNode",
    "Traffic",
    "parse_location",
]
