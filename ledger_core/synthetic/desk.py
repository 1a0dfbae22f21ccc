"""The block being put together: what the homes see when they act, and what they hand in."""

from ledger_core.errors import LedgerError
from ledger_core.records.codec import Record
from ledger_core.records.votes import VOTE_BYTES
from ledger_core.rules import deadlines
from ledger_core.rules.apply import HANDLERS, apply_record
from ledger_core.rules.assemble import FRAMING_BYTES, VoteSignature
from ledger_core.rules.context import Context
from ledger_core.rules.prepare import envelope_size
from ledger_core.rules.state import State
from ledger_core.rules.table import Journal
from ledger_core.synthetic.tally import Tally


class Desk:
    """Candidates for the next block, each tried on the state after those before it.

    As a home's node does, it takes in nothing that the rules refuse; what a home hands in too late on
    purpose (`submit_late`) goes to the miner all the same.
    """

    def __init__(self, state: State, time: int, tally: Tally) -> None:
        self.state = state
        self.time = time
        """Of the block."""
        self.now = time
        """Of the action that runs: when a home creates its record."""
        self.journal = Journal()
        self.ctx = Context(state, self.journal, state.tip.height + 1, time)
        self.candidates: list[Record] = []
        self.votes: list[VoteSignature] = []
        self._added: list[int] = []
        self._tally = tally
        self._room = state.parameters.block_max_bytes * 9 // 10
        deadlines.handle_deadlines(self.ctx, HANDLERS)

    @property
    def full(self) -> bool:
        """Whether the block has no room left."""
        return self._room <= 0

    def submit(self, record: Record) -> bool:
        """Hand a record in; returns whether the rules take it."""
        refusal = self._try(record)
        if refusal is not None:
            self._tally.declined[record.body.KIND, refusal.code] += 1
            return False
        self._take(record)
        return True

    def submit_late(self, record: Record, code: str) -> None:
        """Hand in a record that the rules refuse by now with a code.

        Raises RuntimeError when they do not: the generator would not know its own chain.
        """
        refusal = self._try(record)
        if refusal is None or refusal.code != code:
            raise RuntimeError(f"a {record.body.KIND} should be refused as {code}, not as {refusal}")
        self._tally.meant[record.body.KIND, code] += 1
        self._take(record)

    def vote(self, vote: VoteSignature) -> None:
        """Hand a node's vote in."""
        self.votes.append(vote)
        self._room -= VOTE_BYTES

    def _take(self, record: Record) -> None:
        self.candidates.append(record)
        self._room -= envelope_size(record.envelope) + FRAMING_BYTES

    def _try(self, record: Record) -> LedgerError | None:
        changes, events = len(self.journal.changes), len(self.ctx.events)
        try:
            apply_record(self.ctx, record, self._added)
        except LedgerError as refusal:
            self.journal.revert_to(changes)
            del self.ctx.events[events:]
            return refusal
        return None

    def close(self) -> None:
        """Take back everything that was tried."""
        self.journal.revert()
        for created in reversed(self._added):
            self.state.seen.remove_last(created)
