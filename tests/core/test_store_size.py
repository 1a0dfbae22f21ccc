"""How much room a street's chain takes: hardly more than the signatures, which nothing can make smaller."""

import sqlite3
from contextlib import closing
from pathlib import Path

from ledger_core.chain.chain import Chain
from ledger_core.chain.store.opening import open_store
from ledger_core.records.block import decode_block_body
from ledger_core.synthetic import Config, SyntheticChain
from tests.core.chains import LATER, database, verifier

HOURS = 10


def test_a_synthetic_street_takes_little_more_than_its_signatures(tmp_path: Path) -> None:
    synthetic = SyntheticChain(Config(homes=16, duration_s=HOURS * 3600, seed=5))
    blocks = [made.block for made in synthetic.blocks()]
    with open_store(tmp_path, synthetic.genesis) as store, verifier() as checker:
        store.set_durable(durable=False)
        chain = Chain.open(store, checker)
        chain.add_blocks(blocks, LATER)
        final = chain.final_height
        assert final > 30 * 4 * (HOURS - 1)
        archived = [block for height in range(1, final + 1) if (block := store.block_at(height))]
        assert len(archived) == final
        assert chain.state.hash() == synthetic.state.hash()
        store.checkpoint()
        usage = store.usage()
    raw = random_bytes = 0
    for block in archived:
        body = decode_block_body(block.body)
        raw += len(block.header) + len(block.signature) + len(block.body)
        votes = sum(len(bundle.votes) // 66 for bundle in body.votes)
        signatures = sum(1 + len(envelope.cosignatures) for envelope in body.records)
        # A record has a random nonce of 8 bytes as well.
        random_bytes += 64 * (1 + votes + signatures) + 8 * len(body.records)
    with closing(sqlite3.connect(database(tmp_path))) as connection:
        count, packed = connection.execute("SELECT count(*), sum(length(data)) FROM segments").fetchone()
        snapshots = connection.execute("SELECT sum(length(data)) FROM snapshots").fetchone()[0]
    assert packed < raw * 0.6
    per_segment = (packed - random_bytes) / count
    # 32 bytes are the state hash, about 60 the nonces of 30 blocks.
    assert per_segment < 750
    # What SQLite's pages add, and what does not grow: keys, dictionary, blocks that are not final yet.
    assert usage.database - usage.free < (packed + snapshots) * 1.15 + 100_000
