"""Real nodes as real processes on loopback: one community, its homes' keys, and ways to hurt it.

    async with street(tmp_path, 4) as homes:            # four founding members, all linked with all
        await homes.until(lambda: homes.all_at(5))
        record = await homes[0].home.transfer(homes[1].key.public_key, 1)
        await homes[2].crash(); await homes[2].start()  # kill -9 and again
        async with homes.parted({0, 1}, {2, 3}): ...

Links between nodes run through gates, which a test can shut. Every process ends with the test.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any, Self

from msgspec.structs import replace

from ledger_core.client import NodeClient, RefusedError, UnreachableError
from ledger_core.client.bodies import AssetTerms, OfferTerms
from ledger_core.client.home import Home
from ledger_core.client.local import local_api
from ledger_core.client.views import StatusView
from ledger_core.community import Founder, Genesis, Parameters
from ledger_core.keys import SoftwareSigner, load_key
from ledger_core.node import data_directory
from ledger_core.records.types import AssetKind, Role
from tests.node.gate import Gate
from tests.node.peer_world import free_ports

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
"""A hang's guard for whatever a test waits for; it comes far sooner."""
HOUSEHOLD = int(Role.HOME | Role.NODE)

FAST = Parameters(
    slot_s=60,
    block_spacing_s=1,
    checkpoint_interval=4,
    min_difficulty_bits=13,
    difficulty_half_life_s=10,
    grace_s=0,
)
"""A block about every second, a checkpoint every four."""
QUICK = replace(FAST, min_difficulty_bits=8)
"""The same for a lone miner, or for nobody who mines: the first blocks come several a second."""


def seeded(text: str) -> SoftwareSigner:
    """A key that is the same in every run."""
    return SoftwareSigner(sha256(text.encode()).digest())


class NodeProcess:
    """One node as a process on a data directory; it may be started again and again."""

    def __init__(self, directory: Path, name: str, port: int, **settings: object) -> None:
        self.directory = directory
        self.name = name
        self.port = port
        """Where it listens for peers."""
        self.settings: dict[str, object] = {
            "peer_host": "127.0.0.1",
            "peer_port": port,
            "discovery": "no",
            **settings,
        }
        self.program = "ledger_core.cli"
        """The module that is run."""
        self.flags: list[str] = []
        """Further flags, such as --full."""
        self.ready: dict[str, Any] = {}
        self.process: asyncio.subprocess.Process | None = None
        self._client: NodeClient | None = None
        self._pump: asyncio.Task[None] | None = None

    @property
    def log(self) -> str:
        """Everything that it ever wrote to its log."""
        path = self._log_path
        return path.read_text() if path.exists() else ""

    @property
    def _log_path(self) -> Path:
        return self.directory.with_name(f"{self.directory.name}.log")

    def command(self) -> list[str]:
        """The command line."""
        settings = [
            part
            for name, value in self.settings.items()
            for part in (f"--{name.replace('_', '-')}", str(value))
        ]
        data = ["--data", str(self.directory)]
        return [
            sys.executable,
            "-m",
            self.program,
            "node",
            *data,
            "--with-parent",
            *settings,
            *self.flags,
        ]

    async def launch(self, **options: Any) -> asyncio.subprocess.Process:
        """Start the process without waiting for anything."""
        self.process = await asyncio.create_subprocess_exec(
            *self.command(),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            **options,
        )
        assert self.process.stderr is not None
        self._pump = asyncio.create_task(self._keep_log(self.process.stderr))
        return self.process

    async def _keep_log(self, source: asyncio.StreamReader) -> None:
        with self._log_path.open("ab", buffering=0) as log:
            while data := await source.read(65_536):
                log.write(data)

    async def start(self, **options: Any) -> Self:
        """Start the process and wait until it is ready."""
        process = await self.launch(**options)
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            line = await process.stdout.readline()
        assert line, f"{self.name} did not start:\n{self.log[-3000:]}"
        self.ready = json.loads(line)
        # Whoever asked while it was down may have taken the address of the time before.
        await self._forget_client()
        return self

    @property
    def client(self) -> NodeClient:
        """A client of the node's API."""
        if self._client is None:
            api = local_api(self.directory)
            self._client = NodeClient(api.url, api.token, timeout_s=20.0)
        return self._client

    async def status(self) -> StatusView:
        return await self.client.status()

    async def state_hash(self, height: int) -> str | None:
        """The state hash that a checkpoint's header commits to."""
        return (await self.client.block(height)).state_hash

    async def logged(self, text: str) -> None:
        """Wait until the log holds a text."""
        await until(lambda: text in self.log, f"{text!r} in the log of {self.name}", lambda: self.log)

    async def ended(self) -> int:
        """Wait until the process has ended; give its exit code."""
        assert self.process is not None
        async with asyncio.timeout(PATIENCE_S):
            code = await self.process.wait()
        if self._pump is not None:
            await self._pump
        await self._forget()
        return code

    async def stop(self) -> int:
        """End it in good order; give its exit code."""
        if self.process is None:
            return 0
        assert self.process.stdin is not None
        self.process.stdin.close()
        return await self.ended()

    async def crash(self) -> None:
        """End it by kill -9."""
        if self.process is not None:
            self.process.kill()
            await self.ended()

    def pause(self) -> None:
        """Let it stand still; the mining process too."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    async def _forget(self) -> None:
        self.process = None
        await self._forget_client()

    async def _forget_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def close(self) -> None:
        """End it, however it stands."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.resume()
            try:
                await self.stop()
            except TimeoutError:
                await self.crash()


class Household:
    """A home: its keys, its node, and `home`, which acts for it."""

    def __init__(self, name: str, node: NodeProcess, node_key: bytes) -> None:
        self.name = name
        self.key = seeded(name)
        self.meter_key = seeded(f"{name} meter")
        self.node_key = node_key
        self.meter = sha256(f"{name} meter".encode()).digest()[:16]
        self.panels = sha256(f"{name} panels".encode()).digest()[:16]
        self.node = node
        self.gates: dict[int, Gate] = {}
        """Gates to the nodes that this one dials, by number."""

    @property
    def home(self) -> Home:
        """Acts for the home through its node as it runs now."""
        return Home(self.node.client, self.key)

    @property
    def node_signer(self) -> SoftwareSigner:
        """The node's own key, as its directory keeps it."""
        return load_key(self.node.directory / data_directory.NODE_KEY)

    async def register(self, rating_w: int = 10_000) -> list[str]:
        """Register a meter and panels; gives the records' ids."""
        meter = AssetTerms(
            asset=self.meter,
            kind=AssetKind.METER,
            rating_w=2 * rating_w,
            meter_key=self.meter_key.public_key,
        )
        panels = AssetTerms(asset=self.panels, kind=AssetKind.PV, rating_w=rating_w, meter=self.meter)
        return [await self.home.register_asset(terms) for terms in (meter, panels)]

    async def offer(self, quantity: int = 10, **fields: Any) -> str:
        """Offer some Wh of the panels, in the slot after the next one."""
        slot = FAST.slot_s
        start = int(time.time()) // slot * slot + 2 * slot
        terms: dict[str, Any] = {
            "asset": self.panels,
            "quantity": quantity,
            "start": start,
            "end": start + slot,
            "price": 200_000,
            "min_quantity": 1,
            **fields,
        }
        return await self.home.offer(OfferTerms(**terms))


class Street:
    """The households of a community, by number."""

    def __init__(self, households: Sequence[Household], genesis: Genesis) -> None:
        self.households = list(households)
        self.genesis = genesis

    def __getitem__(self, number: int) -> Household:
        return self.households[number]

    def __iter__(self) -> Any:
        return iter(self.households)

    def __len__(self) -> int:
        return len(self.households)

    async def start(self) -> None:
        await asyncio.gather(*(each.node.start() for each in self.households))

    async def statuses(self) -> list[StatusView]:
        """What the nodes that run say of themselves."""
        return await asyncio.gather(*(each.node.status() for each in self._running()))

    def _running(self) -> list[Household]:
        return [each for each in self.households if each.node.process is not None]

    async def until(
        self, condition: Callable[[], bool | Awaitable[bool]], what: str = "", limit_s: float = PATIENCE_S
    ) -> None:
        """Wait until something holds; on failure tell how the nodes stand."""

        def told() -> str:
            return "\n\n".join(f"{each.name}:\n{each.node.log[-2000:]}" for each in self.households)

        await until(condition, what, told, limit_s)

    async def all_final(self, height: int) -> bool:
        """Whether a height is final at every node that runs."""
        return all(status.final >= height for status in await self.statuses())

    async def all_at(self, height: int) -> bool:
        """Whether every node that runs has come to a height."""
        return all(status.tip.height >= height for status in await self.statuses())

    async def all_linked(self, links: int) -> bool:
        """Whether every node that runs has so many links."""
        return all(status.peers >= links for status in await self.statuses())

    async def final_height_of(self, record: str, limit_s: float = PATIENCE_S) -> int:
        """Wait until a record is final at every node that runs; give its height, the same everywhere."""
        heights: set[int | None] = set()

        async def holds() -> bool:
            views = [await found(each.node.client.record(record)) for each in self._running()]
            heights.clear()
            heights.update(view.height for view in views if view is not None)
            return all(view is not None and view.state == "final" for view in views)

        await self.until(holds, f"{record} is final everywhere", limit_s)
        (height,) = heights
        assert height is not None
        return height

    async def same_state(self, height: int) -> str:
        """The state hash of the first checkpoint above a final height, which is the same at every node."""
        interval = self.genesis.parameters.checkpoint_interval
        checkpoint = -(-height // interval) * interval
        checkpoint += interval if checkpoint == height else 0
        await self.until(lambda: self.all_final(checkpoint), f"{checkpoint} is final")
        found = {await each.node.state_hash(checkpoint) for each in self._running()}
        assert len(found) == 1, f"different states at {checkpoint}: {found}"
        (state_hash,) = found
        assert state_hash is not None
        return state_hash

    def part(self, *groups: Iterable[int]) -> None:
        """Shut every gate between nodes of different groups."""
        group_of = {number: index for index, group in enumerate(groups) for number in group}
        for number, household in enumerate(self.households):
            for other, gate in household.gates.items():
                if group_of.get(number) != group_of.get(other):
                    gate.shut()

    def heal(self) -> None:
        """Open every gate."""
        for household in self.households:
            for gate in household.gates.values():
                gate.open()

    @asynccontextmanager
    async def parted(self, *groups: Iterable[int]) -> AsyncIterator[None]:
        """Part the nodes for a while."""
        self.part(*groups)
        try:
            yield
        finally:
            self.heal()

    async def close(self) -> None:
        """End everything."""
        await asyncio.gather(*(each.node.close() for each in self.households))
        gates = [gate for each in self.households for gate in each.gates.values()]
        await asyncio.gather(*(gate.stop() for gate in gates))


async def is_there(question: Awaitable[object]) -> bool:
    """Whether a node knows what it is asked for."""
    return await found(question) is not None


async def found[V](question: Awaitable[V]) -> V | None:
    """What a node answers; None where it does not know what it is asked for."""
    try:
        return await question
    except RefusedError as error:
        if error.status != 404:
            raise
        return None


async def until(
    condition: Callable[[], bool | Awaitable[bool]],
    what: str,
    told: Callable[[], str] = lambda: "",
    limit_s: float = PATIENCE_S,
) -> None:
    """Wait until something holds that nobody tells of; asks a few times a second."""
    deadline = asyncio.get_running_loop().time() + limit_s
    while True:
        with contextlib.suppress(UnreachableError):
            result = condition()
            if result if isinstance(result, bool) else await result:
                return
        assert asyncio.get_running_loop().time() < deadline, f"never: {what}\n{told()}"
        await asyncio.sleep(0.1)


async def make_street(
    directory: Path,
    number: int,
    parameters: Parameters = FAST,
    *,
    age_s: int = 2,
    others: Sequence[Founder] = (),
    **settings: Any,
) -> Street:
    """Found a community of homes some seconds ago; nothing runs yet. Gates stand between all nodes.

    `others` are further founding members, whose nodes a test plays itself.
    """
    directory.mkdir(parents=True, exist_ok=True)
    households = []
    for index, port in enumerate(free_ports(number)):
        path = directory / f"home-{index}"
        node = NodeProcess(path, path.name, port, **settings)
        households.append(Household(f"home {index}", node, data_directory.prepare(path)))
    founders = tuple(
        Founder(
            each.key.public_key,
            HOUSEHOLD | (Role.AUTHORITY if index == 0 else 0),
            each.node_key,
            sha256(each.name.encode()).digest(),
        )
        for index, each in enumerate(households)
    )
    genesis = Genesis("Test street", "EUR", int(time.time()) - age_s, parameters, (*founders, *others))
    for each in households:
        data_directory.found(each.node.directory, genesis)
    for lower, higher in combinations(range(number), 2):
        gate = households[higher].gates[lower] = Gate(households[lower].node.port)
        await gate.start()
    for each in households:
        each.node.settings["peers"] = ",".join(f"127.0.0.1:{gate.port}" for gate in each.gates.values())
    return Street(households, genesis)


@asynccontextmanager
async def street(
    directory: Path, number: int, parameters: Parameters = FAST, **settings: Any
) -> AsyncIterator[Street]:
    """Found a community and run its nodes, until the end of the block."""
    homes = await make_street(directory, number, parameters, **settings)
    try:
        await homes.start()
        await homes.until(lambda: homes.all_linked(number - 1), "every node is linked with every other")
        yield homes
    finally:
        await homes.close()
