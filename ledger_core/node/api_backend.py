"""The node as its API sees it."""

from collections.abc import Callable

from ledger_core.chain.model import ChainStore
from ledger_core.node.api.backend import Ledger
from ledger_core.node.api.event_log import EventLog
from ledger_core.node.api.model import PeerView
from ledger_core.node.chain_thread import ChainThread
from ledger_core.node.engine.engine import Engine, Progress
from ledger_core.records.codec import Envelope, Record
from ledger_core.rules.state import State


class EngineLedger:
    """What a question sees of the engine, in the chain's thread."""

    def __init__(self, engine: Engine, store: ChainStore, now: float) -> None:
        self._engine = engine
        self._now = now
        self.store: ChainStore = store

    @property
    def state(self) -> State:
        """The state at the tip."""
        return self._engine.chain.state

    @property
    def progress(self) -> Progress:
        """How far the node has come."""
        return self._engine.progress(self._now)

    @property
    def waiting_records(self) -> int:
        """How many records wait for a block."""
        return len(self._engine.pool)

    def waiting_record(self, record_id: bytes) -> Record | None:
        """Return a record that waits for a block."""
        return self._engine.pool.get(record_id)


class EngineBackend:
    """Asks and submits in the chain's thread."""

    def __init__(
        self,
        thread: ChainThread,
        store: ChainStore,
        events: EventLog,
        node_key: bytes | None,
        peers: Callable[[], list[PeerView]],
        addresses: Callable[[], list[str]] = list,
    ) -> None:
        self._thread = thread
        self._store = store
        self._peers = peers
        self._addresses = addresses
        self.events = events
        self.node_key = node_key

    async def ask[T](self, question: Callable[[Ledger], T]) -> T:
        """Answer a question between two changes."""
        return await self._thread.look(lambda engine, now: question(EngineLedger(engine, self._store, now)))

    async def submit(self, envelope: Envelope) -> bytes:
        """Take a record of this home."""
        return await self._thread.run(lambda engine, now: engine.submit(envelope, now))

    def peers(self) -> list[PeerView]:
        """Return the links that are up."""
        return self._peers()

    def addresses(self) -> list[str]:
        """Return where other homes' nodes reach this one."""
        return self._addresses()
