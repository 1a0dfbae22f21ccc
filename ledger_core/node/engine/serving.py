"""Answers to peers: headers, bodies, compact blocks, snapshots."""

from ledger_core.node.engine.bounded import RecentMap
from ledger_core.node.engine.compact import make_compact, make_parts
from ledger_core.node.engine.hub import Hub, Peer
from ledger_core.node.engine.intake import Intake
from ledger_core.node.messages import (
    MAX_PAYLOAD_BYTES,
    MAX_SNAPSHOT_BYTES,
    MAX_SNAPSHOTS,
    SNAPSHOT_PART_BYTES,
    BlockRef,
    Bodies,
    Body,
    Compact,
    GetBodies,
    GetCompact,
    GetHeaders,
    GetParts,
    GetSnapshotPart,
    GetSnapshots,
    Headers,
    SealedHeader,
    SnapshotOffer,
    SnapshotPart,
    Snapshots,
)
from ledger_core.records.block import Block, decode_block_body, header_hash

FRAMING = 64
COMPACTS_KEPT = 8
UNKNOWN_POINTS = 5.0


class Serving:
    """Gives what this node has; what it does not have it says so."""

    def __init__(self, hub: Hub, intake: Intake) -> None:
        self._hub = hub
        self._intake = intake
        self._compacts: RecentMap[Compact] = RecentMap(COMPACTS_KEPT)
        self._sizes: RecentMap[int] = RecentMap(MAX_SNAPSHOTS)
        self._snapshot: tuple[bytes, bytes] | None = None
        """The snapshot that was asked for last: its block and its bytes."""

    def headers(self, peer: Peer, message: GetHeaders, _now: float) -> None:
        """Give the headers above the first block of the locator that is on the active branch."""
        chain = self._hub.chain
        for ref in message.locator:
            if ref.height <= chain.height and self._hub.hash_at(ref.height) == ref.hash:
                sealed = self._hub.store.sealed_headers(ref.height + 1, message.limit)
                headers = tuple(SealedHeader(header, signature) for header, signature in sealed)
                self._hub.send(peer.id, Headers(headers))
                return
        self._hub.ban(peer.id, "genesis_foreign", "its locator does not end with this community's genesis")

    def bodies(self, peer: Peer, message: GetBodies, _now: float) -> None:
        """Give as many of the bodies as fit into a message, at least one entry."""
        found: list[Body] = []
        size = 0
        for ref in message.blocks:
            block = self._find(ref)
            length = FRAMING + (0 if block is None else len(block.body))
            if found and size + length > MAX_PAYLOAD_BYTES:
                break
            size += length
            found.append(Body(ref.hash, None if block is None else block.body))
        self._hub.send(peer.id, Bodies(tuple(found)))

    def compact(self, peer: Peer, message: GetCompact, now: float) -> None:
        """Give a block's compact form, or its body where there is none."""
        compact = self._compacts.get(message.block.hash)
        if compact is None:
            block = self._find(message.block)
            if block is not None:
                body = decode_block_body(block.body)
                compact = make_compact(message.block.hash, body, self._hub.chain.chain_id)
        if compact is None:
            self.bodies(peer, GetBodies((message.block,)), now)
            return
        self._compacts.put(message.block.hash, compact)
        self._hub.send(peer.id, compact)

    def parts(self, peer: Peer, message: GetParts, now: float) -> None:
        """Give what a peer lacked to rebuild a block; the whole body where that is too much."""
        block = self._find(message.block)
        if block is None:
            self._hub.blame(peer.id, UNKNOWN_POINTS, "requests for parts of unknown blocks", now)
            return
        parts = make_parts(decode_block_body(block.body), message)
        if parts is None:
            self.bodies(peer, GetBodies((message.block,)), now)
        else:
            self._hub.send(peer.id, parts)

    def snapshots(self, peer: Peer, _message: GetSnapshots, _now: float) -> None:
        """Tell which snapshots there are, with a proven final state only."""
        offers: list[SnapshotOffer] = []
        for info in self._hub.store.snapshots()[:MAX_SNAPSHOTS]:
            if info.height < self._hub.chain.final_height and self._hub.hash_at(info.height) == info.hash:
                size = self._sizes.get(info.hash) or len(self._load(info.hash))
                self._sizes.put(info.hash, size)
                if size <= MAX_SNAPSHOT_BYTES:
                    offers.append(SnapshotOffer(BlockRef(info.height, info.hash), info.state_hash, size))
        self._hub.send(peer.id, Snapshots(tuple(offers)))

    def snapshot_part(self, peer: Peer, message: GetSnapshotPart, _now: float) -> None:
        """Give a part of a snapshot."""
        known = any(info.hash == message.block.hash for info in self._hub.store.snapshots())
        data: bytes | None = None
        if known:
            start = message.part * SNAPSHOT_PART_BYTES
            data = self._load(message.block.hash)[start : start + SNAPSHOT_PART_BYTES] or None
        self._hub.send(peer.id, SnapshotPart(message.block.hash, message.part, data))

    def _load(self, block_hash: bytes) -> bytes:
        if self._snapshot is None or self._snapshot[0] != block_hash:
            self._snapshot = (block_hash, self._hub.store.snapshot(block_hash))
        return self._snapshot[1]

    def _find(self, ref: BlockRef) -> Block | None:
        block = self._intake.block(ref.hash)
        if block is None and ref.height <= self._hub.chain.final_height:
            block = self._hub.store.block_at(ref.height)
            if block is not None and header_hash(block.header) != ref.hash:
                return None
        return block
