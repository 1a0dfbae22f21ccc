"""Making a new database of what is still readable, and of files that others exported.

Every block is verified by the rules again, so that the result is as good as a chain synced from others. The
old database is kept beside the new one.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from msgspec import Struct

from ledger_core.chain.chain import Chain
from ledger_core.chain.model import SnapshotInfo
from ledger_core.chain.recovery import HeaderChain
from ledger_core.chain.sources import DatabaseSource, Source, open_source
from ledger_core.chain.store import files
from ledger_core.chain.store.faults import as_chain_errors
from ledger_core.chain.store.head import Head
from ledger_core.chain.store.opening import build_store, no_stage
from ledger_core.chain.store.transaction import StageHook
from ledger_core.chain.verify import Verifier
from ledger_core.community import Genesis
from ledger_core.errors import ChainError, LedgerError, RecordError, RuleError
from ledger_core.records.block import Block, decode_header
from ledger_core.rules.state import load_snapshot
from ledger_core.units import MAX_TIME

type Progress = Callable[[int, int], None]
"""Told how much of long work is done, and how much there is."""


class RebuildReport(Struct, frozen=True):
    """What a rebuild saved, and what it could not."""

    height: int
    """Of the new tip."""
    hash: bytes
    final_height: int
    pruned: int
    """Up to this height only headers were there to be saved."""
    old_height: int | None
    """Of the tip that the old database named; None where that was not readable."""
    kept_aside: Path | None
    """The old database."""
    notes: Sequence[str]
    """What was in the way."""

    @property
    def lost(self) -> int | None:
        """How many blocks of the old branch are missing now; None where that is not known."""
        return None if self.old_height is None else max(self.old_height - self.height, 0)


class Base(Struct, frozen=True):
    """A proven state in a database, from which a chain can begin without the bodies below."""

    source: DatabaseSource
    info: SnapshotInfo
    data: bytes
    pruned: int
    """Up to this height blocks come without bodies."""
    height: int
    """Height of the checkpoint above the state, which proves it."""


def rebuild(
    directory: Path,
    verifier: Verifier,
    now: int,
    *,
    genesis: Genesis | None = None,
    imports: Sequence[Path] = (),
    progress: Progress | None = None,
    on_stage: StageHook = no_stage,
) -> RebuildReport:
    """Make a directory's database anew from what is readable of it and from imported files, and swap it in.

    `imports` are exported files of blocks or further databases (such as one that was kept aside). `now` is
    the clock's UTC time, for the name of the file kept aside. A rebuild that is interrupted changes nothing.

    Raises ChainError `store_missing`, `store_in_use`, `genesis_needed`, `other_community`,
    `block_file_invalid`, `store_unreachable`, `disk_full`.
    """
    database = directory / files.DATABASE
    with ExitStack() as stack:
        stack.enter_context(as_chain_errors(database))
        if not directory.is_dir():
            raise _nothing_to_rebuild(directory)
        stack.enter_context(files.locked(directory))
        files.finish_replacement(directory, on_stage)
        files.discard_unfinished(directory)
        own = [database] if database.exists() else []
        if not own and not imports:
            raise _nothing_to_rebuild(directory)
        sources = [stack.enter_context(open_source(path, genesis, directory)) for path in (*own, *imports)]
        old_height = sources[0].tip_height if own else None
        work = _Rebuild(directory, _common_genesis(sources, genesis), sources, verifier, progress, on_stage)
        head = work.run()
        on_stage("rebuilt")
        files.announce_replacement(directory, now)
        on_stage("replacement announced")
        aside = files.finish_replacement(directory, on_stage)
    return RebuildReport(
        height=head.tip[0],
        hash=head.tip[1],
        final_height=head.final[0],
        pruned=head.pruned,
        old_height=old_height,
        kept_aside=aside,
        notes=tuple(dict.fromkeys(work.notes)),
    )


def _nothing_to_rebuild(directory: Path) -> ChainError:
    return ChainError(
        "store_missing",
        f"{directory} holds no chain to rebuild; check the path, or name a file of blocks with --import FILE",
        path=str(directory),
    )


def _common_genesis(sources: Sequence[Source], wanted: Genesis | None) -> Genesis:
    """Return the genesis that all sources share."""
    common = wanted
    for source in sources:
        found = source.genesis
        if found is None:
            continue
        if common is not None and found.chain_id != common.chain_id:
            raise ChainError(
                "other_community",
                f"{source.name} holds the chain of the community {found.chain_id.hex()}, not of "
                f"{common.chain_id.hex()}",
                found=found.chain_id,
                wanted=common.chain_id,
            )
        common = found
    if common is None:
        raise ChainError(
            "genesis_needed",
            f"{sources[0].name} does not say any more whose chain it was; name the community's genesis file "
            "with --genesis FILE",
        )
    return common


class _Rebuild:
    def __init__(
        self,
        directory: Path,
        genesis: Genesis,
        sources: Sequence[Source],
        verifier: Verifier,
        progress: Progress | None,
        on_stage: StageHook,
    ) -> None:
        self.notes: list[str] = []
        self._directory = directory
        self._genesis = genesis
        self._sources = sources
        self._verifier = verifier
        self._progress = progress
        self._on_stage = on_stage
        self._goal = max((source.tip_height or 0 for source in sources), default=0)

    def run(self) -> Head:
        """Build the best chain that the sources give, and return where it stands."""
        head = self._build(None)
        if head.tip[0] < self._goal or not head.tip[0]:
            base = self._best_base()
            if base is not None and base.height > head.tip[0]:
                self.notes.clear()
                head = self._build(base)
        return head

    def _build(self, base: Base | None) -> Head:
        store = build_store(self._directory, self._genesis, self._on_stage)
        try:
            store.set_durable(durable=False)
            if base is not None:
                archived = base.source.archive()
                headers = ((each.header, each.signature) for each in islice(archived, base.pruned))
                blocks = (
                    Block(each.header, each.signature, each.body)
                    for each in islice(archived, base.height - base.pruned)
                    if each.body is not None
                )
                store.install(headers, blocks, (base.info, base.data))
            chain = Chain.open(store, self._verifier)
            self._feed(chain)
            store.checkpoint()
            return store.head()
        finally:
            store.close()

    def _feed(self, chain: Chain) -> None:
        """Take blocks from one source after the other until none has a block that fits any more."""
        before = -1
        while chain.height > before:
            before = chain.height
            self._take_branches(chain)
            for source in self._sources:
                for block in source.others():
                    self._take_other(chain, block)

    def _take_branches(self, chain: Chain) -> None:
        """Let each source go on where the ones before had to stop."""
        before = -1
        while chain.height > before:
            before = chain.height
            for source in self._sources:
                self._take_branch(chain, source)

    def _take_branch(self, chain: Chain, source: Source) -> None:
        start = chain.height
        try:
            chain.add_blocks(source.branch(start + 1), MAX_TIME, lambda added: self._show(start + added))
        except (RuleError, RecordError) as refusal:
            self.notes.append(f"{source.name}: block {chain.height + 1} is refused: {refusal.message}")
        if source.fault is not None:
            self.notes.append(source.fault)

    def _take_other(self, chain: Chain, block: Block) -> None:
        try:
            chain.add_block(block, MAX_TIME)
        except RuleError, RecordError:
            # What a rule refuses on a side branch was refused before as well, or lies below the final block.
            return
        self._show(chain.height)

    def _show(self, height: int) -> None:
        if self._progress is not None:
            self._progress(height, max(self._goal, height))

    def _best_base(self) -> Base | None:
        found = [
            base
            for source in self._sources
            if isinstance(source, DatabaseSource)
            for base in self._bases(source)
        ]
        return max(found, key=lambda base: base.height, default=None)

    def _bases(self, source: DatabaseSource) -> Iterator[Base]:
        """Yield the states in a database that a checkpoint proves, with all headers below."""
        interval = self._genesis.parameters.checkpoint_interval
        wanted = {
            info.height: (info, data)
            for info, data in source.salvage.snapshots()
            if (info.height + 1) % interval == 0 and _is_state(info, data, self._genesis)
        }
        checked = HeaderChain(self._genesis)
        last_without_body = 0
        try:
            for stored in source.archive():
                checked.take(stored.header, stored.signature)
                if stored.body is None:
                    last_without_body = checked.height
                candidate = wanted.get(checked.height - 1)
                if candidate is not None:
                    info, data = candidate
                    header = decode_header(stored.header)
                    proven = header.previous == info.hash and header.state_hash == info.state_hash
                    if proven and last_without_body <= info.height:
                        yield Base(source, info, data, last_without_body, checked.height)
        except (RuleError, RecordError) as refusal:
            self.notes.append(f"{source.name}: header {checked.height + 1} is refused: {refusal.message}")


def _is_state(info: SnapshotInfo, data: bytes, genesis: Genesis) -> bool:
    try:
        state = load_snapshot(data)
    except LedgerError:
        return False
    return state.chain_id == genesis.chain_id and state.hash() == info.state_hash
