"""What speaks for a snapshot: others' headers, its hash in a checkpoint's, who signed the blocks around it.

Headers alone do not tell who was a node at their height. Once the state is here, it does.
"""

from collections.abc import Iterable, Sequence

from ledger_core.chain.verify import Verifier
from ledger_core.community import Genesis
from ledger_core.errors import LedgerError, RuleError
from ledger_core.node.engine.staging import Staging, staged_hash, staged_parent
from ledger_core.node.messages import SealedHeader
from ledger_core.records.block import Block, decode_header, header_hash, miner_message
from ledger_core.rules.apply import apply_block
from ledger_core.rules.headers import check_header
from ledger_core.rules.prepare import prepare_block
from ledger_core.rules.state import State, load_snapshot


def compare(headers: Sequence[SealedHeader], staging: Staging, genesis: Genesis) -> tuple[int, bool]:
    """Return up to which height a peer's headers are the staged ones, and whether they differ above it.

    The height is -1 without headers. Raises RuleError `headers_unconnected`, and as `check_header` does for
    the first header that differs: a claim without work is none.
    """
    shared = -1
    for sealed in headers:
        header, block_hash = decode_header(sealed.header), header_hash(sealed.header)
        below = header.height - 1
        if below < 0 or staged_hash(staging, below, genesis.chain_id) != header.previous:
            raise RuleError("headers_unconnected", "it does not follow a header that was asked for")
        if staged_hash(staging, header.height, genesis.chain_id) != block_hash:
            check_header(header, block_hash, staged_parent(staging, below, genesis), genesis)
            return below, True
        shared = header.height
    return shared, False


def proven_state(data: bytes, state_hash: bytes) -> State | None:
    """Return the state in a snapshot if it is the one that a header names."""
    try:
        state = load_snapshot(data)
    except LedgerError, LookupError, ValueError, TypeError:
        return None
    return state if state.hash() == state_hash else None


def check_blocks(state: State, blocks: Sequence[Block], verifier: Verifier, now: int) -> None:
    """Check the blocks that end with the state's checkpoint: nodes of the state mined and signed them.

    The checkpoint itself is applied to the state. Raises LedgerError where the headers are a forgery.
    """
    miners = _miners(state)
    for block in blocks:
        _require_signed(block.header, block.signature, miners, verifier)
    checkpoint = blocks[-1]
    nodes = {index: node.key for index, node in state.nodes.items()}
    prepared = prepare_block(checkpoint, state.genesis, state.chain_id, nodes)
    verifier.verify(prepared)
    apply_block(state, prepared, now)


def burying(state: State, above: Iterable[SealedHeader], verifier: Verifier) -> int:
    """Return how many of the headers above a checkpoint nodes of its state mined.

    Others may be of nodes that joined since: they are passed over. Raises RuleError `signature_invalid`.
    """
    miners = _miners(state)
    count = 0
    for sealed in above:
        _require_signed(sealed.header, sealed.signature, None, verifier)
        count += decode_header(sealed.header).miner in miners
    return count


def _miners(state: State) -> set[bytes]:
    """Return the keys with which nodes of the state may have mined lately, those that left included."""
    named = {row.node for row in state.members.values() if row.node is not None}
    return {*named, *state.node_keys, *state.former_nodes}


def _require_signed(header: bytes, signature: bytes, miners: set[bytes] | None, verifier: Verifier) -> None:
    miner = decode_header(header).miner
    if miners is not None and miner not in miners:
        raise RuleError("miner_not_node", "the miner is not a node of the community", miner=miner)
    if not verifier.verify_signature((miner, miner_message(header_hash(header)), signature)):
        raise RuleError("signature_invalid", "the miner's signature is not valid", key=miner)
