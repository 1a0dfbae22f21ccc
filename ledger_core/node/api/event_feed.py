"""Brings what the engine tells into the event log, without gaps and without telling anything twice.

The chain's own commit comes first, the log's after it. What a crash leaves between the two is found again at
the next start: blocks that the log tells of and the chain has left are told as `block_undone`, blocks that
the log does not know are applied again for their events.
"""

import logging
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from ledger_core.chain.model import ChainStore
from ledger_core.errors import LedgerError
from ledger_core.node.api.event_log import KEPT_BLOCKS, BlockStep, Entry, EventLog, EventLogError, follow
from ledger_core.node.api.plain import fields
from ledger_core.node.api.replay import replay_events
from ledger_core.node.engine.outputs import BlockConnected, BlockDisconnected, NodeEvent, SnapshotAdopted
from ledger_core.records.block import header_hash
from ledger_core.rules.events import Event

_LOGGER: Final = logging.getLogger(__name__)
_MAX_HELD: Final = 1000


class EventFeed:
    """The log's only writer; used in the thread that the engine runs in."""

    def __init__(self, log: EventLog, store: ChainStore, now: float) -> None:
        """Bring the log to where the chain stands."""
        self._log = log
        self._store = store
        self._blocks = log.blocks()
        self._held: deque[Entry] = deque(maxlen=_MAX_HELD)
        """Events of no block that the disk did not take yet."""
        self._behind = True
        self._catch_up(now)

    def take(self, events: Iterable[NodeEvent], now: float) -> None:
        """Write what the engine told; what the disk refuses is made up for at the next call."""
        told = list(events)
        if self._behind:
            self._hold(told, now)
            self._catch_up(now)
            return
        batch = _Batch(self._blocks, int(now))
        for event in told:
            batch.add(event)
        if not batch.fits:
            self._hold(told, now)
            self._catch_up(now)
            return
        if not self._write(batch.entries, batch.steps):
            self._hold(told, now)

    def _catch_up(self, now: float) -> None:
        """Compare the log with the chain, and write what is missing."""
        try:
            entries, steps = self._missing(int(now))
        except LedgerError as error:
            _LOGGER.warning("events can't be found again (%s): clients are told to read anew", error)
            entries, steps = self._resync(int(now))
        self._behind = not self._write([*entries, *self._held], steps)
        if not self._behind:
            self._held.clear()

    def _missing(self, now: int) -> tuple[list[Entry], list[BlockStep]]:
        tip_height, tip_hash = self._store.tip()
        if self._log.is_empty:
            return [_entry("log_started", tip_height, tip_hash, now)], [(tip_height, tip_hash)]
        batch = _Batch(self._blocks, now)
        while batch.top is not None and self._hash_at(batch.top[0]) != batch.top[1]:
            batch.add(BlockDisconnected(batch.top[1]))
        if batch.top is None:
            return self._resync(now)
        if batch.top[0] < tip_height:
            steps = replay_events(self._store, batch.top[0])
            if steps is None:
                return self._resync(now)
            for step in steps:
                batch.add(BlockConnected(step.hash, step.height, step.events))
        return batch.entries, batch.steps

    def _resync(self, now: int) -> tuple[list[Entry], list[BlockStep]]:
        """Tell that events are missing, and go on from the tip."""
        height, block_hash = self._store.tip()
        return [_entry("resync", height, block_hash, now)], [(0, None), (height, block_hash)]

    def _hash_at(self, height: int) -> bytes | None:
        if height == 0:
            return self._store.genesis.chain_id
        header = self._store.header_at(height)
        return None if header is None else header_hash(header)

    def _hold(self, events: Sequence[NodeEvent], now: float) -> None:
        self._behind = True
        for event in events:
            if not isinstance(event, BlockConnected | BlockDisconnected | SnapshotAdopted):
                self._held.append(_node_entry(event, int(now)))

    def _write(self, entries: Sequence[Entry], steps: Sequence[BlockStep]) -> bool:
        try:
            self._log.append(entries, steps)
        except EventLogError as error:
            _LOGGER.warning("%s", error)
            return False
        for step in steps:
            follow(self._blocks, step)
            if step[1] is not None:
                self._blocks.pop(step[0] - KEPT_BLOCKS, None)
        return True


class _Batch:
    """Events and steps of one write, following the branch as it changes."""

    def __init__(self, blocks: dict[int, bytes], now: int) -> None:
        self._blocks = blocks
        self._changed: dict[int, bytes | None] = {}
        self._height = next(reversed(blocks), None)
        self._now = now
        self.entries: list[Entry] = []
        self.steps: list[BlockStep] = []
        self.fits = True
        """Whether every block followed the one before; else the log and the chain must be compared."""

    @property
    def top(self) -> tuple[int, bytes] | None:
        """The block that the branch has come to; None below the oldest one known."""
        if self._height is None:
            return None
        found = self._changed.get(self._height, self._blocks.get(self._height))
        return None if found is None else (self._height, found)

    def add(self, event: NodeEvent) -> None:
        """Take an event of the engine."""
        match event:
            case BlockConnected():
                self._connect(event)
            case BlockDisconnected():
                self._disconnect(event)
            case SnapshotAdopted():
                self.entries.append(_entry("snapshot_adopted", event.height, event.hash, self._now))
                self._step((0, None))
                self._step((event.height, event.hash))
            case _:
                self.entries.append(_node_entry(event, self._now))

    def _connect(self, event: BlockConnected) -> None:
        self.fits = self.fits and self._height == event.height - 1
        self._step((event.height, event.hash))
        self.entries.append(_entry("block_connected", event.height, event.hash, self._now))
        block = event.hash.hex()
        self.entries += [
            Entry(_tag(each), event.height, block, self._now, fields(each)) for each in event.events
        ]

    def _disconnect(self, event: BlockDisconnected) -> None:
        top = self.top
        if top is None or top[1] != event.hash:
            self.fits = False
            return
        self.entries.append(_entry("block_undone", top[0], top[1], self._now))
        self._step((top[0], None))

    def _step(self, step: BlockStep) -> None:
        self.steps.append(step)
        height, block_hash = step
        self._changed[height] = block_hash
        self._height = height if block_hash is not None else max(height - 1, 0)


def _tag(event: Event | NodeEvent) -> str:
    return str(event.__struct_config__.tag)


def _entry(name: str, height: int, block_hash: bytes, now: int) -> Entry:
    return Entry(name, height, block_hash.hex(), now, {"height": height, "hash": block_hash.hex()})


def _node_entry(event: NodeEvent, now: int) -> Entry:
    return Entry(_tag(event), None, None, now, fields(event))
