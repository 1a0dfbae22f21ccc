"""Bans and address book on disk: two JSON files, written whole, beside the event loop."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ledger_core.keys import Signer
from ledger_core.keys.whole_file import write_whole_file
from ledger_core.node.peers.address_book import AddressBook
from ledger_core.node.peers.bans import Bans
from ledger_core.node.peers.errors import PeerError

_LOGGER: Final = logging.getLogger(__name__)
BANS_FILE: Final = "bans.json"
BOOK_FILE: Final = "addresses.json"
MAX_FILE_BYTES: Final = 16 * 2**20


class Storage:
    """Reads both at the start and writes what has changed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._unwritten: set[str] = set()
        """Files whose last write failed: told once, not with every try."""

    def load_bans(self, now: float) -> Bans:
        """Return the stored bans; an unreadable file is put aside, and said so in the log."""
        return self._load(BANS_FILE, lambda content: Bans.restore(content, now), Bans)

    def load_book(self, signer: Signer, chain_id: bytes) -> AddressBook:
        """Return the stored address book; an unreadable file is put aside, and said so in the log."""
        return self._load(
            BOOK_FILE,
            lambda content: AddressBook.restore(content, signer, chain_id),
            lambda: AddressBook(signer, chain_id),
        )

    def _load[Stored](
        self, name: str, read: Callable[[bytes], Stored], empty: Callable[[], Stored]
    ) -> Stored:
        path = self._directory / name
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES)
        except FileNotFoundError:
            return empty()
        try:
            return read(content)
        except PeerError as error:
            aside = path.with_name(f"{name}.unreadable")
            _LOGGER.warning("%s; it is kept as %s, and begun anew", error.message, aside)
            path.replace(aside)
            return empty()

    async def save_bans(self, bans: Bans) -> None:
        """Write the bans if they have changed; a failure is told once, and made good by a later call."""
        await self._save(BANS_FILE, bans)

    async def save_book(self, book: AddressBook) -> None:
        """Write the address book if it has changed; a failure is told once, and made good by a later call."""
        await self._save(BOOK_FILE, book)

    async def _save(self, name: str, kept: Bans | AddressBook) -> None:
        if not kept.changed:
            return
        kept.changed = False
        path = self._directory / name
        try:
            await asyncio.to_thread(write_whole_file, path, kept.dump(), force=True, private=True)
        except OSError as error:
            kept.changed = True
            if name not in self._unwritten:
                _LOGGER.warning("%s can't be written (%s): it is tried again", path, error.strerror or error)
            self._unwritten.add(name)
        else:
            if name in self._unwritten:
                _LOGGER.info("%s is written again", path)
            self._unwritten.discard(name)
