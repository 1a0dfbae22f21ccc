"""Fork choice: the highest justified checkpoint, then the most work, then what was seen first.

What a branch has justified is known once it was applied. Until then it counts with what its votes might
justify at most, so that it is tried; trying it settles the matter.
"""

from ledger_core.chain.index import BlockIndex, Entry, Link

type Rank = tuple[int, int, int]
"""Justified height, cumulative work, minus the order of arrival: higher is better."""


def known_rank(entry: Entry) -> Rank | None:
    """Return the rank of a block that was applied once, or None."""
    if entry.justified is None:
        return None
    return entry.justified, entry.work, -entry.arrival


def hopeful_rank(entry: Entry, counting: int) -> Rank:
    """Return the highest rank that a block can turn out to have; `counting`: nodes that count today."""
    return hopeful_justified(entry, counting), entry.work, -entry.arrival


def hopeful_justified(entry: Entry, counting: int) -> int:
    """Return what a block justifies, or at most might justify.

    A link counts as soon as a third of today's nodes voted for it on the branch: nodes that left may have
    lowered the quorum there.
    """
    if entry.justified is not None:
        return entry.justified
    links: dict[Link, int] = {}
    best = 0
    for below in entry.chain_down():
        if below.justified is not None:
            best = max(best, below.justified)
            break
        for link, bits in below.links.items():
            links[link] = links.get(link, 0) | bits
    # Votes for a link may have begun below the block where the branches part.
    pending = below
    while pending.parent is not None:
        for link, bits in pending.links.items():
            if link in links:
                links[link] |= bits
        pending = pending.parent
    claimed = [target for (_, target), bits in links.items() if bits.bit_count() * 3 > counting]
    return max([best, *claimed])


def best_entry(index: BlockIndex, counting: int) -> Entry:
    """Return the valid block with the highest hopeful rank."""
    return max(
        (entry for entry in index if not entry.invalid), key=lambda entry: hopeful_rank(entry, counting)
    )
