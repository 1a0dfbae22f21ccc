"""Fork choice: the highest justified checkpoint, then the most work, then what was seen first.

What a branch has justified is known once it was applied. Until then it counts with what its votes might
justify at most, so that it is tried; trying it settles the matter. In whatever order blocks come, the tip is
the same, as long as no two final checkpoints contradict each other.
"""

from ledger_core.chain.index import BlockIndex, Entry, Link

type Rank = tuple[int, int, int]
"""Justified height, cumulative work, minus the order of arrival: higher is better."""


def hopeful_rank(entry: Entry) -> Rank:
    """Return the highest rank that a block can turn out to have."""
    return hopeful_justified(entry), entry.work, -entry.arrival


def hopeful_justified(entry: Entry) -> int:
    """Return what a block justifies, or at most might justify.

    A link takes the votes of more than half of the nodes that count (`rules.finality`). Their number is known
    after the last block that was applied; above it only departures make it smaller.
    """
    if entry.justified is not None:
        return entry.justified
    links: dict[Link, int] = {}
    departures = 0
    known = entry
    while known.justified is None and known.parent is not None:
        departures += known.departures
        for link, bits in known.links.items():
            links[link] = links.get(link, 0) | bits
        known = known.parent
    # Votes for a link may have begun below the block where the branches part.
    for below in known.chain_down():
        for link, bits in below.links.items():
            if link in links:
                links[link] |= bits
    counting = (known.counting or 0) - departures
    claimed = [target for (_, target), bits in links.items() if bits.bit_count() * 2 > counting]
    return max([known.justified or 0, *claimed])


def best_entry(index: BlockIndex) -> Entry:
    """Return the valid block with the highest hopeful rank."""
    return max((entry for entry in index if not entry.invalid), key=hopeful_rank)
