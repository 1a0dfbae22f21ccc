"""Where the blocks of a rebuild come from: databases, damaged or not, and exported files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ledger_core.chain.store.blockfile import BlockFile, is_block_file
from ledger_core.chain.store.salvage import Salvage, open_damaged
from ledger_core.chain.store.stored import StoredBlock
from ledger_core.community import Genesis
from ledger_core.errors import ChainError
from ledger_core.records.block import Block, decode_header


class Source(Protocol):
    """A place that blocks can be read from."""

    @property
    def name(self) -> str:
        """What to call it in a message."""
        ...

    @property
    def genesis(self) -> Genesis | None:
        """The community whose blocks these are; None where that is not readable."""
        ...

    @property
    def tip_height(self) -> int | None:
        """Height up to which there should be blocks, where that is known."""
        ...

    @property
    def fault(self) -> str | None:
        """Why the last reading ended too early."""
        ...

    def branch(self, first: int) -> Iterator[Block]:
        """Yield the blocks of one branch from a height upwards, up to the first that is not readable."""
        ...

    def others(self) -> Iterator[Block]:
        """Yield further blocks, in the order in which they were first seen."""
        ...


class FileSource:
    """An exported file of blocks; raises ChainError `block_file_invalid` for one that is none."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.tip_height: int | None = None
        self.fault: str | None = None
        self._file = BlockFile(path)
        self.genesis: Genesis | None = self._file.genesis

    def branch(self, first: int) -> Iterator[Block]:
        """Yield the file's blocks from a height upwards; none where the file begins above it."""
        expected = first
        try:
            for block in self._file.blocks():
                height = decode_header(block.header).height
                if height > expected:
                    self.fault = f"{self.name}: block {expected} is not in the file"
                    return
                if height == expected:
                    yield block
                    expected += 1
        except ChainError as error:
            self.fault = error.message

    def others(self) -> Iterator[Block]:
        """Yield nothing: a file holds one branch."""
        yield from ()


class DatabaseSource:
    """A database, damaged or not."""

    def __init__(self, path: Path, salvage: Salvage) -> None:
        self.name = str(path)
        self.salvage = salvage
        self.genesis = salvage.genesis
        self.tip_height = salvage.tip_height
        self.fault: str | None = None

    def branch(self, first: int) -> Iterator[Block]:
        """Yield the archive's blocks from a height upwards."""
        expected = first
        for height, blocks in self.salvage.segments(first):
            if height > expected:
                self.fault = f"{self.name}: the final blocks {expected} to {height - 1} are not readable"
                return
            for block in blocks[expected - height :]:
                if block.body is None:
                    self.fault = f"{self.name}: the body of block {expected} was pruned"
                    return
                yield Block(block.header, block.signature, block.body)
                expected += 1

    def others(self) -> Iterator[Block]:
        """Yield the blocks above the archive, of all branches."""
        return self.salvage.recent()

    def archive(self) -> Iterator[StoredBlock]:
        """Yield the archive's blocks from height 1, also without bodies, up to the first unreadable one."""
        expected = 1
        for height, blocks in self.salvage.segments():
            if height != expected:
                return
            yield from blocks
            expected += len(blocks)


@contextmanager
def open_source(path: Path, genesis: Genesis | None, work: Path) -> Iterator[DatabaseSource | FileSource]:
    """Open an exported file or a database, damaged or not; `work` is a directory for temporary copies.

    Raises ChainError `block_file_invalid`, or OSError.
    """
    if is_block_file(path):
        yield FileSource(path)
    else:
        with open_damaged(path, genesis, work) as salvage:
            yield DatabaseSource(path, salvage)
