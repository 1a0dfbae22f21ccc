"""Whether this node may mine and vote now, and what holds it back where it may not."""

from collections.abc import Callable

from ledger_core.node.engine.clock import ClockWatch
from ledger_core.node.engine.holds import NO_LINK, NO_PEER, NOT_A_NODE, SYNCING, Hold, clock_wrong
from ledger_core.node.engine.hub import Hub
from ledger_core.node.engine.voter import Voter


class Readiness:
    """Weighs what the parts of the engine know of clock, links and sync."""

    def __init__(
        self,
        hub: Hub,
        key: bytes | None,
        clock: ClockWatch,
        voter: Voter,
        synced: Callable[[], bool],
        now: float,
    ) -> None:
        """Begin at the start of the engine; `key` is the node's."""
        self._hub = hub
        self._key = key
        self._clock = clock
        self._voter = voter
        self._synced = synced
        self._started = now
        self.met_peers = False
        """Whether there was a link since the start."""

    @property
    def has_chain(self) -> bool:
        """Whether this node can know the community's chain; a newcomer that is linked with nobody can't."""
        chain = self._hub.chain
        return chain.height > 0 or bool(self._hub.peers) or self._key in chain.state.node_keys

    def mining_blocked(self, now: float) -> Hold | None:
        """Return what keeps this node from mining; None: nothing."""
        held = self._held() or self._foreign()
        if held is not None:
            return held
        waiting = now < self._started + self._hub.settings.start_grace_s
        return NO_PEER if waiting and not self.met_peers and not self._alone() else None

    def voting_blocked(self, now: float) -> Hold | None:
        """Return what keeps this node from voting, the gravest first; None: nothing."""
        held = self._voter.stopped or self._held() or self._foreign()
        return held or self._unlinked(now) or self._voter.watching

    def may_vote(self, now: float) -> bool:
        """Whether votes can be right now."""
        return self._held() is None and self._unlinked(now) is None and now >= self._started

    def _foreign(self) -> Hold | None:
        """Return what holds back a node that is not the community's, as far as the chain has come."""
        if not self.has_chain:
            return NO_PEER
        return None if self._key in self._hub.chain.state.node_keys else NOT_A_NODE

    def _alone(self) -> bool:
        """Whether nobody else has to agree: this is the only node of the community."""
        return len(self._hub.chain.state.nodes) <= 1

    def _held(self) -> Hold | None:
        """Return what holds back mining and voting alike."""
        if self._clock.doubt is not None:
            return clock_wrong(self._clock.doubt)
        return None if self._synced() else SYNCING

    def _unlinked(self, now: float) -> Hold | None:
        """Return what holds votes back as long as nothing would tell of a copy of this node."""
        young = self._hub.settings.vote_link_s
        # A clock that was set back makes no link young.
        linked = any(not 0 <= now - peer.since < young for peer in self._hub.peers.values())
        return None if linked or self._alone() else NO_LINK
