"""Headers whose blocks are not in the chain yet: checked, weighed, bounded."""

from collections.abc import Sequence

from ledger_core.errors import RuleError
from ledger_core.node.engine.bounded import RecentSet
from ledger_core.node.engine.hub import Hub
from ledger_core.node.messages import SealedHeader
from ledger_core.records.block import Header, decode_header, header_hash, miner_message
from ledger_core.rules.difficulty import expand_target, work_of
from ledger_core.rules.headers import Parent, check_header, check_not_future, next_times

MAX_SOURCES = 8
INVALID_KEPT = 1024


class HeaderNode:
    """A header and its place in the tree."""

    __slots__ = ("hash", "header", "height", "previous", "sealed", "sources", "times", "work")

    def __init__(
        self, block_hash: bytes, sealed: SealedHeader, header: Header, times: Sequence[int], work: int
    ) -> None:
        self.hash = block_hash
        self.sealed = sealed
        self.header = header
        self.height = header.height
        self.previous = header.previous
        self.times = times
        self.work = work
        """Cumulative, on the scale of the chain's own blocks."""
        self.sources: dict[bytes, None] = {}
        """Peers that showed this header."""

    def add_source(self, peer: bytes) -> None:
        """Remember who has the block."""
        if len(self.sources) < MAX_SOURCES:
            self.sources[peer] = None


class HeaderTree:
    """Candidates above the chain's blocks, each connected to one of them through others.

    Bounded in number: beyond it the ones with the least work go first.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._capacity = hub.settings.header_window
        self._nodes: dict[bytes, HeaderNode] = {}
        self._best: HeaderNode | None = None
        self._invalid = RecentSet(INVALID_KEPT)

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def full(self) -> bool:
        """Whether no further headers should be fetched ahead."""
        return len(self._nodes) >= self._capacity

    def get(self, block_hash: bytes) -> HeaderNode | None:
        """Return a candidate, or None."""
        return self._nodes.get(block_hash)

    def knows(self, block_hash: bytes) -> bool:
        """Return whether a block is a candidate or in the chain's tree."""
        return block_hash in self._nodes or self._hub.chain.index.get(block_hash) is not None

    def add(self, sealed: SealedHeader, now: float) -> HeaderNode | None:
        """Check a header and add it; None for a block that the chain has.

        Raises RuleError `parent_unknown`, `parent_invalid`, `anchor_missed`, `signature_invalid`, and as the
        rules about headers do; `time_too_new` may be right later.
        """
        block_hash = header_hash(sealed.header)
        known = self._nodes.get(block_hash)
        if known is not None:
            return known
        entry = self._hub.chain.index.get(block_hash)
        header = decode_header(sealed.header)
        if block_hash in self._invalid or header.previous in self._invalid or (entry and entry.invalid):
            self._invalid.add(block_hash)
            raise RuleError(
                "parent_invalid", "the rules refused that block, or one below it", hash=block_hash
            )
        if entry is not None:
            return None
        parent, work = self._parent(header.previous)
        check_header(header, block_hash, parent, self._hub.chain.genesis)
        check_not_future(header, int(now))
        anchor = self._hub.settings.anchor
        if anchor is not None and header.height == anchor.height and block_hash != anchor.hash:
            raise RuleError("anchor_missed", "its branch is not the one that the invitation names")
        check = (header.miner, miner_message(block_hash), sealed.signature)
        if not self._hub.verifier.verify_signature(check):
            raise RuleError("signature_invalid", "the miner's signature is not valid", key=header.miner)
        target = expand_target(header.target)
        own_work = 0 if target is None else work_of(target)
        node = HeaderNode(block_hash, sealed, header, next_times(parent.times, header.time), work + own_work)
        self._nodes[block_hash] = node
        if self._best is not None and node.work > self._best.work:
            self._best = node
        if len(self._nodes) > self._capacity:
            self._shrink(node)
        return node

    def best(self) -> HeaderNode | None:
        """Return the candidate with the most work, the earlier seen on ties."""
        if self._best is None and self._nodes:
            self._best = max(self._nodes.values(), key=_work)
        return self._best

    def leaves(self) -> list[HeaderNode]:
        """Return the candidates on which no other stands, the most work first."""
        parents = {node.previous for node in self._nodes.values()}
        return sorted(
            (node for key, node in self._nodes.items() if key not in parents), key=_work, reverse=True
        )

    def mark_invalid(self, block_hash: bytes) -> list[HeaderNode]:
        """Remember that the rules refused a block; returns what stood on it and is forgotten."""
        self._invalid.add(block_hash)
        return self.remove_with_descendants(block_hash)

    def discard(self, block_hash: bytes) -> None:
        """Forget a candidate that the chain has now."""
        self._drop(block_hash)

    def path(self, node: HeaderNode) -> list[HeaderNode]:
        """Return the candidates from the chain's blocks up to one, lowest first."""
        found = []
        current: HeaderNode | None = node
        while current is not None:
            found.append(current)
            current = self._nodes.get(current.previous)
        return found[::-1]

    def remove_with_descendants(self, block_hash: bytes) -> list[HeaderNode]:
        """Forget a candidate and all above it; returns them."""
        gone = {block_hash}
        for node in sorted(self._nodes.values(), key=_height):
            if node.previous in gone:
                gone.add(node.hash)
        return [found for key in gone if (found := self._drop(key)) is not None]

    def prune(self) -> None:
        """Forget what the chain has by now, and what does not lead to its blocks (any more)."""
        index = self._hub.chain.index
        changed = True
        while changed:
            changed = False
            for node in [each for each in self._nodes.values() if each.previous not in self._nodes]:
                if index.get(node.hash) is not None:
                    self._drop(node.hash)
                    changed = True
                elif index.get(node.previous) is None:
                    self.remove_with_descendants(node.hash)

    def _drop(self, block_hash: bytes) -> HeaderNode | None:
        node = self._nodes.pop(block_hash, None)
        if node is not None and node is self._best:
            self._best = None
        return node

    def _parent(self, block_hash: bytes) -> tuple[Parent, int]:
        node = self._nodes.get(block_hash)
        if node is not None:
            return Parent(node.height, node.hash, node.times), node.work
        entry = self._hub.chain.index.get(block_hash)
        if entry is None:
            raise RuleError("parent_unknown", "the header's parent is not known", hash=block_hash)
        if entry.invalid:
            raise RuleError("parent_invalid", "the header stands on a refused block", hash=block_hash)
        return entry.as_parent, entry.work

    def _shrink(self, newest: HeaderNode) -> None:
        """Give up the leaf with the least work; the newest one if that is no better."""
        weakest = min(self.leaves(), key=lambda node: (node.work, node is not newest))
        self._drop(weakest.hash)


def _work(node: HeaderNode) -> int:
    return node.work


def _height(node: HeaderNode) -> int:
    return node.height
