"""The node as its API sees it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from msgspec import Struct

from ledger_core.chain.model import ChainStore
from ledger_core.errors import ChainError, LedgerError
from ledger_core.node.api.backend import Ledger, Mining
from ledger_core.node.api.event_log import EventLog
from ledger_core.node.api.model import DialView, PeerView
from ledger_core.node.chain_thread import ChainThread
from ledger_core.node.engine.engine import Engine, Progress
from ledger_core.records.codec import Envelope, Record
from ledger_core.rules.state import State

AT_ONCE: Final = 32
"""Records of one request that are taken in one piece of work."""


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

    def peer_height(self, node_key: bytes) -> int | None:
        """Return the height that a peer told; None where it told none."""
        peer = self._engine.peers.get(node_key)
        return None if peer is None else peer.tip.height

    def waiting_record(self, record_id: bytes) -> Record | None:
        """Return a record that waits for a block."""
        return self._engine.pool.get(record_id) or self._engine.own.get(record_id)

    def is_contested(self, record_id: bytes) -> bool:
        """Whether the chain refuses a record of this home, as long as that may be undone."""
        return self._engine.own.is_contested(record_id)


class NoMining:
    """The switch of a node that can't mine."""

    on = False
    share = 0.0
    rate = 0.0

    async def change(self, *, on: bool | None = None, share: float | None = None) -> None:
        """Refuse; raises LedgerError `mining_unavailable`."""
        wanted = {"on": on, "share": share}
        raise LedgerError("mining_unavailable", "this node has no mining process", **wanted)


class NodeSide(Struct, frozen=True, kw_only=True):
    """What the API shows of the node around the engine."""

    mining: Mining = NoMining()
    dials: Callable[[], list[DialView]] = list
    """The nodes that could not be reached."""
    disk_trouble: Callable[[], str | None] = lambda: None
    resumed: Callable[[], None] = lambda: None
    """Hears that the owner has this node vote again."""
    failed: Callable[[ChainError | OSError], None] = lambda _error: None
    """Hears where the disk or the store did not take a record."""


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
        side: NodeSide = NodeSide(),  # noqa: B008 - immutable
    ) -> None:
        self._thread = thread
        self._side = side
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
        return await self._write(lambda engine, now: engine.submit(envelope, now))

    async def submit_all(self, envelopes: Sequence[Envelope]) -> list[bytes | LedgerError]:
        """Take records of this home, some at a time: between them the node goes on with what peers say."""
        results: list[bytes | LedgerError] = []
        for start in range(0, len(envelopes), AT_ONCE):
            part = envelopes[start : start + AT_ONCE]
            results += await self._write(partial(_submit, part))
        return results

    async def resume_voting(self) -> None:
        """Vote again: no other copy of the node runs."""
        await self._write(lambda engine, now: engine.resume_voting(now))
        self._side.resumed()

    async def _write[T](self, work: Callable[[Engine, float], T]) -> T:
        try:
            return await self._thread.run(work)
        except (ChainError, OSError) as error:
            self._side.failed(error)
            raise

    def peers(self) -> list[PeerView]:
        """Return the links that are up."""
        return self._peers()

    def addresses(self) -> list[str]:
        """Return where other homes' nodes reach this one."""
        return self._addresses()

    def dials(self) -> list[DialView]:
        """Return the nodes that could not be reached."""
        return self._side.dials()

    @property
    def mining(self) -> Mining:
        """The switch of this node's mining."""
        return self._side.mining

    @property
    def disk_trouble(self) -> str | None:
        """Why the node can't write its data; None: it can."""
        return self._side.disk_trouble()


def _submit(envelopes: Sequence[Envelope], engine: Engine, now: float) -> list[bytes | LedgerError]:
    return engine.submit_all(envelopes, now)
