"""What a node does now and then: tells how far a sync has come, tidies up after it, removes old bodies."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from ledger_core.chain.model import ChainStore
from ledger_core.chain.store.store import SqliteStore
from ledger_core.chain.verify import Verifier
from ledger_core.errors import ChainError
from ledger_core.node.chain_thread import ChainThread
from ledger_core.node.engine.engine import Engine, Progress
from ledger_core.node.engine.outputs import (
    BlockConnected,
    BranchParted,
    ClockDoubted,
    ClockTrusted,
    Equivocation,
    NodeEvent,
    RecordContested,
    RecordLost,
    SnapshotAdopted,
    VotingStopped,
)
from ledger_core.node.peers.text import short_key
from ledger_core.records.block import decode_header
from ledger_core.rules.events import CheckpointFinal

_LOGGER: Final = logging.getLogger(__name__)
_DAY_S: Final = 86_400
_FIRST_PRUNING_S: Final = 600.0
PRUNED_AT_ONCE: Final = 2000
"""Blocks per piece of work: others wait meanwhile."""
_RECORD: Final = "a record handed in here %s: %s: %s (%s)"
PROGRESS_EVERY_S: Final = 10.0
TIDY_EVERY_S: Final = 30.0
PACK_PAUSE_S: Final = 0.05
"""Between two pieces of packing, each of some milliseconds: records and blocks come first."""


def log_events(events: list[NodeEvent]) -> None:
    """Write to the log what the owner may have to act on."""
    for event in events:
        match event:
            case VotingStopped():
                _LOGGER.error("this node does not vote any more: %s", event.reason)
            case ClockDoubted():
                _LOGGER.warning("this node neither mines nor votes: %s", event.reason)
            case ClockTrusted():
                _LOGGER.info("the clock is right again")
            case Equivocation() | BranchParted():
                _log_split(event)
            case RecordContested():
                _LOGGER.info(
                    _RECORD, "does not fit for now", event.code, event.message, event.record.hex()[:16]
                )
            case RecordLost():
                _LOGGER.warning(
                    _RECORD, "became impossible", event.code, event.message, event.record.hex()[:16]
                )
            case SnapshotAdopted():
                _LOGGER.info("the chain begins at the proven snapshot at height %d", event.height)
            case BlockConnected():
                for each in event.events:
                    if isinstance(each, CheckpointFinal):
                        _LOGGER.debug("the block at height %d is final", each.height)


def _log_split(event: Equivocation | BranchParted) -> None:
    """Write what keeps a street from one chain."""
    if isinstance(event, Equivocation):
        _LOGGER.warning(
            "the node %s signed two votes that conflict, for heights %d and %d",
            short_key(event.node),
            event.first.target_height,
            event.second.target_height,
        )
        return
    _LOGGER.error(
        "to the node %s other blocks are final (up to height %d) than to this one (up to %d): the street has "
        "parted; see what to do then in the manual, Operating a community",
        short_key(event.node),
        event.final,
        event.own_final,
    )


async def tell_progress(thread: ChainThread, every_s: float = PROGRESS_EVERY_S) -> None:
    """Log how far the sync is while there is one, until cancelled."""
    told: str | None = None
    while True:
        await asyncio.sleep(every_s)
        progress = await thread.look(lambda engine, now: engine.progress(now))
        if not progress.synced:
            line = _sync_line(progress)
            if line != told:
                _LOGGER.info("syncing: %s", line)
            told = line
        elif told is not None:
            _LOGGER.info("synced: block %d", progress.height)
            told = None


def _sync_line(progress: Progress) -> str:
    top = max(progress.claimed, progress.target)
    match progress.phase:
        case "headers":
            return f"header {progress.target} of {top}"
        case "snapshot":
            return f"fetching a state, all {progress.target} headers are here"
        case _:
            return f"block {progress.height} of {top}"


async def tidy(
    thread: ChainThread,
    store: SqliteStore,
    verifier: Verifier,
    every_s: float = TIDY_EVERY_S,
    pause_s: float = PACK_PAUSE_S,
) -> None:
    """Once a sync is over, pack what it stored as it came and give back its memory, until cancelled."""
    while True:
        try:
            left = await thread.look(partial(_tidy_some, store, verifier))
        except ChainError as error:
            _LOGGER.warning("blocks stay unpacked for now: %s", error.message)
            left = False
        await asyncio.sleep(pause_s if left else every_s)


def _tidy_some(store: SqliteStore, verifier: Verifier, engine: Engine, _now: float) -> bool:
    """Do a part of it; returns whether there is more to do at once."""
    if not engine.synced:
        return False
    verifier.rest()
    return store.pack_some()


async def prune(thread: ChainThread, store: SqliteStore, days: int, clock: Callable[[], float]) -> None:
    """Remove bodies older than some days, once a day, until cancelled."""
    await asyncio.sleep(_FIRST_PRUNING_S)
    while True:
        await prune_once(thread, store, int(clock()) - days * _DAY_S)
        await asyncio.sleep(_DAY_S)


async def prune_once(thread: ChainThread, store: SqliteStore, moment: int) -> int:
    """Remove the bodies of blocks from before a time as far as that is safe; return how many."""
    before = await thread.look(lambda _engine, _now: first_since(store, moment))
    removed = 0
    while True:
        start = store.head().pruned
        limit = min(before, start + 1 + PRUNED_AT_ONCE)
        if limit <= start + 1:
            break
        try:
            reached = await thread.look(partial(_prune_below, store, limit))
        except ChainError as error:
            _LOGGER.info("old bodies stay for now: %s", error.message)
            break
        if reached == start:
            break
        removed += reached - start
    if removed:
        _LOGGER.info("%d old bodies removed", removed)
    return removed


def _prune_below(store: SqliteStore, limit: int, _engine: Engine, _now: float) -> int:
    return store.prune(limit)


def first_since(store: ChainStore, moment: int) -> int:
    """Return the height of the first block not older than a time, as far as block times ascend."""
    low, high = 1, store.tip()[0] + 1
    while low < high:
        middle = (low + high) // 2
        header = store.header_at(middle)
        if header is not None and decode_header(header).time < moment:
            low = middle + 1
        else:
            high = middle
    return low
