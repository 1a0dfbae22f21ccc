"""The ledger as this home sees it: a coordinator that follows the node's event stream.

Every event leads to a refresh of what it may have changed, and is then delivered once to whoever listens, so
that a listener finds the newest data. How far events were delivered is kept over restarts.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import ConfigEntryAuthFailed
from homeassistant.helpers.dispatcher import async_dispatcher_send
from homeassistant.helpers.storage import Store
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator, UpdateFailed

from ledger_core import __version__
from ledger_core.client import (
    Backoff,
    ClientError,
    CursorLostError,
    NodeClient,
    RefusedError,
    UnauthorizedError,
)
from ledger_core.client.views import (
    AccountView,
    AssetsQuery,
    AssetView,
    EventView,
    MemberView,
    OfferView,
    PeerView,
    StatusView,
    TradesQuery,
    TradeView,
    WaitingQuery,
    WaitingView,
)

from .const import DOMAIN, signal_event
from .node.versions import version_fits

_LOGGER = logging.getLogger(__name__)

POLL: Final = timedelta(minutes=5)
"""Everything is read anew so seldom: the events tell what changes."""
GATHER_S: Final = 0.1
"""Events of one block come within this time: they lead to one refresh."""
SAVE_DELAY_S: Final = 2.0
RETRY_S: Final = 1.0
BACKOFF: Final = Backoff(first_s=0.25, longest_s=10.0)
_MAX_QUEUED: Final = 2000
_PAGE: Final = 500

RESYNC: Final = "resync"
"""Event: some events are missing here; read anew what is needed. The node tells it, too."""

ALL: Final = frozenset({"status", "account", "members", "assets", "offers", "waiting", "trades", "peers"})
_ALWAYS: Final = frozenset({"status", "peers"})
_TRADING: Final = frozenset({"offers", "waiting", "trades", "assets", "account"})
_CHANGES: Final[dict[str, frozenset[str]]] = {
    "block_connected": frozenset(),
    "branch_parted": frozenset(),
    "checkpoint_final": frozenset({"account"}),
    "checkpoint_justified": frozenset(),
    "clock_doubted": frozenset(),
    "clock_trusted": frozenset(),
    "equivocation": frozenset(),
    "money_moved": frozenset({"account"}),
    "reading_taken": frozenset({"assets"}),
    "record_contested": frozenset(),
    "record_final": frozenset(),
    "record_lost": frozenset(),
    "record_pooled": frozenset(),
    "score_given": frozenset({"account"}),
    "slot_settled": frozenset({"trades", "account", "assets"}),
    "trade_closed": frozenset({"trades", "account", "assets"}),
    "acceptance_ended": _TRADING,
    "acceptance_waits": _TRADING,
    "offer_closed": _TRADING,
    "offer_opened": _TRADING,
    "trade_agreed": _TRADING,
    "trade_terminated": _TRADING,
    "voted": frozenset(),
    "voting_stopped": frozenset(),
}
"""What an event may have changed; all of it for an event that is not listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerView:
    """The ledger at one moment."""

    status: StatusView
    account: AccountView | None
    """None: this home is not a member yet."""
    members: tuple[MemberView, ...]
    assets: tuple[AssetView, ...]
    """This home's, retired ones (rating 0) as well."""
    offers: tuple[OfferView, ...]
    """Every open offer and request of the community."""
    waiting: tuple[WaitingView, ...]
    """Acceptances that do not bind yet, made by this home or of its offers."""
    trades: tuple[TradeView, ...]
    """This home's trades that still have slots to settle."""
    peers: tuple[PeerView, ...]


def _cursor_store(hass: HomeAssistant, entry_id: str) -> Store[dict[str, str]]:
    return Store(hass, 1, f"{DOMAIN}.cursor.{entry_id}")


async def async_remove_cursor(hass: HomeAssistant, entry_id: str) -> None:
    """Forget where the events of a removed entry would go on."""
    await _cursor_store(hass, entry_id).async_remove()


class LedgerCoordinator(DataUpdateCoordinator[LedgerView]):
    """Keeps a LedgerView true, and delivers the node's events."""

    config_entry: ConfigEntry[Any]

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry[Any], client: NodeClient, home: str) -> None:
        """Follow a node for a home (its address)."""
        super().__init__(
            hass, _LOGGER, config_entry=entry, name=f"{DOMAIN} {entry.title}", update_interval=POLL
        )
        self.client = client
        self.home = home
        self._changed: set[str] = set(ALL)
        self._listening: list[Callable[[EventView], None]] = []
        self._queue: asyncio.Queue[EventView] = asyncio.Queue(_MAX_QUEUED)
        self._store = _cursor_store(hass, entry.entry_id)
        self._tasks: list[asyncio.Task[None]] = []
        self._cursor: str | None = None
        self._kept_cursor: str | None = None
        self._keepers: list[Callable[[], Awaitable[None]]] = []

    @property
    def cursor(self) -> str | None:
        """The last event that was delivered."""
        return self._cursor

    @callback
    def listen(self, listener: Callable[[EventView], None]) -> Callable[[], None]:
        """Call back on the event loop with every event, once and in order; returns what ends it.

        The data holds what the event changed when the listener is called. An event `resync` tells that
        others may be missing.
        """
        self._listening.append(listener)

        def stop() -> None:
            with contextlib.suppress(ValueError):
                self._listening.remove(listener)

        return stop

    @callback
    def keep_first(self, keep: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Await `keep` before the place in the events is noted as reached; returns what ends it.

        So what was made of the events is on disk before they are counted as delivered: after a crash they may
        come twice, but none is lost.
        """
        self._keepers.append(keep)
        return lambda: self._keepers.remove(keep)

    async def _keep(self) -> None:
        reached = self._cursor
        for keep in tuple(self._keepers):
            await keep()
        self._kept_cursor = reached

    async def _async_setup(self) -> None:
        """Find out where events go on."""
        self._cursor = (await self._store.async_load() or {}).get("cursor")
        if self._cursor is None:
            try:
                # Before anything else is read: what happens from now on is told by an event.
                self._cursor = (await self.client.status()).cursor
            except ClientError as error:
                raise self._failure(error) from error
            self._save_cursor()
        self._kept_cursor = self._cursor

    def start(self) -> None:
        """Follow the events until `stop`; call it once everybody listens."""
        entry = self.config_entry
        self._tasks = [
            entry.async_create_background_task(self.hass, self._follow(), f"{self.name} events"),
            entry.async_create_background_task(self.hass, self._deliver(), f"{self.name} delivery"),
        ]

    async def stop(self) -> None:
        """Follow no longer; what was delivered is noted when this returns."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._keep()
        await self._store.async_save({"cursor": self._kept_cursor or ""})

    async def _async_update_data(self) -> LedgerView:
        """Read what events say has changed; everything where none says so, or after a failure."""
        wanted = frozenset(self._changed | _ALWAYS) if self._changed and self.last_update_success else ALL
        self._changed = set()
        try:
            return await self._read(wanted)
        except ClientError as error:
            raise self._failure(error) from error

    async def _read(self, wanted: frozenset[str]) -> LedgerView:
        readers: dict[str, Callable[[], Awaitable[Any]]] = {
            "status": self.client.status,
            "account": self._read_account,
            "members": self.client.all_members,
            "assets": lambda: self.client.all_assets(AssetsQuery(owner=self.home, limit=_PAGE)),
            "offers": self.client.all_offers,
            "waiting": self._read_waiting,
            "trades": lambda: self.client.all_trades(TradesQuery(member=self.home, limit=_PAGE)),
            "peers": self.client.peers,
        }
        read: dict[str, Any] = {}
        for name in sorted(wanted):
            value = await readers[name]()
            read[name] = tuple(value) if isinstance(value, list) else value
        return replace(self.data, **read) if wanted < ALL else LedgerView(**read)

    async def _read_account(self) -> AccountView | None:
        try:
            return await self.client.account(self.home)
        except RefusedError as error:
            if error.code != "member_unknown":
                raise
            return None

    async def _read_waiting(self) -> list[WaitingView]:
        own = await self.client.all_waiting_acceptances(WaitingQuery(author=self.home, limit=_PAGE))
        of_own_offers = await self.client.all_waiting_acceptances(
            WaitingQuery(offerer=self.home, limit=_PAGE)
        )
        return own + of_own_offers

    def _failure(self, error: ClientError) -> Exception:
        """Return what Home Assistant is told of a client's error."""
        placeholders = {"reason": error.message}
        if isinstance(error, UnauthorizedError):
            return ConfigEntryAuthFailed(
                translation_domain=DOMAIN,
                translation_key="token_refused",
                translation_placeholders=placeholders,
            )
        key = "node_refuses" if isinstance(error, RefusedError) else "node_away"
        return UpdateFailed(
            translation_domain=DOMAIN, translation_key=key, translation_placeholders=placeholders
        )

    async def _follow(self) -> None:
        """Queue the events as they come, through breaks of the connection."""
        while True:
            try:
                stream = self.client.stream(self._cursor, backoff=BACKOFF, on_connection=self._on_connection)
                async with contextlib.aclosing(aiter(stream)) as events:
                    async for event in events:
                        await self._queue.put(event)
            except CursorLostError as error:
                _LOGGER.warning("%s: some events are lost, everything is read anew: %s", self.name, error)
                await self._queue.join()
                await self._begin_anew()
            except UnauthorizedError as error:
                self.async_set_update_error(self._failure(error))
                self.config_entry.async_start_reauth(self.hass)
                return
            except ClientError as error:
                # Nothing that waiting cures by itself; the poll goes on, and so does this.
                self.async_set_update_error(self._failure(error))
                await asyncio.sleep(BACKOFF.longest_s)

    async def _begin_anew(self) -> None:
        """Go on from the newest event, and tell so."""
        status = await self._ask_status()
        self._cursor = status.cursor
        await self._queue.put(
            EventView(
                cursor=status.cursor,
                event=RESYNC,
                height=status.tip.height,
                block=status.tip.hash,
                time=status.tip_time,
                data={},
            )
        )

    async def _ask_status(self) -> StatusView:
        while True:
            with contextlib.suppress(ClientError):  # the refresh tells of it
                return await self.client.status()
            await asyncio.sleep(RETRY_S)

    async def _deliver(self) -> None:
        """Refresh once for what came together, then deliver it."""
        while True:
            batch = [await self._queue.get()]
            await asyncio.sleep(GATHER_S)
            while not self._queue.empty():
                batch.append(self._queue.get_nowait())
            while True:
                for event in batch:
                    self._changed |= _CHANGES.get(event.event, ALL) | _ALWAYS
                await self.async_refresh()
                if self.last_update_success:
                    break
                await asyncio.sleep(RETRY_S)
            for event in batch:
                self._tell(event)
                self._queue.task_done()
            await self._keep()
            self._save_cursor()

    @callback
    def _tell(self, event: EventView) -> None:
        self._cursor = event.cursor
        for listener in tuple(self._listening):
            try:
                listener(event)
            except Exception:  # one listener's fault is none of the others'
                _LOGGER.exception("%s: a listener failed on %s", self.name, event.event)
        async_dispatcher_send(self.hass, signal_event(self.config_entry.entry_id), event)

    @callback
    def _save_cursor(self) -> None:
        self._store.async_delay_save(lambda: {"cursor": self._kept_cursor or ""}, SAVE_DELAY_S)

    @callback
    def _on_connection(self, connected: bool) -> None:
        if not self._tasks or self.hass.is_stopping:
            return  # nobody follows any more: that the connection ends is no news
        if not connected:
            self.async_set_update_error(
                UpdateFailed(
                    translation_domain=DOMAIN,
                    translation_key="node_away",
                    translation_placeholders={"reason": "the connection broke"},
                )
            )
        else:
            self.config_entry.async_create_background_task(
                self.hass, self._connected_again(), f"{self.name} refresh"
            )

    async def _connected_again(self) -> None:
        """Read anew what is missing; a node that was updated meanwhile is set up anew, which checks it."""
        with contextlib.suppress(ClientError):
            if not version_fits(await self.client.version(), __version__):
                self.hass.config_entries.async_schedule_reload(self.config_entry.entry_id)
                return
        if not self.last_update_success:
            await self.async_refresh()
