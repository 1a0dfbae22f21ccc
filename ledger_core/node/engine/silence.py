"""Peers that leave what they were asked for without an answer: how often, and when that is enough."""

import math

from ledger_core.node.engine.hub import Hub, Peer

WITHHELD_POINTS = 40.0
MAX_WITHHELD = 3
"""So many times in a row a peer may leave bodies that it was asked for without an answer."""
_NEVER = (0, -math.inf)


class Silence:
    """Counts, once for all requests that a peer let pass together.

    A peer that says nothing at all stands still, or the way to it is cut: however long that takes, it counts
    once, and not before the peer says something again. (If it does not, its link ends by itself.)
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._counts: dict[bytes, tuple[int, float]] = {}
        """How often in a row, and when that was counted last."""
        self._still: set[bytes] = set()
        """Peers that have said nothing since they were asked for what did not come in time."""

    def peer_left(self, peer_id: bytes) -> None:
        """Forget a peer."""
        self._counts.pop(peer_id, None)
        self._still.discard(peer_id)

    def answered(self, peer_id: bytes) -> None:
        """A peer gave what was asked for."""
        self._counts.pop(peer_id, None)

    def heard(self, peer: Peer, now: float) -> None:
        """A peer says something; it may be banned for its silence before."""
        peer.heard = now
        if peer.id in self._still:
            self._still.discard(peer.id)
            self._count(peer.id, now)

    def late(self, peer_id: bytes, asked: float, now: float) -> None:
        """A request from a time before did not get its answer in time; the peer may be banned for it."""
        peer = self._hub.peers.get(peer_id)
        if peer is None or asked < self._counts.get(peer_id, _NEVER)[1]:
            return
        if peer.heard <= asked:
            self._still.add(peer_id)
        else:
            self._count(peer_id, now)

    def _count(self, peer_id: bytes, now: float) -> None:
        count = self._counts.get(peer_id, _NEVER)[0] + 1
        self._counts[peer_id] = (count, now)
        if count >= MAX_WITHHELD:
            self._hub.ban(peer_id, "bodies_withheld", "it announces blocks and does not give them")
        else:
            self._hub.blame(peer_id, WITHHELD_POINTS, "bodies asked for and never given", now)
