"""The engine's one face: everything that a node's ledger does, for whoever drives it."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from msgspec import Struct

from ledger_core.chain.pending import Outcome
from ledger_core.chain.verify import Verifier
from ledger_core.community import FUTURE_LIMIT_S
from ledger_core.errors import LedgerError, RuleError
from ledger_core.keys import Signer
from ledger_core.node.engine.body_sync import BodySync
from ledger_core.node.engine.clock import ClockWatch
from ledger_core.node.engine.followed_chain import FollowedChain
from ledger_core.node.engine.fork_watch import ForkWatch
from ledger_core.node.engine.header_sync import HeaderSync
from ledger_core.node.engine.header_tree import HeaderTree
from ledger_core.node.engine.holds import Hold
from ledger_core.node.engine.hub import Hub, NodeStore, Peer
from ledger_core.node.engine.intake import Intake
from ledger_core.node.engine.mempool import Mempool
from ledger_core.node.engine.outbox import Outbox
from ledger_core.node.engine.outputs import BlockConnected, BlockDisconnected, Output
from ledger_core.node.engine.own_records import OwnRecords
from ledger_core.node.engine.readiness import Readiness
from ledger_core.node.engine.record_relay import RecordRelay
from ledger_core.node.engine.serving import Serving
from ledger_core.node.engine.settings import EngineSettings
from ledger_core.node.engine.snapshot_sync import SnapshotSync
from ledger_core.node.engine.staging import Staging
from ledger_core.node.engine.templates import Templates
from ledger_core.node.engine.vote_book import VoteBook
from ledger_core.node.engine.vote_journal import VoteJournal
from ledger_core.node.engine.vote_relay import VoteRelay
from ledger_core.node.engine.voter import Voter
from ledger_core.node.messages import (
    BlockRef,
    Bodies,
    Compact,
    GetBodies,
    GetCompact,
    GetHeaders,
    GetParts,
    GetRecords,
    GetSnapshotPart,
    GetSnapshots,
    GetVotes,
    Headers,
    Hello,
    Inventory,
    Message,
    NewBlock,
    Parts,
    Ping,
    Pong,
    Records,
    SealedHeader,
    Votes,
    VoteSummary,
)
from ledger_core.records.block import Block, Header, decode_block_body, decode_header, header_hash
from ledger_core.records.codec import Envelope, Record, open_envelope, record_prefix
from ledger_core.rules.assemble import Template
from ledger_core.rules.headers import median_time

type Handler = Callable[[Peer, Any, float], None]

ANNOUNCED_AT_ONCE = 3
UNEXPECTED_POINTS = 20.0
MAX_MISSED = 3


class Progress(Struct, frozen=True):
    """How far the node has come."""

    height: int
    target: int
    """Height of the best branch whose headers are here."""
    synced: bool
    mining_blocked: Hold | None
    """Why the node does not mine now."""
    voting_blocked: Hold | None
    parted: int = 0
    """Linked nodes to which other blocks are final."""
    phase: str | None = None
    """What is being fetched: headers, snapshot, blocks; None: the node is synced."""
    claimed: int = 0
    """Height of the highest block that a peer says it has."""


class NodeData(Struct, frozen=True):
    """What belongs to one data directory."""

    signer: Signer | None
    """The node's key; None: it neither mines nor votes."""
    journal: VoteJournal
    outbox: Outbox
    staging: Staging
    """Headers of a first sync, kept for a restart."""


class Engine:
    """A node's ledger without sockets and clock; see the package. Not safe for use by two threads at once."""

    def __init__(
        self,
        chain: FollowedChain,
        store: NodeStore,
        verifier: Verifier,
        data: NodeData,
        settings: EngineSettings,
        random: Random,
        now: float,
    ) -> None:
        signer = data.signer
        self._key = None if signer is None else signer.public_key
        self._hub = hub = Hub(chain, store, verifier, settings, random)
        self._prefix = record_prefix(chain.chain_id)
        self.pool = Mempool(chain, settings, data.outbox)
        self.clock = ClockWatch(hub)
        self._forks = ForkWatch(hub)
        self._book = VoteBook()
        self._relay = RecordRelay(hub, self.pool, lambda: self.synced)
        self.own = OwnRecords(hub, self.pool, self._relay, data.outbox)
        self.voter = Voter(hub, signer, data.journal, self._book)
        self._ready = Readiness(hub, self._key, self.clock, self.voter, lambda: self.synced, now)
        self._votes = VoteRelay(hub, self._book, self.voter.seen)
        self._tree = HeaderTree(hub)
        self._intake = Intake(hub, self._settled)
        self._headers = HeaderSync(hub, self._tree, self._plan)
        self._bodies = BodySync(hub, self._tree, self._headers, self._intake, self.pool, self._book)
        self._serving = Serving(hub, self._intake)
        self._snapshots = SnapshotSync(hub, self._intake, data.staging, self._adopted)
        self._templates = None if signer is None else Templates(hub, signer, self.pool, self._book)
        self._pings: dict[bytes, tuple[int, float, int]] = {}
        self._next_ping = now
        self._handle = self._handlers()
        self._start(now)

    # What the outside asks

    @property
    def chain(self) -> FollowedChain:
        """The chain; read it between two calls only."""
        return self._hub.chain

    @property
    def peers(self) -> dict[bytes, Peer]:
        """Connected peers by node key; not to be changed from outside."""
        return self._hub.peers

    def take_outputs(self) -> list[Output]:
        """Return what is to be done outside, in order."""
        outputs, self._hub.outputs = self._hub.outputs, []
        return outputs

    def hello(self, now: float) -> Hello:
        """Return the first message for a new connection."""
        return Hello(self._hub.status(now), self._hub.store.head().pruned + 1, self._hub.settings.software)

    def progress(self, now: float) -> Progress:
        """Return how far the node has come, and what it does not do."""
        claims = [peer.tip.height for peer in self.peers.values()]
        synced = self.synced and self._ready.has_chain
        return Progress(
            self.chain.height,
            max(self._bodies.target_height, self._snapshots.height),
            synced,
            self._ready.mining_blocked(now),
            self._ready.voting_blocked(now),
            self._forks.count,
            None if synced else self._snapshots.fetched or "blocks",
            max(claims, default=0),
        )

    @property
    def synced(self) -> bool:
        """Whether the chain stands at, or close to, the best branch that is known."""
        behind = self._bodies.target_height - self.chain.height
        return not self._snapshots.active and behind <= self._hub.settings.synced_within_blocks

    def next_tick(self) -> float:
        """Return when `tick` wants to be called, whatever else happens."""
        times = [
            self._relay.next_time(),
            self._votes.next_time(),
            self.voter.next_time(),
            self._headers.next_time(),
            self._headers.next_deferred(FUTURE_LIMIT_S),
            self._bodies.next_time(),
            self._snapshots.next_time(),
            self.own.next_time(),
            self._next_ping,
        ]
        return min(time for time in times if time is not None)

    # What happens outside

    def peer_joined(self, peer_id: bytes, hello: Hello, now: float) -> None:
        """A connection is ready; `hello` is the other side's first message."""
        self.peer_left(peer_id, now)
        peer = Peer(peer_id, hello, self._hub.settings.patience, now)
        self._hub.peers[peer_id] = peer
        self._ready.met_peers = True
        self.clock.check(now)
        self._relay.peer_joined(peer)
        self._votes.tell_all(peer)
        self._forks.look(peer)
        self._consider(peer, now)
        self._after(now)

    def peer_left(self, peer_id: bytes, now: float) -> None:
        """A connection ended."""
        self._hub.peers.pop(peer_id, None)
        self._forget(peer_id)
        self._plan(now)
        self._snapshots.tick(now)

    def message(self, peer_id: bytes, message: Message, now: float) -> None:
        """A peer said something. Raises ChainError where the store fails."""
        peer = self._hub.peers.get(peer_id)
        if peer is None:
            return
        self._bodies.heard(peer, now)
        if peer_id in self.peers and not self._snapshots.handles(peer, message, now):
            self._handle.get(type(message), self._unexpected)(peer, message, now)
        self._after(now)

    def submit(self, envelope: Envelope, now: float) -> bytes:
        """Take a record of this home; returns its id.

        Raises RecordError or RuleError with the code of what refuses it, OSError where the disk does.
        """
        (result,) = self.submit_all((envelope,), now)
        if isinstance(result, LedgerError):
            raise result
        return result

    def submit_all(self, envelopes: Sequence[Envelope], now: float) -> list[bytes | LedgerError]:
        """Take records of this home in one go; returns for each its id, or what refuses it.

        Raises OSError where the disk fails.
        """
        results = self.own.submit(envelopes, now)
        self._after(now)
        return results

    def tick(self, now: float) -> None:
        """Do what has become due."""
        self.clock.check(now)
        if self.pool.expire(now):
            self.own.check(now, synced=self.synced)
        self._snapshots.tick(now)
        self._headers.tick(now, FUTURE_LIMIT_S)
        self._bodies.tick(now)
        self._relay.tick(now)
        self.own.tick(now)
        self._ping(now)
        self._after(now)

    def template(self, now: float) -> Template | None:
        """Return the next block to mine; None while this node should not mine (see `progress`).

        Nor does it mine ahead of the clock: where blocks come faster than their times may follow, it waits.
        """
        if self._templates is None or self._ready.mining_blocked(now) is not None:
            return None
        if now < median_time(self.chain.state.tip.times) + 1:
            return None
        return self._templates.make(now)

    def mined(self, header: Header, now: float) -> bytes:
        """Take a template's header with a nonce that meets its target; returns the block's hash.

        Raises RuleError for a block that is not valid (any more).
        """
        if self._templates is None:
            raise RuleError("not_a_miner", "this node has no key to mine with")
        block = self._templates.finish(header)
        failure = self._intake.take([(block, None)], now)
        if failure is not None:
            raise failure[1]
        self._after(now)
        return header_hash(block.header)

    def resume_voting(self, now: float) -> None:
        """Vote again: the owner says that no other copy of this node runs."""
        self.voter.resume(now)

    def met_copy(self) -> None:
        """Vote no more: another process runs with this node's key."""
        self.voter.met_copy()

    # Inside

    def _start(self, now: float) -> None:
        self._absorb_open_blocks()
        self.voter.own_votes_known()
        self._votes.tip_changed()
        self.voter.tip_changed(now)
        self.own.start(now)
        self.clock.check(now)

    def _absorb_open_blocks(self) -> None:
        """Take the votes in the blocks above the last final one."""
        chain = self._hub.chain
        for height in range(chain.final_height + 1, chain.height + 1):
            block = self._hub.store.block_at(height)
            if block is not None:
                self._absorb(block)

    def _absorb(self, block: Block) -> None:
        for bundle in decode_block_body(block.body).votes:
            self._votes.absorb(bundle)

    def _handlers(self) -> dict[type[Message], Handler]:
        """Return what is done with each kind of message."""
        headers, bodies, serving = self._headers, self._bodies, self._serving
        relay, votes = self._relay, self._votes
        return {
            Inventory: relay.on_inventory,
            GetRecords: relay.on_get,
            Records: relay.on_records,
            NewBlock: self._new_block,
            GetHeaders: serving.headers,
            Headers: headers.on_headers,
            GetBodies: serving.bodies,
            Bodies: bodies.on_bodies,
            GetCompact: serving.compact,
            Compact: bodies.on_compact,
            GetParts: serving.parts,
            Parts: bodies.on_parts,
            VoteSummary: votes.on_summary,
            GetVotes: votes.on_get,
            Votes: votes.on_votes,
            Ping: self._pinged,
            Pong: self._pong,
            GetSnapshots: serving.snapshots,
            GetSnapshotPart: serving.snapshot_part,
        }

    def _unexpected(self, peer: Peer, message: Message, now: float) -> None:
        reason = f"{type(message).__name__} messages out of place"
        self._hub.blame(peer.id, UNEXPECTED_POINTS, reason, now)

    def _new_block(self, peer: Peer, message: NewBlock, now: float) -> None:
        if self._snapshots.active:
            header = message.sealed.header
            peer.tip = BlockRef(decode_header(header).height, header_hash(header))
            return
        self._headers.on_new_block(peer, message, now)
        self._bodies.check_claim(peer)

    def _pinged(self, peer: Peer, message: Ping, now: float) -> None:
        self._status(peer, message, now)
        self._hub.send(peer.id, Pong(message.token, self._hub.status(now)))

    def _plan(self, now: float) -> None:
        if not self._snapshots.active:
            self._bodies.plan(now)

    def _consider(self, peer: Peer, now: float) -> None:
        """See whether a peer has something better."""
        self._snapshots.consider(now)
        if not self._snapshots.active:
            self._headers.consider(peer, now)
            self._plan(now)

    def _adopted(self, now: float) -> None:
        """Go on from a snapshot, or without one."""
        self.pool.use_chain(self.chain)
        self._tree.prune()
        self._votes.tip_changed()
        self.voter.tip_changed(now)
        self.own.check(now, synced=False)
        for peer in list(self._hub.peers.values()):
            self._headers.consider(peer, now)
        self._plan(now)

    def _after(self, now: float) -> None:
        """Send what is due, and forget the peers that were dropped on the way."""
        if self.voter.due(now):
            self.voter.vote(self._votes, now, ready=self._ready.may_vote(now))
        self._relay.flush(now)
        self._votes.flush(now)
        dropped, self._hub.dropped = self._hub.dropped, []
        if dropped:
            for peer_id in dropped:
                self._forget(peer_id)
            self._plan(now)

    def _forget(self, peer_id: bytes) -> None:
        self._forks.peer_left(peer_id)
        self._headers.peer_left(peer_id)
        self._snapshots.peer_left(peer_id)
        self._bodies.peer_left(peer_id)
        self._pings.pop(peer_id, None)

    def _settled(self, outcome: Outcome, now: float) -> None:
        """Let everything follow the chain."""
        for block_hash in outcome.disconnected:
            self._hub.notify(BlockDisconnected(block_hash))
        for step in outcome.connected:
            self._hub.notify(BlockConnected(step.hash, step.height, step.events))
            self._tree.discard(step.hash)
        final = self.chain.state.tip.final
        for step in outcome.connected:
            block = self._intake.block(step.hash) if step.height > final else None
            if block is not None:
                self._absorb(block)
        returned = [
            record for block_hash in reversed(outcome.disconnected) for record in self._records(block_hash)
        ]
        self.pool.tip_changed((), returned, now)
        if outcome.disconnected:
            self.own.reorganised(outcome.connected[0].height - 1 if outcome.connected else self.chain.height)
        self.own.check(now, synced=self.synced)
        self._tree.prune()
        self._votes.tip_changed()
        self._relay.tip_changed(now)
        self.voter.tip_changed(now)
        self._headers.tip_changed(now)
        self._announce([step.hash for step in outcome.connected])

    def _records(self, block_hash: bytes) -> list[Record]:
        block = self._intake.block(block_hash)
        if block is None:
            return []
        return [open_envelope(envelope, self._prefix) for envelope in decode_block_body(block.body).records]

    def _announce(self, hashes: list[bytes]) -> None:
        """Tell the peers of new blocks, once this node is near the tip itself."""
        if not self.synced:
            return
        for block_hash in hashes[-ANNOUNCED_AT_ONCE:]:
            block, entry = self._intake.block(block_hash), self.chain.index.get(block_hash)
            if block is None or entry is None:
                continue
            sealed = SealedHeader(block.header, block.signature)
            message = NewBlock(sealed, entry.justified or 0, self.chain.final_height)
            for peer in self._hub.peers.values():
                if block_hash not in peer.known_blocks:
                    peer.known_blocks.add(block_hash)
                    self._hub.send(peer.id, message)

    def _ping(self, now: float) -> None:
        if now < self._next_ping:
            return
        interval = self._hub.settings.ping_interval_s
        self._next_ping = now + interval
        for peer in list(self._hub.peers.values()):
            token = self._hub.random.getrandbits(32)
            missed = self._pings[peer.id][2] + 1 if peer.id in self._pings else 0
            self._pings[peer.id] = (token, now, missed)
            if missed > MAX_MISSED:
                self._hub.disconnect(peer.id, "silent", f"it did not answer {missed} pings")
                continue
            self._hub.send(peer.id, Ping(token, self._hub.status(now)))
            self._votes.tell_all(peer)

    def _pong(self, peer: Peer, message: Pong, now: float) -> None:
        sent = self._pings.get(peer.id)
        if sent is None or sent[0] != message.token:
            self._hub.blame(peer.id, UNEXPECTED_POINTS, "pongs without a ping", now)
            return
        self._pings[peer.id] = (sent[0], sent[1], -1)
        self._relay.heard(peer, sent[1], now)
        self._status(peer, message, now)

    def _status(self, peer: Peer, message: Ping | Pong, now: float) -> None:
        peer.take_status(message.status, now)
        self._forks.look(peer)
        self.clock.check(now)
        self._consider(peer, now)
        self._bodies.check_claim(peer)
        self._plan(now)
