"""Where nodes reach each other, and what may pass between them, for who may import the client alone."""

from typing import Final

from ledger_core.node.peers.link import WEBSOCKET_LIMIT
from ledger_core.node.peers.location import DEFAULT_PATH, PeerLocation, parse_location

MAX_PEER_MESSAGE: Final = WEBSOCKET_LIMIT
"""Bytes of a WebSocket message between nodes, at the most."""

__all__ = ["DEFAULT_PATH", "MAX_PEER_MESSAGE", "PeerLocation", "parse_location"]
