"""The append-only file: a disk that fills up within an entry costs nothing that was confirmed."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger_core.errors import ChainError
from ledger_core.node.engine.logfile import LogFile


@contextmanager
def room(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes (Python ignores SIGXFSZ)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


FIRST, LARGE, LAST = b"a" * 20, b"b" * 40, b"d" * 20


@pytest.mark.parametrize("size", [28, 30, 36, 60, 76, 90, 123])
def test_what_a_full_disk_tore_is_gone_before_the_next_entry(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x.log"
    log = LogFile(path, 100)
    log.append(FIRST)
    with room(size), pytest.raises(OSError, match="File too large"):
        log.append(LARGE, LARGE)
    assert path.stat().st_size == 28
    log.append(LAST)
    assert LogFile(path, 100).read() == [FIRST, LAST]


def test_what_could_not_be_cut_off_at_once_is_cut_off_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.log"
    log = LogFile(path, 100)
    log.append(FIRST)

    def fails(length: int) -> None:
        raise OSError(length)

    with monkeypatch.context() as patch:
        patch.setattr(log, "_cut", fails)
        with room(50), pytest.raises(OSError, match="File too large"):
            log.append(LARGE)
    assert path.stat().st_size == 50
    log.append(LAST)
    assert LogFile(path, 100).read() == [FIRST, LAST]


def test_an_entry_behind_a_torn_one_of_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    LogFile(path, 100).append(FIRST)
    with path.open("ab") as file:
        file.write(b"\0\0\0\x14torn")
    LogFile(path, 100).append(LAST)
    assert LogFile(path, 100).read() == [FIRST, LAST]


def test_a_flipped_bit_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    LogFile(path, 100).append(FIRST, LAST)
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    with pytest.raises(ChainError, match="damaged at byte 0; restore the file from a backup"):
        LogFile(path, 100).append(LAST)
    assert path.read_bytes() == data
