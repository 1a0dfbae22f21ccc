"""The one thread in which the engine, the store and the event feed live: the event loop never waits."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ledger_core.errors import ChainError, LedgerError
from ledger_core.node.api.event_feed import EventFeed
from ledger_core.node.engine.engine import Engine
from ledger_core.node.engine.outputs import Drop, NodeEvent, Notify, Send

_LOGGER: Final = logging.getLogger(__name__)

type Deliver = Callable[[Sequence[Send | Drop], Sequence[NodeEvent]], None]
"""Told on the event loop, in order, what the engine wants done and what happened."""

SHORTEST_PAUSE_S: Final = 0.01
LONGEST_PAUSE_S: Final = 5.0
"""A clock that was set is noticed after so long."""
RETRY_S: Final = 1.0


class ChainThread:
    """Runs work on the engine, one piece after another, and brings out what follows from it."""

    def __init__(
        self,
        executor: ThreadPoolExecutor,
        engine: Engine,
        feed: EventFeed,
        deliver: Deliver,
        clock: Callable[[], float] = time.time,
        failed: Callable[[ChainError | OSError], None] | None = None,
    ) -> None:
        """Take over an engine for the executor's only thread; `clock` gives UTC seconds.

        `failed` hears where what became due could not be done because the disk or the store failed.
        """
        self._failed = failed or _log_failure
        self._executor = executor
        self._engine = engine
        self._feed = feed
        self._deliver = deliver
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._ticking = False
        self._timer: asyncio.TimerHandle | None = None
        self._tick: asyncio.Task[None] | None = None

    async def run[T](self, work: Callable[[Engine, float], T]) -> T:
        """Do a piece of work with the time of its beginning; raises what it raises.

        What the engine told on the way is written and delivered in any case.
        """
        return await self._loop.run_in_executor(self._executor, self._run, work)

    async def look[T](self, question: Callable[[Engine, float], T]) -> T:
        """Answer a question that changes nothing."""
        return await self._loop.run_in_executor(self._executor, lambda: question(self._engine, self._clock()))

    def start_ticking(self) -> None:
        """Let the engine do what becomes due, from now on."""
        self._ticking = True
        self._schedule(0.0)

    async def stop_ticking(self) -> None:
        """Begin nothing any more; returns when the last tick is done."""
        self._ticking = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._tick is not None:
            await self._tick

    def _run[T](self, work: Callable[[Engine, float], T]) -> T:
        now = self._clock()
        try:
            return work(self._engine, now)
        finally:
            self._bring_out(now)

    def _bring_out(self, now: float) -> None:
        outputs = self._engine.take_outputs()
        events = [output.event for output in outputs if isinstance(output, Notify)]
        if events:
            self._feed.take(events, now)
        rest = [output for output in outputs if not isinstance(output, Notify)]
        self._loop.call_soon_threadsafe(self._out, rest, events, self._engine.next_tick())

    def _out(self, outputs: Sequence[Send | Drop], events: Sequence[NodeEvent], next_tick: float) -> None:
        self._schedule(next_tick)
        if outputs or events:
            self._deliver(outputs, events)

    def _schedule(self, due: float) -> None:
        """See to it that a tick begins at a time of the node's clock, or before."""
        if not self._ticking or self._tick is not None:
            return
        pause = min(max(due - self._clock(), SHORTEST_PAUSE_S), LONGEST_PAUSE_S)
        at = self._loop.time() + pause
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._begin_tick)

    def report(self, error: ChainError | OSError) -> None:
        """Tell of a failure of this node's own disk or store that somebody met in a piece of work."""
        self._failed(error)

    def _begin_tick(self) -> None:
        self._timer = None
        self._tick = asyncio.create_task(self._do_tick(), name="engine tick")

    async def _do_tick(self) -> None:
        due = self._clock() + RETRY_S
        try:
            due = await self.run(_tick)
        except (ChainError, OSError) as error:
            self._failed(error)
        except LedgerError as error:
            _LOGGER.warning("%s: %s", error.code, error.message)
        except Exception:
            _LOGGER.exception("what was due in the ledger failed by this node's own mistake")
        finally:
            self._tick = None
        self._schedule(due)


def _log_failure(error: ChainError | OSError) -> None:
    if isinstance(error, ChainError):
        _LOGGER.warning("%s: %s", error.code, error.message)
    else:
        _LOGGER.warning("the node's data can't be written: %s", error)


def _tick(engine: Engine, now: float) -> float:
    engine.tick(now)
    return engine.next_tick()
