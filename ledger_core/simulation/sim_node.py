"""One simulated node: the real engine, its clock, its peers, its home."""

from collections.abc import Iterator
from random import Random

from msgspec import Struct

from ledger_core.chain.verify import Verifier
from ledger_core.node.engine.engine import Engine, NodeData
from ledger_core.node.engine.followed_chain import FollowedChain
from ledger_core.node.engine.outbox import MemoryOutbox
from ledger_core.node.engine.outputs import Voted
from ledger_core.node.engine.settings import EngineSettings
from ledger_core.node.engine.staging import MemoryStaging
from ledger_core.node.engine.vote_journal import Floors, MemoryVoteJournal
from ledger_core.node.messages import Message
from ledger_core.simulation.household import Household
from ledger_core.simulation.liars import Equivocator, Liar
from ledger_core.simulation.memory_store import MemoryStore


class Character(Struct, frozen=True):
    """What a node can't help."""

    skew: float
    """Seconds that its clock is ahead."""
    liar: Liar | None


class SimNode:
    """A home's node. Times given to it are the simulation's; its engine sees them through its own clock."""

    def __init__(
        self,
        household: Household,
        begin: tuple[FollowedChain, MemoryStore],
        verifier: Verifier,
        settings: EngineSettings,
        random: Random,
        character: Character,
    ) -> None:
        self.home = household.home
        self.number = self.home.number
        self.household = household
        self.chain, self.store = begin
        self.skew = character.skew
        self.liar = character.liar
        self.online = True
        self.started = 0.0
        self.epoch = 0
        """Counts the starts: what was planned before the last one is void."""
        self.tick_at = 0.0
        self.lottery = 0
        """Counts the draws of the mining lottery: only the last one counts."""
        self.bans: dict[int, float] = {}
        self.linked: set[int] = set()
        self._verifier = verifier
        self._settings = settings
        self._random = random
        self._journal = MemoryVoteJournal()
        # The votes of the founding were cast elsewhere.
        self._journal.raise_floors(Floors(0, self.chain.height))
        self._outbox = MemoryOutbox()
        self.engine: Engine

    @property
    def honest(self) -> bool:
        """Whether the node says what its engine says."""
        return self.liar is None

    def start(self, now: float) -> None:
        """Start the engine, with what the last process left."""
        self.epoch += 1
        self.online = True
        self.started = now
        data = NodeData(self.home.node, self._journal, self._outbox, MemoryStaging())
        self.engine = Engine(
            self.chain, self.store, self._verifier, data, self._settings, self._random, now + self.skew
        )

    def restart(self, now: float) -> None:
        """Start again after an absence."""
        self._journal = self._journal.copy()
        self.start(now)

    def spoken(self, message: Message) -> Iterator[Message]:
        """Yield what leaves this node for what its engine says."""
        if self.liar is None:
            yield message
        else:
            yield from self.liar.twist(message)

    def lie_about(self, voted: Voted) -> Message | None:
        """Return what an equivocating node says beside its vote."""
        if not isinstance(self.liar, Equivocator):
            return None
        state = self.engine.chain.state
        index = state.node_keys.get(self.home.node.public_key)
        lower = [
            (height, row.hash)
            for height, row in state.checkpoints.items()
            if row.justified and height < voted.vote.source_height
        ]
        if not lower or index is None:
            return None
        return self.liar.second_vote(voted.vote, min(lower), index, self.home.node, state.chain_id)
