"""What a node keeps, and where: one directory for one membership of one community.

    genesis        the community's genesis in canonical bytes
    node.key       the node's own key, mode 0600, made once
    node.toml      settings, where the owner writes any (see `config`)
    bootstrap      addresses of nodes that an invitation told, one in a line
    invitation     a newcomer's invitation, mode 0600; removed once its membership is final
    api.token      the API's token, mode 0600; `api-address`: where the API is, while the node runs
    chain.db       the blocks; `chain.lock`: held by the process that writes
    events.sqlite  events for the API's clients
    votes.log      what this node voted; `outbox.log`: own records that are not final yet
    headers.staged headers of a first sync that is under way
    bans.json      keys that are banned for a while; `addresses.json`: where nodes can be reached

Whoever copies the directory copies the node's key: two copies must never run at the same time.
"""

import contextlib
import fcntl
import logging
import os
from pathlib import Path
from typing import Final

from ledger_core.chain.store.files import DATABASE, LOCK, locked, sync_directory
from ledger_core.chain.store.opening import open_store
from ledger_core.community import Genesis, decode_genesis, encode_genesis
from ledger_core.errors import LedgerError
from ledger_core.keys import SoftwareSigner, load_key, save_key
from ledger_core.keys.whole_file import write_whole_file
from ledger_core.node.peers.errors import PeerError
from ledger_core.node.peers.location import parse_location
from ledger_core.records.invitations import InvitationError, InvitationLink, decode_link, encode_link

_LOGGER: Final = logging.getLogger(__name__)

GENESIS: Final = "genesis"
NODE_KEY: Final = "node.key"
BOOTSTRAP: Final = "bootstrap"
INVITATION: Final = "invitation"
API_ADDRESS: Final = "api-address"
EVENTS: Final = "events.sqlite"
VOTES: Final = "votes.log"
OUTBOX: Final = "outbox.log"
STAGED: Final = "headers.staged"

_MODE: Final = 0o700
_MAX_GENESIS: Final = 1024 * 1024
_MAX_BOOTSTRAP: Final = 16 * 1024


class DirectoryError(LedgerError):
    """A data directory that can't be used as it is; the message names the remedy."""


class DataDirectory:
    """One node's data directory. Reading and small files only; the store has its own module."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, name: str) -> Path:
        """Return where one of the files above is."""
        return self.path / name

    # The community

    def genesis(self) -> Genesis:
        """Return the community's genesis, from its file or else from the stored chain.

        Raises DirectoryError `directory_empty`, `genesis_damaged`, or ChainError as `open_store`.
        """
        path = self.file(GENESIS)
        try:
            with path.open("rb") as file:
                content = file.read(_MAX_GENESIS)
        except FileNotFoundError:
            return self._stored_genesis()
        except OSError as error:
            raise DirectoryError(
                "genesis_damaged", f"{path} can't be read: {error.strerror}", path=str(path)
            ) from error
        try:
            return decode_genesis(content)
        except LedgerError as error:
            raise DirectoryError(
                "genesis_damaged",
                f"{path} is no genesis ({error.message}): restore it from a backup, or delete it where "
                f"{DATABASE} beside it is whole",
                path=str(path),
            ) from error

    def _stored_genesis(self) -> Genesis:
        if not self.file(DATABASE).exists():
            raise DirectoryError(
                "directory_empty",
                f"{self.path} holds no community: found one (energy-ledger found) or join one "
                "(energy-ledger join) first, or check the path",
                path=str(self.path),
            )
        with open_store(self.path, writable=False) as store:
            return store.genesis

    # Keys and small files

    def node_signer(self) -> tuple[SoftwareSigner, bool]:
        """Return the node's key, and whether it was made by this call; raises KeyFileError, OSError."""
        path = self.file(NODE_KEY)
        if path.exists():
            return load_key(path), False
        signer = SoftwareSigner.generate()
        save_key(path, signer)
        return signer, True

    def invitation(self) -> InvitationLink | None:
        """Return the invitation that this node has not used up yet; raises InvitationError."""
        path = self.file(INVITATION)
        try:
            text = path.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return None
        try:
            return decode_link(text)
        except InvitationError as error:
            message = (
                f"{path}: {error.message}; restore the file, or remove it and join with a new invitation"
            )
            raise InvitationError(error.code, message, **error.details) from error

    def forget_invitation(self) -> None:
        """Remove the invitation: the membership is final, or the invitation was withdrawn."""
        self.file(INVITATION).unlink(missing_ok=True)

    def bootstrap(self) -> tuple[str, ...]:
        """Return the addresses that the invitation told; what is none is passed over, and the log says so."""
        path = self.file(BOOTSTRAP)
        try:
            with path.open("rb") as file:
                text = file.read(_MAX_BOOTSTRAP).decode(errors="replace")
        except FileNotFoundError:
            return ()
        except OSError as error:
            _LOGGER.warning(
                "%s can't be read (%s), so the addresses of the invitation are not known: restore the file "
                "or delete it, and write addresses of other nodes into the setting peers",
                path,
                error.strerror or error,
            )
            return ()
        lines = enumerate(text.split("\n"), 1)
        return tuple(
            line.strip() for number, line in lines if line.strip() and _is_address(path, number, line)
        )

    def tell_api_address(self, url: str) -> None:
        """Write down where the API is, for clients on this machine."""
        write_whole_file(self.file(API_ADDRESS), f"{url}\n".encode(), force=True)

    def forget_api_address(self) -> None:
        """The API is closed."""
        with contextlib.suppress(OSError):
            self.file(API_ADDRESS).unlink(missing_ok=True)

    def api_address(self) -> str:
        """Return where the API of the node that runs here is.

        Raises DirectoryError `node_not_running` where no node has said so.
        """
        try:
            return self.file(API_ADDRESS).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise self._not_running() from error

    def running_api_address(self) -> str:
        """Return as `api_address`, where a process holds the directory still.

        A node that was killed leaves its address behind, and by then somebody else may listen there.
        """
        url = self.api_address()
        if self._forget_if_free():
            raise self._not_running()
        return url

    def _not_running(self) -> DirectoryError:
        return DirectoryError(
            "node_not_running",
            f"no node runs on {self.path}: start it with energy-ledger node --data {self.path}",
            path=str(self.path),
        )

    def _forget_if_free(self) -> bool:
        """Forget where the API was if no process holds the directory; return whether that is so."""
        try:
            descriptor = os.open(self.file(LOCK), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        except OSError:
            # Nobody can tell: whoever asks there finds out.
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        else:
            # No node can start just now. The next one who looks must not stand in its way again.
            self.forget_api_address()
            return True
        finally:
            os.close(descriptor)


def _is_address(path: Path, number: int, line: str) -> bool:
    try:
        parse_location(line.strip())
    except PeerError as error:
        _LOGGER.warning(
            "%s, line %d, is passed over: %s; correct the line or delete it", path, number, error.message
        )
        return False
    return True


def prepare(path: Path) -> bytes:
    """Make a directory with a node's key, if they are not there yet; return the key's public half.

    Raises KeyFileError for a key that can't be read, OSError.
    """
    path.mkdir(mode=_MODE, parents=True, exist_ok=True)
    return DataDirectory(path).node_signer()[0].public_key


def found(path: Path, genesis: Genesis) -> None:
    """Make a directory that of a community's node; a node started there begins with the genesis.

    The same community again changes nothing. Raises DirectoryError `directory_taken` where another
    community's is there, ChainError `store_in_use` where a node runs, OSError.
    """
    prepare(path)
    with locked(path):
        _write_genesis(DataDirectory(path), genesis)


def join(path: Path, link: InvitationLink) -> None:
    """Make a directory that of a newcomer's node, which shows the invitation to the others.

    Raises as `found`. An earlier invitation to the same community is replaced.
    """
    prepare(path)
    directory = DataDirectory(path)
    with locked(path):
        _write_genesis(directory, link.community)
        addresses = "".join(f"{address}\n" for address in link.addresses)
        write_whole_file(directory.file(BOOTSTRAP), addresses.encode(), force=True)
        write_whole_file(
            directory.file(INVITATION), f"{encode_link(link)}\n".encode(), force=True, private=True
        )


def _write_genesis(directory: DataDirectory, genesis: Genesis) -> None:
    try:
        present = directory.genesis()
    except DirectoryError as error:
        if error.code != "directory_empty":
            raise
    else:
        if present.chain_id != genesis.chain_id:
            raise DirectoryError(
                "directory_taken",
                f"{directory.path} belongs to the community {present.name!r} "
                f"({present.chain_id.hex()[:16]}…); use another data directory",
                path=str(directory.path),
                found=present.chain_id,
                wanted=genesis.chain_id,
            )
    if not directory.file(GENESIS).exists():
        write_whole_file(directory.file(GENESIS), encode_genesis(genesis), force=False)
        sync_directory(directory.path)
