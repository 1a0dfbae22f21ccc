"""The node: wires chain, peers, miner and API together, starts them in order and ends them in order."""

import asyncio
import contextlib
import errno
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import SystemRandom
from typing import Any, Final

from msgspec import Struct

from ledger_core import __version__
from ledger_core.errors import ChainError
from ledger_core.keys import address
from ledger_core.node import upkeep
from ledger_core.node.api.model import DialView, PeerView
from ledger_core.node.api.server import ApiServer
from ledger_core.node.api.token import load_or_make_token
from ledger_core.node.api.views import optional_party, party
from ledger_core.node.api_backend import EngineBackend, NodeSide
from ledger_core.node.bootstrap import SOFTWARE, Works, open_works
from ledger_core.node.bridge import Bridge
from ledger_core.node.bridge_limits import LIMITS
from ledger_core.node.bridge_policy import MemberPolicy, draw_membership
from ledger_core.node.chain_thread import ChainThread
from ledger_core.node.config import Settings
from ledger_core.node.data_directory import API_ADDRESS, DataDirectory
from ledger_core.node.engine.outputs import Drop, NodeEvent, Send
from ledger_core.node.engine.seals import verify_seals
from ledger_core.node.lan_search import search_lan
from ledger_core.node.member_watch import MemberWatch
from ledger_core.node.mining.switch import MiningSwitch
from ledger_core.node.own_addresses import lan_addresses, told_addresses
from ledger_core.node.peers import Bearer, LocalNode, PeerError, PeerManager, PeerSettings
from ledger_core.node.trouble import DiskTrouble

_LOGGER: Final = logging.getLogger(__name__)
_OUTBOUND: Final = 8
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
FATAL: Final = frozenset({"store_damaged", "tree_broken", "undo_missing", "block_missing"})
"""Failures of the store that no waiting mends."""

type Stage = Callable[[], Coroutine[Any, Any, None]]


class Ready(Struct, frozen=True):
    """What a node tells once it is up."""

    version: str
    api: str
    """URL of the API."""
    peer: str | None
    """Where it listens for other nodes (host:port); None: nowhere."""
    node: str
    """The node key's address."""
    chain_id: str


class Node:
    """A node on a data directory, between `start` and `stop`."""

    def __init__(
        self,
        directory: DataDirectory,
        settings: Settings,
        *,
        failed: Callable[[BaseException], None] = lambda _error: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; `failed` hears, on the event loop, why the node can't go on; `clock` gives UTC seconds."""
        self._directory = directory
        self._settings = settings
        self._failed = failed
        self._clock = clock
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="chain")
        self._tasks: list[asyncio.Task[None]] = []
        self._endings: list[tuple[str, Stage]] = []
        """What is to be ended, in the order in which it was started."""
        self._api_told = False
        self._works: Works
        self._thread: ChainThread
        self._policy: MemberPolicy
        self._manager: PeerManager
        self._mining: MiningSwitch
        self._watch: MemberWatch
        self._api: ApiServer

    async def start(self, *, resume_voting: bool = False) -> Ready:
        """Start everything; after a failure nothing is left running.

        Raises LedgerError that names what is wrong and the remedy, OSError.
        """
        try:
            return await self._start(resume_voting=resume_voting)
        except BaseException:
            await self.stop()
            raise

    async def stop(self, hurry: asyncio.Event | None = None) -> None:
        """End everything in good order; `hurry` cuts the waiting for others short."""
        stages, self._endings = self._endings[::-1], []
        for name, stage in stages:
            try:
                await _in_time(stage(), hurry)
            except Exception:
                _LOGGER.exception("%s did not end as it should", name)
        await asyncio.to_thread(self._executor.shutdown)

    async def _start(self, *, resume_voting: bool) -> Ready:
        settings = self._settings
        await self._open()
        await self._open_api()
        await self._open_peers()
        if resume_voting:
            await self._thread.run(lambda engine, now: engine.resume_voting(now))
        self._thread.start_ticking()
        self._endings.append(("ticking", self._thread.stop_ticking))
        self._run("members", self._watch.run())
        self._run("disk", self._disk.watch())
        self._run("progress", upkeep.tell_progress(self._thread))
        self._run("tidying", upkeep.tidy(self._thread, self._works.store, self._works.verifier))
        if settings.discovery:
            self._run("discovery", self._search_lan())
        if settings.prune_days:
            self._run(
                "pruning", upkeep.prune(self._thread, self._works.store, settings.prune_days, self._clock)
            )
        self._endings.append(("tasks", self._end_tasks))
        self._endings.append(("mining", self._mining.stop))
        await self._mining.start()
        try:
            self._tell_api_address()
        except OSError as error:
            # Whoever started the node is told by the readiness line, others once the disk takes data again.
            self._disk.report(error)
        return self._ready()

    async def _open(self) -> None:
        """Open the data, and make what stands on it; nothing runs yet."""
        loop = asyncio.get_running_loop()
        self._works = works = await loop.run_in_executor(
            self._executor, open_works, self._directory, self._settings, self._clock()
        )
        self._endings.append(("data", self._close_works))
        self._disk = DiskTrouble(self._directory.path, self._disk_recovered)
        self._bridge = Bridge(self._in_trouble, self._look_again, partial(verify_seals, works.verifier))
        self._thread = ChainThread(
            self._executor, works.engine, works.feed, self._deliver, self._clock, self._in_trouble
        )
        membership = await self._thread.look(draw_membership)
        self._policy = MemberPolicy(works.signer.public_key, membership, self._clock)
        self._mining = MiningSwitch(
            self._thread,
            on=self._settings.mining,
            share=self._settings.mining_share,
            blocked=lambda: self._disk.reason,
        )
        self._manager = self._make_manager()
        self._bridge.connect(self._thread, self._manager)
        self._watch = MemberWatch(self._thread, self._policy, self._manager, self._directory)

    def _make_manager(self) -> PeerManager:
        settings, works = self._settings, self._works
        link = works.link
        # Shown until the membership is final: the block that holds it may still be undone.
        bearer = None if link is None else Bearer(link.invitation, link.signer)
        outbound = min(_OUTBOUND, max(settings.max_peers // 2, 1))
        peers = (*settings.peers, *self._directory.bootstrap())
        return PeerManager(
            LocalNode(works.signer, works.engine.chain.chain_id, SOFTWARE, bearer),
            policy=self._policy,
            limits=LIMITS,
            events=self._bridge,
            settings=PeerSettings(
                listen_host=settings.peer_host or None,
                listen_port=settings.peer_port,
                advertise=(settings.advertise,) if settings.advertise else (),
                bootstrap=tuple(dict.fromkeys(peers))[:16],
                outbound_target=outbound,
                max_inbound=settings.max_peers - outbound,
            ),
            directory=self._directory.path,
            random=SystemRandom(),
            clock=self._clock,
            answered=self._policy.answered,
            met_copy=lambda: self._run("copy", self._stop_voting()),
        )

    async def _open_api(self) -> None:
        settings = self._settings
        if settings.api_host not in _LOOPBACK:
            _LOGGER.warning(
                "the API listens on %s, so others on the network can reach it: whoever knows the token in "
                "api.token can act for this node; set api_host to 127.0.0.1 unless that is wanted",
                settings.api_host,
            )
        side = NodeSide(
            mining=self._mining,
            dials=self._dials,
            disk_trouble=lambda: self._disk.reason,
            resumed=self._manager.announce_again,
            failed=self._in_trouble,
        )
        backend = EngineBackend(
            self._thread,
            self._works.store,
            self._works.log,
            self._works.signer.public_key,
            self._peers,
            lambda: told_addresses(self._settings, self._manager.port),
            side,
        )
        token = load_or_make_token(self._directory.path)
        self._api = ApiServer(backend, token, settings.api_host, settings.api_port)
        await self._api.start()
        self._endings.append(("API", self._close_api))

    async def _open_peers(self) -> None:
        self._endings.append(("peers", self._manager.close))
        try:
            await self._manager.start()
        except PeerError as error:
            raise self._not_listening(error) from error

    def _not_listening(self, error: PeerError) -> PeerError:
        """Name a failure to listen by the node's own settings."""
        cause = error.__cause__
        if not isinstance(cause, OSError):
            return error
        settings = self._settings
        place = f"{settings.peer_host}:{settings.peer_port}"
        if cause.errno == errno.EADDRINUSE:
            return PeerError(
                "peer_port_in_use",
                f"{place} is in use by another program: set peer_port to another port, or to 0 for a "
                "free one",
                setting="peer_port",
            )
        return PeerError(
            "peer_host_unusable",
            f"other nodes can't be heard at {place} ({cause.strerror or cause}): set peer_host to an address "
            "of this computer, to 0.0.0.0 for all of them, or to nothing",
            setting="peer_host",
        )

    async def _search_lan(self) -> None:
        works = self._works
        await search_lan(
            self._manager,
            chain_id=works.engine.chain.chain_id,
            node_key=works.signer.public_key,
            addresses=lan_addresses(self._settings),
        )

    def _ready(self) -> Ready:
        peer = f"{self._settings.peer_host}:{self._manager.port}" if self._manager.port else None
        works = self._works
        return Ready(
            __version__,
            self._api.url,
            peer,
            address(works.signer.public_key),
            works.engine.chain.chain_id.hex(),
        )

    # While it runs

    def _deliver(self, outputs: Sequence[Send | Drop], events: Sequence[NodeEvent]) -> None:
        self._bridge.obey(outputs)
        if events:
            told = list(events)
            upkeep.log_events(told)
            self._mining.follow(told)
            self._watch.follow(told)

    def _in_trouble(self, error: ChainError | OSError) -> None:
        if isinstance(error, ChainError) and error.code in FATAL:
            self._failed(error)
        self._disk.report(error)
        self._mining.look_again()

    async def _stop_voting(self) -> None:
        await self._thread.run(lambda engine, _now: engine.met_copy())

    def _disk_recovered(self) -> None:
        try:
            self._tell_api_address()
        except OSError as error:
            _LOGGER.warning(
                "%s can't be written (%s): commands find this node by --url %s alone",
                self._directory.file(API_ADDRESS),
                error.strerror or error,
                self._api.url,
            )
        self._look_again()

    def _tell_api_address(self) -> None:
        """Write down where the API is, unless that is done."""
        if not self._api_told:
            self._directory.tell_api_address(self._api.url)
            self._api_told = True

    def _look_again(self) -> None:
        self._mining.look_again()

    def _peers(self) -> list[PeerView]:
        return [
            PeerView(
                node=party(each.remote.key),
                direction="inbound" if each.inbound else "outbound",
                address=each.address,
                up_s=round(each.up_s, 1),
                height=None,
                software=each.remote.software,
                guest=each.remote.invitation is not None,
                round_trip_s=each.traffic.round_trip_s,
                bytes_in=each.traffic.bytes_in,
                bytes_out=each.traffic.bytes_out,
            )
            for each in self._manager.peers()
        ]

    def _dials(self) -> list[DialView]:
        return [
            DialView(
                node=optional_party(each.key),
                location=each.location,
                failures=each.failures,
                retry_in_s=round(each.retry_in_s, 1),
                last_error=each.last_error,
                last_code=each.last_code,
            )
            for each in self._manager.dials()
        ]

    def _run(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"node {name}")
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    # The end

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _close_api(self) -> None:
        self._directory.forget_api_address()
        await self._api.close()

    async def _close_works(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, self._works.close)


async def _in_time(stage: Coroutine[Any, Any, None], hurry: asyncio.Event | None) -> None:
    """Run a stage of the end; in a hurry it gets a moment, then it is cut off."""
    task = asyncio.create_task(stage)
    if hurry is not None:
        hurried = asyncio.create_task(hurry.wait())
        await asyncio.wait((task, hurried), return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not task.done():
            await asyncio.wait((task,), timeout=_HURRY_S)
            task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


_HURRY_S: Final = 0.5
