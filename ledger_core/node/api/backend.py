"""What the API needs of a node: a narrow seam, so that neither knows the other's insides."""

from collections.abc import Callable, Sequence
from typing import Protocol

from ledger_core.chain.model import ChainStore
from ledger_core.errors import LedgerError
from ledger_core.node.api.event_log import EventLog
from ledger_core.node.api.model import DialView, PeerView
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

    def peer_height(self, node_key: bytes) -> int | None:
        """Return the height that a peer told; None where it told none."""
        ...

    def waiting_record(self, record_id: bytes) -> Record | None:
        """Return a record that waits for a block."""
        ...

    def is_contested(self, record_id: bytes) -> bool:
        """Whether the chain refuses a record of this home, as long as that may be undone."""
        ...


class Mining(Protocol):
    """The switch of this node's mining."""

    @property
    def on(self) -> bool:
        """Whether this node is to mine."""
        ...

    @property
    def share(self) -> float:
        """The part of one core that mining may take."""
        ...

    @property
    def rate(self) -> float:
        """Hashes a second, lately."""
        ...

    async def change(self, *, on: bool | None = None, share: float | None = None) -> None:
        """Switch mining, or give it another share of a core."""
        ...


class Backend(Protocol):
    """A node, as the API sees it."""

    async def resume_voting(self) -> None:
        """Vote again: no other copy of the node runs. Raises OSError where the disk fails."""
        ...

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

    async def submit_all(self, envelopes: Sequence[Envelope]) -> list[bytes | LedgerError]:
        """Take records of this home in order; returns for each its id, or what refuses it.

        Raises ChainError or OSError where the disk fails.
        """
        ...

    def peers(self) -> list[PeerView]:
        """Return the links that are up."""
        ...

    def dials(self) -> list[DialView]:
        """Return the nodes that could not be reached."""
        ...

    @property
    def mining(self) -> Mining:
        """The switch of this node's mining."""
        ...

    @property
    def disk_trouble(self) -> str | None:
        """Why the node can't write its data; None: it can."""
        ...

    def addresses(self) -> list[str]:
        """Return where other homes' nodes reach this one, as it tells its peers."""
        ...
