"""Joins the peers' links with the engine: what peers say goes in, what the engine wants goes out.

While the chain's thread is at a peer's message, the next one is read and decoded; then it waits. So each peer
has at most one message in the chain thread's queue and one before it: a flood fills neither memory nor queue,
and TCP holds the sender back. Headers that were asked for are verified meanwhile, as far as that needs no
chain; bodies overtake them, so that the chain has work.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ledger_core.errors import ChainError
from ledger_core.node.bridge_limits import kind_of
from ledger_core.node.chain_thread import ChainThread
from ledger_core.node.engine.outputs import Drop, Send
from ledger_core.node.messages import (
    Bodies,
    GetHeaders,
    Headers,
    Hello,
    Message,
    decode_message,
    encode_message,
)
from ledger_core.node.peers import Ending, Misbehaviour, RemoteNode
from ledger_core.node.peers.text import short_key

_LOGGER: Final = logging.getLogger(__name__)

HELLO_S: Final = 30.0
"""Time for a peer's first message."""

type Trouble = Callable[[ChainError | OSError], None]
"""Told of a failure of this node's own disk or store."""


class Links(Protocol):
    """What the bridge needs of the peers' manager."""

    def send(self, key: bytes, kind: int, payload: bytes) -> bool:
        """Queue a message for a peer; tell whether it was."""

    def drop(self, key: bytes, code: str, reason: str, ban_s: int = 0) -> None:
        """End a peer's link, and ban its key for some seconds."""


class Bridge:
    """Hears the links and obeys the engine; on the event loop."""

    def __init__(
        self,
        trouble: Trouble,
        met: Callable[[], None] = lambda: None,
        verify: Callable[[Headers], None] = lambda _headers: None,
    ) -> None:
        """Begin without links; `met` hears of every peer that the engine has come to know.

        `verify` is given headers that were asked for, in a thread of its own, before the engine gets them.
        """
        self._trouble = trouble
        self._met = met
        self._verify = verify
        self._verifying = asyncio.Lock()
        self._headers_asked: set[bytes] = set()
        """Peers that owe headers: whatever else calls itself so is not worth any work here."""
        self._under_way: dict[bytes, asyncio.Task[None]] = {}
        """The message of each peer that the engine is at."""
        self._checked: dict[bytes, asyncio.Task[None]] = {}
        """The headers of each peer that are verified before the engine gets them."""
        self._thread: ChainThread
        self._links: Links
        self._waiting: dict[bytes, asyncio.TimerHandle] = {}
        """Links whose first message has not come yet, and when they end for that."""
        self._joined: set[bytes] = set()

    def connect(self, thread: ChainThread, links: Links) -> None:
        """Take both sides; before the links start."""
        self._thread = thread
        self._links = links

    # What the links tell

    async def joined(self, remote: RemoteNode, *, inbound: bool) -> None:  # noqa: ARG002 - the protocol's
        """Greet a new peer."""
        hello = await self._thread.look(lambda engine, now: engine.hello(now))
        self._waiting[remote.key] = asyncio.get_running_loop().call_later(
            HELLO_S, self._links.drop, remote.key, "silent", f"no first message within {HELLO_S:g} s"
        )
        self._send(remote.key, hello)

    async def message(self, key: bytes, kind: int, payload: bytes) -> None:
        """Take a message; raises LedgerError for one that no honest node sends."""
        message = decode_message(payload)
        if kind_of(message) != kind:
            raise Misbehaviour("message_malformed", f"a {type(message).__name__} under another kind's number")
        first = key in self._waiting
        if first is not isinstance(message, Hello):
            raise Misbehaviour("message_malformed", "a link begins with one Hello, and has no other")
        if isinstance(message, Hello):
            await self._greeted(key, message)
            return
        if not isinstance(message, Bodies):
            await self._headers_taken(key)
        if isinstance(message, Headers) and key in self._headers_asked:
            self._headers_asked.discard(key)
            self._checked[key] = asyncio.create_task(self._check(key, message), name="bridge headers")
            return
        await self._taken(key)
        self._under_way[key] = asyncio.create_task(self._hand_in(key, message), name="bridge message")

    async def _check(self, key: bytes, headers: Headers) -> None:
        """Have headers verified, one peer's after the other's: what several show is the same."""
        async with self._verifying:
            try:
                await asyncio.to_thread(self._verify, headers)
            except Exception:
                _LOGGER.exception("headers can't be verified ahead: the engine verifies them itself")
        await self._hand_in(key, headers)

    async def _headers_taken(self, key: bytes) -> None:
        """Wait until the engine is done with a peer's headers."""
        checked = self._checked.get(key)
        if checked is not None:
            await asyncio.shield(checked)
            if self._checked.get(key) is checked:
                del self._checked[key]

    async def _greeted(self, key: bytes, hello: Hello) -> None:
        self._waiting.pop(key).cancel()
        self._joined.add(key)
        try:
            await self._thread.run(lambda engine, now: engine.peer_joined(key, hello, now))
        except (ChainError, OSError) as error:
            self._trouble(error)
        else:
            self._met()

    async def _hand_in(self, key: bytes, message: Message) -> None:
        try:
            await self._thread.run(lambda engine, now: engine.message(key, message, now))
        except (ChainError, OSError) as error:
            # This node's own failure, not the peer's: what was lost is asked for again.
            self._trouble(error)
        except Exception:
            _LOGGER.exception("a message fails by this node's own mistake")
            self._links.drop(key, "internal_error", "this node made a mistake")

    async def _taken(self, key: bytes) -> None:
        """Wait until the engine is done with the message of a peer."""
        under_way = self._under_way.get(key)
        if under_way is not None:
            await asyncio.shield(under_way)
            if self._under_way.get(key) is under_way:
                del self._under_way[key]

    async def left(self, key: bytes, ending: Ending) -> None:  # noqa: ARG002 - the protocol's
        """A link is gone."""
        timer = self._waiting.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._headers_asked.discard(key)
        await self._headers_taken(key)
        await self._taken(key)
        if key in self._joined:
            self._joined.discard(key)
            try:
                await self._thread.run(lambda engine, now: engine.peer_left(key, now))
            except (ChainError, OSError) as error:
                self._trouble(error)

    # What the engine wants

    def obey(self, outputs: Sequence[Send | Drop]) -> None:
        """Send and drop, in order; on the event loop."""
        for output in outputs:
            if isinstance(output, Send):
                self._send(output.peer, output.message)
            else:
                self._links.drop(output.peer, output.code, output.reason, output.ban_s)

    def _send(self, key: bytes, message: Message) -> None:
        if isinstance(message, GetHeaders):
            self._headers_asked.add(key)
        try:
            self._links.send(key, kind_of(message), encode_message(message))
        except ValueError:
            # More than its kind allows: a mistake of this program, which must not end the node.
            _LOGGER.exception("a %s for %s can't be sent", type(message).__name__, short_key(key))
