"""What the API needs of a node: a narrow seam, so that neither knows the other's insides."""

from collections.abc import Callable
from typing import Protocol

from ledger_core.chain.model import ChainStore
from ledger_core.node.api.event_log import EventLog
from ledger_core.node.api.model import PeerView
from ledger_core.node.engine.engine import Progress
from ledger_core.records.codec import Envelope, Record
from ledger_core.rules.state import State


class Ledger(Protocol):
    """What a question may look at: nothing changes while it does, and it keeps nothing of it."""

    @property
    def state(self) -> State:
        """The state at the tip."""
        ...

    @property
    def store(self) -> ChainStore:
        """The blocks."""
        ...

    @property
    def progress(self) -> Progress:
        """How far the node has come."""
        ...

    @property
    def waiting_records(self) -> int:
        """How many records wait for a block."""
        ...

    def waiting_record(self, record_id: bytes) -> Record | None:
        """Return a record that waits for a block."""
        ...


class Backend(Protocol):
    """A node, as the API sees it."""

    @property
    def events(self) -> EventLog:
        """What happened."""
        ...

    @property
    def node_key(self) -> bytes | None:
        """The key that the node mines and votes with."""
        ...

    async def ask[T](self, question: Callable[[Ledger], T]) -> T:
        """Answer a question between two changes; raises what it raises."""
        ...

    async def submit(self, envelope: Envelope) -> bytes:
        """Take a record of this home; returns its id.

        Raises RecordError or RuleError with the code of what refuses it, ChainError or OSError where the
        disk does.
        """
        ...

    def peers(self) -> list[PeerView]:
        """Return the links that are up."""
        ...

    def addresses(self) -> list[str]:
        """Return where other homes' nodes reach this one, as it tells its peers."""
        ...
