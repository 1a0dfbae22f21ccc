"""Votes between peers: summaries of who voted, and the signatures that a side lacks."""

from collections.abc import Callable

from ledger_core.node.engine.hub import Hub, Peer
from ledger_core.node.engine.outputs import Equivocation
from ledger_core.node.engine.vote_book import LinkKey, LinkVotes, VoteBook, eligible_node, indexes
from ledger_core.node.messages import (
    MAX_PAYLOAD_BYTES,
    BlockRef,
    GetVotes,
    LinkVoters,
    Votes,
    VoteSummary,
    bits_of,
)
from ledger_core.records.codec import record_prefix
from ledger_core.records.votes import VOTE_BYTES, VoteBundle
from ledger_core.rules.finality import votes_in

UNASKED_POINTS = 5.0
FORGED_POINTS = 100.0


class VoteRelay:
    """Keeps the vote book in step with the peers' and with the chain."""

    def __init__(self, hub: Hub, book: VoteBook, own_seen: Callable[[LinkVotes, bytes], None]) -> None:
        self._hub = hub
        self._book = book
        self._own_seen = own_seen
        self._prefix = record_prefix(hub.chain.chain_id)
        self._asked: dict[LinkKey, list[tuple[float, int]]] = {}
        """Votes that were asked for, and until when an answer is waited for."""
        self._told_at = 0.0
        self._news = False

    def next_time(self) -> float | None:
        """Return when there is something to tell."""
        return self._told_at + self._hub.settings.vote_interval_s if self._news else None

    def tip_changed(self) -> None:
        """Follow the chain."""
        self._book.refresh(self._hub.chain.state)
        live = {link.key for link in self._book.active()}
        self._asked = {key: asked for key, asked in self._asked.items() if key in live}
        for peer in self._hub.peers.values():
            peer.voters = {key: bits for key, bits in peer.voters.items() if key in live}
        self._news = True

    def add_own(self, link: LinkVotes, index: int, node: bytes, signature: bytes) -> None:
        """Take this node's own vote."""
        self._book.add(link, index, node, signature, self._hub.chain.state)
        self._news = True

    def absorb(self, bundle: VoteBundle) -> None:
        """Take the votes of a block: their signatures were verified with it."""
        state = self._hub.chain.state
        link = self._book.open_any(bundle, state)
        if link is None:
            return
        for index, signature in votes_in(bundle):
            node = state.nodes.get(index)
            if node is None:
                continue
            if not link.active and not self._valid(link, node.key, signature):
                # On another branch the index may have meant another node.
                continue
            self._take(link, index, node.key, signature)

    def on_summary(self, peer: Peer, message: VoteSummary, now: float) -> None:
        """Ask for the votes that the peer has and this node lacks."""
        state = self._hub.chain.state
        wanted: list[LinkVoters] = []
        for told in message.links:
            link = self._book.open(state, told.source, told.target)
            if link is None:
                continue
            bits = bits_of(told.voters)
            peer.voters[link.key] = peer.voters.get(link.key, 0) | bits
            missing = bits & ~link.bits & ~self._waited_for(link.key, now)
            missing = sum(
                1 << index
                for index in indexes(missing)
                if eligible_node(state, index, link.target.height) is not None
            )
            if missing:
                self._asked.setdefault(link.key, []).append(
                    (now + self._hub.settings.record_request_s, missing)
                )
                wanted.append(link.voters(missing))
        if wanted:
            self._hub.send(peer.id, GetVotes(tuple(wanted)))

    def on_get(self, peer: Peer, message: GetVotes, now: float) -> None:
        """Give votes, as many as fit into a message."""
        state = self._hub.chain.state
        room = MAX_PAYLOAD_BYTES
        bundles = []
        for asked in message.links:
            link = self._book.get(asked.target.hash, asked.source.hash)
            if link is None or not link.active:
                continue
            bits = 0
            for index in indexes(bits_of(asked.voters) & link.bits):
                if room < VOTE_BYTES:
                    break
                bits |= 1 << index
                room -= VOTE_BYTES
            bundle = link.bundle(state, bits)
            if bundle.votes:
                bundles.append(bundle)
                peer.voters[link.key] = peer.voters.get(link.key, 0) | bits
        if bundles:
            self._hub.send(peer.id, Votes(tuple(bundles)))
        else:
            self._hub.blame(peer.id, UNASKED_POINTS, "requests for votes that nobody told of", now)

    def on_votes(self, peer: Peer, message: Votes, now: float) -> None:
        """Verify votes and keep them."""
        state = self._hub.chain.state
        for bundle in message.bundles:
            source = BlockRef(bundle.source_height, bundle.source_hash)
            target = BlockRef(bundle.target_height, bundle.target_hash)
            if len(bundle.votes) % VOTE_BYTES:
                self._hub.ban(peer.id, "votes_malformed", "a bundle of votes has a wrong length")
                return
            link = self._book.open(state, source, target)
            if link is None or link.created != bundle.created:
                # The branch may have changed since they were asked for.
                self._hub.blame(peer.id, UNASKED_POINTS, "votes for links of other branches", now)
                continue
            for index, signature in votes_in(bundle):
                node = eligible_node(state, index, target.height)
                if node is None or node in link.signatures:
                    continue
                if not self._valid(link, node, signature):
                    self._hub.blame(peer.id, FORGED_POINTS, "votes with a wrong signature", now)
                    if peer.id not in self._hub.peers:
                        return
                    continue
                self._take(link, index, node, signature)

    def flush(self, now: float) -> None:
        """Tell the peers of votes that they lack."""
        if not self._news or now < self._told_at + self._hub.settings.vote_interval_s:
            return
        self._news = False
        self._told_at = now
        links = [link for link in self._book.active() if link.bits]
        for peer in self._hub.peers.values():
            self._tell(peer, [link for link in links if link.bits & ~peer.voters.get(link.key, 0)])

    def tell_all(self, peer: Peer) -> None:
        """Tell a peer of every vote that still matters: it is new, or a message may have been lost."""
        self._tell(peer, [link for link in self._book.active() if link.bits and not link.justified])

    def _tell(self, peer: Peer, links: list[LinkVotes]) -> None:
        if links:
            for link in links:
                peer.voters[link.key] = peer.voters.get(link.key, 0) | link.bits
            self._hub.send(peer.id, VoteSummary(tuple(link.voters() for link in links)))

    def _take(self, link: LinkVotes, index: int, node: bytes, signature: bytes) -> None:
        if node in link.signatures:
            return
        rival = self._book.add(link, index, node, signature, self._hub.chain.state)
        self._news = True
        self._own_seen(link, node)
        if rival is not None:
            self._hub.notify(
                Equivocation(node, rival.vote(node), rival.signatures[node], link.vote(node), signature)
            )

    def _valid(self, link: LinkVotes, node: bytes, signature: bytes) -> bool:
        return self._hub.verifier.verify_signature((node, link.message(node, self._prefix), signature))

    def _waited_for(self, key: LinkKey, now: float) -> int:
        asked = [(until, bits) for until, bits in self._asked.get(key, ()) if until > now]
        self._asked[key] = asked
        waiting = 0
        for _, bits in asked:
            waiting |= bits
        return waiting
