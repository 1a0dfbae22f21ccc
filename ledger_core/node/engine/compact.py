"""Blocks without what the other side probably has: short record ids and voters instead of bytes."""

from collections.abc import Sequence

from ledger_core.node.engine.mempool import Mempool
from ledger_core.node.engine.vote_book import VoteBook, indexes
from ledger_core.node.messages import (
    MAX_BLOCK_RECORDS,
    MAX_IDS,
    MAX_LINKS,
    MAX_PAYLOAD_BYTES,
    SHORT_ID_BYTES,
    BlockRef,
    Compact,
    CompactBundle,
    GetParts,
    Parts,
    SealedHeader,
    bits_of,
    voters_of,
)
from ledger_core.records.block import Block, BlockBody, encode_block_body
from ledger_core.records.codec import Envelope, record_id
from ledger_core.records.votes import VoteBundle
from ledger_core.rules.finality import votes_in
from ledger_core.rules.prepare import envelope_size
from ledger_core.rules.state import State

SIGNATURE_BYTES = 64


def make_compact(block_hash: bytes, body: BlockBody, chain_id: bytes) -> Compact | None:
    """Return a block's short form; None for one that is better sent whole."""
    if len(body.records) > MAX_BLOCK_RECORDS or len(body.votes) > MAX_LINKS:
        return None
    shorts = b"".join(record_id(chain_id, each.body)[:SHORT_ID_BYTES] for each in body.records)
    bundles = tuple(
        CompactBundle(
            bundle.created,
            BlockRef(bundle.source_height, bundle.source_hash),
            BlockRef(bundle.target_height, bundle.target_hash),
            voters_of(sum(1 << index for index, _ in votes_in(bundle))),
        )
        for bundle in body.votes
    )
    return Compact(block_hash, shorts, bundles)


def make_parts(body: BlockBody, asked: GetParts) -> Parts | None:
    """Return the parts of a block that a peer lacks; None where it asks for too much, or in vain."""
    if any(place >= len(body.records) for place in asked.records) or len(asked.voters) > len(body.votes):
        return None
    records = tuple(body.records[place] for place in asked.records)
    signatures = []
    for bundle, voters in zip(body.votes, asked.voters, strict=False):
        wanted = bits_of(voters)
        signatures.append(b"".join(signature for index, signature in votes_in(bundle) if wanted >> index & 1))
    if sum(map(envelope_size, records)) + sum(map(len, signatures)) > MAX_PAYLOAD_BYTES:
        return None
    return Parts(asked.block.hash, records, tuple(signatures))


class Partial:
    """A compact block that is being rebuilt."""

    def __init__(self, compact: Compact, sealed: SealedHeader) -> None:
        self._sealed = sealed
        self._bundles = compact.bundles
        shorts = compact.shorts
        self._shorts = [
            shorts[at : at + SHORT_ID_BYTES]
            for at in range(0, len(shorts) - SHORT_ID_BYTES + 1, SHORT_ID_BYTES)
        ]
        self._records: list[Envelope | None] = [None] * len(self._shorts)
        self._signatures: list[dict[int, bytes]] = [{} for _ in self._bundles]

    def fill_from(self, pool: Mempool, book: VoteBook, state: State) -> None:
        """Take what this node has."""
        for place, short in enumerate(self._shorts):
            record = pool.by_short(short)
            self._records[place] = None if record is None else record.envelope
        for bundle, known in zip(self._bundles, self._signatures, strict=True):
            link = book.get(bundle.target.hash, bundle.source.hash)
            if link is None:
                continue
            for index in indexes(bits_of(bundle.voters)):
                node = state.nodes.get(index)
                signature = None if node is None else link.signatures.get(node.key)
                if signature is not None:
                    known[index] = signature

    def missing(self, block: BlockRef) -> GetParts | None:
        """Return the request for what is missing; None where that is so much that the body is better."""
        places = tuple(place for place, record in enumerate(self._records) if record is None)
        if len(places) > MAX_IDS:
            return None
        voters = tuple(voters_of(self._lacking(at)) for at in range(len(self._bundles)))
        return GetParts(block, places, voters)

    def complete(self) -> bool:
        """Return whether nothing is missing."""
        return None not in self._records and not any(self._lacking(at) for at in range(len(self._bundles)))

    def fill(self, parts: Parts) -> bool:
        """Take the parts asked for; returns whether they are all there."""
        places = [place for place, record in enumerate(self._records) if record is None]
        if len(parts.records) != len(places) or len(parts.signatures) > len(self._bundles):
            return False
        for place, envelope in zip(places, parts.records, strict=True):
            self._records[place] = envelope
        for at, data in enumerate(parts.signatures):
            lacking = list(indexes(self._lacking(at)))
            if len(data) != SIGNATURE_BYTES * len(lacking):
                return False
            for position, index in enumerate(lacking):
                start = SIGNATURE_BYTES * position
                self._signatures[at][index] = data[start : start + SIGNATURE_BYTES]
        return self.complete()

    def block(self) -> Block:
        """Return the rebuilt block; whether it is the right one, its Merkle root tells."""
        records: Sequence[Envelope] = [record for record in self._records if record is not None]
        bundles = tuple(
            VoteBundle(
                bundle.created,
                bundle.source.height,
                bundle.source.hash,
                bundle.target.height,
                bundle.target.hash,
                b"".join(index.to_bytes(2) + known[index] for index in sorted(known)),
            )
            for bundle, known in zip(self._bundles, self._signatures, strict=True)
        )
        body = encode_block_body(BlockBody(tuple(records), bundles))
        return Block(self._sealed.header, self._sealed.signature, body)

    def _lacking(self, at: int) -> int:
        have = sum(1 << index for index in self._signatures[at])
        return bits_of(self._bundles[at].voters) & ~have
