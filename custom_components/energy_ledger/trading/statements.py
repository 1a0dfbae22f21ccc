"""Keeps the settlement lines of this home's trades, per trade and slot, and makes statements of them."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any, Final

import msgspec
from homeassistant.core import HomeAssistant
from homeassistant.helpers.storage import Store
from homeassistant.util import dt as dt_util

from ledger_core.client.views import EventView
from ledger_core.keys import address

from ..const import CONF_CURRENCY, DOMAIN
from ..data import EnergyLedgerEntry
from ..quantities import moment
from .statement_core import Account, Settled, as_csv, as_pain001

KEPT_S: Final = 100 * 86_400
"""Three whole months and some days."""
SAVE_DELAY_S: Final = 10


class Statements:
    """The settlement lines of one home."""

    def __init__(self, hass: HomeAssistant, entry: EnergyLedgerEntry) -> None:
        self._entry = entry
        self._home = entry.runtime_data.key.signer.public_key.hex()
        self._store: Store[dict[str, Any]] = Store(hass, 1, f"{DOMAIN}.statements.{entry.entry_id}")
        self._lines: dict[str, Settled] = {}
        """By trade and slot end."""

    async def async_start(self) -> None:
        """Load the lines."""
        kept = await self._store.async_load() or {}
        self._lines = msgspec.convert(kept.get("lines", {}), dict[str, Settled])

    async def async_stop(self) -> None:
        """Keep the lines."""
        await self._store.async_save(self._kept())

    def _kept(self) -> dict[str, Any]:
        return {"lines": msgspec.to_builtins(self._lines)}

    def take(self, event: EventView) -> None:
        """Take a settlement line; take back those of an undone block."""
        if event.event == "block_undone" and event.block is not None:
            self._lines = {name: line for name, line in self._lines.items() if line.block != event.block}
            return
        if event.event != "slot_settled":
            return
        data = event.data
        if self._home not in (data["seller"], data["buyer"]):
            return
        selling = data["seller"] == self._home
        line = Settled(
            trade=str(data["trade"]),
            slot_end=int(data["slot_end"]),
            partner=address(bytes.fromhex(data["buyer"] if selling else data["seller"])),
            selling=selling,
            agreed_wh=data["agreed_wh"],
            sent_wh=data["sent_wh"],
            received_wh=data["received_wh"],
            delivered_wh=data["delivered_wh"],
            paid=data["paid"],
            shortfall_paid=data["shortfall_paid"],
            disputed=data["disputed"],
            block=event.block or "",
        )
        self._lines[f"{line.trade}-{line.slot_end}"] = line
        oldest = line.slot_end - KEPT_S
        if any(each.slot_end < oldest for each in self._lines.values()):
            self._lines = {name: each for name, each in self._lines.items() if each.slot_end >= oldest}
        self._store.async_delay_save(self._kept, SAVE_DELAY_S)

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
