"""Headers first: what the peers' branches look like above ours, before any body is fetched."""

from collections.abc import Callable

from ledger_core.errors import RuleError
from ledger_core.node.engine.header_tree import HeaderNode, HeaderTree
from ledger_core.node.engine.hub import Hub, Peer
from ledger_core.node.messages import (
    MAX_HEADERS,
    MAX_LOCATOR,
    BlockRef,
    GetHeaders,
    Headers,
    NewBlock,
    SealedHeader,
)
from ledger_core.records.block import decode_header, header_hash

FIRST_HEADERS = 256
"""Asked for at first, so that bodies come soon; then ever more, made ready while the chain is busy."""
MAX_DEFERRED = 64
ASK_AGAIN_S = 60.0
"""A peer whose next block is from the future is asked again when that may be right, or after this time."""
UNASKED_POINTS = 20.0
UNSHOWN_POINTS = 60.0
FOREIGN_POINTS = 20.0
SILENT_POINTS = 40.0
HEIGHT_SLACK = 6
"""So many blocks a peer's branch may have lost between its claim and its headers."""


class HeaderSync:
    """Asks peers for headers and keeps the good ones in the tree."""

    def __init__(self, hub: Hub, tree: HeaderTree, changed: Callable[[float], None]) -> None:
        self._hub = hub
        self._tree = tree
        self._changed = changed
        self._asked: dict[bytes, tuple[float, int, int]] = {}
        """Per peer: until when an answer is waited for, the height it claimed, how many were asked for."""
        self._paused: set[bytes] = set()
        """Peers with more headers than the tree took."""
        self.shown: dict[bytes, bytes] = {}
        """The highest block that each peer showed to be on its branch."""
        self._deferred: dict[bytes, tuple[SealedHeader, bytes, int]] = {}
        self._ahead: dict[bytes, float] = {}
        """Peers whose next block is from the future by this node's clock: until when they are not asked."""

    def peer_left(self, peer_id: bytes) -> None:
        """Forget a peer."""
        self._asked.pop(peer_id, None)
        self._paused.discard(peer_id)
        self._ahead.pop(peer_id, None)
        self.shown.pop(peer_id, None)

    def next_time(self) -> float | None:
        """Return when something is due."""
        answers = (until for until, _, _ in self._asked.values())
        return min((*answers, *self._ahead.values()), default=None)

    def next_deferred(self, limit_s: int) -> float | None:
        """Return when the first block from the future may be right."""
        return min((time - limit_s for _, _, time in self._deferred.values()), default=None)

    def consider(self, peer: Peer, now: float) -> None:
        """Ask for headers where a peer tells of a tip that is not known here."""
        tip = peer.tip
        if self._tree.knows(tip.hash):
            self._show(peer.id, tip.hash)
            return
        chain = self._hub.chain
        if tip.height <= chain.final_height or tip.hash == peer.conflicting or tip.hash in self._deferred:
            return
        self._ask(peer, now)

    def on_new_block(self, peer: Peer, message: NewBlock, now: float) -> None:
        """Take the header of a block that a peer has just taken into its branch."""
        block_hash = header_hash(message.sealed.header)
        header = decode_header(message.sealed.header)
        peer.known_blocks.add(block_hash)
        peer.tip = BlockRef(header.height, block_hash)
        peer.justified, peer.final = message.justified, message.final
        if header.height <= self._hub.chain.final_height:
            return
        code = self._add(peer.id, message.sealed, now)
        if code == "parent_unknown":
            self.consider(peer, now)
        elif code is None:
            self._changed(now)

    def on_headers(self, peer: Peer, message: Headers, now: float) -> None:
        """Take headers that were asked for, and go on while there are more."""
        asked = self._asked.pop(peer.id, None)
        if asked is None:
            self._hub.blame(peer.id, UNASKED_POINTS, "headers that nobody asked for", now)
            return
        previous: bytes | None = None
        code: str | None = None
        for sealed in message.headers:
            header = decode_header(sealed.header)
            if previous is not None and header.previous != previous:
                self._hub.ban(peer.id, "headers_unconnected", "its headers do not follow each other")
                return
            code = self._add(peer.id, sealed, now)
            if code == "parent_unknown" and previous is None:
                self._below_final(peer, now)
                return
            if code is not None:
                break
            previous = header_hash(sealed.header)
        if peer.id not in self._hub.peers:
            return
        # Bodies first: the peer looks for further headers while this node is busy with them.
        self._changed(now)
        if code == "time_too_new":
            # The clock that is wrong may be this node's: nobody is blamed for what it does not take yet.
            self._ahead[peer.id] = now + ASK_AGAIN_S
            return
        more = code == "no_room" or len(message.headers) >= asked[2]
        self._go_on(peer, asked[1], now, more=more)

    def tip_changed(self, now: float) -> None:
        """Go on with the peers that had to wait, now that there is room."""
        if self._paused and not self._tree.full:
            for peer_id in sorted(self._paused):
                self._paused.discard(peer_id)
                peer = self._hub.peers.get(peer_id)
                if peer is not None:
                    self._ask(peer, now)

    def tick(self, now: float, limit_s: int) -> None:
        """Give up on late answers, and try blocks and branches again that came from the future."""
        for peer_id, (until, _, _) in list(self._asked.items()):
            if until <= now:
                del self._asked[peer_id]
                self._hub.blame(peer_id, SILENT_POINTS, "requests for headers without an answer", now)
        ripe = [key for key, (_, _, time) in self._deferred.items() if time <= now + limit_s]
        waiting = [peer_id for peer_id, until in self._ahead.items() if ripe or until <= now]
        for key in ripe:
            sealed, peer_id, _ = self._deferred.pop(key)
            if self._add(peer_id, sealed, now) is None:
                self._changed(now)
        for peer_id in waiting:
            self._ahead.pop(peer_id, None)
            peer = self._hub.peers.get(peer_id)
            if peer is not None:
                self.consider(peer, now)

    def _go_on(self, peer: Peer, claimed: int, now: float, *, more: bool) -> None:
        best = self._tree.get(self.shown.get(peer.id, b""))
        height = self._hub.chain.height if best is None else best.height
        if more and self._tree.full:
            self._paused.add(peer.id)
        elif more:
            self._ask(peer, now)
        elif claimed > height + HEIGHT_SLACK and not self._tree.knows(peer.tip.hash):
            reason = f"it claims height {claimed} and shows blocks up to {height}"
            self._hub.blame(peer.id, UNSHOWN_POINTS, reason, now)

    def _ask(self, peer: Peer, now: float) -> None:
        if peer.id in self._asked or peer.id in self._paused or peer.id in self._ahead:
            return
        best = self._tree.get(self.shown.get(peer.id, b""))
        locator = self._chain_locator() if best is None else self._locator_from(best)
        held = len(self._tree)
        wanted = min(max(2 * held, FIRST_HEADERS), MAX_HEADERS)
        limit = max(min(wanted, self._hub.settings.header_window - held), 1)
        self._asked[peer.id] = (now + self._hub.settings.request_s, peer.tip.height, limit)
        self._hub.send(peer.id, GetHeaders((*locator[: MAX_LOCATOR - 1], locator[-1]), limit))

    def _locator_from(self, best: HeaderNode) -> list[BlockRef]:
        """Return a header to go on from, and what is final for a peer that has left that branch."""
        chain = self._hub.chain
        final = [BlockRef(chain.index.root.height, chain.index.root.hash)] if chain.final_height else []
        return [BlockRef(best.height, best.hash), *final, BlockRef(0, chain.chain_id)]

    def _chain_locator(self) -> list[BlockRef]:
        """Return blocks of the active branch, ever further apart, down to the genesis."""
        chain = self._hub.chain
        heights, step = [], 1
        height = chain.height
        while height > 0:
            heights.append(height)
            if len(heights) >= 8:
                step *= 2
            height -= step
        heights.append(chain.final_height)
        refs = [BlockRef(at, self._hub.hash_at(at)) for at in sorted(set(heights) - {0}, reverse=True)]
        return [*refs, BlockRef(0, chain.chain_id)]

    def _add(self, peer_id: bytes, sealed: SealedHeader, now: float) -> str | None:
        """Add a header; returns why it was not added, having banned whoever showed a wrong one."""
        try:
            node = self._tree.add(sealed, now)
        except RuleError as refusal:
            if refusal.code == "time_too_new":
                self._defer(peer_id, sealed)
            elif refusal.code != "parent_unknown":
                self._hub.ban(peer_id, refusal.code, f"it shows a block that is not valid: {refusal.message}")
            return refusal.code
        if node is not None:
            if self._tree.get(node.hash) is None:
                return "no_room"
            node.add_source(peer_id)
        self._show(peer_id, header_hash(sealed.header))
        return None

    def _show(self, peer_id: bytes, block_hash: bytes) -> None:
        if peer_id in self._hub.peers:
            self.shown[peer_id] = block_hash
            self._ahead.pop(peer_id, None)

    def _defer(self, peer_id: bytes, sealed: SealedHeader) -> None:
        if len(self._deferred) < MAX_DEFERRED:
            time = decode_header(sealed.header).time
            self._deferred[header_hash(sealed.header)] = (sealed, peer_id, time)

    def _below_final(self, peer: Peer, now: float) -> None:
        """The peer's branch parts from ours below what is final here: there is no way to it."""
        peer.conflicting = peer.tip.hash
        reason = "headers of a branch that parts below the last final checkpoint"
        self._hub.blame(peer.id, FOREIGN_POINTS, reason, now)
