"""Keeps the links in step with the members: who may have one, and how this node shows itself."""

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from typing import Final

from ledger_core.errors import ChainError
from ledger_core.node.bridge_policy import MemberPolicy, Membership, draw_membership
from ledger_core.node.chain_thread import ChainThread
from ledger_core.node.data_directory import DataDirectory
from ledger_core.node.engine.outputs import BlockConnected, BlockDisconnected, NodeEvent, SnapshotAdopted
from ledger_core.node.peers import PeerManager
from ledger_core.rules.events import CheckpointFinal, MemberChanged, NodePunished

_LOGGER: Final = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 15.0
"""While the chain here can't tell who is a member, it is asked so often."""


class MemberWatch:
    """Draws the membership anew when it may have changed, and lets the links follow."""

    def __init__(
        self, thread: ChainThread, policy: MemberPolicy, manager: PeerManager, directory: DataDirectory
    ) -> None:
        self._thread = thread
        self._policy = policy
        self._manager = manager
        self._directory = directory
        self._is_newcomer = directory.invitation() is not None
        self._member_at: int | None = None
        """Height at which this node was seen to be a member's; None: it is not one yet."""
        self._changed = asyncio.Event()
        self._changed.set()

    def follow(self, events: Iterable[NodeEvent]) -> None:
        """Hear what happened in the chain; on the event loop."""
        if any(map(self._matters, events)):
            self._changed.set()

    def _matters(self, event: NodeEvent) -> bool:
        match event:
            case BlockConnected():
                kinds = (MemberChanged, NodePunished, *((CheckpointFinal,) if self._is_newcomer else ()))
                return any(isinstance(each, kinds) for each in event.events)
            case BlockDisconnected() | SnapshotAdopted():
                return True
        return False

    async def run(self) -> None:
        """Follow the members until cancelled."""
        while True:
            pause = LOOK_EVERY_S if self._policy.trusts_answers or self._is_newcomer else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            self._changed.clear()
            try:
                membership = await self._thread.look(draw_membership)
            except ChainError as error:
                _LOGGER.warning("the members can't be read: %s", error.message)
                continue
            self._take(membership)

    def _take(self, membership: Membership) -> None:
        was_member = self._policy.is_member
        self._policy.update(membership)
        self._manager.recheck()
        if not self._policy.is_member:
            self._member_at = None
            return
        if self._member_at is None:
            self._member_at = membership.height
            if not was_member:
                _LOGGER.info("this node is a member's from height %d on", membership.height)
                # Others passed over what a stranger told of itself.
                self._manager.announce_again()
        if self._is_newcomer and membership.final >= self._member_at:
            self._is_newcomer = False
            self._manager.show_invitation(None)
            try:
                self._directory.forget_invitation()
            except OSError as error:
                _LOGGER.warning("the used invitation can't be removed: %s", error)
