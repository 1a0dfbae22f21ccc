"""What the engine's parts share: the chain, the peers, and the way out."""

from collections.abc import Iterable, Sequence
from random import Random
from typing import Protocol

from ledger_core.chain.model import ChainStore, SnapshotInfo
from ledger_core.chain.store.head import Head
from ledger_core.chain.verify import Verifier
from ledger_core.node.engine.bounded import RecentSet
from ledger_core.node.engine.followed_chain import FollowedChain
from ledger_core.node.engine.outputs import Drop, NodeEvent, Notify, Output, Send
from ledger_core.node.engine.settings import EngineSettings
from ledger_core.node.messages import BlockRef, Hello, Message, Status
from ledger_core.records.block import Block, header_hash

KNOWN_RECORDS = 8192
KNOWN_BLOCKS = 256


class NodeStore(ChainStore, Protocol):
    """A chain store that can also give what peers ask for."""

    def sealed_headers(self, first: int, count: int) -> list[tuple[bytes, bytes]]:
        """Return the active branch's headers with their miners' signatures, `count` from a height upwards."""
        ...

    def install(
        self,
        headers: Iterable[tuple[bytes, bytes]],
        blocks: Sequence[Block],
        snapshot: tuple[SnapshotInfo, bytes],
    ) -> None:
        """Begin an empty store at a final checkpoint: headers below, some bodies, a state among them."""
        ...

    def head(self) -> Head:
        """Return the tip, the last final checkpoint, and up to where bodies are gone."""
        ...


class Peer:
    """A connected peer: what it told, what it has, and how patient the engine still is with it."""

    __slots__ = (
        "clock_offset",
        "conflicting",
        "final",
        "final_ref",
        "heard",
        "id",
        "justified",
        "known_blocks",
        "known_records",
        "oldest_body",
        "patience",
        "patience_at",
        "since",
        "tip",
        "voters",
    )

    def __init__(self, peer_id: bytes, hello: Hello, patience: float, now: float) -> None:
        self.id = peer_id
        self.since = now
        self.heard = now
        """When it said something last."""
        self.oldest_body = hello.oldest_body
        self.take_status(hello.status, now)
        self.known_records = RecentSet(KNOWN_RECORDS)
        self.known_blocks = RecentSet(KNOWN_BLOCKS)
        self.voters: dict[tuple[bytes, bytes], int] = {}
        """Whose votes the peer has, per link."""
        self.patience = patience
        self.patience_at = now
        self.conflicting: bytes | None = None
        """A tip of the peer that parts from our branch below our last final checkpoint."""

    def take_status(self, status: Status, now: float) -> None:
        """Take over what the peer tells of itself."""
        self.clock_offset = status.clock - now
        self.tip = status.tip
        self.justified = status.justified
        self.final = status.final.height
        self.final_ref = status.final


class Hub:
    """The one place through which parts reach the chain, the peers and the outside."""

    def __init__(
        self,
        chain: FollowedChain,
        store: NodeStore,
        verifier: Verifier,
        settings: EngineSettings,
        random: Random,
    ) -> None:
        self.chain = chain
        self.store = store
        self.verifier = verifier
        self.settings = settings
        self.random = random
        self.peers: dict[bytes, Peer] = {}
        self.outputs: list[Output] = []
        self.dropped: list[bytes] = []
        """Peers dropped by a part, of which the others do not know yet."""

    def send(self, peer_id: bytes, message: Message) -> None:
        """Send a message, unless the peer has left."""
        if peer_id in self.peers:
            self.outputs.append(Send(peer_id, message))

    def notify(self, event: NodeEvent) -> None:
        """Tell the outside of an event."""
        self.outputs.append(Notify(event))

    def ban(self, peer_id: bytes, code: str, reason: str) -> None:
        """Drop a peer that misbehaved, and refuse its key for a while."""
        self._drop(peer_id, code, reason, self.settings.ban_s)

    def blame(self, peer_id: bytes, points: float, reason: str, now: float) -> None:
        """Take patience from a peer for something useless; drop it when none is left."""
        peer = self.peers.get(peer_id)
        if peer is None:
            return
        settings = self.settings
        regained = max(now - peer.patience_at, 0) * settings.patience_per_s
        peer.patience = min(peer.patience + regained, settings.patience) - points
        peer.patience_at = now
        if peer.patience < 0:
            self._drop(peer_id, "patience", f"too much of: {reason}", settings.flood_ban_s)

    def disconnect(self, peer_id: bytes, code: str, reason: str) -> None:
        """Drop a peer that did nothing wrong; it may come back at once."""
        self._drop(peer_id, code, reason, 0)

    def _drop(self, peer_id: bytes, code: str, reason: str, ban_s: int) -> None:
        if self.peers.pop(peer_id, None) is not None:
            self.dropped.append(peer_id)
            self.outputs.append(Drop(peer_id, code, reason, ban_s))

    def tip_ref(self) -> BlockRef:
        """Return height and hash of the tip."""
        return BlockRef(self.chain.height, self.chain.tip_hash)

    def hash_at(self, height: int) -> bytes:
        """Return the hash of the active branch's block at a height."""
        header = self.store.header_at(height) if height else None
        return self.chain.chain_id if header is None else header_hash(header)

    def status(self, now: float) -> Status:
        """Return what peers are told of this node."""
        chain = self.chain
        root = chain.index.root
        return Status(
            max(int(now), 0), self.tip_ref(), chain.state.tip.justified, BlockRef(root.height, root.hash)
        )
