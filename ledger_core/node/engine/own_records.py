"""Own records: submitted here, kept until they are final, reported when they can't be any more.

A record that the chain refuses is contested as long as the refusing block may be undone: it is kept and tried
again on every tip. It is lost once that block is final, or once the record is too old for any block.
"""

from collections.abc import Mapping, Sequence

from ledger_core.errors import ChainError, LedgerError
from ledger_core.node.engine.hub import Hub
from ledger_core.node.engine.mempool import Mempool
from ledger_core.node.engine.outbox import Outbox, require_room
from ledger_core.node.engine.outputs import RecordContested, RecordFinal, RecordLost
from ledger_core.node.engine.record_relay import RecordRelay
from ledger_core.records.block import decode_block_body, open_records
from ledger_core.records.codec import Envelope, Record, open_envelope, record_prefix
from ledger_core.rules.apply import refusal_of
from ledger_core.rules.headers import median_time
from ledger_core.rules.seen import BUCKET_S

PASSING = frozenset({"record_future"})
"""Refusals that time alone takes away."""

ENDED = frozenset({"record_expired"})
"""Refusals that no other branch can take away."""


class OwnRecords:
    """Watches the way of every record in the outbox."""

    def __init__(self, hub: Hub, pool: Mempool, relay: RecordRelay, outbox: Outbox) -> None:
        self._hub = hub
        self._pool = pool
        self._relay = relay
        self._outbox = outbox
        self._prefix = record_prefix(hub.chain.chain_id)
        self._waiting: dict[bytes, Record] = {}
        """Neither in the chain nor in the pool: refused so far, too early, or the chain is behind."""
        self._contested: dict[bytes, int] = {}
        """Those that the chain itself refuses: height from which on its active branch does."""
        self._in_chain: dict[bytes, int] = {}
        """Height up to which the chain must be final for each: of its block, or above it."""
        self._repeat_at = 0.0

    def get(self, record_id: bytes) -> Record | None:
        """Return an own record that is kept though it is neither in the chain nor in the pool, or None."""
        return self._waiting.get(record_id)

    def is_contested(self, record_id: bytes) -> bool:
        """Whether the chain refuses an own record, as long as that may be undone."""
        return record_id in self._contested

    def start(self, now: float) -> None:
        """Take up the records that an earlier process left."""
        for record_id, envelope in self._outbox.items():
            if record_id in self._hub.chain.state.seen:
                self._in_chain[record_id] = self._hub.chain.height
            else:
                self._waiting[record_id] = open_envelope(envelope, self._prefix)
        self.check(now, synced=False)

    def next_time(self) -> float | None:
        """Return when the records without a block are announced again."""
        return self._repeat_at if len(self._outbox) > len(self._in_chain) else None

    def submit(self, envelopes: Sequence[Envelope], now: float) -> list[bytes | LedgerError]:
        """Take records of this home; returns for each its id, or what refuses it.

        The same one again changes nothing. What is refused has the code of the rule, or RuleError
        `outbox_full`. Raises OSError where the disk fails: then none of them is taken.
        """
        results: list[bytes | LedgerError] = []
        kept: dict[bytes, Envelope] = {}
        pooled: list[Record] = []
        try:
            for envelope in envelopes:
                try:
                    results.append(self._take(envelope, kept, pooled, now))
                except ChainError:
                    raise
                except LedgerError as refusal:
                    results.append(refusal)
            if kept:
                self._outbox.add(kept)
        except ChainError, OSError:
            # Nobody was told of them yet, and whoever handed them in is told that they were not taken.
            self._pool.give_up([record.id for record in pooled])
            raise
        if kept:
            self._repeat_at = now + self._hub.settings.own_repeat_s
        for record in pooled:
            self._relay.pooled(record, now, own=True)
        self._pool.make_room()
        return results

    def _take(
        self, envelope: Envelope, kept: dict[bytes, Envelope], pooled: list[Record], now: float
    ) -> bytes:
        """Put a record into the pool, and note what is to be written and told of."""
        record = open_envelope(envelope, self._prefix)
        seen = self._hub.chain.state.seen
        if record.id in self._waiting or record.id in self._in_chain or record.id in seen:
            return record.id
        require_room(len(self._outbox) + len(kept), self._hub.settings.own_records)
        if record.id not in self._pool:
            self._pool.check_room(record, own=True)
            self._relay.verify(record)
            self._pool.add(record, now, own=True)
            pooled.append(record)
        kept[record.id] = envelope
        return record.id

    def reorganised(self, fork: int) -> None:
        """Blocks above a height were undone: what they did to own records is judged anew."""
        height = self._hub.chain.height
        for heights in (self._in_chain, self._contested):
            heights |= {record_id: height for record_id, known in heights.items() if known > fork}

    def check(self, now: float, *, synced: bool) -> None:
        """Follow the chain: which own records are in it, which are final, which can be tried again."""
        chain = self._hub.chain
        seen = chain.state.seen
        for record_id, envelope in self._outbox.items():
            if record_id in seen:
                self._in_chain.setdefault(record_id, chain.height)
                self._waiting.pop(record_id, None)
                self._contested.pop(record_id, None)
            elif record_id in self._in_chain:
                record = open_envelope(envelope, self._prefix)
                if not self._forgotten(record):
                    del self._in_chain[record_id]
                    self._waiting[record_id] = record
            elif record_id not in self._pool and record_id not in self._waiting:
                self._waiting[record_id] = open_envelope(envelope, self._prefix)
        for record in list(self._waiting.values()):
            if record.id in self._pool:
                del self._waiting[record.id]
            else:
                self._try(record, now, synced=synced)
        self._pool.make_room()
        final = {key: height for key, height in self._in_chain.items() if height <= chain.final_height}
        places = self._places(final)
        self._outbox.remove(final)
        for record_id in final:
            del self._in_chain[record_id]
            self._hub.notify(RecordFinal(record_id, places.get(record_id)))

    def _places(self, limits: Mapping[bytes, int]) -> dict[bytes, int]:
        """Return the heights of the blocks that hold records, of those that are here, each up to a limit.

        A limit is higher than the block where several blocks came at once, and after a restart.
        """
        found: dict[bytes, int] = {}
        sought: dict[int, set[bytes]] = {}
        for record_id, height in limits.items():
            sought.setdefault(height, set()).add(record_id)
        while sought:
            height = max(sought)
            wanted = sought.pop(height)
            block = self._hub.store.block_at(height)
            if block is None:
                # Nor are those below it: bodies are forgotten from the first on.
                break
            records = open_records(decode_block_body(block.body), self._prefix)
            held = wanted.intersection(record.id for record in records)
            found |= dict.fromkeys(held, height)
            if held != wanted:
                sought.setdefault(height - 1, set()).update(wanted - held)
        return found

    def tick(self, now: float) -> None:
        """Announce again what no block holds yet."""
        if now < self._repeat_at:
            return
        self._repeat_at = now + self._hub.settings.own_repeat_s
        ids = [record_id for record_id, _ in self._outbox.items() if record_id in self._pool]
        self._relay.repeat(ids)

    def _forgotten(self, record: Record) -> bool:
        """Return whether the chain no longer remembers ids of that age."""
        state = self._hub.chain.state
        limit = state.tip.deadline - state.parameters.record_max_age_s
        return record.body.created // BUCKET_S < limit // BUCKET_S

    def _try(self, record: Record, now: float, *, synced: bool) -> None:
        """Put a record into the pool, or find out whether it may still come into the chain."""
        try:
            self._pool.add(record, now, own=True)
        except LedgerError as refusal:
            if refusal.code in ENDED:
                self._lose(record, refusal)
            elif not synced or refusal.code in PASSING:
                self._contested.pop(record.id, None)
            else:
                self._contest(record, now)
        else:
            del self._waiting[record.id]
            self._contested.pop(record.id, None)
            self._relay.pooled(record, now, own=True)

    def _contest(self, record: Record, now: float) -> None:
        """See whether the chain refuses a record by itself, and whether that is final."""
        chain = self._hub.chain
        refusal = refusal_of(chain.state, record, max(int(now), median_time(chain.state.tip.times) + 1))
        known = self._contested.pop(record.id, None)
        if refusal is None:
            # Only another waiting record is in its way, and that one may never get a block.
            return
        since = chain.height if known is None else known
        if since <= chain.final_height:
            self._lose(record, refusal)
            return
        self._contested[record.id] = since
        if known is None:
            self._hub.notify(RecordContested(record.id, refusal.code, refusal.message, refusal.details))

    def _lose(self, record: Record, refusal: LedgerError) -> None:
        self._outbox.remove((record.id,))
        del self._waiting[record.id]
        self._contested.pop(record.id, None)
        self._hub.notify(RecordLost(record.id, refusal.code, refusal.message, refusal.details))
