"""Notices peers to whom other blocks are final than to this node.

It takes a third of the nodes that lie, or an authority that revokes nodes on a branch of its own. No program
can tell who is right, so this node keeps what is final to it, and says so.
"""

from ledger_core.node.engine.hub import Hub, Peer
from ledger_core.node.engine.outputs import BranchParted


class ForkWatch:
    """Compares what peers tell of their final blocks with the chain."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._parted: set[bytes] = set()

    @property
    def count(self) -> int:
        """How many linked nodes have other final blocks."""
        return len(self._parted)

    def look(self, peer: Peer) -> None:
        """Compare with what a peer told last; tell of a contradiction once."""
        if not self._contradicts(peer):
            self._parted.discard(peer.id)
        elif peer.id not in self._parted:
            self._parted.add(peer.id)
            self._hub.notify(BranchParted(peer.id, peer.final_ref.height, self._hub.chain.final_height))

    def peer_left(self, peer_id: bytes) -> None:
        """Forget a peer."""
        self._parted.discard(peer_id)

    def _contradicts(self, peer: Peer) -> bool:
        theirs = peer.final_ref
        if theirs.height <= self._hub.chain.final_height:
            return self._hub.hash_at(theirs.height) != theirs.hash
        # Its branch parts below our final block, and it holds another one there for final.
        return peer.conflicting == peer.tip.hash
