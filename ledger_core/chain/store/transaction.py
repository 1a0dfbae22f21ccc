"""What happens in the one transaction of a commit, step by step."""

import sqlite3
from collections.abc import Callable, Sequence

from msgspec import Struct

from ledger_core.chain.model import Commit, Connected, SnapshotInfo
from ledger_core.chain.store import recent, snapshots
from ledger_core.chain.store.archive import Archive
from ledger_core.chain.store.head import Head, write_head
from ledger_core.chain.store.stored import StoredBlock
from ledger_core.community import Genesis
from ledger_core.errors import ChainError
from ledger_core.records.block import Block, Header, decode_header

LOOSE_BLOCKS = 128
"""Fewer blocks that become final at once are packed at once: they are no sync."""

type StageHook = Callable[[str], None]
"""Told the name of each step of a change once it is done."""


class _Passing(Struct, frozen=True, gc=False):
    """A block that becomes final in the commit that brings it: it never gets a row of its own."""

    arrival: int
    block: Block
    header: Header


class Transaction:
    """Turns a commit into changes of the tables; the caller begins, commits and rolls back."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        archive: Archive,
        genesis: Genesis,
        head: Head,
        on_stage: StageHook,
    ) -> None:
        self._connection = connection
        self._archive = archive
        self._genesis = genesis
        self._old_final = head.final
        self._tip = head.tip
        self._final = head.final
        self._pruned = head.pruned
        self._passing: dict[bytes, _Passing] = {}
        self._on_stage = on_stage

    def run(self, commit: Commit, *, pack_later: bool = False) -> None:
        """Make the commit's changes; raises ChainError `commit_inconsistent` for one that does not fit.

        `pack_later`: of many final blocks, the archive gets loose segments.
        """
        if commit.final is not None:
            require(commit.final[0] >= self._old_final[0], "the final checkpoint goes down")
            self._final = commit.final
        self._add(commit)
        self._on_stage("blocks added")
        for block_hash in commit.disconnected:
            self._disconnect(block_hash)
        self._on_stage("blocks disconnected")
        for connected in commit.connected:
            self._connect(connected)
        self._on_stage("blocks connected")
        for block_hash in commit.invalid:
            recent.set_invalid(self._connection, self._row(block_hash)[0])
        self._drop(commit.dropped)
        self._on_stage("branches dropped")
        if self._final != self._old_final:
            self._finalise(pack_later=pack_later)
        if commit.snapshot is not None:
            self._keep_snapshot(*commit.snapshot)
        snapshots.drop_old(self._connection, self._final[0])
        self._on_stage("snapshots kept")
        write_head(self._connection, Head(self._tip, self._final, self._pruned))
        self._on_stage("head written")

    def _add(self, commit: Commit) -> None:
        joining = {connected.hash for connected in commit.connected}
        for block, arrival in commit.added:
            block_hash = block.hash
            if block_hash in joining:
                header = decode_header(block.header)
                if header.height <= self._final[0]:
                    self._passing[block_hash] = _Passing(arrival, block, header)
                    continue
            try:
                recent.add(self._connection, block, arrival)
            except sqlite3.IntegrityError as error:
                raise inconsistent(f"block {block_hash.hex()} is in the store already") from error

    def _row(self, block_hash: bytes) -> recent.Row:
        row = recent.find(self._connection, block_hash)
        if row is None:
            raise inconsistent(f"block {block_hash.hex()} is not in the store")
        return row

    def _disconnect(self, block_hash: bytes) -> None:
        height, tip_hash = self._tip
        require(block_hash == tip_hash, "only the tip can be taken off the active branch")
        require(height > self._old_final[0], "a final block can't be taken off the active branch")
        row_id, header = self._row(block_hash)
        recent.set_active(self._connection, row_id, None)
        snapshots.drop(self._connection, [block_hash])
        self._tip = (height - 1, decode_header(header).previous)

    def _connect(self, connected: Connected) -> None:
        height, tip_hash = self._tip
        passing = self._passing.get(connected.hash)
        if passing is not None:
            header = passing.header
        else:
            row_id, data = self._row(connected.hash)
            header = decode_header(data)
            recent.set_active(self._connection, row_id, connected.undo)
        require(
            header.previous == tip_hash and header.height == height + 1, "a block does not follow the tip"
        )
        self._tip = (height + 1, connected.hash)

    def _drop(self, hashes: Sequence[bytes]) -> None:
        for block_hash in hashes:
            recent.remove(self._connection, self._row(block_hash)[0])
        snapshots.drop(self._connection, hashes)

    def _finalise(self, *, pack_later: bool) -> None:
        """Move the active blocks up to the new final one into the archive; forget what lies beside them."""
        above, up_to = self._old_final[0], self._final[0]
        rows = recent.active_between(self._connection, above, up_to)
        rows += [
            (each.header.height, each.arrival, block_hash, each.block)
            for block_hash, each in self._passing.items()
        ]
        rows.sort(key=lambda row: row[0])
        heights = [row[0] for row in rows]
        require(heights == list(range(above + 1, up_to + 1)), "the final block is not on the active branch")
        require(rows[-1][2] == self._final[1], "the final block is not on the active branch")
        blocks = [StoredBlock(block.header, block.signature, block.body) for *_, block in rows]
        self._archive.append(
            self._connection,
            blocks,
            (*self._old_final, self._time_below()),
            lambda: self._on_stage("segment archived"),
            loose=pack_later and len(blocks) >= LOOSE_BLOCKS,
        )
        self._empty_recent(rows[-1])
        active = {row[2] for row in rows}
        beside = [
            info.hash
            for info in snapshots.infos(self._connection)
            if above < info.height <= up_to and info.hash not in active
        ]
        snapshots.drop(self._connection, beside)

    def _time_below(self) -> int:
        if self._old_final[0] == 0:
            return self._genesis.created
        return decode_header(self._row(self._old_final[1])[1]).time

    def _empty_recent(self, final_row: tuple[int, int, bytes, Block]) -> None:
        """Leave the header of the final block alone of all rows up to its height."""
        height, arrival, block_hash, block = final_row
        if block_hash in self._passing:
            recent.add_header(self._connection, block, arrival, active=True)
        recent.remove_up_to(self._connection, height, block_hash)
        self._on_stage("recent emptied")

    def _keep_snapshot(self, info: SnapshotInfo, data: bytes) -> None:
        require(info.height <= self._tip[0], "a snapshot above the tip")
        snapshots.save(self._connection, info, data)


def require(condition: object, why: str) -> None:
    """Raise ChainError `commit_inconsistent` unless a condition holds."""
    if not condition:
        raise inconsistent(why)


def inconsistent(why: str) -> ChainError:
    """Return the refusal of a commit that does not fit the stored chain."""
    return ChainError("commit_inconsistent", f"the store refuses a change that does not fit its chain: {why}")
