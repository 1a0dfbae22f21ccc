"""Records that wait for a block: each is taken by the rules on top of the tip and of those before it."""

from collections.abc import Container, Iterable, Iterator
from contextlib import suppress

from ledger_core.chain.chain import Chain
from ledger_core.errors import LedgerError, RuleError
from ledger_core.node.engine.settings import EngineSettings
from ledger_core.node.messages import SHORT_ID_BYTES
from ledger_core.records.codec import Record
from ledger_core.records.readings import Reading
from ledger_core.records.votes import Vote
from ledger_core.rules import deadlines
from ledger_core.rules.apply import HANDLERS, apply_record
from ledger_core.rules.context import Context
from ledger_core.rules.headers import median_time
from ledger_core.rules.prepare import envelope_size, require_record_size
from ledger_core.rules.state import State
from ledger_core.rules.table import Journal

OVERHEAD_BYTES = 400
"""What a waiting record takes in memory beside its bytes, about."""

SPARED = 16
"""Where own records need room, one part in so many of the pool is freed: each time costs a new view."""


class Mempool:
    """Waiting records in an order in which a block can hold them."""

    def __init__(self, chain: Chain, settings: EngineSettings, own: Container[bytes] = ()) -> None:
        """Begin with nothing waiting; `own` are the ids of this home's records, whose room nobody takes."""
        self._chain = chain
        self._settings = settings
        self._own = own
        self._records: dict[bytes, Record] = {}
        self._by_short: dict[bytes, bytes] = {}
        self._members: dict[bytes, tuple[int, int]] = {}
        """Records and bytes per member."""
        self._owners: dict[bytes, bytes] = {}
        """The member that each record counts for."""
        self._view: _View | None = None
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, record_id: bytes) -> bool:
        return record_id in self._records

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def get(self, record_id: bytes) -> Record | None:
        """Return a waiting record, or None."""
        return self._records.get(record_id)

    def by_short(self, short: bytes) -> Record | None:
        """Return the waiting record whose id begins so, or None."""
        record_id = self._by_short.get(short)
        return None if record_id is None else self._records[record_id]

    def use_chain(self, chain: Chain) -> None:
        """Go on with another chain object of the same community."""
        self._chain = chain
        self._view = None

    def check_room(self, record: Record, *, own: bool = False) -> None:
        """Check what costs little, before any signature is verified.

        Raises RuleError `record_too_large`, `record_duplicate`, `record_pooled`, `vote_not_bundled`,
        `pool_member_full`, `pool_full`. An own record may take the room of foreign ones.
        """
        settings = self._settings
        require_record_size(record.envelope, self._chain.genesis.parameters.record_max_bytes)
        if isinstance(record.body, Vote):
            raise RuleError("vote_not_bundled", "votes travel apart from records")
        if record.id in self._records:
            raise RuleError("record_pooled", "the record waits for its block already", record=record.id)
        if record.id in self._chain.state.seen:
            raise RuleError("record_duplicate", "the record is in the chain already", record=record.id)
        size = _size(record)
        is_full = self.bytes + size > settings.pool_bytes
        if own:
            if is_full and self._own_bytes() + size > settings.pool_bytes:
                raise self._full()
            return
        count, used = self._members.get(self._owner(record), (0, 0))
        if count >= settings.pool_member_records or used + size > settings.pool_member_bytes:
            raise RuleError(
                "pool_member_full",
                f"{count} records of that member wait already; try again after the next blocks",
                waiting=count,
                bytes=used,
            )
        if is_full:
            raise self._full()

    def add(self, record: Record, now: float, *, own: bool = False) -> None:
        """Take a record whose signatures were verified; raises the rule's refusal, or as `check_room`.

        Own ones may be more than there is room for, until `make_room`.
        """
        self.check_room(record, own=own)
        self._current(now).take(record, now)
        self._keep(record)

    def make_room(self) -> None:
        """Give up the newest foreign records that own ones left no room for."""
        if self.bytes <= self._settings.pool_bytes:
            return
        excess = self.bytes - self._settings.pool_bytes * (SPARED - 1) // SPARED
        given_up = []
        for record in reversed(self._records.values()):
            if excess <= 0:
                break
            if record.id not in self._own:
                given_up.append(record.id)
                excess -= _size(record)
        self.give_up(given_up)

    def give_up(self, record_ids: Iterable[bytes]) -> None:
        """Forget records that wait."""
        for record_id in record_ids:
            self._forget(record_id)
            # What stood on a forgotten one can't be told apart: the view is made anew when it is needed.
            self._view = None

    def tip_changed(self, included: Iterable[bytes], returned: Iterable[Record], now: float) -> None:
        """Follow the chain: forget what is in it, take back what fell out."""
        for record_id in included:
            self._forget(record_id)
        waiting = list(self._records.values())
        back = [record for record in returned if record.id not in self._records]
        self._view = None
        if waiting or back:
            self._clear()
            self._take_again((*back, *waiting), now)

    def expire(self, now: float) -> bool:
        """Forget what is too old for any block, and what stood on it; returns whether anything was."""
        limit = now - self._chain.genesis.parameters.record_max_age_s
        if not any(record.body.created < limit for record in self._records.values()):
            return False
        self.tip_changed((), (), now)
        return True

    def candidates(self, max_bytes: int) -> list[Record]:
        """Return the first records that fit into a block."""
        found, room = [], max_bytes
        for record in self._records.values():
            size = envelope_size(record.envelope)
            if size <= room:
                room -= size
                found.append(record)
            if room < 256:
                break
        return found

    def _current(self, now: float) -> _View:
        view = self._view
        if view is None or view.tip != self._chain.tip_hash:
            waiting = list(self._records.values())
            self._clear()
            view = self._take_again(waiting, now)
        return view

    def _take_again(self, records: Iterable[Record], now: float) -> _View:
        """Start at the tip with nothing waiting, and take records in order."""
        view = self._view = _View(self._chain.state, now)
        for record in records:
            if record.id in self._chain.state.seen or record.id in self._records:
                continue
            with suppress(LedgerError):  # An own one is tried again, and its author told.
                view.take(record, now)
                self._keep(record)
        return view

    def _owner(self, record: Record) -> bytes:
        """Return whose share of the pool a record uses: a meter's readings count for its owner."""
        if isinstance(record.body, Reading):
            asset = self._chain.state.assets.get(record.body.meter)
            if asset is not None:
                return asset.owner
        return record.body.author

    def _full(self) -> RuleError:
        return RuleError(
            "pool_full",
            f"{len(self._records)} records wait already; try again after the next blocks",
            waiting=len(self._records),
            bytes=self.bytes,
        )

    def _own_bytes(self) -> int:
        return sum(_size(record) for record in self._records.values() if record.id in self._own)

    def _keep(self, record: Record) -> None:
        owner, size = self._owner(record), _size(record)
        self._records[record.id] = record
        self._by_short[record.id[:SHORT_ID_BYTES]] = record.id
        self._owners[record.id] = owner
        count, used = self._members.get(owner, (0, 0))
        self._members[owner] = (count + 1, used + size)
        self.bytes += size

    def _forget(self, record_id: bytes) -> None:
        record = self._records.pop(record_id, None)
        if record is None:
            return
        short = record_id[:SHORT_ID_BYTES]
        if self._by_short.get(short) == record_id:
            del self._by_short[short]
        size, owner = _size(record), self._owners.pop(record_id)
        count, used = self._members.pop(owner)
        if count > 1:
            self._members[owner] = (count - 1, used - size)
        self.bytes -= size

    def _clear(self) -> None:
        self._records.clear()
        self._by_short.clear()
        self._owners.clear()
        self._members.clear()
        self.bytes = 0


class _View:
    """A copy of the state at the tip, with the waiting records applied."""

    def __init__(self, state: State, now: float) -> None:
        self.tip = state.tip.hash
        tip = state.tip
        time = max(int(now), median_time(tip.times) + 1)
        self._ctx = Context(state.copy(), Journal(), tip.height + 1, time)
        deadlines.handle_deadlines(self._ctx, HANDLERS)
        self._forget_history()

    def take(self, record: Record, now: float) -> None:
        """Apply a record on top; on a refusal all is as before."""
        ctx = self._ctx
        ctx.time = max(ctx.time, int(now))
        try:
            apply_record(ctx, record, [])
        except LedgerError:
            ctx.journal.revert()
            raise
        finally:
            self._forget_history()

    def _forget_history(self) -> None:
        """Nothing that was applied is ever taken back: the view is made anew."""
        self._ctx.events.clear()
        self._ctx.journal.changes.clear()


def _size(record: Record) -> int:
    return envelope_size(record.envelope) + OVERHEAD_BYTES
