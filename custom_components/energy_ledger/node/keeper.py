"""Keeps a node running while its entry is set up anew.

Every device and every rule that is added reloads the entry. The node needs none of that: it is started anew
only where its command line or its settings have changed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later
from homeassistant.util.hass_dict import HassKey

from ledger_core.client import NodeClient

from ..const import DOMAIN
from .process import NodeLaunch
from .supervisor import NodeSupervisor

GRACE_S: Final = 20.0
"""A node that nobody takes over within this time is ended."""


@dataclass(slots=True)
class _Kept:
    supervisor: NodeSupervisor
    cancel: Callable[[], None]
    """Cancels the end of the grace."""
    ending: asyncio.Task[None] | None = None


class NodeKeeper:
    """Holds the nodes of unloaded entries, by entry id, until they are set up again or the grace is over."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Hold nothing yet; what is held ends with Home Assistant."""
        self._hass = hass
        self._kept: dict[str, _Kept] = {}
        self._renewed: set[str] = set()
        self._known: dict[str, NodeSupervisor] = {}
        hass.bus.async_listen(EVENT_HOMEASSISTANT_STOP, self._end_all)

    def renew(self, entry_id: str) -> None:
        """End an entry's node when the entry is unloaded next: the reload is to start it anew."""
        self._renewed.add(entry_id)

    def know(self, entry_id: str, supervisor: NodeSupervisor) -> None:
        """Know the supervisor of an entry's node, whether it can start it or not."""
        self._known[entry_id] = supervisor

    def log_lines(self, entry_id: str) -> list[str]:
        """What an entry's node said lately, oldest first; also one that could not be started."""
        known = self._known.get(entry_id)
        return [] if known is None else known.log_lines

    async def keep(self, entry_id: str, supervisor: NodeSupervisor) -> None:
        """Let a node run on for a moment, if it runs and Home Assistant does; else end it."""
        renewed = entry_id in self._renewed
        self._renewed.discard(entry_id)
        if renewed or not await supervisor.let_run() or self._hass.is_stopping:
            await supervisor.stop()
            return

        @callback
        def over(_: object) -> None:
            self._begin_end(kept)

        kept = _Kept(supervisor, async_call_later(self._hass, GRACE_S, over))
        self._kept[entry_id] = kept

    async def take(self, entry_id: str, launch: NodeLaunch) -> tuple[NodeClient, NodeSupervisor] | None:
        """Hand out an entry's node, watched again, with a client of it.

        None: there is none that was started like this and still answers. What was kept is ended then.
        """
        self._renewed.discard(entry_id)
        kept = self._kept.pop(entry_id, None)
        if kept is None:
            return None
        client = None
        try:
            if kept.ending is None and kept.supervisor.launch == launch:
                kept.cancel()
                client = await kept.supervisor.take_up()
        finally:
            if client is None:
                await self._end(kept)
        return None if client is None else (client, kept.supervisor)

    async def end(self, entry_id: str) -> None:
        """End what is kept for an entry; returns when it is gone."""
        self._renewed.discard(entry_id)
        self._known.pop(entry_id, None)
        if (kept := self._kept.pop(entry_id, None)) is not None:
            await self._end(kept)

    async def end_all(self) -> None:
        """End whatever is kept; returns when it is gone."""
        await asyncio.gather(*(self.end(entry_id) for entry_id in tuple(self._kept)))

    async def _end_all(self, _: Event[Any]) -> None:
        await self.end_all()

    async def _end(self, kept: _Kept) -> None:
        # Whoever waits may be cancelled; the process ends all the same.
        await asyncio.wait([self._begin_end(kept)])

    @callback
    def _begin_end(self, kept: _Kept) -> asyncio.Task[None]:
        kept.cancel()
        if kept.ending is None:
            # Home Assistant waits for it when it stops.
            kept.ending = self._hass.async_create_task(kept.supervisor.stop(), "energy ledger node end")
        return kept.ending


_KEEPER: Final[HassKey[NodeKeeper]] = HassKey(f"{DOMAIN}_node_keeper")


@callback
def node_keeper(hass: HomeAssistant) -> NodeKeeper:
    """Return the one keeper of this Home Assistant."""
    if _KEEPER not in hass.data:
        hass.data[_KEEPER] = NodeKeeper(hass)
    return hass.data[_KEEPER]
