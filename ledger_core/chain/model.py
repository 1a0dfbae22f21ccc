"""What the chain and its store hand to each other."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from msgspec import Struct

from ledger_core.community import Genesis
from ledger_core.records.block import Block


class RecentBlock(Struct, frozen=True, gc=False):
    """A block above the last final one, as the store knows it; its body is fetched apart."""

    hash: bytes
    header: bytes
    signature: bytes
    arrival: int
    """Order of first sight: ties in the fork choice go to the smaller."""
    invalid: bool
    """A rule refused it (or one below it) when it was applied."""
    active: bool
    """On the branch of the tip."""


class SnapshotInfo(Struct, frozen=True, gc=False):
    """A state kept whole: the state after a block."""

    height: int
    hash: bytes
    """Of the block after which this was the state."""
    state_hash: bytes


class Connected(Struct, frozen=True, gc=False):
    """A block that now stands on the active branch, and what takes it back."""

    hash: bytes
    undo: bytes


class Commit(Struct, frozen=True, kw_only=True):
    """Everything that changes together, in one transaction, in this order."""

    added: Sequence[tuple[Block, int]] = ()
    """Blocks seen for the first time, with their order of arrival."""
    disconnected: Sequence[bytes] = ()
    """Blocks that leave the active branch, highest first."""
    connected: Sequence[Connected] = ()
    """Blocks that join the active branch, lowest first."""
    invalid: Sequence[bytes] = ()
    """Blocks that a rule refused."""
    dropped: Sequence[bytes] = ()
    """Side branches that finality has cut off: forgotten."""
    final: tuple[int, bytes] | None = None
    """Height and hash of the highest final checkpoint now; all active blocks up to it are archived."""
    snapshot: tuple[SnapshotInfo, bytes] | None = None
    """A state to keep; older ones than the two latest final ones are removed."""


class ChainStore(Protocol):
    """Where a chain keeps its blocks. Every method may raise ChainError with the remedy in its message."""

    @property
    def genesis(self) -> Genesis:
        """The community whose chain this is."""
        ...

    def commit(self, commit: Commit) -> None:
        """Make a change durable, wholly or not at all."""
        ...

    def recent(self) -> Iterator[RecentBlock]:
        """Yield the blocks above the last final checkpoint, and that checkpoint, in order of arrival."""
        ...

    def final(self) -> tuple[int, bytes]:
        """Return height and hash of the highest final checkpoint: (0, chain id) at first."""
        ...

    def tip(self) -> tuple[int, bytes]:
        """Return height and hash of the active branch's highest block: (0, chain id) at first."""
        ...

    def block(self, block_hash: bytes) -> Block | None:
        """Return a block above the last final one (or that one) by its hash."""
        ...

    def block_at(self, height: int) -> Block | None:
        """Return the active branch's block at a height; None above the tip or where its body was pruned."""
        ...

    def header_at(self, height: int) -> bytes | None:
        """Return the active branch's header at a height, also where the body was pruned."""
        ...

    def undo(self, block_hash: bytes) -> bytes:
        """Return the undo data of an active block above the last final one."""
        ...

    def snapshots(self) -> list[SnapshotInfo]:
        """Return the snapshots kept, highest first."""
        ...

    def snapshot(self, block_hash: bytes) -> bytes:
        """Return the snapshot after a block."""
        ...

    def close(self) -> None:
        """Close the store; the object can't be used afterwards."""
        ...
