"""Removing bodies that no start of the chain needs any more."""

import sqlite3
from typing import Final

from ledger_core.chain.model import ChainStore, SnapshotInfo
from ledger_core.chain.store.archive import Archive
from ledger_core.chain.store.head import Head, write_head
from ledger_core.chain.store.snapshots import KEPT_FINAL
from ledger_core.errors import ChainError, LedgerError
from ledger_core.records.block import decode_header, header_hash
from ledger_core.rules.state import State, load_snapshot

_SEGMENTS_AT_ONCE: Final = 50
"""Segments pruned in one transaction: keeps the write-ahead log small."""


def lowest_start(store: ChainStore) -> int:
    """Return the height of the older one of the two newest final states from which the chain can start.

    Raises ChainError `prune_refused` where there is none.
    """
    final = store.final()[0]
    good = [info.height for info in store.snapshots() if info.height <= final and proven(store, info)]
    if not good:
        raise ChainError(
            "prune_refused",
            "no bodies can be removed yet: the store keeps no good snapshot below the last final "
            "checkpoint, from which the chain could start without them",
            final=final,
        )
    return good[:KEPT_FINAL][-1]


def proven(store: ChainStore, info: SnapshotInfo) -> State | None:
    """Return the state of a snapshot if it is whole, and the checkpoint above it commits to its hash."""
    below, above = store.header_at(info.height), store.header_at(info.height + 1)
    if below is None or header_hash(below) != info.hash:
        return None
    if above is None or decode_header(above).state_hash != info.state_hash:
        return None
    try:
        state = load_snapshot(store.snapshot(info.hash))
    except LedgerError:
        return None
    return state if state.hash() == info.state_hash else None


def prune_some(connection: sqlite3.Connection, archive: Archive, head: Head, limit: int) -> int:
    """Remove the bodies of the next few segments that lie wholly at or below a height.

    Returns the height up to which bodies are gone.
    """
    done = head.pruned
    for _ in range(_SEGMENTS_AT_ONCE):
        if done >= limit:
            break
        segment = archive.segment_at(connection, done + 1)
        last = segment.first + len(segment.blocks) - 1
        if last > limit:
            break
        archive.prune(connection, segment)
        archive.forget(segment.first)
        done = last
    write_head(connection, Head(head.tip, head.final, done))
    return done
