"""Bodies for the best headers: from several peers at once, in order into the chain."""

from collections.abc import Sequence
from itertools import islice

from msgspec import Struct

from ledger_core.chain.fork_choice import hopeful_justified
from ledger_core.errors import LedgerError
from ledger_core.node.engine.bounded import RecentMap, RecentSet
from ledger_core.node.engine.compact import Partial
from ledger_core.node.engine.header_sync import HeaderSync
from ledger_core.node.engine.header_tree import HeaderNode, HeaderTree
from ledger_core.node.engine.hub import Hub, Peer
from ledger_core.node.engine.intake import Intake
from ledger_core.node.engine.mempool import Mempool
from ledger_core.node.engine.silence import Silence
from ledger_core.node.engine.vote_book import VoteBook
from ledger_core.node.messages import BlockRef, Bodies, Compact, GetBodies, GetCompact, Parts
from ledger_core.records.block import Block

UNASKED_POINTS = 20.0

APPLY_AT_ONCE = 512
"""Blocks handed to the chain together while many are to come: it stores them in one transaction, and those
that are final by its end go straight to the archive."""
APPLY_BYTES = 4 * 1024 * 1024
"""Bodies of so many bytes are not kept waiting for more: the work on them stays short."""
COMPACT_WITHIN = 2
"""Nearer to the tip than this, blocks come in their compact form: their records are known."""

PATIENCE = 0.1
"""The part of a request's time after which another branch is gone for beside one that is only claimed to be
better. Its bodies are taken all the same when they come."""

MAX_UNAVAILABLE = 256
SUPPLIER_FAULTS = frozenset(
    {
        "block_malformed",
        "block_not_canonical",
        "block_too_large",
        "cosignatures_unordered",
        "count_wrong",
        "merkle_root_wrong",
        "record_malformed",
        "record_not_canonical",
    }
)
"""Refusals of a body that is not the one its header commits to."""


class Request(Struct, eq=False):
    """Blocks asked of one peer."""

    peer: bytes
    hashes: list[bytes]
    asked: float
    deadline: float
    partial: Partial | None = None
    """The compact block that is being rebuilt."""


class BodySync:
    """Chooses the branch to go for, fetches its bodies, hands them to the chain."""

    def __init__(
        self, hub: Hub, tree: HeaderTree, headers: HeaderSync, intake: Intake, pool: Mempool, book: VoteBook
    ) -> None:
        self._hub = hub
        self._tree = tree
        self._headers = headers
        self._intake = intake
        self._pool = pool
        self._book = book
        self._path: list[HeaderNode] = []
        self._heights: dict[bytes, int] = {}
        """Of the blocks in the path."""
        self._requests: dict[bytes, list[Request]] = {}
        self._in_flight: set[bytes] = set()
        self._bodies: dict[bytes, tuple[Block, bytes]] = {}
        """Blocks that wait for those below them, and who sent them."""
        self._bytes = 0
        self._cannot: dict[bytes, RecentMap[float]] = {}
        """Per peer the blocks that it did not give, and until when it is not asked again."""
        self._unavailable: RecentMap[float] = RecentMap(MAX_UNAVAILABLE)
        self._whole = RecentSet(MAX_UNAVAILABLE)
        """Blocks whose compact form led nowhere."""
        self._planning = False
        self._silence = Silence(hub)

    @property
    def target_height(self) -> int:
        """Height that is gone for; that of the chain where nothing better is known."""
        return max(self._path[-1].height if self._path else 0, self._hub.chain.height)

    def peer_left(self, peer_id: bytes) -> None:
        """Ask others for what was asked of a peer."""
        for request in self._requests.pop(peer_id, ()):
            self._in_flight.difference_update(request.hashes)
        self._cannot.pop(peer_id, None)
        self._silence.peer_left(peer_id)

    def next_time(self) -> float | None:
        """Return when something is due."""
        return min(
            (request.deadline for requests in self._requests.values() for request in requests), default=None
        )

    def plan(self, now: float) -> None:
        """Choose, apply and ask, until nothing more can be done now."""
        if self._planning:
            return
        if not len(self._tree):
            self._set_path([])
            self._drop_strays()
            return
        self._planning = True
        try:
            while self._choose(now) and self._apply_ready(now):
                pass
        finally:
            self._planning = False
        while self._path and not self._ask(now):
            # Nobody gives the next block of this branch: go for another one meanwhile.
            self._unavailable.put(self._path[0].hash, now + self._hub.settings.unavailable_s)
            self._choose(now)

    def tick(self, now: float) -> None:
        """Take requests back that were not answered in time."""
        late = [
            request for requests in self._requests.values() for request in requests if request.deadline <= now
        ]
        for request in late:
            self._finish(request)
            for block_hash in request.hashes:
                self._cannot_give(request.peer, block_hash, now)
            self._silence.late(request.peer, request.asked, now)
        if late or self._path:
            self.plan(now)

    def heard(self, peer: Peer, now: float) -> None:
        """A peer says something; it may be banned for its silence before."""
        self._silence.heard(peer, now)

    def on_bodies(self, peer: Peer, message: Bodies, now: float) -> None:
        """Take bodies that were asked for."""
        request = self._request_for(peer.id, message.bodies[0].hash)
        if request is None:
            self._hub.blame(peer.id, UNASKED_POINTS, "bodies that nobody asked for", now)
            return
        self._finish(request)
        for given in message.bodies:
            if given.hash not in request.hashes:
                self._hub.blame(peer.id, UNASKED_POINTS, "bodies that nobody asked for", now)
                break
            node = self._tree.get(given.hash)
            if given.body is None:
                self._cannot_give(peer.id, given.hash, now)
            elif node is not None:
                self._keep(Block(node.sealed.header, node.sealed.signature, given.body), node.hash, peer.id)
        self.plan(now)

    def on_compact(self, peer: Peer, message: Compact, now: float) -> None:
        """Rebuild a block from what is here; ask for the rest."""
        request = self._request_for(peer.id, message.hash)
        node = self._tree.get(message.hash)
        if request is None or node is None:
            if request is None:
                self._hub.blame(peer.id, UNASKED_POINTS, "compact blocks that nobody asked for", now)
            else:
                self._finish(request)
            return
        partial = Partial(message, node.sealed)
        partial.fill_from(self._pool, self._book, self._hub.chain.state)
        if partial.complete():
            self._rebuilt(request, partial, now)
            return
        wanted = partial.missing(BlockRef(node.height, node.hash))
        if wanted is None or request.partial is not None:
            self._go_whole(request, now)
            return
        request.partial = partial
        self._hub.send(peer.id, wanted)

    def on_parts(self, peer: Peer, message: Parts, now: float) -> None:
        """Complete a compact block."""
        request = self._request_for(peer.id, message.hash)
        if request is None or request.partial is None:
            self._hub.blame(peer.id, UNASKED_POINTS, "parts of blocks that nobody asked for", now)
        elif request.partial.fill(message):
            self._rebuilt(request, request.partial, now)
        else:
            self._go_whole(request, now)

    # Choosing

    def _choose(self, now: float) -> bool:
        """Go for the best branch whose bodies may come; returns whether there is one."""
        found = self._find(now)
        if not found:
            self._set_path([])
        # Not sooner: a branch that was only looked at must not cost the bodies of the one that is gone for.
        self._drop_strays()
        return found

    def _find(self, now: float) -> bool:
        claimed = self._claimed()
        if claimed is not None and self._open(claimed, now) and not self._keeps_waiting(now):
            return True
        best = self._tree.best()
        if best is not None and best is not claimed and self._open(best, now):
            return True
        return any(self._better(leaf) and self._open(leaf, now) for leaf in self._tree.leaves())

    def _keeps_waiting(self, now: float) -> bool:
        """Whether the path's next block is long in coming: a mere claim must not hold up the rest."""
        first = self._path[0].hash
        patience = self._hub.settings.request_s * PATIENCE
        return any(
            first in request.hashes and now >= request.asked + patience
            for requests in self._requests.values()
            for request in requests
        )

    def _open(self, target: HeaderNode, now: float) -> bool:
        if not self._better(target) and target is not self._claimed():
            return False
        if not self._path or self._path[-1] is not target:
            self._set_path(self._tree.path(target))
        chain, held = self._hub.chain, 0
        while held < len(self._path) and (
            self._path[held].height <= chain.final_height
            or chain.index.get(self._path[held].hash) is not None
        ):
            held += 1
        if held:
            self._shorten_path(held)
        if not self._path or chain.index.get(self._path[0].previous) is None:
            # What the path stood on is gone: another branch became final meanwhile.
            self._tree.prune()
            return False
        return not (len(self._unavailable) and self._blocked(now))

    def _blocked(self, now: float) -> bool:
        """Return whether the path leads over a block that nobody gives."""
        for node in self._path:
            if (self._unavailable.get(node.hash) or 0) > now:
                peers = [self._hub.peers[key] for key in node.sources if key in self._hub.peers]
                if not any(self._can_give(peer, node, now) for peer in peers):
                    return True
                self._unavailable.pop(node.hash)
        return False

    def _better(self, node: HeaderNode) -> bool:
        tip = self._hub.chain.index.get(self._hub.chain.tip_hash)
        return tip is None or node.work > tip.work

    def _claimed(self) -> HeaderNode | None:
        """Return the candidate that a peer says has justified more than our branch."""
        justified = self._hub.chain.state.tip.justified
        best, found = (justified, 0), None
        for peer in self._hub.peers.values():
            if peer.justified > justified:
                node = self._tree.get(peer.tip.hash)
                if node is not None and (peer.justified, node.work) > best:
                    best, found = (peer.justified, node.work), node
        return found

    def _set_path(self, path: list[HeaderNode]) -> None:
        self._path = path
        self._heights = {node.hash: node.height for node in path}

    def _drop_strays(self) -> None:
        """Let bodies go that the path chosen has no use for."""
        if not self._path or len(self._bodies) > 2 * len(self._path):
            for block_hash in [key for key in self._bodies if key not in self._heights]:
                self._drop_body(block_hash)

    def _shorten_path(self, held: int) -> None:
        """Leave out the first blocks of the path: the chain has them."""
        for node in self._path[:held]:
            del self._heights[node.hash]
            if node.hash in self._bodies:
                self._drop_body(node.hash)
        del self._path[:held]

    def _place(self, block_hash: bytes) -> int:
        """Return a block's place in the path, which holds one block of each height; -1: it is not in it."""
        height = self._heights.get(block_hash)
        return -1 if height is None else height - self._path[0].height

    def check_claim(self, peer: Peer) -> None:
        """Ban a peer that claimed a justified checkpoint which its branch can't have."""
        chain = self._hub.chain
        if peer.justified <= chain.state.tip.justified:
            return
        entry = chain.index.get(peer.tip.hash)
        if entry is None or entry.invalid:
            return
        if hopeful_justified(entry) < peer.justified:
            reason = f"it claims that its branch justified the checkpoint {peer.justified}"
            self._hub.ban(peer.id, "claim_false", reason)

    # Applying

    def _ready(self) -> list[tuple[Block, bytes | None]]:
        """Return the bodies that follow the chain's; none while more of a long path are on their way."""
        run: list[tuple[Block, bytes | None]] = []
        size = 0
        for node in islice(self._path, APPLY_AT_ONCE):
            found = self._bodies.get(node.hash)
            if found is None:
                many_to_come = len(self._path) > APPLY_AT_ONCE and node.hash in self._in_flight
                return [] if many_to_come else run
            run.append(found)
            size += len(found[0].body)
            if size >= APPLY_BYTES:
                break
        return run

    def _apply_ready(self, now: float) -> bool:
        """Hand bodies to the chain; returns whether there were any."""
        run = self._ready()
        if not run:
            return False
        hashes = [node.hash for node in self._path[: len(run)]]
        for block_hash in hashes:
            self._drop_body(block_hash)
        failure = self._intake.take(run, now)
        if failure is not None:
            self._refused(hashes, run, failure)
        for peer in list(self._hub.peers.values()):
            self.check_claim(peer)
        return True

    def _refused(
        self,
        hashes: Sequence[bytes],
        run: Sequence[tuple[Block, bytes | None]],
        failure: tuple[bytes, LedgerError],
    ) -> None:
        block_hash, error = failure
        place = hashes.index(block_hash) if block_hash in hashes else 0
        supplier = run[place][1]
        for kept, (block, sender) in zip(hashes[place + 1 :], run[place + 1 :], strict=True):
            if sender is not None:
                self._keep(block, kept, sender)
        if error.code in SUPPLIER_FAULTS:
            self._whole.add(block_hash)
            if supplier is not None and supplier in self._hub.peers:
                self._hub.ban(
                    supplier, error.code, f"it gave a body that is not the block's: {error.message}"
                )
            return
        node = self._tree.get(block_hash)
        self._set_path([])
        if error.code == "below_final":
            self._tree.remove_with_descendants(block_hash)
            return
        sources = set() if node is None else set(node.sources)
        for gone in self._tree.mark_invalid(block_hash):
            sources.update(gone.sources)
        reason = f"it shows a block that the rules refuse: {error.message}"
        for peer_id in {*sources, supplier} - {None}:
            if peer_id is not None:
                self._hub.ban(peer_id, error.code, reason)

    # Asking

    def _ask(self, now: float) -> bool:
        """Ask for what is missing; returns False where nobody can give the next block."""
        peers = list(self._hub.peers.values())
        self._hub.random.shuffle(peers)
        first = self._path[0]
        coming = first.hash in self._in_flight or first.hash in self._bodies
        for peer in peers:
            reach = self._reach(peer)
            if self._bytes > self._hub.settings.bodies_ahead_bytes:
                # Too much waits for the next block already: nothing else is asked for.
                reach = min(reach, 1)
            coming = coming or (reach > 0 and self._can_give(peer, first, now))
            while self._may_ask(peer, first):
                batch = self._batch(peer, reach, now)
                if not batch:
                    break
                self._request(peer, batch, now)
        return coming

    def _may_ask(self, peer: Peer, first: HeaderNode) -> bool:
        """Return whether one more request may go to a peer; the one for the next block always may."""
        settings = self._hub.settings
        if len(self._requests.get(peer.id, ())) >= settings.requests_per_peer:
            return False
        wanted = first.hash not in self._in_flight and first.hash not in self._bodies
        return wanted or sum(map(len, self._requests.values())) < settings.requests_at_once

    def _reach(self, peer: Peer) -> int:
        """Return how many blocks of the path a peer has."""
        highest = max(self._place(self._headers.shown.get(peer.id, b"")), self._place(peer.tip.hash))
        for place in range(len(self._path[:APPLY_AT_ONCE]) - 1, highest, -1):
            if peer.id in self._path[place].sources:
                return place + 1
        return highest + 1

    def _can_give(self, peer: Peer, node: HeaderNode, now: float) -> bool:
        refused = self._cannot.get(peer.id)
        asked_in_vain = refused is not None and (refused.get(node.hash) or 0) > now
        return node.height >= peer.oldest_body and not asked_in_vain

    def _batch(self, peer: Peer, reach: int, now: float) -> list[HeaderNode]:
        batch: list[HeaderNode] = []
        for node in islice(self._path, reach):
            free = node.hash not in self._in_flight and node.hash not in self._bodies
            if free and self._can_give(peer, node, now):
                batch.append(node)
                if len(batch) == self._hub.settings.body_batch:
                    break
            elif batch:
                break
        return batch

    def _request(self, peer: Peer, batch: list[HeaderNode], now: float) -> None:
        refs = tuple(BlockRef(node.height, node.hash) for node in batch)
        hashes = [node.hash for node in batch]
        if len(self._path) <= COMPACT_WITHIN and batch[0].hash not in self._whole:
            refs, hashes = refs[:1], hashes[:1]
            self._hub.send(peer.id, GetCompact(refs[0]))
        else:
            self._hub.send(peer.id, GetBodies(refs))
        request = Request(peer.id, hashes, now, now + self._hub.settings.request_s)
        self._requests.setdefault(peer.id, []).append(request)
        self._in_flight.update(hashes)

    def _rebuilt(self, request: Request, partial: Partial, now: float) -> None:
        block = partial.block()
        if not self._intake.matches(block):
            # Two records with one short id, or an answer that is not the block's: the body tells.
            self._go_whole(request, now)
            return
        self._finish(request)
        self._keep(block, request.hashes[0], request.peer)
        self.plan(now)

    def _go_whole(self, request: Request, now: float) -> None:
        self._whole.add(request.hashes[0])
        self._finish(request)
        self.plan(now)

    def _request_for(self, peer_id: bytes, block_hash: bytes) -> Request | None:
        return next((each for each in self._requests.get(peer_id, ()) if block_hash in each.hashes), None)

    def _finish(self, request: Request) -> None:
        requests = self._requests.get(request.peer, [])
        if request in requests:
            requests.remove(request)
            self._in_flight.difference_update(request.hashes)
        if not requests:
            self._requests.pop(request.peer, None)

    def _keep(self, block: Block, block_hash: bytes, peer_id: bytes) -> None:
        if block_hash not in self._bodies:
            self._bodies[block_hash] = (block, peer_id)
            self._silence.answered(peer_id)
            self._bytes += len(block.body)

    def _drop_body(self, block_hash: bytes) -> None:
        self._bytes -= len(self._bodies.pop(block_hash)[0].body)

    def _cannot_give(self, peer_id: bytes, block_hash: bytes, now: float) -> None:
        if peer_id in self._hub.peers:
            refused = self._cannot.setdefault(peer_id, RecentMap(MAX_UNAVAILABLE))
            refused.put(block_hash, now + self._hub.settings.unavailable_s)
