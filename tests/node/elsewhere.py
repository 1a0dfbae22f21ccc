"""Blocks that another home's node finds, for tests whose own node has no peers."""

from collections.abc import Sequence
from random import Random

from ledger_core.node.engine.engine import Engine, NodeData
from ledger_core.node.engine.followed_chain import FollowedChain
from ledger_core.node.engine.outbox import MemoryOutbox
from ledger_core.node.engine.settings import EngineSettings
from ledger_core.node.engine.staging import MemoryStaging
from ledger_core.node.engine.vote_journal import MemoryVoteJournal
from ledger_core.records.block import Block
from ledger_core.records.codec import Envelope
from ledger_core.rules.assemble import search_nonce
from ledger_core.simulation.memory_store import MemoryStore
from tests.node.api_world import ApiWorld
from tests.node.virtual import VERIFIER


async def mine_elsewhere(
    node: ApiWorld, envelopes: Sequence[Envelope], *, blocks: int = 1, undone: int = 0
) -> None:
    """Have the second home's node find blocks with some records, and give them to this one.

    It does not know the newest `undone` blocks of this node's chain.
    """
    node.world.now += 30 * blocks

    def work(engine: Engine, now: float) -> None:
        chain, store = engine.chain, MemoryStore(node.world.genesis)
        other = FollowedChain.open(store, VERIFIER)
        for height in range(1, chain.height + 1 - undone):
            block = engine._hub.store.block_at(height)
            assert block is not None
            other.add_block(block, int(now))
        found = _find(other, store, node, envelopes, blocks)
        assert engine._intake.take([(block, None) for block in found], now) is None

    await node.thread.run(work)


def _find(
    chain: FollowedChain, store: MemoryStore, node: ApiWorld, envelopes: Sequence[Envelope], blocks: int
) -> list[Block]:
    signer = list(node.world.homes.values())[1].node
    data = NodeData(signer, MemoryVoteJournal(), MemoryOutbox(), MemoryStaging())
    start = float(node.world.now - 30 * blocks)
    settings = EngineSettings(start_grace_s=0)
    engine = Engine(chain, store, VERIFIER, data, settings, Random(2), start)
    engine._ready.met_peers = True
    for envelope in envelopes:
        engine.submit(envelope, start)
    found = []
    for number in range(1, blocks + 1):
        template = engine.template(start + 30 * number)
        assert template is not None
        header = search_nonce(template.header)
        assert header is not None
        block = store.block(engine.mined(header, start + 30 * number))
        assert block is not None
        found.append(block)
    return found
