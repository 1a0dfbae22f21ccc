"""Own records: submitted here, kept until they are final, reported when they can't be any more."""

from ledger_core.errors import LedgerError
from ledger_core.node.engine.hub import Hub
from ledger_core.node.engine.mempool import Mempool
from ledger_core.node.engine.outbox import Outbox, require_room
from ledger_core.node.engine.outputs import RecordFinal, RecordLost
from ledger_core.node.engine.record_relay import RecordRelay
from ledger_core.records.codec import Envelope, Record, open_envelope, record_prefix
from ledger_core.rules.seen import BUCKET_S

PASSING = frozenset({"record_future"})
"""Refusals that time alone takes away."""


class OwnRecords:
    """Watches the way of every record in the outbox."""

    def __init__(self, hub: Hub, pool: Mempool, relay: RecordRelay, outbox: Outbox) -> None:
        self._hub = hub
        self._pool = pool
        self._relay = relay
        self._outbox = outbox
        self._prefix = record_prefix(hub.chain.chain_id)
        self._waiting: dict[bytes, Record] = {}
        """Neither in the chain nor in the pool: the chain is behind, or they come too early."""
        self._in_chain: dict[bytes, int] = {}
        """Height up to which the chain must be final for each."""
        self._repeat_at = 0.0

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

    def submit(self, envelope: Envelope, now: float) -> bytes:
        """Take a record of this home; returns its id. The same one again changes nothing.

        Raises RecordError or RuleError with the code of whatever refuses it, RuleError `outbox_full`, and
        OSError where the disk does.
        """
        record = open_envelope(envelope, self._prefix)
        if record.id in self._waiting or record.id in self._in_chain:
            return record.id
        require_room(self._outbox, self._hub.settings.own_records)
        if record.id not in self._pool:
            self._pool.check_room(record, own=True)
            self._relay.verify(record)
            self._pool.add(record, now, own=True)
            self._relay.pooled(record, now, own=True)
        self._outbox.add(record.id, envelope)
        self._repeat_at = now + self._hub.settings.own_repeat_s
        return record.id

    def lost(self, records: list[tuple[Record, LedgerError]], *, synced: bool) -> None:
        """Look at what fell out of the pool."""
        kept = {record_id for record_id, _ in self._outbox.items()} if records else set()
        for record, refusal in records:
            if record.id in kept:
                self._refuse(record, refusal, synced=synced)

    def check(self, now: float, *, synced: bool) -> None:
        """Follow the chain: which own records are in it, which are final, which can be tried again."""
        chain = self._hub.chain
        seen = chain.state.seen
        for record_id, envelope in self._outbox.items():
            if record_id in seen:
                self._in_chain.setdefault(record_id, chain.height)
                self._waiting.pop(record_id, None)
            elif record_id in self._in_chain:
                record = open_envelope(envelope, self._prefix)
                if not self._forgotten(record):
                    del self._in_chain[record_id]
                    if record_id not in self._pool:
                        self._waiting[record_id] = record
        for record_id, record in list(self._waiting.items()):
            del self._waiting[record_id]
            try:
                self._pool.add(record, now, own=True)
            except LedgerError as refusal:
                self._refuse(record, refusal, synced=synced)
            else:
                self._relay.pooled(record, now, own=True)
        for record_id, height in list(self._in_chain.items()):
            if height <= chain.final_height:
                del self._in_chain[record_id]
                self._outbox.remove(record_id)
                self._hub.notify(RecordFinal(record_id, height))

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

    def _refuse(self, record: Record, refusal: LedgerError, *, synced: bool) -> None:
        if refusal.code == "record_pooled":
            return
        if not synced or refusal.code in PASSING:
            self._waiting[record.id] = record
            return
        self._outbox.remove(record.id)
        self._hub.notify(RecordLost(record.id, refusal.code, refusal.message, refusal.details))
