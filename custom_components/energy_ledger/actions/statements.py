"""statement: a month's trades per neighbour, as CSV and as a payment file; and what trades settled to."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import probatio as vol
from homeassistant.core import HomeAssistant, ServiceCall
from homeassistant.helpers import config_validation as cv
from homeassistant.util import dt as dt_util

from ..data import EnergyLedgerEntry
from ..describe import slot_figures
from ..quantities import kilo, local_text, money
from ..refusals import invalid
from ..trading.engine import TradingEngine
from ..trading.statement_core import Account, PartnerSum, Settled, StatementError, sums
from .fields import ENTRY, entry_of

ATTR_MONTH: Final = "month"
ATTR_NAME: Final = "name"
ATTR_IBAN: Final = "iban"
ATTR_ACCOUNTS: Final = "accounts"
ATTR_DIRECTORY: Final = "directory"

_ACCOUNT: Final = vol.Schema({vol.Required(ATTR_NAME): cv.string, vol.Required(ATTR_IBAN): cv.string})
STATEMENT_SCHEMA: Final = vol.Schema(
    {
        **ENTRY,
        vol.Optional(ATTR_MONTH): vol.All(cv.string, str.strip, vol.Match(r"^20[0-9]{2}-(0[1-9]|1[0-2])$")),
        vol.Inclusive(ATTR_NAME, "debtor"): cv.string,
        vol.Inclusive(ATTR_IBAN, "debtor"): cv.string,
        vol.Optional(ATTR_ACCOUNTS, default=dict): vol.Schema({cv.string: _ACCOUNT}),
        vol.Optional(ATTR_DIRECTORY): cv.string,
    }
)


async def statement(hass: HomeAssistant, call: ServiceCall) -> dict[str, Any]:
    """Return a month's statement, and write it where the user wants it."""
    entry = entry_of(hass, call)
    books = trading_of(entry).statements
    month = call.data.get(ATTR_MONTH) or last_month()
    files = {
        f"energy-ledger-{month}.csv": books.csv(month),
        f"energy-ledger-{month}-slots.csv": books.slots_csv(month),
    }
    answer: dict[str, Any] = {
        "month": month,
        "neighbours": [_partner(each) for each in sums(books.of_month(month))],
        "csv": books.csv(month),
        "slots_csv": books.slots_csv(month),
        "payments": None,
        "files": [],
    }
    if ATTR_IBAN in call.data:
        creditors = {
            address: Account(name=given[ATTR_NAME], iban=given[ATTR_IBAN])
            for address, given in call.data[ATTR_ACCOUNTS].items()
        }
        debtor = Account(name=call.data[ATTR_NAME], iban=call.data[ATTR_IBAN])
        try:
            answer["payments"] = books.payments(month, debtor, creditors)
        except StatementError as error:
            raise invalid("statement_impossible", month=month, reason=error) from error
        files[f"energy-ledger-{month}-pain001.xml"] = answer["payments"]
    if ATTR_DIRECTORY in call.data:
        answer["files"] = await _write(hass, call.data[ATTR_DIRECTORY], files)
    return answer


def trading_of(entry: EnergyLedgerEntry) -> TradingEngine:
    """Return an entry's trading engine."""
    trading = entry.runtime_data.trading
    if not isinstance(trading, TradingEngine):
        raise invalid("entry_not_loaded")
    return trading


def last_month() -> str:
    """Return the month before this one, on the home's own calendar."""
    return (dt_util.now().replace(day=1) - timedelta(days=1)).strftime("%Y-%m")


def settled_data(lines: Iterable[Settled]) -> list[dict[str, Any]]:
    """Describe settled slots, in people's units."""
    return [
        {
            "trade": line.trade,
            "role": "seller" if line.selling else "buyer",
            "partner": line.partner,
            "slot_end": local_text(line.slot_end),
            **slot_figures(line),
        }
        for line in lines
    ]


def _partner(each: PartnerSum) -> dict[str, Any]:
    return {
        "neighbour": each.partner,
        "sold_kwh": kilo(each.sold_wh),
        "bought_kwh": kilo(each.bought_wh),
        "earned": money(each.earned),
        "spent": money(each.spent),
        "shortfall_received": money(each.shortfall_received),
        "shortfall_paid": money(each.shortfall_paid),
        "owed": money(each.owed),
        "slots": each.lines,
        "disputed_slots": each.disputed,
    }


async def _write(hass: HomeAssistant, directory: str, files: dict[str, str]) -> list[str]:
    """Write files to a directory that Home Assistant may write to; returns their paths."""
    folder = Path(hass.config.path(directory))
    # What lies in www is served to everybody who reaches Home Assistant, without a login.
    public = Path(hass.config.path("www"))

    def write() -> list[str] | None:
        whole = folder.resolve()
        if whole.is_relative_to(public.resolve()) or not hass.config.is_allowed_path(str(whole)):
            return None
        whole.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, text in files.items():
            path = whole / name
            path.write_text(text, encoding="utf-8", newline="")
            paths.append(str(path))
        return paths

    try:
        written = await hass.async_add_executor_job(write)
    except OSError as error:
        raise invalid("file_not_written", directory=directory, error=error) from error
    if written is None:
        raise invalid("directory_not_allowed", directory=directory)
    return written
