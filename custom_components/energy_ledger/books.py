"""The home's own books: its settled slots by hour, kept over restarts, corrected when a block is undone.

The ledger's accounts tell balances; what a home earned and spent, and when, follows from the settlement
lines. They feed the sensors of money and the statistics.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.storage import Store
from msgspec import Struct

from ledger_core.client import ClientError, NodeClient, RefusedError
from ledger_core.client.views import EventView
from ledger_core.records.types import Carrier

from .const import DOMAIN
from .data import EnergyLedgerEntry
from .describe import role_of

_LOGGER = logging.getLogger(__name__)

HOUR: Final = 3600
KEPT_S: Final = 40 * 24 * HOUR
"""How long single hours are kept; a slot is settled, and corrected, long before."""
LINES_KEPT_S: Final = 8 * 24 * HOUR
SAVE_DELAY_S: Final = 5.0
RETRY_S: Final = 5.0
_TRADES_KEPT: Final = 2000


class Figures(Struct, kw_only=True):
    """What was traded: Wh and micro-currency."""

    sold_wh: int = 0
    bought_wh: int = 0
    earned: int = 0
    spent: int = 0

    def add(self, other: Figures, sign: int = 1) -> None:
        """Add, or with sign -1 take away."""
        self.sold_wh += sign * other.sold_wh
        self.bought_wh += sign * other.bought_wh
        self.earned += sign * other.earned
        self.spent += sign * other.spent


class Line(Struct, kw_only=True):
    """One settled slot of one trade."""

    hour: int
    carrier: str
    block: str | None
    figures: Figures


class Pages(Struct, kw_only=True):
    """What is kept on disk."""

    before: dict[str, Figures] = {}
    """By carrier: sums of the hours that are not kept one by one any more."""
    hours: dict[str, dict[int, Figures]] = {}
    """By carrier, then by the hour's start."""
    lines: dict[str, Line] = {}
    """By trade and end of the slot."""
    carriers: dict[str, str] = {}
    """Of the newest trades: what they are about, or `asset:` and the asset that tells."""
    waiting: dict[str, tuple[str, Line]] = {}
    """By trade and end of the slot: trades, and lines of which it is asked what they are about."""
    seen: dict[str, Figures] | None = None
    """By carrier: the energy that the ledger said was traded in all when these books were last complete."""


_ASSET: Final = "asset:"


class Books:
    """The books of one home; get them by `async_open_books`."""

    def __init__(self, hass: HomeAssistant, entry: EnergyLedgerEntry) -> None:
        self._hass = hass
        self._entry = entry
        self._home = entry.runtime_data.key.signer.public_key.hex()
        self._client: NodeClient = entry.runtime_data.client
        self._store = _store(hass, entry.entry_id)
        self._listeners: list[Callable[[], None]] = []
        self._finding = False
        self._dirty = False
        self.pages = Pages()
        self.changed_since: dict[str, int] = {}
        """By carrier: the first hour whose sums the statistics do not hold yet."""

    async def async_open(self) -> None:
        """Read what is kept, and begin to follow the ledger."""
        kept = await self._store.async_load()
        if kept is not None:
            self.pages = msgspec.convert(kept, Pages, strict=False)
        self.changed_since = {carrier: min(hours) for carrier, hours in self.pages.hours.items() if hours}
        if self.pages.seen is None:
            self.pages.seen = self._ledger_totals()
        ledger = self._entry.runtime_data.ledger
        self._entry.async_on_unload(ledger.listen(self._take))
        self._entry.async_on_unload(ledger.keep_first(self._async_keep))
        if self.pages.waiting:
            self._find_carriers()

    async def async_close(self) -> None:
        """Write what was not written yet."""
        await self._store.async_save(self._kept())

    async def _async_keep(self) -> None:
        if self._dirty:
            self._dirty = False
            await self._store.async_save(self._kept())

    @callback
    def async_listen(self, listener: Callable[[], None]) -> CALLBACK_TYPE:
        """Call a listener after every change."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def total(self) -> Figures:
        """Return the sums over all carriers and hours."""
        result = Figures()
        for figures in self.pages.before.values():
            result.add(figures)
        for hours in self.pages.hours.values():
            for figures in hours.values():
                result.add(figures)
        return result

    def running_sums(self, carrier: str, since: int) -> Iterator[tuple[int, Figures, Figures]]:
        """Yield hour, its figures and the sums up to its end, from an hour on."""
        sums = msgspec.structs.replace(self.pages.before.get(carrier, Figures()))
        for hour, figures in sorted(self.pages.hours.get(carrier, {}).items()):
            sums.add(figures)
            if hour >= since:
                yield hour, figures, msgspec.structs.replace(sums)

    @callback
    def _take(self, event: EventView) -> None:
        match event.event:
            case "trade_agreed" if role_of(self._home, event.data["seller"], event.data["buyer"]):
                self._note_carrier(event.data)
            case "slot_settled":
                self._settle(event)
            case "block_undone":
                self._undo(event.data["hash"])
            case "resync" | "snapshot_adopted":
                self._book_missed(event)

    def _ledger_totals(self) -> dict[str, Figures] | None:
        """The energy that this home traded in all, as the ledger says it; None: it is no member yet."""
        account = self._entry.runtime_data.ledger.data.account
        if account is None:
            return None
        return {
            each.carrier: Figures(sold_wh=each.sold_wh, bought_wh=each.bought_wh) for each in account.energy
        }

    def _note_totals(self) -> None:
        self.pages.seen = self._ledger_totals() or self.pages.seen
        self._dirty = True

    def _book_missed(self, event: EventView) -> None:
        """Book what was settled in events that were lost, in the hour in which that is found out.

        The ledger keeps sums of the energy alone: what was paid for it then, nobody can tell any more.
        """
        seen = self.pages.seen or {}
        for carrier, total in (self._ledger_totals() or {}).items():
            before = seen.get(carrier, Figures())
            sold, bought = total.sold_wh - before.sold_wh, total.bought_wh - before.bought_wh
            if min(sold, bought) < 0 or not sold + bought:
                continue  # a node that is still reading its chain knows less than was booked already
            _LOGGER.warning(
                "%s: events of the ledger were lost; booked from its sums: %d Wh %s sold, %d Wh bought; "
                "what was earned and spent for them is missing in the books",
                *(self._entry.title, sold, carrier, bought),
            )
            figures = Figures(sold_wh=sold, bought_wh=bought)
            line = Line(hour=event.time // HOUR * HOUR, carrier=carrier, block=None, figures=figures)
            self._book(f"{carrier}/{event.cursor}", line)
            self._note_totals()

    def _note_carrier(self, raw: Mapping[str, Any]) -> None:
        trades = self._entry.runtime_data.ledger.data.trades
        found = next((trade.carrier for trade in trades if trade.trade == raw["trade"]), None)
        carriers = self.pages.carriers
        carriers[raw["trade"]] = found or _ASSET + raw["asset"]
        while len(carriers) > _TRADES_KEPT:
            del carriers[next(iter(carriers))]

    def _settle(self, event: EventView) -> None:
        raw = event.data
        role = role_of(self._home, raw["seller"], raw["buyer"])
        if role is None:
            return
        key = f"{raw['trade']}/{raw['slot_end']}"
        hour = (raw["slot_end"] - 1) // HOUR * HOUR
        self._note_totals()
        if hour < max((line.hour for line in self.pages.lines.values()), default=0) - LINES_KEPT_S:
            # A node that reads its whole chain anew tells what was booked, and is not kept singly any more.
            return
        line = Line(
            hour=hour,
            carrier=self._carrier_of(raw["trade"]),
            block=event.block,
            figures=_figures(role, raw),
        )
        if line.carrier.startswith(_ASSET) or not line.carrier:
            self.pages.waiting[key] = (raw["trade"], line)
            self._find_carriers()
        else:
            self._book(key, line)

    def _carrier_of(self, trade: str) -> str:
        kept = self.pages.carriers.get(trade)
        if kept is not None:
            return kept
        trades = self._entry.runtime_data.ledger.data.trades
        return next((each.carrier for each in trades if each.trade == trade), "")

    @callback
    def _find_carriers(self) -> None:
        if not self._finding:
            self._finding = True
            self._entry.async_create_background_task(
                self._hass, self._async_find_carriers(), f"{DOMAIN} carriers of trades"
            )

    async def _async_find_carriers(self) -> None:
        """Ask the node what trades were about that were settled before this home saw them."""
        try:
            while self.pages.waiting:
                key, (trade, line) = next(iter(self.pages.waiting.items()))
                carrier = await self._async_ask_carrier(line.carrier.removeprefix(_ASSET))
                if carrier is None:
                    await asyncio.sleep(RETRY_S)
                    continue
                if self.pages.waiting.pop(key, None) is not None:
                    self.pages.carriers[trade] = carrier
                    self._book(key, msgspec.structs.replace(line, carrier=carrier))
        finally:
            self._finding = False

    async def _async_ask_carrier(self, asset: str) -> str | None:
        """Return what an asset carries; None: the node is away."""
        try:
            return (await self._client.asset(asset)).carrier
        except RefusedError:
            # Of a trade that was agreed before this home kept books nothing more is known.
            return Carrier.ELECTRICITY.value
        except ClientError:
            return None

    def _book(self, key: str, line: Line) -> None:
        if key in self.pages.lines:
            self._strike(key)
        self.pages.lines[key] = line
        hours = self.pages.hours.setdefault(line.carrier, {})
        hours.setdefault(line.hour, Figures()).add(line.figures)
        self._changed(line)

    def _strike(self, key: str) -> None:
        line = self.pages.lines.pop(key)
        self.pages.hours[line.carrier][line.hour].add(line.figures, -1)
        self._changed(line)

    def _undo(self, block: str) -> None:
        for key in [key for key, line in self.pages.lines.items() if line.block == block]:
            self._strike(key)
            self._note_totals()
        for key in [key for key, (_, line) in self.pages.waiting.items() if line.block == block]:
            del self.pages.waiting[key]

    def _changed(self, line: Line) -> None:
        since = self.changed_since.get(line.carrier, line.hour)
        self.changed_since[line.carrier] = min(since, line.hour)
        self._trim(line.hour)
        self._dirty = True
        self._store.async_delay_save(self._kept, SAVE_DELAY_S)
        for listener in list(self._listeners):
            listener()

    def _trim(self, newest: int) -> None:
        pages = self.pages
        for key in [key for key, line in pages.lines.items() if line.hour < newest - LINES_KEPT_S]:
            del pages.lines[key]
        for carrier, hours in pages.hours.items():
            for hour in [hour for hour in hours if hour < newest - KEPT_S]:
                pages.before.setdefault(carrier, Figures()).add(hours.pop(hour))

    def _kept(self) -> dict[str, Any]:
        kept: dict[str, Any] = msgspec.to_builtins(self.pages, str_keys=True)
        return kept


def _figures(role: str, raw: Mapping[str, Any]) -> Figures:
    delivered, paid, penalty = raw["delivered_wh"], raw["paid"], raw["shortfall_paid"]
    if role == "seller":
        return Figures(sold_wh=delivered, earned=paid, spent=penalty)
    return Figures(bought_wh=delivered, spent=paid, earned=penalty)


def _store(hass: HomeAssistant, entry_id: str) -> Store[dict[str, Any]]:
    return Store(hass, 1, f"{DOMAIN}.books.{entry_id}", atomic_writes=True)


async def async_open_books(hass: HomeAssistant, entry: EnergyLedgerEntry) -> Books:
    """Open the books of a loaded entry; they are closed when it is unloaded."""
    books = Books(hass, entry)
    await books.async_open()
    entry.async_on_unload(books.async_close)
    return books


async def async_remove_books(hass: HomeAssistant, entry_id: str) -> None:
    """Forget the books of a removed entry."""
    await _store(hass, entry_id).async_remove()
