"""The live table of offers, trades, deliveries and settlements."""

import shutil
import sys
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.journal import Deal

_HEAD = (
    "way to the trade",
    "seller",
    "buyer",
    "window",
    "agreed Wh at EUR/kWh",
    "sent Wh",
    "received Wh",
    "delivered Wh",
    "paid EUR",
    "stage",
)


def rows(deals: Sequence[Deal], names: dict[str, str]) -> list[tuple[str, ...]]:
    """Return a row for each deal; `names` are the homes' by address."""
    return [_row(deal, names) for deal in deals]


def _row(deal: Deal, names: dict[str, str]) -> tuple[str, ...]:
    offer, lines = deal.offer, deal.settled
    window = f"{clock(offer.start)}-{clock(offer.end)}"
    figures = ["", "", "", ""]
    if lines:
        figures = [
            _sum([line.sent_wh for line in lines]),
            _sum([line.received_wh for line in lines]),
            _sum([line.delivered_wh for line in lines]),
            f"{sum(line.paid_micro for line in lines) / 1_000_000:.6f}",
        ]
    agreed = f"{deal.agreed_wh} at {deal.price_micro / 1_000_000:g}" if deal.trade else ""
    buyer = names.get(deal.buyer, "")
    way = f"{offer.kind} ({deal.why})" if deal.why else offer.kind
    return (way, offer.seller.house.name, buyer, window, agreed, *figures, deal.stage)


def _sum(values: Sequence[int | None]) -> str:
    known = [value for value in values if value is not None]
    return str(sum(known)) if len(known) == len(values) else "no reading"


def clock(seconds: int) -> str:
    """Return a time of day as this machine's clocks show it."""
    return time.strftime("%H:%M", time.localtime(seconds))


def text_of(rows_of_text: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the table's lines, columns aligned."""
    whole = [_HEAD, *rows_of_text]
    widths = [max(len(row[place]) for row in whole) for place in range(len(_HEAD))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in whole]
    return ["  ".join(row).rstrip() for row in padded]


def _told(line: str) -> str:
    """Return a row as a line of its own, whatever the width of its columns."""
    return ", ".join(cell.strip() for cell in line.split("  ") if cell.strip())


class LiveTable:
    """Shows the table: in a terminal always in the same place, elsewhere each row anew when it changed."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        """Show on a stream."""
        self._out = out
        self._drawn = 0
        self._last: list[str] = []

    def show(self, lines: list[str]) -> None:
        """Show the table's lines, if they are others than before."""
        if lines == self._last:
            return
        if self._out.isatty():
            width = shutil.get_terminal_size().columns
            self._out.write(f"\x1b[{self._drawn}A\x1b[J" if self._drawn else "")
            self._out.write("\n".join(line[: width - 1] for line in lines) + "\n")
            self._drawn = len(lines)
        else:
            known = {_told(line) for line in self._last}
            if not self._last:
                self._out.write(f"  {_told(lines[0])}\n")
            for line in lines[1:]:
                if _told(line) not in known:
                    self._out.write(f"  {_told(line)}\n")
        self._out.flush()
        self._last = lines

    def leave(self) -> None:
        """Leave what is shown; what comes next stands below it."""
        self._drawn = 0
