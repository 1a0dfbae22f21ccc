"""Blocks to mine: on the tip, from what waits; and back from the miner with a nonce."""

from msgspec.structs import replace

from ledger_core.errors import RuleError
from ledger_core.keys import Signer
from ledger_core.node.engine.bounded import RecentMap
from ledger_core.node.engine.hub import Hub
from ledger_core.node.engine.mempool import Mempool
from ledger_core.node.engine.vote_book import VoteBook
from ledger_core.records.block import Block, Header
from ledger_core.rules.assemble import Template, assemble, seal

KEPT_TEMPLATES = 8
CHECKPOINT_BYTES = 4096
"""Room in a block that is not offered to records: for the votes' links."""


class Templates:
    """The latest templates of one miner key."""

    def __init__(self, hub: Hub, signer: Signer, pool: Mempool, book: VoteBook) -> None:
        self._hub = hub
        self._signer = signer
        self._pool = pool
        self._book = book
        self._made: RecentMap[Template] = RecentMap(KEPT_TEMPLATES)

    def make(self, now: float) -> Template:
        """Return the next block without its work."""
        state = self._hub.chain.state
        bundles = self._book.pending(state)
        votes = sum(len(bundle.votes) for bundle in bundles)
        room = state.parameters.block_max_bytes - votes - CHECKPOINT_BYTES
        template = assemble(state, self._pool.candidates(room), bundles, self._signer.public_key, int(now))
        self._made.put(_without_nonce(template.header), template)
        return template

    def finish(self, header: Header) -> Block:
        """Return the block of a mined header.

        Raises RuleError `template_unknown`: it was made too long ago, or not here.
        """
        template = self._made.get(_without_nonce(header))
        if template is None:
            raise RuleError("template_unknown", "the mined header belongs to none of the latest templates")
        return seal(header, template.body, self._signer)


def _without_nonce(header: Header) -> bytes:
    return replace(header, nonce=0).encode()
