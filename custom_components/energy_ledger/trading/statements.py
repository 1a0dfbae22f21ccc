"""Keeps the settlement lines of this home's trades, per trade and slot, and makes statements of them."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any, Final

import msgspec
from homeassistant.core import HomeAssistant
from homeassistant.helpers.storage import Store
from homeassistant.util import dt as dt_util

from ledger_core.client.views import EventView

from ..const import CONF_CURRENCY, DOMAIN
from ..data import EnergyLedgerEntry
from ..quantities import local_text, moment
from .statement_core import Account, Settled, as_csv, as_pain001, as_slots_csv, settled_of

KEPT_S: Final = 100 * 86_400
"""Three whole months and some days."""
SAVE_DELAY_S: Final = 10
PRICES_KEPT: Final = 2000


class Statements:
    """The settlement lines of one home."""

    def __init__(self, hass: HomeAssistant, entry: EnergyLedgerEntry) -> None:
        self._entry = entry
        self._home = entry.runtime_data.key.signer.public_key.hex()
        self._store: Store[dict[str, Any]] = Store(hass, 1, f"{DOMAIN}.statements.{entry.entry_id}")
        self._lines: dict[str, Settled] = {}
        """By trade and slot end."""
        self._prices: dict[str, int] = {}
        """As agreed, by trade: a settlement line comes when the trade may be gone."""

    async def async_start(self) -> None:
        """Load the lines."""
        kept = await self._store.async_load() or {}
        self._lines = msgspec.convert(kept.get("lines", {}), dict[str, Settled])
        self._prices = msgspec.convert(kept.get("prices", {}), dict[str, int])

    async def async_stop(self) -> None:
        """Keep the lines."""
        await self._store.async_save(self._kept())

    def _kept(self) -> dict[str, Any]:
        return {"lines": msgspec.to_builtins(self._lines), "prices": self._prices}

    def take(self, event: EventView) -> None:
        """Take a settlement line; take back those of an undone block."""
        if event.event == "block_undone" and event.block is not None:
            self._lines = {name: line for name, line in self._lines.items() if line.block != event.block}
            return
        data = event.data
        if event.event not in ("trade_agreed", "slot_settled"):
            return
        if self._home not in (data["seller"], data["buyer"]):
            return
        if event.event == "trade_agreed":
            self._note_price(str(data["trade"]), int(data["price"]))
        else:
            self._note_line(settled_of(data, self._home, self._price(str(data["trade"])), event.block or ""))
        self._store.async_delay_save(self._kept, SAVE_DELAY_S)

    def _note_price(self, trade: str, price: int) -> None:
        self._prices[trade] = price
        while len(self._prices) > PRICES_KEPT:
            del self._prices[next(iter(self._prices))]

    def _price(self, trade: str) -> int | None:
        known = self._prices.get(trade)
        if known is not None:
            return known
        trades = self._entry.runtime_data.ledger.data.trades
        return next((each.price for each in trades if each.trade == trade), None)

    def _note_line(self, line: Settled) -> None:
        self._lines[f"{line.trade}-{line.slot_end}"] = line
        oldest = line.slot_end - KEPT_S
        if any(each.slot_end < oldest for each in self._lines.values()):
            self._lines = {name: each for name, each in self._lines.items() if each.slot_end >= oldest}

    def of_trade(self, trade: str) -> list[Settled]:
        """Return a trade's settled slots, earliest first."""
        return sorted(
            (line for line in self._lines.values() if line.trade == trade), key=lambda line: line.slot_end
        )

    def lines(self) -> list[Settled]:
        """Return every settled slot that is kept, earliest first."""
        return sorted(self._lines.values(), key=lambda line: (line.slot_end, line.trade))

    def points(self, trade: str) -> int | None:
        """Return the score that a seller's delivery deserves: 10 for all of it; None: nothing is known."""
        lines = [line for line in self.of_trade(trade) if line.sent_wh is not None and not line.disputed]
        agreed = sum(line.agreed_wh for line in lines)
        return None if not agreed else sum(line.delivered_wh for line in lines) * 10 // agreed

    def of_month(self, month: str) -> list[Settled]:
        """Return the slots that ended in a month (`2026-11`) of the home's own calendar, earliest first."""
        return sorted(self._in(month), key=lambda line: (line.slot_end, line.trade))

    def _in(self, month: str) -> Iterator[Settled]:
        for line in self._lines.values():
            # A slot belongs to the month in which it lies, so its last second counts.
            if dt_util.as_local(moment(line.slot_end - 1)).strftime("%Y-%m") == month:
                yield line

    def csv(self, month: str) -> str:
        """Return a month's statement as CSV."""
        return as_csv(month, str(self._entry.data.get(CONF_CURRENCY, "")), self.of_month(month))

    def slots_csv(self, month: str) -> str:
        """Return a month's settled slots as CSV."""
        lines = [(local_text(line.slot_end), line) for line in self.of_month(month)]
        return as_slots_csv(str(self._entry.data.get(CONF_CURRENCY, "")), lines)

    def payments(self, month: str, debtor: Account, creditors: dict[str, Account]) -> str:
        """Return the payment file of what this home owes for a month; raises StatementError."""
        now = dt_util.now()
        return as_pain001(
            month=month,
            currency=str(self._entry.data.get(CONF_CURRENCY, "")),
            debtor=debtor,
            creditors=creditors,
            lines=self.of_month(month),
            created=now.replace(microsecond=0, tzinfo=None).isoformat(),
            execute_on=_next_working_day(now.date()),
        )


def _next_working_day(day: date) -> date:
    """Return the next Monday to Friday; banks move holidays by themselves."""
    day += timedelta(days=1)
    while day.weekday() >= 5:
        day += timedelta(days=1)
    return day
