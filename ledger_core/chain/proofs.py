"""Inclusion proofs: a record stands in a block, shown with the header and a Merkle branch alone."""

from msgspec import Struct

from ledger_core.errors import RecordError
from ledger_core.records.block import (
    Block,
    body_leaves,
    decode_block_body,
    decode_header,
    header_hash,
    open_records,
    record_leaf,
)
from ledger_core.records.codec import Envelope, open_envelope, record_prefix
from ledger_core.records.merkle import merkle_branch, root_from_branch


class InclusionProof(Struct, frozen=True, gc=False):
    """What shows that a record stands in a block."""

    header: bytes
    index: int
    """Place of the record among the block's leaves."""
    branch: tuple[bytes, ...]
    """Sibling hashes from the leaf to the root."""
    envelope: Envelope


def prove_inclusion(block: Block, chain_id: bytes, record_id: bytes) -> InclusionProof:
    """Return the proof for a record of a block; raises RecordError `record_not_in_block`."""
    body = decode_block_body(block.body)
    records = open_records(body, record_prefix(chain_id))
    for index, record in enumerate(records):
        if record.id == record_id:
            branch = merkle_branch(body_leaves(records, body.votes), index)
            return InclusionProof(block.header, index, tuple(branch), record.envelope)
    raise RecordError("record_not_in_block", "the block does not hold that record", record=record_id)


def check_inclusion(proof: InclusionProof, chain_id: bytes, block_hash: bytes) -> bytes:
    """Check a proof against the hash of a block that is trusted; returns the record's id.

    Raises RecordError `proof_invalid`. Signatures and the block's work are not looked at.
    """
    if header_hash(proof.header) != block_hash:
        raise RecordError("proof_invalid", "the proof's header is not that of the block")
    header = decode_header(proof.header)
    record = open_envelope(proof.envelope, record_prefix(chain_id))
    root = root_from_branch(record_leaf(record), proof.index, header.count, proof.branch)
    if root != header.merkle_root:
        raise RecordError("proof_invalid", "the Merkle branch does not lead to the header's root")
    return record.id
