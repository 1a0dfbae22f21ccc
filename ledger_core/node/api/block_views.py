"""Blocks, records and proofs as answers: pure functions."""

from collections.abc import Iterable

from ledger_core.chain.proofs import prove_inclusion
from ledger_core.node.api import model
from ledger_core.node.api.plain import fields
from ledger_core.node.api.views import party
from ledger_core.records.block import (
    NO_STATE_HASH,
    Block,
    decode_block_body,
    decode_header,
    header_hash,
    open_records,
)
from ledger_core.records.codec import Record, encode_envelope, record_prefix
from ledger_core.records.votes import VOTE_BYTES, VoteBundle


def block(header_bytes: bytes, whole: Block | None, chain_id: bytes, final_height: int) -> model.BlockView:
    """Return a block of the active branch; `whole` is None where its body was pruned."""
    header = decode_header(header_bytes)
    ids: list[str] | None = None
    votes: list[model.VoteBundleView] = []
    if whole is not None:
        body = decode_block_body(whole.body)
        ids = [record.id.hex() for record in open_records(body, record_prefix(chain_id))]
        votes = list(_votes(body.votes))
    return model.BlockView(
        height=header.height,
        hash=header_hash(header_bytes).hex(),
        previous=header.previous.hex(),
        merkle_root=header.merkle_root.hex(),
        state_hash=None if header.state_hash == NO_STATE_HASH else header.state_hash.hex(),
        time=header.time,
        target=header.target,
        miner=party(header.miner),
        nonce=str(header.nonce),
        final=header.height <= final_height,
        records=ids,
        votes=votes,
    )


def find_record(whole: Block, chain_id: bytes, record_id: bytes) -> Record | None:
    """Return a record of a block, or None."""
    records = open_records(decode_block_body(whole.body), record_prefix(chain_id))
    return next((record for record in records if record.id == record_id), None)


def waiting(found: Record, *, contested: bool) -> model.RecordView:
    """Return a record that stands in no block."""
    return _record(found, None, "contested" if contested else "waiting")


def record(found: Record, height: int, final_height: int) -> model.RecordView:
    """Return a record that stands in a block."""
    return _record(found, height, "final" if height <= final_height else "included")


def _record(found: Record, height: int | None, state: str) -> model.RecordView:
    envelope = found.envelope
    signed = [
        (found.body.author, envelope.signature),
        *((co.key, co.signature) for co in envelope.cosignatures),
    ]
    return model.RecordView(
        record=found.id.hex(),
        kind=found.body.KIND,
        state=state,
        height=height,
        author=party(found.body.author),
        signatures=[model.SignatureView(by=party(key), signature=sig.hex()) for key, sig in signed],
        body=fields(found.body),
        envelope=encode_envelope(envelope).hex(),
    )


def proof(whole: Block, chain_id: bytes, record_id: bytes) -> model.ProofView:
    """Return the proof that a record stands in a block; raises RecordError `record_not_in_block`."""
    found = prove_inclusion(whole, chain_id, record_id)
    return model.ProofView(
        record=record_id.hex(),
        height=decode_header(found.header).height,
        block=header_hash(found.header).hex(),
        header=found.header.hex(),
        index=found.index,
        branch=[sibling.hex() for sibling in found.branch],
        envelope=encode_envelope(found.envelope).hex(),
    )


def _votes(bundles: Iterable[VoteBundle]) -> Iterable[model.VoteBundleView]:
    for bundle in bundles:
        yield model.VoteBundleView(
            source_height=bundle.source_height,
            target_height=bundle.target_height,
            target_hash=bundle.target_hash.hex(),
            votes=len(bundle.votes) // VOTE_BYTES,
        )
