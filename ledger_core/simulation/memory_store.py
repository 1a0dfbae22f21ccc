"""A chain store in memory: for many chains in one process, which share what is equal."""

from collections.abc import Iterable, Iterator, Sequence

from ledger_core.chain.model import Commit, RecentBlock, SnapshotInfo
from ledger_core.chain.store.head import Head
from ledger_core.community import Genesis
from ledger_core.errors import ChainError
from ledger_core.records.block import Block, decode_header, header_hash

KEPT_SNAPSHOTS = 2
"""Of final states, as the store on disk does."""


class Shelf:
    """Blocks and their undo data, kept once for all stores that hold them."""

    def __init__(self) -> None:
        self._blocks: dict[bytes, Block] = {}
        self._users: dict[bytes, int] = {}
        self._undos: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._blocks)

    def take(self, block_hash: bytes, block: Block) -> Block:
        """Count one user more; returns the block that all share."""
        self._users[block_hash] = self._users.get(block_hash, 0) + 1
        return self._blocks.setdefault(block_hash, block)

    def share_undo(self, block_hash: bytes, data: bytes) -> bytes:
        """Return equal undo data that another store holds already."""
        known = self._undos.setdefault(block_hash, data)
        return known if known == data else data

    def release(self, block_hash: bytes) -> None:
        """Count one user less; what nobody uses goes."""
        self._users[block_hash] -= 1
        if not self._users[block_hash]:
            del self._users[block_hash], self._blocks[block_hash]
            self._undos.pop(block_hash, None)


class MemoryStore:
    """One chain. The bodies of the last `keep_final` final blocks are kept; all headers are."""

    def __init__(self, genesis: Genesis, shelf: Shelf | None = None, keep_final: int = 1000) -> None:
        self._genesis = genesis
        self._shelf = Shelf() if shelf is None else shelf
        self._keep_final = keep_final
        self._headers: list[tuple[bytes, bytes, bytes]] = [(genesis.chain_id, b"", b"")]
        """Hash, header and signature of the active branch by height."""
        self._blocks: dict[bytes, Block] = {}
        self._arrivals: dict[bytes, int] = {}
        """Blocks above the last final one, and that one."""
        self._invalid: set[bytes] = set()
        self._undo: dict[bytes, bytes] = {}
        self._final = 0
        self._pruned = 0
        self._snapshots: dict[bytes, tuple[SnapshotInfo, bytes]] = {}
        self.fail_next = False
        """Make the next commit fail, as a full disk does."""

    def twin(self) -> MemoryStore:
        """Return an independent store with the same content."""
        other = MemoryStore(self._genesis, self._shelf, self._keep_final)
        other._headers = list(self._headers)
        other._blocks = {key: self._shelf.take(key, block) for key, block in self._blocks.items()}
        other._arrivals = dict(self._arrivals)
        other._invalid = set(self._invalid)
        other._undo = dict(self._undo)
        other._final, other._pruned = self._final, self._pruned
        other._snapshots = dict(self._snapshots)
        return other

    @property
    def genesis(self) -> Genesis:
        """The community whose chain this is."""
        return self._genesis

    def commit(self, commit: Commit) -> None:
        """Take a change; raises ChainError `disk_full` where a test asks for it."""
        if self.fail_next:
            self.fail_next = False
            raise ChainError("disk_full", "no room is left; free some and try again")
        for block, arrival in commit.added:
            block_hash = block.hash
            self._blocks[block_hash] = self._shelf.take(block_hash, block)
            self._arrivals[block_hash] = arrival
        for block_hash in commit.disconnected:
            self._undo.pop(block_hash)
            self._require(self._headers.pop()[0] == block_hash, "a block to take back is not the tip")
        for connected in commit.connected:
            block = self._blocks[connected.hash]
            previous = decode_header(block.header).previous
            self._require(previous == self._headers[-1][0], "a block does not follow the tip")
            self._headers.append((connected.hash, block.header, block.signature))
            self._undo[connected.hash] = self._shelf.share_undo(connected.hash, connected.undo)
        self._invalid.update(commit.invalid)
        for block_hash in commit.dropped:
            self._forget(block_hash)
        if commit.snapshot is not None:
            self._snapshots[commit.snapshot[0].hash] = commit.snapshot
        if commit.final is not None:
            self._finalise(*commit.final)

    def recent(self) -> Iterator[RecentBlock]:
        """Yield the blocks above the last final checkpoint, and that checkpoint, in order of arrival."""
        for block_hash, arrival in sorted(self._arrivals.items(), key=lambda item: item[1]):
            block = self._blocks[block_hash]
            active = self._is_active(block_hash, decode_header(block.header).height)
            invalid = block_hash in self._invalid
            yield RecentBlock(block_hash, block.header, block.signature, arrival, invalid, active)

    def final(self) -> tuple[int, bytes]:
        """Return height and hash of the highest final checkpoint."""
        return self._final, self._headers[self._final][0]

    def tip(self) -> tuple[int, bytes]:
        """Return height and hash of the tip."""
        return len(self._headers) - 1, self._headers[-1][0]

    def head(self) -> Head:
        """Return the tip, the last final checkpoint, and up to where bodies are gone."""
        return Head(self.tip(), self.final(), self._pruned)

    def block(self, block_hash: bytes) -> Block | None:
        """Return a block by its hash."""
        return self._blocks.get(block_hash)

    def block_at(self, height: int) -> Block | None:
        """Return the active branch's block at a height."""
        return self._blocks.get(self._headers[height][0]) if 0 < height < len(self._headers) else None

    def header_at(self, height: int) -> bytes | None:
        """Return the active branch's header at a height."""
        return self._headers[height][1] if 0 < height < len(self._headers) else None

    def hash_at(self, height: int) -> bytes:
        """Return the hash of the active branch's block at a height."""
        return self._headers[height][0]

    def sealed_headers(self, first: int, count: int) -> list[tuple[bytes, bytes]]:
        """Return the active branch's headers with their miners' signatures."""
        return [(header, signature) for _, header, signature in self._headers[max(first, 1) : first + count]]

    def undo(self, block_hash: bytes) -> bytes:
        """Return the undo data of an active block."""
        return self._undo[block_hash]

    def snapshots(self) -> list[SnapshotInfo]:
        """Return the snapshots kept, highest first."""
        return sorted((info for info, _ in self._snapshots.values()), key=lambda info: -info.height)

    def snapshot(self, block_hash: bytes) -> bytes:
        """Return the snapshot after a block; raises ChainError `snapshot_missing`."""
        found = self._snapshots.get(block_hash)
        if found is None:
            raise ChainError("snapshot_missing", "no such snapshot is kept", hash=block_hash)
        return found[1]

    def install(
        self,
        headers: Iterable[tuple[bytes, bytes]],
        blocks: Sequence[Block],
        snapshot: tuple[SnapshotInfo, bytes],
    ) -> None:
        """Begin an empty store at a final checkpoint: headers below, some bodies, and a state among them."""
        self._require(len(self._headers) == 1, "the store is not empty")
        fresh = [*self._headers, *((header_hash(header), header, sign) for header, sign in headers)]
        self._pruned = len(fresh) - 1
        for block in blocks:
            fresh.append((block.hash, block.header, block.signature))
            self._blocks[block.hash] = self._shelf.take(block.hash, block)
        self._headers = fresh
        self._final = len(fresh) - 1
        self._arrivals = {fresh[-1][0]: 0}
        self._snapshots = {snapshot[0].hash: snapshot}

    def close(self) -> None:
        """Give back what is shared."""
        for block_hash in list(self._blocks):
            self._forget(block_hash)

    def _finalise(self, height: int, block_hash: bytes) -> None:
        self._require(self._headers[height][0] == block_hash, "the final block is not on the active branch")
        self._final = height
        above = {key for key in self._arrivals if decode_header(self._blocks[key].header).height > height}
        self._arrivals = {key: at for key, at in self._arrivals.items() if key in above or key == block_hash}
        self._invalid &= above
        self._undo = {key: data for key, data in self._undo.items() if key in above}
        while self._pruned < height - self._keep_final:
            self._pruned += 1
            self._forget(self._headers[self._pruned][0])
        old = [info for info in self.snapshots() if info.height <= height][KEPT_SNAPSHOTS:]
        for info in old:
            del self._snapshots[info.hash]

    def _forget(self, block_hash: bytes) -> None:
        if self._blocks.pop(block_hash, None) is not None:
            self._shelf.release(block_hash)
        self._arrivals.pop(block_hash, None)
        self._invalid.discard(block_hash)

    def _is_active(self, block_hash: bytes, height: int) -> bool:
        return height < len(self._headers) and self._headers[height][0] == block_hash

    @staticmethod
    def _require(holds: bool, what: str) -> None:
        if not holds:
            raise ChainError("commit_inconsistent", f"the change does not fit the chain: {what}")
