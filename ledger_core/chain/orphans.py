"""Blocks whose parent is not known yet, bounded in number and bytes."""

from collections import OrderedDict

from ledger_core.records.block import Block

MAX_ORPHANS = 256
MAX_ORPHAN_BYTES = 8 * 1024 * 1024


class OrphanPool:
    """Waiting blocks by the parent they wait for; the oldest are dropped first."""

    def __init__(self, max_blocks: int = MAX_ORPHANS, max_bytes: int = MAX_ORPHAN_BYTES) -> None:
        self._max_blocks = max_blocks
        self._max_bytes = max_bytes
        self._blocks: OrderedDict[bytes, tuple[bytes, Block]] = OrderedDict()
        """The oldest first. A dict would search its own gaps for it."""
        self._children: dict[bytes, list[bytes]] = {}
        self._bytes = 0

    def __contains__(self, block_hash: bytes) -> bool:
        return block_hash in self._blocks

    def __len__(self) -> int:
        return len(self._blocks)

    def waits_for(self, parent: bytes) -> bool:
        """Return whether a block waits for this parent."""
        return parent in self._children

    def add(self, block_hash: bytes, parent: bytes, block: Block) -> None:
        """Keep a block until its parent comes."""
        self._blocks[block_hash] = (parent, block)
        self._children.setdefault(parent, []).append(block_hash)
        self._bytes += len(block.body)
        while len(self._blocks) > self._max_blocks or self._bytes > self._max_bytes:
            self._remove(next(iter(self._blocks)))

    def take_children(self, parent: bytes) -> list[Block]:
        """Return the blocks that waited for a parent, oldest first, and forget them."""
        return [self._remove(block_hash) for block_hash in list(self._children.get(parent, ()))]

    def _remove(self, block_hash: bytes) -> Block:
        parent, block = self._blocks.pop(block_hash)
        self._bytes -= len(block.body)
        waiting = self._children[parent]
        waiting.remove(block_hash)
        if not waiting:
            del self._children[parent]
        return block
