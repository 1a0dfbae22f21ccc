"""Checking that a record stands in a block: with the header and the Merkle branch alone."""

from ledger_core.client.views import ProofView
from ledger_core.errors import RecordError
from ledger_core.records.block import decode_header, header_hash, record_leaf
from ledger_core.records.codec import decode_envelope, open_envelope, record_prefix, verify_envelope
from ledger_core.records.merkle import root_from_branch


def check_proof(proof: ProofView, chain_id: bytes, record: str, block: str) -> None:
    """Check that a record (id) stands in a block (hash) that is trusted, and that its signatures are right.

    Raises RecordError `proof_invalid`, `signature_invalid`, or what is wrong with the bytes.
    """
    header_bytes = bytes.fromhex(proof.header)
    if header_hash(header_bytes).hex() != block:
        raise RecordError("proof_invalid", "the proof's header is not that of the block")
    opened = open_envelope(decode_envelope(bytes.fromhex(proof.envelope)), record_prefix(chain_id))
    if opened.id.hex() != record:
        raise RecordError("proof_invalid", "the proof is about another record")
    verify_envelope(opened, chain_id)
    header = decode_header(header_bytes)
    branch = [bytes.fromhex(sibling) for sibling in proof.branch]
    if root_from_branch(record_leaf(opened), proof.index, header.count, branch) != header.merkle_root:
        raise RecordError("proof_invalid", "the Merkle branch does not lead to the header's root")
