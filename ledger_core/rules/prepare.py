"""Everything about a block that needs no state: sizes, canonical bytes, Merkle root, signatures to verify."""

from collections.abc import Mapping, Sequence

from ledger_core.community import Genesis
from ledger_core.errors import RuleError
from ledger_core.keys import SIGNATURE_LENGTH, verify
from ledger_core.records.block import (
    Block,
    Header,
    body_leaves,
    decode_block_body,
    decode_header,
    header_hash,
    miner_message,
)
from ledger_core.records.codec import Envelope, Record, open_envelope, record_prefix
from ledger_core.records.merkle import EMPTY_ROOT, merkle_root
from ledger_core.records.votes import VoteBundle
from ledger_core.rules.finality import SignatureCheck, vote_message_parts, votes_in


class PreparedBlock:
    """A block whose form is right, with what is left to verify."""

    __slots__ = (
        "block",
        "bundles",
        "checks",
        "hash",
        "header",
        "records",
        "used_nodes",
        "verified",
        "voters",
    )

    def __init__(
        self, block: Block, header: Header, records: list[Record], bundles: tuple[VoteBundle, ...]
    ) -> None:
        self.block = block
        self.header = header
        self.hash = header_hash(block.header)
        self.records = records
        self.bundles = bundles
        self.checks: list[SignatureCheck] = []
        """Signatures to verify: the miner's and the records', then those of the votes."""
        self.voters: list[int] = []
        """Member indexes of the votes, in the order of their checks."""
        self.used_nodes: dict[int, bytes] = {}
        """The node keys that the votes' checks were made with, by member index."""
        self.verified = False

    def failed(self, check: SignatureCheck) -> None:
        """Take note of a check that failed.

        Raises RuleError `signature_invalid` unless it is a vote's: the node's key may be another one on the
        block's branch, so that vote is left to be verified with the state's key when the block is applied.
        """
        vote = self.checks.index(check) - (len(self.checks) - len(self.voters))
        if vote < 0:
            raise invalid_signature(check[0])
        self.used_nodes.pop(self.voters[vote], None)


def envelope_size(envelope: Envelope) -> int:
    """Return an envelope's size for the limits: its body and all signatures."""
    return len(envelope.body) + SIGNATURE_LENGTH + 96 * len(envelope.cosignatures)


def require_record_size(envelope: Envelope, limit: int) -> None:
    """Raise RuleError `record_too_large` above the community's limit."""
    size = envelope_size(envelope)
    if size > limit:
        raise RuleError(
            "record_too_large",
            f"the record has {size} bytes; at most {limit} are allowed",
            size=size,
            limit=limit,
        )


def prepare_block(
    block: Block, genesis: Genesis, chain_id: bytes, nodes: Mapping[int, bytes]
) -> PreparedBlock:
    """Decode a block and check its form.

    `nodes` are node keys by member index as far as known; a vote of any other node is verified when the block
    is applied. Raises RecordError as the decoders do, and RuleError `block_too_large`, `record_too_large`,
    `count_wrong`, `merkle_root_wrong`, `record_duplicate`.
    """
    parameters = genesis.parameters
    if len(block.body) > parameters.block_max_bytes:
        raise RuleError(
            "block_too_large",
            f"the block's body has {len(block.body)} bytes; at most {parameters.block_max_bytes} are allowed",
            size=len(block.body),
            limit=parameters.block_max_bytes,
        )
    header = decode_header(block.header)
    body = decode_block_body(block.body)
    prefix = record_prefix(chain_id)
    records = []
    limit = parameters.record_max_bytes
    for envelope in body.records:
        if envelope.cosignatures or len(envelope.body) + SIGNATURE_LENGTH > limit:
            require_record_size(envelope, limit)
        records.append(open_envelope(envelope, prefix))
    count = len(records) + len(body.votes)
    if header.count != count:
        raise RuleError(
            "count_wrong", f"the header counts {header.count} items, the body has {count}", count=header.count
        )
    root = merkle_root(body_leaves(records, body.votes)) if count else EMPTY_ROOT
    if root != header.merkle_root:
        raise RuleError("merkle_root_wrong", "the header's Merkle root is not that of the body")
    if len(records) > 1 and len({record.id for record in records}) != len(records):
        raise RuleError("record_duplicate", "the block holds a record twice")
    prepared = PreparedBlock(block, header, records, body.votes)
    prepared.checks.append((header.miner, miner_message(prepared.hash), block.signature))
    for record in records:
        if record.envelope.cosignatures:
            prepared.checks += record_checks(record, prefix)
        else:
            envelope = record.envelope
            prepared.checks.append((record.body.author, prefix + envelope.body, envelope.signature))
    for bundle in body.votes:
        add_vote_checks(prepared, bundle, nodes, prefix)
    return prepared


def record_checks(record: Record, prefix: bytes) -> list[SignatureCheck]:
    """Return the signatures of a record that must be valid."""
    envelope = record.envelope
    message = prefix + envelope.body
    checks: list[SignatureCheck] = [(record.body.author, message, envelope.signature)]
    if envelope.cosignatures:
        checks += [(co.key, message, co.signature) for co in envelope.cosignatures]
    return checks


def add_vote_checks(
    prepared: PreparedBlock, bundle: VoteBundle, nodes: Mapping[int, bytes], prefix: bytes
) -> None:
    """Add the signatures of a bundle's votes whose nodes are known."""
    before, after = vote_message_parts(bundle, prefix)
    used, voters, checks = prepared.used_nodes, prepared.voters, prepared.checks
    for index, signature in votes_in(bundle):
        node = nodes.get(index)
        if node is not None:
            used[index] = node
            voters.append(index)
            checks.append((node, before + node + after, signature))


def failing_checks(checks: Sequence[SignatureCheck]) -> list[SignatureCheck]:
    """Verify signatures one after the other and return those that are not valid."""
    return [check for check in checks if not verify(*check)]


def invalid_signature(key: bytes) -> RuleError:
    """Return the refusal of a signature that does not verify."""
    return RuleError("signature_invalid", "a signature is not valid", key=key)
