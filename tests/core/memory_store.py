"""A chain store in memory: the plainest thing that keeps the protocol, to compare and to be quick."""

from collections.abc import Iterator

from ledger_core.chain.model import Commit, RecentBlock, SnapshotInfo
from ledger_core.community import Genesis
from ledger_core.errors import ChainError
from ledger_core.records.block import Block, decode_header


class MemoryStore:
    """Keeps every block; `fail_next` makes one commit fail as a full disk would."""

    def __init__(self, genesis: Genesis) -> None:
        self._genesis = genesis
        self._blocks: dict[bytes, tuple[Block, int]] = {}
        self._invalid: set[bytes] = set()
        self._active: list[bytes] = [genesis.chain_id]
        self._undo: dict[bytes, bytes] = {}
        self._final = (0, genesis.chain_id)
        self._snapshots: dict[bytes, tuple[SnapshotInfo, bytes]] = {}
        self.fail_next = False
        self.commits = 0

    @property
    def genesis(self) -> Genesis:
        return self._genesis

    def commit(self, commit: Commit) -> None:
        if self.fail_next:
            self.fail_next = False
            raise ChainError("disk_full", "no room is left; free some and try again")
        self.commits += 1
        for block, arrival in commit.added:
            assert block.hash not in self._blocks
            self._blocks[block.hash] = (block, arrival)
        for block_hash in commit.disconnected:
            assert self._active.pop() == block_hash
            del self._undo[block_hash]
        for connected in commit.connected:
            header = decode_header(self._blocks[connected.hash][0].header)
            assert header.previous == self._active[-1]
            assert header.height == len(self._active)
            self._active.append(connected.hash)
            self._undo[connected.hash] = connected.undo
        self._invalid.update(commit.invalid)
        for block_hash in commit.dropped:
            del self._blocks[block_hash]
        if commit.final is not None:
            assert self._active[commit.final[0]] == commit.final[1]
            self._final = commit.final
        if commit.snapshot is not None:
            self._snapshots[commit.snapshot[0].hash] = commit.snapshot

    def recent(self) -> Iterator[RecentBlock]:
        for block_hash, (block, arrival) in sorted(self._blocks.items(), key=lambda item: item[1][1]):
            height = decode_header(block.header).height
            if height > self._final[0] or block_hash == self._final[1]:
                active = height < len(self._active) and self._active[height] == block_hash
                invalid = block_hash in self._invalid
                yield RecentBlock(block_hash, block.header, block.signature, arrival, invalid, active)

    def final(self) -> tuple[int, bytes]:
        return self._final

    def tip(self) -> tuple[int, bytes]:
        return len(self._active) - 1, self._active[-1]

    def block(self, block_hash: bytes) -> Block | None:
        found = self._blocks.get(block_hash)
        return found[0] if found else None

    def block_at(self, height: int) -> Block | None:
        return self.block(self._active[height]) if 0 < height < len(self._active) else None

    def header_at(self, height: int) -> bytes | None:
        block = self.block_at(height)
        return block.header if block else None

    def undo(self, block_hash: bytes) -> bytes:
        return self._undo[block_hash]

    def snapshots(self) -> list[SnapshotInfo]:
        return sorted((info for info, _ in self._snapshots.values()), key=lambda info: -info.height)

    def snapshot(self, block_hash: bytes) -> bytes:
        return self._snapshots[block_hash][1]

    def close(self) -> None:
        pass
