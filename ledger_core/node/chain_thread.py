"""The one thread in which the engine, the store and the event feed live: the event loop never waits."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ledger_core.node.api.event_feed import EventFeed
from ledger_core.node.engine.engine import Engine
from ledger_core.node.engine.outputs import Drop, NodeEvent, Notify, Send

type Deliver = Callable[[Sequence[Send | Drop], Sequence[NodeEvent]], None]
"""Told on the event loop, in order, what the engine wants done and what happened."""


class ChainThread:
    """Runs work on the engine, one piece after another, and brings out what follows from it."""

    def __init__(
        self,
        executor: ThreadPoolExecutor,
        engine: Engine,
        feed: EventFeed,
        deliver: Deliver,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take over an engine made in the executor's only thread; `clock` gives UTC seconds."""
        self._executor = executor
        self._engine = engine
        self._feed = feed
        self._deliver = deliver
        self._clock = clock
        self._loop = asyncio.get_running_loop()

    async def run[T](self, work: Callable[[Engine, float], T]) -> T:
        """Do a piece of work with the time of its beginning; raises what it raises.

        What the engine told on the way is written and delivered in any case, before this returns.
        """
        return await self._loop.run_in_executor(self._executor, self._run, work)

    async def look[T](self, question: Callable[[Engine, float], T]) -> T:
        """Answer a question that changes nothing."""
        return await self._loop.run_in_executor(self._executor, lambda: question(self._engine, self._clock()))

    def _run[T](self, work: Callable[[Engine, float], T]) -> T:
        now = self._clock()
        try:
            return work(self._engine, now)
        finally:
            self._bring_out(now)

    def _bring_out(self, now: float) -> None:
        outputs = self._engine.take_outputs()
        if not outputs:
            return
        events = [output.event for output in outputs if isinstance(output, Notify)]
        if events:
            self._feed.take(events, now)
        rest = [output for output in outputs if not isinstance(output, Notify)]
        self._loop.call_soon_threadsafe(self._deliver, rest, events)
