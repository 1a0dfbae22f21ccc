"""Mining on and off, and how much of a core it may take, while the node runs."""

import asyncio
from collections.abc import Callable, Iterable

from ledger_core.node.chain_thread import ChainThread
from ledger_core.node.engine.outputs import NodeEvent
from ledger_core.node.mining.control import MiningControl
from ledger_core.node.mining.miner import Miner


class MiningSwitch:
    """Owns the miner and what gives it its templates."""

    def __init__(
        self, thread: ChainThread, *, on: bool, share: float, blocked: Callable[[], str | None]
    ) -> None:
        """Begin switched on or off; no block is searched while `blocked` gives a reason."""
        self._control = MiningControl(thread, blocked=blocked)
        self._miner = Miner(self._control.found, share)
        self._wanted = on
        self._running = False
        self._started = False
        self._changing = asyncio.Lock()

    @property
    def on(self) -> bool:
        """Whether this node is to mine."""
        return self._wanted

    @property
    def share(self) -> float:
        """The part of one core that mining may take."""
        return self._miner.share

    @property
    def rate(self) -> float:
        """Hashes a second, lately; 0 while nothing is searched."""
        return self._miner.rate if self._running else 0.0

    async def start(self) -> None:
        """Mine from now on, if it is switched on."""
        async with self._changing:
            self._started = True
            await self._follow_switch()

    async def stop(self) -> None:
        """End the mining process; returns when it is gone."""
        async with self._changing:
            self._started = False
            await self._follow_switch()

    async def change(self, *, on: bool | None = None, share: float | None = None) -> None:
        """Switch mining, or give it another share of a core (above 0, up to 1), until the node ends."""
        async with self._changing:
            if share is not None:
                self._miner.set_share(share)
            if on is not None:
                self._wanted = on
            await self._follow_switch()

    def follow(self, events: Iterable[NodeEvent]) -> None:
        """Hear what happened in the chain; on the event loop."""
        if self._running:
            self._control.follow(events)

    def look_again(self) -> None:
        """See anew whether mining is blocked."""
        self._control.look_again()

    async def _follow_switch(self) -> None:
        wanted = self._started and self._wanted
        if wanted and not self._running:
            await self._miner.start()
            self._control.start(self._miner)
            self._running = True
        elif self._running and not wanted:
            self._running = False
            await self._control.stop()
            await self._miner.stop()
