"""What `watch` shows: a page of lines for a width and height, from what the node told."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ledger_core.cli.offer_commands import offer_table
from ledger_core.cli.output import one_line
from ledger_core.cli.quantities import show_money, show_time
from ledger_core.cli.status_commands import sync_text
from ledger_core.cli.trade_commands import trade_table
from ledger_core.client.views import AccountView, OfferView, StatusView, TradeView

KEPT_EVENTS: Final = 500


@dataclass
class Picture:
    """What is known: filled by the command, drawn by `page`."""

    member: str | None
    status: StatusView | None = None
    account: AccountView | None = None
    offers: Sequence[OfferView] = ()
    trades: Sequence[TradeView] = ()
    connected: bool = False
    events: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_EVENTS))


def page(picture: Picture, width: int, height: int, now: int) -> list[str]:
    """Return at most `height` lines of at most `width` characters; what is new stays at the bottom."""
    parts = [_head(picture, now)]
    if picture.status is not None:
        currency = picture.status.currency
        parts.append(["", "OFFERS", *offer_table(list(picture.offers), currency)])
        parts.append(["", "TRADES", *trade_table(list(picture.trades), currency, picture.member)])
    # Offers and trades share what the heading and at least a few events leave.
    room = max(height - len(parts[0]) - 5, 0)
    share = room // 3
    lines = [*parts[0]]
    for part in parts[1:]:
        lines += _cut(part, share)
    left = height - len(lines) - 2
    if left > 0:
        recent = list(picture.events)[-left:]
        lines += ["", "EVENTS", *recent]
    return [_fit(line, width) for line in lines[:height]]


def _head(picture: Picture, now: int) -> list[str]:
    status = picture.status
    if status is None:
        return [f"waiting for the node  {show_time(now)}"]
    state = "in step" if status.synced else sync_text(status)
    if not picture.connected:
        state = "NO CONNECTION, trying again"
    lines = [
        f"{status.community}   {show_time(now)}   {state}",
        (
            f"height {status.tip.height} (final {status.final})   peers {status.peers}   waiting "
            f"{status.waiting_records}   settled until {show_time(status.settled_until)}"
        ),
    ]
    if picture.account is not None:
        account = picture.account
        lines.append(
            f"balance {show_money(account.balance, status.currency)}   held "
            f"{show_money(account.held, status.currency)}   spendable "
            f"{show_money(account.spendable, status.currency)}"
        )
    return lines


def _cut(lines: list[str], room: int) -> list[str]:
    """Return the first lines that have room, and how many have not."""
    if len(lines) <= room:
        return lines
    if room < 4:
        return []
    return [*lines[: room - 1], f"... and {len(lines) - room + 1} more"]


def _fit(line: str, width: int) -> str:
    line = one_line(line)
    return line if len(line) <= width else line[: max(width - 1, 0)] + ("…" if width else "")
