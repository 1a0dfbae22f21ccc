"""A past for a street of real nodes: blocks and votes mined at once, before any process runs."""

import shutil

from ledger_core.chain.store.files import DATABASE
from ledger_core.chain.store.opening import open_store
from ledger_core.node.engine.followed_chain import FollowedChain
from ledger_core.records.codec import encode_body, record_message
from ledger_core.records.votes import VOTE_NONCE, Vote
from ledger_core.rules.assemble import VoteSignature, assemble, bundle_votes, seal, search_nonce
from tests.core.chains import verifier
from tests.node.processes import Street


def grow(homes: Street, blocks: int) -> str:
    """Give every node the same chain of so many blocks, a second apart, final to near its tip.

    Returns the state hash of its last checkpoint. The genesis must lie as far in the past.
    """
    first, *others = homes
    with open_store(first.node.directory, homes.genesis) as store:
        chain = FollowedChain.open(store, verifier())
        for number in range(blocks):
            state = chain.state
            now = homes.genesis.created + 1 + number
            bundles = bundle_votes(_votes(homes, chain), state.node_keys.get)
            miner = homes[number % len(homes)].node_signer
            template = assemble(state, (), bundles, miner.public_key, now)
            header = search_nonce(template.header)
            assert header is not None
            chain.add_block(seal(header, template.body, miner), now)
        interval = homes.genesis.parameters.checkpoint_interval
        assert chain.final_height >= blocks - 3 * interval
        header_bytes = store.header_at(blocks // interval * interval)
        assert header_bytes is not None
    for other in others:
        shutil.copy(first.node.directory / DATABASE, other.node.directory / DATABASE)
    from ledger_core.records.block import decode_header

    return decode_header(header_bytes).state_hash.hex()


def _votes(homes: Street, chain: FollowedChain) -> list[VoteSignature]:
    """Everybody's vote for the last checkpoint, if it is not justified yet."""
    state = chain.state
    target = max(height for height in state.checkpoints if height <= state.tip.height)
    if state.checkpoints[target].justified:
        return []
    source = state.tip.justified
    votes = []
    for home in homes:
        signer = home.node_signer
        vote = Vote(
            signer.public_key,
            state.checkpoints[target].time,
            VOTE_NONCE,
            source,
            state.checkpoints[source].hash,
            target,
            state.checkpoints[target].hash,
        )
        votes.append((vote, signer.sign(record_message(homes.genesis.chain_id, encode_body(vote)))))
    return votes
