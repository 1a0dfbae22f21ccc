"""Blocks into the chain, and what follows from it for everything else that the engine holds."""

from collections.abc import Callable, Sequence

from ledger_core.chain.pending import Outcome
from ledger_core.errors import ChainError, LedgerError
from ledger_core.node.engine.bounded import RecentMap
from ledger_core.node.engine.hub import Hub
from ledger_core.records.block import (
    Block,
    body_root,
    decode_block_body,
    decode_header,
    header_hash,
    open_records,
)
from ledger_core.records.codec import record_prefix

BULK_BLOCKS = 4
"""From so many blocks on, signatures are verified in threads ahead of the rules."""

RECENT_BLOCKS = 256


class Intake:
    """The one way of blocks into the chain."""

    def __init__(self, hub: Hub, settled: Callable[[Outcome, float], None]) -> None:
        self._hub = hub
        self._settled = settled
        self._recent: RecentMap[Block] = RecentMap(RECENT_BLOCKS, hub.settings.recent_block_bytes)
        self._prefix = record_prefix(hub.chain.chain_id)

    def take(self, run: Sequence[tuple[Block, bytes | None]], now: float) -> tuple[bytes, LedgerError] | None:
        """Add blocks that follow each other; returns the first one that was refused, and why.

        Raises ChainError where the store fails: nothing of the failed part is kept then.
        """
        chain = self._hub.chain
        hashes = [header_hash(block.header) for block, _ in run]
        for block_hash, (block, _) in zip(hashes, run, strict=True):
            self._recent.put(block_hash, block, len(block.body))
        done = 0
        try:
            while done < len(run):
                block = run[done][0]
                follows = decode_header(block.header).previous == chain.tip_hash
                if follows and len(run) - done >= BULK_BLOCKS:
                    chain.add_blocks([each for each, _ in run[done:]], int(now))
                    done = len(run)
                else:
                    chain.add_block(block, int(now))
                    done += 1
        except ChainError:
            raise
        except LedgerError as error:
            refused = self._first_refused(hashes, done)
            for block_hash in hashes[hashes.index(refused) :]:
                self._recent.pop(block_hash)
            return refused, error
        finally:
            for outcome in chain.take_outcomes():
                self._settled(outcome, now)
        return None

    def block(self, block_hash: bytes) -> Block | None:
        """Return a block taken lately, or one that the store finds by its hash."""
        return self._recent.get(block_hash) or self._hub.store.block(block_hash)

    def matches(self, block: Block) -> bool:
        """Return whether a body is the one that the header commits to."""
        try:
            body = decode_block_body(block.body)
            header = decode_header(block.header)
            records = open_records(body, self._prefix)
        except LedgerError:
            return False
        count = len(records) + len(body.votes)
        return header.count == count and body_root(records, body.votes) == header.merkle_root

    def _first_refused(self, hashes: Sequence[bytes], done: int) -> bytes:
        index = self._hub.chain.index
        for block_hash in hashes[done:]:
            entry = index.get(block_hash)
            if entry is None or entry.invalid:
                return block_hash
        return hashes[-1]
