"""Records between peers: ids are announced, what is new is fetched, what the rules take is passed on."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from ledger_core.errors import LedgerError, RecordError, RuleError
from ledger_core.node.engine.bounded import RecentMap, RecentSet
from ledger_core.node.engine.hub import Hub, Peer
from ledger_core.node.engine.mempool import Mempool
from ledger_core.node.engine.outputs import RecordPooled
from ledger_core.node.messages import MAX_IDS, MAX_PAYLOAD_BYTES, GetRecords, Inventory, Records
from ledger_core.records.codec import Envelope, Record, open_envelope, record_prefix
from ledger_core.rules.prepare import envelope_size, record_checks

MAX_ASKED = 20_000
MAX_ASKED_PER_PEER = 4 * MAX_IDS
MAX_FRESH = 20_000
REFUSED_KEPT = 20_000
ALTERNATIVES = 4
UNASKED_POINTS = 2.0
REFUSED_POINTS = 1.0
SILENT_POINTS = 0.5
OFFENCES = frozenset({"signature_invalid", "record_too_large", "vote_not_bundled"})
"""Refusals that do not depend on what the node knows: an honest peer never passes such a record on."""

PASSING = frozenset({"pool_full", "pool_member_full"})
"""Refusals that say nothing about the record."""


class Asked(Struct, eq=False):
    """A record under way."""

    peer: bytes
    until: float
    others: list[bytes]
    """Further peers that have it."""


class RecordRelay:
    """Takes records from peers and from here into the pool, and tells the peers of them."""

    def __init__(self, hub: Hub, pool: Mempool, synced: Callable[[], bool]) -> None:
        self._hub = hub
        self._pool = pool
        self._synced = synced
        self._prefix = record_prefix(hub.chain.chain_id)
        self._asked: OrderedDict[bytes, Asked] = OrderedDict()
        """What is under way, the oldest first."""
        self._per_peer: dict[bytes, int] = {}
        self._fresh: dict[bytes, None] = {}
        """Ids to be told of."""
        self._flushed_at = 0.0
        self._refused = RecentSet(REFUSED_KEPT)
        """Ids that the rules refused on this tip."""
        self._late: RecentMap[tuple[bytes, float]] = RecentMap(MAX_ASKED)
        """What did not come in time, of whom and when that was: it may still come."""
        settings = hub.settings
        self._retry: RecentMap[tuple[Record, float]] = RecentMap(settings.retry_records)
        """Records refused a moment ago, and until when they are tried again."""
        self._retry_at: float | None = None

    def next_time(self) -> float | None:
        """Return when something is due."""
        times = [self._flushed_at + self._hub.settings.announce_interval_s] if self._fresh else []
        if self._retry_at is not None:
            times.append(self._retry_at)
        if self._asked:
            # All wait equally long: the oldest is the first.
            times.append(next(iter(self._asked.values())).until)
        return min(times, default=None)

    def peer_joined(self, peer: Peer) -> None:
        """Tell a new peer of everything that waits."""
        ids = [record.id for record in self._pool]
        for start in range(0, len(ids), MAX_IDS):
            self._hub.send(peer.id, Inventory(tuple(ids[start : start + MAX_IDS])))
        peer.known_records.update(ids)

    def verify(self, record: Record) -> None:
        """Verify a record's signatures; raises RuleError `signature_invalid`."""
        for check in record_checks(record, self._prefix):
            if not self._hub.verifier.verify_signature(check):
                raise RuleError("signature_invalid", "a signature is not valid", key=check[0])

    def pooled(self, record: Record, now: float, *, own: bool) -> None:
        """Pass a record on that the pool took."""
        self.announce([record.id])
        self._hub.notify(RecordPooled(record.id, own))
        if len(self._retry) and self._retry_at is None:
            self._retry_at = now + self._hub.settings.retry_interval_s

    def announce(self, ids: Iterable[bytes]) -> None:
        """Tell the peers of records with the next flush."""
        for record_id in ids:
            if len(self._fresh) < MAX_FRESH:
                self._fresh[record_id] = None

    def repeat(self, ids: Sequence[bytes]) -> None:
        """Tell every peer again, also those that were told: a message may have been lost."""
        for start in range(0, len(ids), MAX_IDS):
            for peer_id in self._hub.peers:
                self._hub.send(peer_id, Inventory(tuple(ids[start : start + MAX_IDS])))

    def tip_changed(self, now: float) -> None:
        """What was refused on the last tip may be right on this one."""
        self._refused.clear()
        if len(self._retry):
            self._retry_at = now

    def on_inventory(self, peer: Peer, message: Inventory, now: float) -> None:
        """Ask for what is new; on a chain that is far behind nothing can be judged."""
        if not self._synced():
            return
        seen = self._hub.chain.state.seen
        wanted = []
        for record_id in message.ids:
            peer.known_records.add(record_id)
            if record_id in self._pool or record_id in seen or record_id in self._refused:
                continue
            if record_id in self._retry:
                continue
            asked = self._asked.get(record_id)
            if asked is not None:
                if len(asked.others) < ALTERNATIVES and peer.id != asked.peer:
                    asked.others.append(peer.id)
            elif self._may_ask(peer.id):
                self._ask(record_id, peer.id, [], now)
                wanted.append(record_id)
        if wanted:
            self._hub.send(peer.id, GetRecords(tuple(wanted)))

    def on_get(self, peer: Peer, message: GetRecords, now: float) -> None:
        """Give records that wait here; others are in the chain or gone."""
        chunk: list[Envelope] = []
        size = given = 0
        for record_id in message.ids:
            record = self._pool.get(record_id)
            if record is None:
                continue
            given += 1
            peer.known_records.add(record_id)
            room = envelope_size(record.envelope) + 16
            if size + room > MAX_PAYLOAD_BYTES:
                self._hub.send(peer.id, Records(tuple(chunk)))
                chunk, size = [], 0
            chunk.append(record.envelope)
            size += room
        if chunk:
            self._hub.send(peer.id, Records(tuple(chunk)))
        if not given:
            self._hub.blame(peer.id, SILENT_POINTS, "requests for records that are not there", now)

    def on_records(self, peer: Peer, message: Records, now: float) -> None:
        """Take records that were asked for."""
        for envelope in message.records:
            try:
                record = open_envelope(envelope, self._prefix)
            except RecordError as error:
                self._hub.ban(peer.id, error.code, f"it sends a record that is none: {error.message}")
                return
            asked = self._asked.get(record.id)
            if asked is not None and (asked.peer == peer.id or peer.id in asked.others):
                self._answered(record.id)
                self._try(record, now, peer)
            elif self._is_late(peer, record.id):
                # A busy node answers late: what it gives is as good as before.
                self._late.pop(record.id)
                self._try(record, now, peer)
            else:
                self._hub.blame(peer.id, UNASKED_POINTS, "records that nobody asked for", now)
            if peer.id not in self._hub.peers:
                return

    def heard(self, peer: Peer, sent: float, now: float) -> None:
        """A peer has answered what was sent at a time, and so has read whatever was asked of it before.

        What it did not give of that it does not have: it told of nothing. A peer that is merely busy has not
        come to this answer yet.
        """
        limit = sent + self._hub.settings.record_request_s
        for record_id in list(self._late):
            found = self._late.get(record_id)
            if found is None or found[0] != peer.id or found[1] >= limit:
                continue
            self._late.pop(record_id)
            if record_id not in self._pool and record_id not in self._hub.chain.state.seen:
                self._hub.blame(peer.id, SILENT_POINTS, "records told of and not given", now)

    def _is_late(self, peer: Peer, record_id: bytes) -> bool:
        found = self._late.get(record_id)
        return found is not None and found[0] == peer.id

    def flush(self, now: float) -> None:
        """Tell the peers of what is new since the last time."""
        if not self._fresh or now < self._flushed_at + self._hub.settings.announce_interval_s:
            return
        self._flushed_at = now
        fresh = [record_id for record_id in self._fresh if record_id in self._pool]
        self._fresh.clear()
        for peer in self._hub.peers.values():
            known = peer.known_records
            news = [record_id for record_id in fresh if record_id not in known]
            for start in range(0, len(news), MAX_IDS):
                self._hub.send(peer.id, Inventory(tuple(news[start : start + MAX_IDS])))
            known.update(news)

    def tick(self, now: float) -> None:
        """Ask elsewhere for what did not come; try again what was refused."""
        while self._asked:
            record_id, asked = next(iter(self._asked.items()))
            if asked.until > now:
                break
            self._answered(record_id)
            if record_id in self._pool or record_id in self._hub.chain.state.seen:
                # A block took it before it could be given: nobody kept anything back.
                continue
            self._late.put(record_id, (asked.peer, asked.until))
            others = [peer for peer in asked.others if peer in self._hub.peers]
            if others:
                self._ask(record_id, others[0], others[1:], now)
                self._hub.send(others[0], GetRecords((record_id,)))
        if self._retry_at is not None and self._retry_at <= now:
            self._retry_at = None
            self._try_again(now)

    def _try_again(self, now: float) -> None:
        for record_id in list(self._retry):
            found = self._retry.pop(record_id)
            if found is not None and found[1] > now:
                self._try(found[0], now, None, until=found[1])

    def _try(self, record: Record, now: float, peer: Peer | None, until: float | None = None) -> None:
        """Take a record into the pool, or find out whose fault it is that it can't be."""
        try:
            self._pool.check_room(record)
            self.verify(record)
            self._pool.add(record, now)
        except LedgerError as refusal:
            if refusal.code in ("record_pooled", "record_duplicate"):
                return
            if refusal.code in OFFENCES:
                if peer is not None:
                    self._hub.ban(
                        peer.id, refusal.code, f"it sends a record that never is right: {refusal.message}"
                    )
                return
            if refusal.code in PASSING:
                return
            if peer is not None and self._stands_here(peer):
                self._hub.blame(peer.id, REFUSED_POINTS, "records that the rules refuse", now)
            self._refused.add(record.id)
            self._retry.put(record.id, (record, until or now + self._hub.settings.retry_age_s))
            return
        self.pooled(record, now, own=False)

    def _stands_here(self, peer: Peer) -> bool:
        """Whether a peer's chain has the same tip, so that the rules say the same to it.

        On another branch what is refused here may be right: nodes that part and meet again pass it on.
        """
        tip = self._hub.chain.tip_hash
        return peer.tip.hash == tip or tip in peer.known_blocks

    def _may_ask(self, peer_id: bytes) -> bool:
        return len(self._asked) < MAX_ASKED and self._per_peer.get(peer_id, 0) < MAX_ASKED_PER_PEER

    def _ask(self, record_id: bytes, peer_id: bytes, others: list[bytes], now: float) -> None:
        self._asked[record_id] = Asked(peer_id, now + self._hub.settings.record_request_s, others)
        self._per_peer[peer_id] = self._per_peer.get(peer_id, 0) + 1

    def _answered(self, record_id: bytes) -> None:
        asked = self._asked.pop(record_id)
        left = self._per_peer.pop(asked.peer) - 1
        if left:
            self._per_peer[asked.peer] = left
