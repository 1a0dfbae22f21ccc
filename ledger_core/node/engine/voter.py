"""The node's own votes: for a checkpoint once some blocks lie on it, never two that conflict.

The journal knows every vote of this data directory. A directory that was copied and started twice, or
restored from an old backup, has a journal that does not: after a start the voter lets one checkpoint pass and
looks for votes of its own key in the chain and among the peers' first. One that the journal does not know
stops it; so does word of another process that runs with its key.
"""

from ledger_core.keys import Signer
from ledger_core.node.engine.holds import VOTING_OFF, Hold, other_copy, watching
from ledger_core.node.engine.hub import Hub
from ledger_core.node.engine.outputs import Voted, VotingStopped
from ledger_core.node.engine.vote_book import LinkVotes, VoteBook, eligible_node
from ledger_core.node.engine.vote_journal import Floors, VoteJournal
from ledger_core.node.engine.vote_relay import VoteRelay
from ledger_core.node.messages import BlockRef
from ledger_core.records.codec import record_prefix


class Voter:
    """Casts the votes of one node key; without a signer it only watches."""

    def __init__(self, hub: Hub, signer: Signer | None, journal: VoteJournal, book: VoteBook) -> None:
        self._hub = hub
        self._signer = signer if hub.settings.voting else None
        self._journal = journal
        self._book = book
        self._prefix = record_prefix(hub.chain.chain_id)
        self._watched_from: int | None = None
        """Height at which the node was synced first; None: not yet."""
        self._planned: tuple[int, bytes, float] | None = None
        """Target (height and hash) of the next vote, and when it is due."""
        self._unless_off = None if hub.settings.voting else VOTING_OFF
        self.stopped: Hold | None = self._unless_off
        """Why this node does not vote; None: nothing is wrong."""

    @property
    def watching(self) -> Hold | None:
        """What holds a node back that lets a checkpoint pass after its start; None: it is over."""
        first = self._first_target()
        buried = self._hub.chain.height - self._hub.settings.vote_depth
        return watching(first) if first is not None and buried < first else None

    def resume(self, now: float) -> None:
        """Go on voting: the owner says that no other copy of this node runs.

        Nothing is voted for that another copy may have voted on already.
        """
        chain = self._hub.chain
        source, target = chain.state.tip.justified, chain.height
        if self._signer is not None:
            key = self._signer.public_key
            for link in self._book.all():
                if key in link.signatures:
                    source = max(source, link.source.height)
                    target = max(target, link.target.height)
        self._journal.raise_floors(Floors(source, target))
        self._watched_from = chain.height
        self._planned = None
        self.stopped = self._unless_off
        self.tip_changed(now)

    def met_copy(self) -> None:
        """Another process that runs now has this node's key."""
        if self._signer is not None and self.stopped is None:
            self._stop("another process runs with this node's key")

    def own_votes_known(self) -> None:
        """Put the journal's votes back among those that are waiting for a block."""
        if self._signer is None:
            return
        state = self._hub.chain.state
        key = self._signer.public_key
        index = state.node_keys.get(key)
        for vote, signature in self._journal.votes():
            source = BlockRef(vote.source_height, vote.source_hash)
            link = self._book.open(state, source, BlockRef(vote.target_height, vote.target_hash))
            if link is not None and index is not None:
                self._book.add(link, index, key, signature, state)

    def seen(self, link: LinkVotes, node: bytes) -> None:
        """Look at a vote that came from outside."""
        if self._signer is None or node != self._signer.public_key or self.stopped is not None:
            return
        if not self._journal.knows(link.vote(node)):
            self._stop_for(link.target.height)

    def tip_changed(self, now: float) -> None:
        """Follow the chain: look for own votes in it, and plan the next one."""
        if self._signer is None or self.stopped is not None:
            return
        key = self._signer.public_key
        state = self._hub.chain.state
        index = state.node_keys.get(key)
        if index is None:
            self._planned = None
            return
        self._look_into_tallies(index, key)
        target = self._target()
        if target is None or eligible_node(state, index, target.height) != key:
            self._planned = None
        elif self._planned is None or self._planned[:2] != (target.height, target.hash):
            spread = min(self._hub.settings.vote_spread_s, state.parameters.block_spacing_s)
            due = now + self._hub.random.random() * spread
            self._planned = (target.height, target.hash, due)

    def next_time(self) -> float | None:
        """Return when the next vote is due."""
        return None if self._planned is None else self._planned[2]

    def due(self, now: float) -> bool:
        """Return whether `vote` has something to do."""
        if self._planned is None:
            return self._watched_from is None
        return self._watched_from is None or now >= self._planned[2]

    def vote(self, relay: VoteRelay, now: float, *, ready: bool) -> None:
        """Cast the vote that is due; `ready`: synced, and the clock can be right."""
        if self._signer is None or self.stopped is not None:
            return
        if ready and self._watched_from is None:
            self._watched_from = self._hub.chain.height
        planned = self._planned
        if planned is None or now < planned[2]:
            return
        if not ready:
            # The tip, or this, will be looked at again.
            self._planned = (planned[0], planned[1], now + self._hub.settings.vote_interval_s)
            return
        self._planned = None
        state = self._hub.chain.state
        source = state.tip.justified
        target = BlockRef(planned[0], planned[1])
        key = self._signer.public_key
        index = state.node_keys.get(key)
        link = self._book.open(state, BlockRef(source, state.checkpoints[source].hash), target)
        if (
            link is None
            or index is None
            or key in link.signatures
            or not self._allowed(source, target.height)
        ):
            return
        vote = link.vote(key)
        signature = self._signer.sign(link.message(key, self._prefix))
        self._journal.record(vote, signature)
        relay.add_own(link, index, key, signature)
        self._hub.notify(Voted(vote))

    def _target(self) -> BlockRef | None:
        """Return the newest checkpoint with enough blocks on it, where this node may still vote for it."""
        state = self._hub.chain.state
        interval = state.parameters.checkpoint_interval
        height = (state.tip.height - self._hub.settings.vote_depth) // interval * interval
        row = state.checkpoints.get(height)
        if height <= state.tip.justified or row is None or not self._allowed(state.tip.justified, height):
            return None
        return BlockRef(height, row.hash)

    def _allowed(self, source: int, target: int) -> bool:
        floors = self._journal.floors
        if source < floors.source or target <= floors.target:
            return False
        first = self._first_target()
        return first is None or target >= first

    def _first_target(self) -> int | None:
        """Return the first checkpoint to vote for after a start; None where any may be, or none yet is known.

        An earlier process may have voted for any checkpoint up to the tip of then; a second copy that runs
        votes for the one after it, and gives itself away.
        """
        if self._journal.is_new or self._watched_from is None:
            return None
        interval = self._hub.chain.state.parameters.checkpoint_interval
        return (self._watched_from // interval + 2) * interval

    def _look_into_tallies(self, index: int, key: bytes) -> None:
        """Look for own votes in the chain's open tallies, which also hold those from before the start."""
        state = self._hub.chain.state
        node = state.nodes[index]
        for (target, source), bits in state.tallies.items():
            if not int.from_bytes(bits) >> index & 1 or node.key != key:
                continue
            source_row, target_row = state.checkpoints.get(source), state.checkpoints.get(target)
            if source_row is None or target_row is None:
                # Below the checkpoints that the state still remembers: long final.
                continue
            link = LinkVotes(
                BlockRef(source, source_row.hash), BlockRef(target, target_row.hash), target_row.time
            )
            if not self._journal.knows(link.vote(key)):
                self._stop_for(target)
                return

    def _stop_for(self, height: int) -> None:
        self._stop(f"this node's key has voted elsewhere, for the checkpoint at height {height}")

    def _stop(self, what: str) -> None:
        self.stopped = other_copy(what)
        self._planned = None
        self._hub.notify(VotingStopped(self.stopped.reason))
