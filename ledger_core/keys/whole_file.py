"""Writing a file whole or not at all, and never over another by accident."""

import contextlib
import errno
import os
import secrets
from pathlib import Path
from typing import Final

_PRIVATE: Final = 0o600
_PUBLIC: Final = 0o666
# File systems without hard links (FAT, some network shares) answer one of these.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def write_whole_file(path: Path, content: bytes, *, force: bool, private: bool = False) -> None:
    """Write ``content`` to ``path``; it is on disk when the call returns.

    A private file has mode 0600, any other what the umask leaves of 0666.

    The content goes to a new file beside it first, so that a crash leaves the old file or the new one.
    Raises FileExistsError if ``path`` exists and ``force`` is false, and OSError as the system gives it.
    """
    if not force and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(
        beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE if private else _PUBLIC
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            if private:
                # The umask may have taken bits away.
                os.fchmod(file.fileno(), _PRIVATE)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if force:
            beside.replace(path)
        else:
            _rename_to_new(beside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
    _sync_directory(path.parent)


def _rename_to_new(beside: Path, path: Path) -> None:
    """Give the file its name, unless that name is taken: a link refuses what a rename would replace."""
    try:
        os.link(beside, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE))
        beside.replace(path)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
