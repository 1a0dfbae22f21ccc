"""The block tree above the last final checkpoint."""

from collections.abc import Iterable, Iterator

from ledger_core.records.block import Header
from ledger_core.records.body import Body
from ledger_core.records.members import Member
from ledger_core.records.votes import Evidence, VoteBundle
from ledger_core.rules.difficulty import expand_target, work_of
from ledger_core.rules.finality import votes_in
from ledger_core.rules.headers import Parent, next_times

type Link = tuple[int, int]
"""Source and target height of votes."""


class Entry:
    """A block's place in the tree. The root stands for the last final block (or the genesis)."""

    __slots__ = (
        "arrival",
        "children",
        "counting",
        "departures",
        "hash",
        "height",
        "invalid",
        "justified",
        "links",
        "new_nodes",
        "parent",
        "times",
        "work",
    )

    def __init__(
        self,
        block_hash: bytes,
        height: int,
        parent: Entry | None,
        times: tuple[int, ...],
        work: int,
        arrival: int,
    ) -> None:
        self.hash = block_hash
        self.height = height
        self.parent = parent
        self.children: list[Entry] = []
        self.times = times
        self.work = work
        """Cumulative, from the root on."""
        self.arrival = arrival
        self.justified: int | None = None
        """Height of the highest justified checkpoint after the block; None until it was applied once."""
        self.counting: int | None = None
        """How many nodes count for the quorum after the block; None where that is not known."""
        self.links: dict[Link, int] = {}
        """The votes that the block carries: per link a bit for each member index."""
        self.new_nodes: frozenset[bytes] = frozenset()
        """Node keys that the block's member records name."""
        self.departures = 0
        """How many nodes the block's records take out of the quorum at most."""
        self.invalid = False

    def take_contents(self, bundles: Iterable[VoteBundle], bodies: Iterable[Body]) -> None:
        """Note what the fork choice must know of a block before it is applied."""
        self.links = links_of(bundles)
        named = set()
        for body in bodies:
            if isinstance(body, Member):
                self.departures += 1
                if body.node is not None:
                    named.add(body.node)
            elif isinstance(body, Evidence):
                self.departures += 1
        self.new_nodes = frozenset(named)

    def chain_down(self) -> Iterator[Entry]:
        """Yield this entry, its parent, and so on down to the root."""
        entry: Entry | None = self
        while entry is not None:
            yield entry
            entry = entry.parent

    @property
    def as_parent(self) -> Parent:
        """What a header on top must know."""
        return Parent(self.height, self.hash, self.times)


class BlockIndex:
    """Entries by hash, from the last final block up."""

    def __init__(self, root: Entry) -> None:
        self.root = root
        self._entries = {root.hash: root}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, block_hash: bytes) -> Entry | None:
        """Return the entry of a block, or None."""
        return self._entries.get(block_hash)

    def add(self, block_hash: bytes, header: Header, parent: Entry, arrival: int) -> Entry:
        """Add a block on top of its parent."""
        target = expand_target(header.target)
        if target is None:
            raise ValueError("the header's target was not checked")
        entry = Entry(
            block_hash,
            header.height,
            parent,
            next_times(parent.times, header.time),
            parent.work + work_of(target),
            arrival,
        )
        entry.invalid = parent.invalid
        parent.children.append(entry)
        self._entries[block_hash] = entry
        return entry

    def remove(self, entry: Entry) -> None:
        """Take a leaf out again."""
        if entry.children or entry.parent is None:
            raise ValueError("only a leaf can be removed")
        entry.parent.children.remove(entry)
        del self._entries[entry.hash]

    def mark_invalid(self, entry: Entry) -> list[Entry]:
        """Mark an entry and all above it; returns those that were not marked before."""
        marked = []
        stack = [entry]
        while stack:
            current = stack.pop()
            if not current.invalid:
                current.invalid = True
                marked.append(current)
            stack += current.children
        return marked

    def beside(self, final: Entry) -> list[Entry]:
        """Return the entries that neither lead to a final block nor stand on it."""
        path = {entry.hash for entry in final.chain_down()}
        above = {entry.hash for entry in _subtree(final)}
        return [entry for key, entry in self._entries.items() if key not in path and key not in above]

    def raise_root(self, final: Entry) -> None:
        """Make a final block the root and forget all but what stands on it."""
        self._entries = {entry.hash: entry for entry in _subtree(final)}
        final.parent = None
        self.root = final


def _subtree(root: Entry) -> Iterator[Entry]:
    stack = [root]
    while stack:
        current = stack.pop()
        yield current
        stack += current.children


def links_of(bundles: Iterable[VoteBundle]) -> dict[Link, int]:
    """Return the votes in a block's bundles as bits per link."""
    links: dict[Link, int] = {}
    for bundle in bundles:
        bits = 0
        for index, _ in votes_in(bundle):
            bits |= 1 << index
        key = (bundle.source_height, bundle.target_height)
        links[key] = links.get(key, 0) | bits
    return links
