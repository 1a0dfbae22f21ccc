"""Keeps the links up that this node dials."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

from ledger_core.node.peers.carrier import Carrier
from ledger_core.node.peers.dial_plan import DialPlan, Target
from ledger_core.node.peers.dialer import dialled
from ledger_core.node.peers.errors import PeerError, Refusal, RefusedByPeer
from ledger_core.node.peers.establish import initiate
from ledger_core.node.peers.handshake import LocalNode, RemoteNode, Session
from ledger_core.node.peers.link import Link
from ledger_core.node.peers.registry import Registry
from ledger_core.node.peers.settings import PeerSettings
from ledger_core.node.peers.text import short_key

_LOGGER: Final = logging.getLogger(__name__)
_MAX_DIALS: Final = 4
"""Dials under way at a time."""


class Outbound:
    """Dials by the plan, and carries each link in the task that dialled."""

    def __init__(
        self,
        plan: DialPlan,
        carrier: Carrier,
        registry: Registry,
        settings: PeerSettings,
        local: Callable[[], LocalNode],
        answered: Callable[[bytes], None] = lambda _key: None,
    ) -> None:
        """Dial by the plan; `answered` is told the key of who answers at a configured location."""
        self._plan = plan
        self._carrier = carrier
        self._registry = registry
        self._settings = settings
        self._local = local
        self._answered = answered
        self._dialling: set[Target] = set()

    async def run(self) -> None:
        """Dial whenever links are wanted, until cancelled; ends its links then."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            while True:
                wanted = self._settings.outbound_target - self._registry.outbound - len(self._dialling)
                room = _MAX_DIALS - len(self._dialling)
                for target in self._plan.due(wanted, loop.time())[: max(room, 0)]:
                    target.is_dialled = True
                    self._dialling.add(target)
                    tasks.create_task(self._dial(target), name=f"peers dial {target.location.url}")
                await asyncio.sleep(self._settings.dial_every_s)

    async def _dial(self, target: Target) -> None:
        """Make one try at a target, and carry its link to the end."""
        limit_s = self._settings.handshake_s
        dialled_at = asyncio.get_running_loop().time()
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(limit_s):
                    link = await stack.enter_async_context(dialled(target.location, self._settings))
                    session = await self._introduce(link, target, dialled_at)
                self._dialling.discard(target)
                await self._carry(link, session, target, dialled_at)
        except TimeoutError:
            self._failed(target, PeerError("timeout", f"the handshake was not done within {limit_s:g} s"))
        except PeerError as error:
            self._failed(target, error)
        except Exception:
            # Whatever it is, the other targets are dialled on.
            _LOGGER.exception("a dial fails by this node's own mistake")
            self._failed(target, PeerError("internal_error", "this node made a mistake"))
        finally:
            self._dialling.discard(target)
            target.is_dialled = False

    async def _introduce(self, link: Link, target: Target, dialled_at: float) -> Session:
        def check(remote: RemoteNode) -> None:
            if target.is_configured:
                target.key = remote.key
                self._answered(remote.key)
            self._carrier.check(remote, dialled_at=dialled_at)

        return await initiate(link, self._local(), None if target.is_configured else target.key, check)

    async def _carry(self, link: Link, session: Session, target: Target, dialled_at: float) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        ending = await self._carrier.carry(link, session, dialled_at=dialled_at)
        target.last_code, target.last_error = "", f"{ending.code}: {ending.reason}"
        if loop.time() - begun >= self._settings.stable_s:
            target.backoff.succeeded()
        else:
            target.backoff.failed(loop.time())

    def _failed(self, target: Target, error: PeerError) -> None:
        who = (
            target.location.url if target.key is None else f"{short_key(target.key)} at {target.location.url}"
        )
        if isinstance(error, RefusedByPeer):
            what = f"{who} refuses this node: {error.code}: {error.message}"
        elif isinstance(error, Refusal):
            what = f"this node refuses {who}: {error.code}: {error.message}"
        else:
            what = f"no link with {who}: {error.code}: {error.message}"
        # The same failure again and again is told once.
        level = logging.DEBUG if target.last_code == error.code else logging.WARNING
        _LOGGER.log(level, "%s", what)
        target.last_code, target.last_error = error.code, what
        pause_s = self._settings.backoff_cap_s if error.code == "own_node" else 0.0
        if isinstance(error, Refusal):
            pause_s = max(pause_s, error.retry_after_s)
        target.backoff.failed(asyncio.get_running_loop().time(), pause_s)
