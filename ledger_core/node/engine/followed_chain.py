"""A chain that also tells what happened while many blocks were added at once."""

from ledger_core.chain.chain import Chain
from ledger_core.chain.model import ChainStore
from ledger_core.chain.pending import Outcome
from ledger_core.chain.start import Start
from ledger_core.chain.verify import Verifier


class FollowedChain(Chain):
    """Keeps every outcome until it is fetched: `add_blocks` itself returns a number only."""

    def __init__(self, store: ChainStore, start: Start, verifier: Verifier) -> None:
        super().__init__(store, start, verifier)
        self._outcomes: list[Outcome] = []

    def take_outcomes(self) -> list[Outcome]:
        """Return what changed since the last call, oldest first."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def branch_changed(self, outcome: Outcome) -> None:
        """Keep what changed until it is fetched."""
        self._outcomes.append(outcome)
