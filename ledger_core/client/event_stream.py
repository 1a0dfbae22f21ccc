"""Events as they happen, over a connection that is made again whenever it breaks."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import aiohttp
import msgspec
from msgspec import Struct

from ledger_core.client.errors import (
    AnswerInvalidError,
    ClientError,
    CursorLostError,
    RefusedError,
    TimedOutError,
)
from ledger_core.client.transport import SILENT_S, Transport
from ledger_core.node.api.model import Events, EventView
from ledger_core.node.api.queries import StreamQuery

PATH = "/v1/events/stream"
CURSOR_LOST = 4410
"""Close code: events after the client's cursor are gone."""


class Backoff(Struct, frozen=True):
    """How long to wait before the connection is made again: doubled with every failure."""

    first_s: float = 0.5
    longest_s: float = 30.0

    def pause(self, failures: int) -> float:
        """Return a time in seconds, at random in its upper half, so that clients do not come all at once."""
        most = min(self.first_s * 2.0 ** min(failures, 20), self.longest_s)
        return most * random.uniform(0.5, 1.0)  # noqa: S311 - not for secrets


class EventStream:
    """Iterate over it: every event once, in order, through breaks of the connection and restarts of the node.

    Who may stop early iterates in `contextlib.aclosing(aiter(stream))`, which closes the connection.

    Raises UnauthorizedError, CursorLostError (also when the node's data is an older copy), and any other
    refusal that waiting does not cure. While the node can't be reached it waits.
    """

    def __init__(
        self,
        transport: Transport,
        after: str | None,
        backoff: Backoff,
        on_connection: Callable[[bool], None] | None = None,
    ) -> None:
        self._transport = transport
        self._backoff = backoff
        self._tell = on_connection or _tell_nobody
        self.cursor = after
        """Up to here all was taken: where to go on after a restart. None before the first connection."""

    async def __aiter__(self) -> AsyncGenerator[EventView]:
        failures = 0
        while True:
            try:
                async with self._transport.socket(PATH, StreamQuery(after=self.cursor)) as socket:
                    with self._connection():
                        async for page in _pages(socket):
                            failures = 0
                            for event in page.items:
                                yield event
                                self.cursor = event.cursor
                            self.cursor = page.cursor
            except AnswerInvalidError:
                raise
            except RefusedError as error:
                if not error.may_pass:
                    raise
            except ClientError:
                pass  # not reached, or too slow: it is tried again
            await asyncio.sleep(self._backoff.pause(failures))
            failures += 1

    @contextmanager
    def _connection(self) -> Iterator[None]:
        """Tell that there is a connection, and that it broke: not, that the listener has ended it."""
        self._tell(True)
        try:
            yield
        except GeneratorExit, asyncio.CancelledError:
            raise
        except BaseException:
            self._tell(False)
            raise
        self._tell(False)


async def _pages(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[Events]:
    """Yield what the node sends until the connection ends."""
    while (message := await _receive(socket)).type is aiohttp.WSMsgType.TEXT:
        try:
            yield msgspec.json.decode(message.data, type=Events)
        except msgspec.DecodeError as error:
            raise AnswerInvalidError(
                "answer_invalid", f"an event is not what this client knows: {error}"
            ) from error
    if socket.close_code == CURSOR_LOST:
        raise CursorLostError("cursor_expired", "events after the cursor are not kept any more", 410)


async def _receive(socket: aiohttp.ClientWebSocketResponse) -> aiohttp.WSMessage:
    try:
        return await socket.receive()
    except TimeoutError as error:
        raise TimedOutError("timeout", f"the node has been silent for {SILENT_S:g} s") from error


def _tell_nobody(_connected: bool) -> None:
    """Nobody wants to know."""
