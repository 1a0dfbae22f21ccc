"""Opens what a node keeps in its data directory, in the chain's thread, before anything else runs."""

import contextlib
import logging
import secrets
from dataclasses import dataclass
from random import SystemRandom
from typing import Final

from ledger_core import __version__
from ledger_core.chain.signature_cache import SignatureCache
from ledger_core.chain.store.opening import open_store
from ledger_core.chain.store.store import SqliteStore
from ledger_core.chain.verify import Verifier
from ledger_core.keys import SoftwareSigner
from ledger_core.node.api.event_feed import EventFeed
from ledger_core.node.api.event_log import EventLog
from ledger_core.node.config import Settings
from ledger_core.node.data_directory import EVENTS, OUTBOX, STAGED, VOTES, DataDirectory
from ledger_core.node.engine.engine import Engine, NodeData
from ledger_core.node.engine.followed_chain import FollowedChain
from ledger_core.node.engine.outbox import FileOutbox
from ledger_core.node.engine.settings import EngineSettings
from ledger_core.node.engine.staging import FileStaging
from ledger_core.node.engine.vote_journal import FileVoteJournal
from ledger_core.node.messages import BlockRef
from ledger_core.records.invitations import InvitationLink

_LOGGER: Final = logging.getLogger(__name__)

SOFTWARE: Final = f"energy-ledger/{__version__}"
MEMBER_PART: Final = 8
"""One member may fill so small a part of the memory for waiting records."""


@dataclass
class Works:
    """The open parts of a data directory."""

    store: SqliteStore
    verifier: Verifier
    engine: Engine
    feed: EventFeed
    log: EventLog
    signer: SoftwareSigner
    link: InvitationLink | None
    """The invitation of a newcomer that is no member yet."""

    def close(self) -> None:
        """Close files and threads; in the chain's thread, as the last work there."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.store.close)
            stack.callback(self.log.close)
            stack.callback(self.verifier.close)


def open_works(directory: DataDirectory, settings: Settings, now: float) -> Works:
    """Open a data directory and bring the chain to its tip.

    Raises LedgerError with the remedy (DirectoryError, ChainError, KeyFileError and others), OSError.
    """
    genesis = directory.genesis()
    with contextlib.ExitStack() as undo:
        store = open_store(directory.path, genesis)
        undo.callback(store.close)
        store.pack_later = True
        # The directory's lock is held from here on: nobody else makes a key, or tells where an API is.
        directory.forget_api_address()
        signer, key_is_new = directory.node_signer()
        link = directory.invitation()
        verifier = Verifier(settings.verify_workers, SignatureCache(secrets.token_bytes(32)))
        undo.callback(verifier.close)
        chain = FollowedChain.open(store, verifier)
        data = NodeData(
            signer,
            FileVoteJournal(directory.file(VOTES), key_is_new=key_is_new),
            FileOutbox(directory.file(OUTBOX)),
            FileStaging(directory.file(STAGED), chain.chain_id),
        )
        log = EventLog(directory.file(EVENTS))
        undo.callback(log.close)
        feed = EventFeed(log, store, now)
        engine = Engine(chain, store, verifier, data, _engine_settings(settings, link), SystemRandom(), now)
        undo.pop_all()
    _LOGGER.info("the chain of %r stands at height %d", genesis.name, chain.height)
    return Works(store, verifier, engine, feed, log, signer, link)


def _engine_settings(settings: Settings, link: InvitationLink | None) -> EngineSettings:
    pool_bytes = settings.mempool_mib * 1024 * 1024
    anchor = link.anchor if link is not None else None
    return EngineSettings(
        software=SOFTWARE,
        pool_bytes=pool_bytes,
        pool_member_bytes=max(pool_bytes // MEMBER_PART, 128 * 1024),
        full_sync=settings.full_sync,
        snapshot_gap_blocks=settings.snapshot_gap,
        anchor=None if anchor is None else BlockRef(anchor.height, anchor.hash),
        voting=settings.voting,
    )
