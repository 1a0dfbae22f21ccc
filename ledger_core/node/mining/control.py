"""Keeps the miner on the newest template: it follows the tip, and takes new records in now and then."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from ledger_core.errors import ChainError, LedgerError
from ledger_core.node.chain_thread import ChainThread
from ledger_core.node.engine.outputs import (
    BlockConnected,
    BlockDisconnected,
    ClockDoubted,
    ClockTrusted,
    NodeEvent,
    RecordPooled,
    SnapshotAdopted,
)
from ledger_core.records.block import Header

_LOGGER: Final = logging.getLogger(__name__)

NEW_RECORDS_S: Final = 1.0
"""Records that come within this time go into one new template."""
REFRESH_S: Final = 10.0
"""A template's time, and whether the node may mine at all, are looked at again after so long."""
RETRY_S: Final = 1.0
"""While there is nothing to mine, it is looked at again after so long."""

_AT_ONCE: Final = (BlockConnected, BlockDisconnected, SnapshotAdopted, ClockDoubted, ClockTrusted)


class Searcher(Protocol):
    """The mining process."""

    def search(self, header: Header) -> None:
        """Search this header from now on."""

    def pause(self) -> None:
        """Search nothing."""


class MiningControl:
    """Gives the miner its templates between `start` and `stop`."""

    def __init__(
        self,
        thread: ChainThread,
        *,
        new_records_s: float = NEW_RECORDS_S,
        refresh_s: float = REFRESH_S,
        blocked: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Take templates from a chain's thread; none while `blocked` gives a reason."""
        self._thread = thread
        self._blocked = blocked
        self._new_records_s = new_records_s
        self._refresh_s = refresh_s
        self._wanted = asyncio.Event()
        self._later: asyncio.TimerHandle | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._taking: set[asyncio.Task[None]] = set()

    def start(self, miner: Searcher) -> None:
        """Begin to give templates."""
        self._wanted.set()
        self._keeper = asyncio.create_task(self._keep(miner), name="mining templates")

    async def stop(self) -> None:
        """Give no more templates, and take in what was found."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
        await asyncio.gather(*self._taking)

    def follow(self, events: Iterable[NodeEvent]) -> None:
        """Hear what happened in the chain; called on the event loop."""
        for event in events:
            if isinstance(event, _AT_ONCE):
                self._wanted.set()
            elif isinstance(event, RecordPooled) and self._later is None:
                loop = asyncio.get_running_loop()
                self._later = loop.call_later(self._new_records_s, self._due)

    def look_again(self) -> None:
        """See anew whether, and on what, to mine."""
        self._wanted.set()

    def found(self, header: Header) -> None:
        """Take a header that meets its target; called on the event loop."""
        task = asyncio.create_task(self._take(header), name="mined block")
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    def _due(self) -> None:
        self._later = None
        self._wanted.set()

    async def _keep(self, miner: Searcher) -> None:
        is_mining = True
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._refresh_s if is_mining else min(RETRY_S, self._refresh_s)):
                    await self._wanted.wait()
            self._wanted.clear()
            is_mining = await self._refresh(miner)

    async def _refresh(self, miner: Searcher) -> bool:
        """Give the miner what to search now; return whether there is anything."""
        if self._blocked() is not None:
            miner.pause()
            return False
        try:
            template = await self._thread.run(lambda engine, now: engine.template(now))
        except LedgerError as error:
            _LOGGER.warning("no block can be prepared: %s", error)
            template = None
        if template is None:
            miner.pause()
            return False
        miner.search(template.header)
        return True

    async def _take(self, header: Header) -> None:
        try:
            block_hash = await self._thread.run(lambda engine, now: engine.mined(header, now))
        except LedgerError as error:
            # Another home was faster, or the store failed: the next template is right again.
            _LOGGER.info("a mined block is not taken: %s: %s", error.code, error.message)
            if isinstance(error, ChainError):
                self._thread.report(error)
            self._wanted.set()
        else:
            _LOGGER.debug("mined block %d, %s", header.height, block_hash.hex()[:16])
