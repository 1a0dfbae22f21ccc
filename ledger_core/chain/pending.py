"""What a chain has done in memory and not yet in the store, and what it tells about it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from ledger_core.chain.index import Entry
from ledger_core.chain.model import SnapshotInfo
from ledger_core.errors import LedgerError
from ledger_core.rules.events import Event
from ledger_core.rules.prepare import PreparedBlock
from ledger_core.rules.rows import NodeRow


class Connection(Struct, frozen=True, gc=False):
    """A block that joined the active branch, and what happened in it."""

    hash: bytes
    height: int
    events: Sequence[Event]


class Outcome(Struct, frozen=True, gc=False):
    """What adding a block led to."""

    status: str
    """known, orphan, side (on another branch), or tip (the active branch changed)."""
    disconnected: Sequence[bytes] = ()
    """Blocks that left the active branch, highest first."""
    connected: Sequence[Connection] = ()
    """Blocks that joined it, lowest first."""


class Pending:
    """What happened in memory and is not in the store yet."""

    __slots__ = ("blocks", "events", "invalid", "refusals", "snapshot")

    def __init__(self) -> None:
        self.blocks: dict[bytes, tuple[PreparedBlock, int]] = {}
        """Blocks seen for the first time, with their order of arrival."""
        self.events: dict[bytes, Sequence[Event]] = {}
        self.refusals: dict[bytes, LedgerError] = {}
        self.invalid: list[Entry] = []
        self.snapshot: tuple[bytes, SnapshotInfo, bytes] | None = None
        """A snapshot, and the hash of the checkpoint that proves it."""


class NodeKeys(Mapping[int, bytes]):
    """Node keys by member index, as the state says at the moment of asking."""

    def __init__(self, nodes: Mapping[int, NodeRow]) -> None:
        self._nodes = nodes

    def __getitem__(self, index: int) -> bytes:
        return self._nodes[index].key

    def get(self, index: int, default: Any = None) -> Any:
        """Return a node's key, or the default; asked for every vote, and faster than what is inherited."""
        node = self._nodes.get(index)
        return default if node is None else node.key

    def __iter__(self) -> Iterator[int]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)
