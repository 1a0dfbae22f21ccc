"""Blocks in a plain file, to carry a chain from one data directory to another.

The file is a header line, the blocks in order (each its length as four bytes, big-endian, and its canonical
bytes), and an end mark: the length zero, and the SHA-256 of everything before it.  The header line is ASCII:
the words `energy-ledger-blocks`, the version of the format, and the genesis in hexadecimal.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final

from ledger_core.community import Genesis, decode_genesis, encode_genesis
from ledger_core.errors import ChainError, LedgerError
from ledger_core.records.block import MAX_BLOCK_BYTES, Block, decode_block, encode_block

MAGIC: Final = b"energy-ledger-blocks"
VERSION: Final = 1
_LENGTH: Final = 4
_MAX_HEADER: Final = 1024 * 1024
_MAX_BLOCK: Final = MAX_BLOCK_BYTES + 1024
"""Header, signature and the lengths of all fields fit into the rest."""


def write_blocks(file: BinaryIO, genesis: Genesis, blocks: Iterable[Block]) -> int:
    """Write blocks and return how many there were."""
    digest = sha256()
    count = 0

    def put(data: bytes) -> None:
        digest.update(data)
        file.write(data)

    put(b"%s %d %s\n" % (MAGIC, VERSION, encode_genesis(genesis).hex().encode()))
    for block in blocks:
        data = encode_block(block)
        put(len(data).to_bytes(_LENGTH) + data)
        count += 1
    put(bytes(_LENGTH))
    file.write(digest.digest())
    return count


def is_block_file(path: Path) -> bool:
    """Return whether a file begins as one of blocks does; raises OSError."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


class BlockFile:
    """A file of blocks; raises ChainError `block_file_invalid` for one that is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.genesis = self._read_header(file)
            self._start = file.tell()

    def _read_header(self, file: BinaryIO) -> Genesis:
        words = file.readline(_MAX_HEADER).split()
        if not words or words[0] != MAGIC:
            raise self._invalid(f"it does not begin with the word {MAGIC.decode()}")
        if len(words) != 3 or words[1] != str(VERSION).encode():
            raise self._invalid(f"its format is not version {VERSION}, the only one that this program reads")
        try:
            return decode_genesis(bytes.fromhex(words[2].decode()))
        except (ValueError, LedgerError) as error:
            raise self._invalid(f"its genesis is not readable: {error}") from error

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks in order.

        Raises ChainError `block_file_damaged` at the first that is not readable, or at the end where the
        checksum is wrong or missing; the blocks before are good as far as their own hashes say.
        """
        digest = sha256()
        with self.path.open("rb") as file:
            digest.update(file.read(self._start))
            count = 0
            while True:
                prefix = file.read(_LENGTH)
                length = int.from_bytes(prefix)
                digest.update(prefix)
                if len(prefix) < _LENGTH or length > _MAX_BLOCK:
                    raise self._damaged(count, "it ends too early" if length <= _MAX_BLOCK else "no length")
                if not length:
                    break
                data = file.read(length)
                digest.update(data)
                try:
                    block = decode_block(data)
                except LedgerError as error:
                    raise self._damaged(count, str(error)) from error
                yield block
                count += 1
            if file.read() != digest.digest():
                raise self._damaged(count, "the checksum at the end is wrong")

    def _invalid(self, why: str) -> ChainError:
        return ChainError(
            "block_file_invalid", f"{self.path} is no file of blocks: {why}", path=str(self.path)
        )

    def _damaged(self, count: int, why: str) -> ChainError:
        return ChainError(
            "block_file_damaged",
            f"{self.path} is damaged after block {count} of the file: {why}",
            path=str(self.path),
            count=count,
        )
