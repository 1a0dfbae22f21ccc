"""A real API on loopback, over a real engine on a real store: no peers, blocks when the test wants them."""

import operator
import re
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from ledger_core.chain.start import load_start
from ledger_core.chain.store.opening import open_store
from ledger_core.node.api.event_feed import EventFeed
from ledger_core.node.api.event_log import FILE, EventLog
from ledger_core.node.api.guard import ApiLimits
from ledger_core.node.api.model import PeerView
from ledger_core.node.api.server import ApiServer
from ledger_core.node.api.views import party
from ledger_core.node.api_backend import EngineBackend, NodeSide
from ledger_core.node.chain_thread import ChainThread
from ledger_core.node.engine.engine import Engine, NodeData
from ledger_core.node.engine.followed_chain import FollowedChain
from ledger_core.node.engine.outbox import MemoryOutbox
from ledger_core.node.engine.outputs import NodeEvent
from ledger_core.node.engine.settings import EngineSettings
from ledger_core.node.engine.staging import MemoryStaging
from ledger_core.node.engine.vote_journal import MemoryVoteJournal
from ledger_core.node.mining.switch import MiningSwitch
from ledger_core.rules.assemble import search_nonce
from tests.core.chains import LATER, verifier
from tests.core.world import World

TOKEN = "a-token-for-tests-of-43-characters-or-so-00"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class ApiWorld:
    """A node without peers, and its API."""

    world: World
    server: ApiServer
    thread: ChainThread
    log: EventLog
    heard: list[Callable[[Sequence[NodeEvent]], None]] = field(default_factory=list)
    """Told on the event loop of everything that happens."""

    async def mine(self) -> None:
        """Mine one block of what waits, half a minute later."""
        self.world.now += 30

        def work(engine: Engine, now: float) -> None:
            template = engine.template(now)
            assert template is not None
            header = search_nonce(template.header)
            assert header is not None
            engine.mined(header, now)

        await self.thread.run(work)


@asynccontextmanager
async def api_world(
    directory: Path, world: World, *, port: int = 0, limits: ApiLimits | None = None
) -> AsyncIterator[ApiWorld]:
    """Open the API of a world's chain; the node is the first home's."""
    store = open_store(directory, world.genesis)
    log = EventLog(directory / FILE)
    executor = ThreadPoolExecutor(1)
    node = next(iter(world.homes.values())).node
    chain = FollowedChain(store, load_start(store), verifier())
    chain.add_blocks(world.blocks, LATER)
    chain.take_outcomes()
    feed = EventFeed(log, store, world.now)
    data = NodeData(node, MemoryVoteJournal(), MemoryOutbox(), MemoryStaging())
    settings = EngineSettings(start_grace_s=0)
    engine = Engine(chain, store, verifier(), data, settings, Random(1), world.now)
    heard: list[Callable[[Sequence[NodeEvent]], None]] = []

    def deliver(_outputs: object, events: Sequence[NodeEvent]) -> None:
        for listener in heard:
            listener(events)

    thread = ChainThread(executor, engine, feed, deliver, lambda: float(world.now))

    def peers() -> list[PeerView]:
        other = party(next(reversed(world.homes.values())).node.public_key)
        return [PeerView(node=other, direction="inbound", address="10.0.0.7:7946", up_s=1.5, height=None)]

    # Never started: it can be switched, but mines nothing.
    mining = MiningSwitch(thread, on=False, share=0.05, blocked=lambda: None)
    addresses = ["anna.example:7946"]
    side = NodeSide(mining=mining)
    backend = EngineBackend(thread, store, log, node.public_key, peers, lambda: addresses, side)
    server = ApiServer(backend, TOKEN, "127.0.0.1", port, limits)
    await server.start()
    try:
        yield ApiWorld(world, server, thread, log, heard)
    finally:
        await server.close()
        executor.shutdown()
        log.close()
        store.close()


_TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
_LIMITS: dict[str, Callable[[Any, Any], bool]] = {
    "const": operator.eq,
    "enum": lambda value, wanted: value in wanted,
    "minimum": operator.ge,
    "maximum": operator.le,
    "minItems": lambda value, wanted: len(value) >= wanted,
    "maxItems": lambda value, wanted: len(value) <= wanted,
    "maxLength": lambda value, wanted: len(value) <= wanted,
}
_ABOUT = {"title", "description", "default", "contentEncoding"}


def require_schema(  # noqa: C901
    value: Any, schema: dict[str, Any], document: dict[str, Any], where: str = "$"
) -> None:
    """Raise AssertionError unless a value is what a schema says; a keyword not known here is refused.

    Stricter than JSON Schema in one point: an object has no field that the schema does not name.
    """
    for keyword, wanted in schema.items():
        match keyword:
            case "$ref":
                name = wanted.removeprefix("#/components/schemas/")
                require_schema(value, document["components"]["schemas"][name], document, where)
            case "type":
                assert _TYPES[wanted](value), f"{where}: {value!r} is no {wanted}"
            case "anyOf":
                _require_any(value, wanted, document, where)
            case "oneOf":
                fitting = _require_any(value, wanted, document, where)
                assert fitting == 1, f"{where}: {fitting} choices fit"
            case "additionalProperties":
                assert wanted is False  # "properties" looks at it
            case "properties":
                unknown = set(value) - set(wanted)
                assert not unknown, f"{where}: {unknown} are not in the schema"
                for name, part in value.items():
                    require_schema(part, wanted[name], document, f"{where}.{name}")
            case "required":
                assert set(wanted) <= set(value), f"{where}: {set(wanted) - set(value)} are missing"
            case "items":
                for index, part in enumerate(value):
                    require_schema(part, wanted, document, f"{where}[{index}]")
            case "pattern":
                assert re.search(wanted, value), f"{where}: {value!r} is not like {wanted}"
            case _ if keyword in _LIMITS:
                assert _LIMITS[keyword](value, wanted), f"{where}: {value!r}, but {keyword} is {wanted}"
            case _:
                assert keyword in _ABOUT, f"{where}: the keyword {keyword} is not known here"


def _require_any(value: Any, choices: list[dict[str, Any]], document: dict[str, Any], where: str) -> int:
    """Return how many choices fit; raises AssertionError unless one does."""
    failures, fitting = [], 0
    for choice in choices:
        try:
            require_schema(value, choice, document, where)
        except AssertionError as error:
            failures.append(str(error))
        else:
            fitting += 1
    assert fitting, f"{where}: no choice fits: {failures}"
    return fitting
