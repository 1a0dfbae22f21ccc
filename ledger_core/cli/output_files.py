"""Files that a command writes: refused before its work where they can't be, and never seen half written."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def require_writable(path: Path, *, force: bool) -> None:
    """Raise OSError where a file can't be written under a name: for a command whose work takes long.

    That is IsADirectoryError, FileExistsError without `force`, or what the system says of the folder.
    """
    if path.is_dir():
        raise _error(IsADirectoryError, errno.EISDIR, path)
    if not force and os.path.lexists(path):
        raise _error(FileExistsError, errno.EEXIST, path)
    if not stat.S_ISDIR(path.parent.stat().st_mode):
        raise _error(NotADirectoryError, errno.ENOTDIR, path.parent)


@contextmanager
def new_file(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """Open a file that appears under its name when it is complete; raises as `require_writable`."""
    require_writable(path, force=force)
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _error(kind: type[OSError], number: int, path: Path) -> OSError:
    return kind(number, os.strerror(number), str(path))
