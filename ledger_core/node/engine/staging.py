"""Headers of a new node before it has a chain: checked one after the other, kept for a restart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ledger_core.community import Genesis
from ledger_core.errors import RuleError
from ledger_core.node.messages import BlockRef, SealedHeader
from ledger_core.records.block import HEADER_BYTES, decode_header, header_hash
from ledger_core.rules.headers import MEDIAN_SPAN, Parent

SEALED_BYTES = HEADER_BYTES + 64
_READ_AT_ONCE = 4096


class Staging(Protocol):
    """Keeps sealed headers by height, from 1 on."""

    def __len__(self) -> int:
        """Return how many headers there are: the height of the last one."""
        ...

    def append(self, headers: list[SealedHeader]) -> None:
        """Add headers on top."""
        ...

    def read(self, first: int, count: int) -> list[SealedHeader]:
        """Return headers from a height upwards."""
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...


class MemoryStaging:
    """Staging that a restart loses."""

    def __init__(self) -> None:
        self._headers: list[SealedHeader] = []

    def __len__(self) -> int:
        return len(self._headers)

    def append(self, headers: list[SealedHeader]) -> None:
        """Add headers on top."""
        self._headers += headers

    def read(self, first: int, count: int) -> list[SealedHeader]:
        """Return headers from a height upwards."""
        return self._headers[first - 1 : first - 1 + count]

    def clear(self) -> None:
        """Forget everything."""
        self._headers.clear()


class FileStaging:
    """Staging in one file of equal entries; whatever a crash cut off or damaged is fetched again."""

    def __init__(self, path: Path, chain_id: bytes) -> None:
        self._path = path
        self._count = path.stat().st_size // SEALED_BYTES if path.exists() else 0
        self._count = self._linked(chain_id)

    def __len__(self) -> int:
        return self._count

    def append(self, headers: list[SealedHeader]) -> None:
        """Add headers on top."""
        with self._path.open("r+b" if self._path.exists() else "w+b") as file:
            file.seek(self._count * SEALED_BYTES)
            file.truncate()
            file.write(b"".join(sealed.header + sealed.signature for sealed in headers))
        self._count += len(headers)

    def read(self, first: int, count: int) -> list[SealedHeader]:
        """Return headers from a height upwards."""
        count = min(count, self._count - first + 1)
        if count < 1:
            return []
        with self._path.open("rb") as file:
            file.seek((first - 1) * SEALED_BYTES)
            data = file.read(count * SEALED_BYTES)
        return [
            SealedHeader(data[at : at + HEADER_BYTES], data[at + HEADER_BYTES : at + SEALED_BYTES])
            for at in range(0, len(data), SEALED_BYTES)
        ]

    def clear(self) -> None:
        """Forget everything."""
        self._path.unlink(missing_ok=True)
        self._count = 0

    def _linked(self, chain_id: bytes) -> int:
        """Return how many headers follow each other from the genesis."""
        previous, good = chain_id, 0
        while good < self._count:
            for sealed in self.read(good + 1, _READ_AT_ONCE):
                if decode_header(sealed.header).previous != previous:
                    return good
                previous, good = header_hash(sealed.header), good + 1
        return good


def staged_headers(staging: Staging, last: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield headers and signatures up to a height, lowest first."""
    height = 1
    while height <= last:
        part = staging.read(height, min(_READ_AT_ONCE, last - height + 1))
        if not part:
            raise RuleError("headers_missing", f"no header at height {height} is staged", height=height)
        for sealed in part:
            yield sealed.header, sealed.signature
        height += len(part)


def staged_hash(staging: Staging, height: int, chain_id: bytes) -> bytes | None:
    """Return the hash of a staged block, or of the genesis at height 0."""
    if height == 0:
        return chain_id
    found = staging.read(height, 1) if height <= len(staging) else []
    return header_hash(found[0].header) if found else None


def staged_parent(staging: Staging, height: int, genesis: Genesis) -> Parent:
    """Return what the header after a staged one must know."""
    first = max(height - MEDIAN_SPAN + 1, 1)
    recent = staging.read(first, height - first + 1)
    times = tuple(decode_header(sealed.header).time for sealed in recent)
    if len(times) < MEDIAN_SPAN:
        times = (genesis.created, *times)
    return Parent(height, staged_ref(staging, height, genesis.chain_id).hash, times)


def staged_ref(staging: Staging, height: int, chain_id: bytes) -> BlockRef:
    """Return height and hash of a staged block that is there."""
    block_hash = staged_hash(staging, height, chain_id)
    if block_hash is None:
        raise RuleError("headers_missing", f"no header at height {height} is staged", height=height)
    return BlockRef(height, block_hash)
