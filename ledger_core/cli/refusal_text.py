"""What a node refuses, in people's units: rules and API tell W, Wh, micro-currency and UTC seconds."""

import re
from typing import Final

from ledger_core.cli.quantities import show_amount, show_energy, show_power, show_time

_MONEY: Final = frozenset(
    {
        "amount_too_large",
        "auction_limits",
        "bid_above_ceiling",
        "bid_below_reserve",
        "compensation_too_low",
        "funds_insufficient",
        "issue_too_large",
    }
)
"""Codes whose figures all are money, or prices."""
_NUMBER: Final = re.compile(r"(?<![\w.])([0-9]+)( micro-currency| Wh| W)?(?![\w])")
_EARLIEST: Final = 10**9
"""UTC seconds from 2001 on: a bare number as large as that is a time."""
_UNAUTHORIZED: Final = (
    "this is not the token of the node that answers: give its api.token with --token-file FILE, or --data "
    "DIR on its computer"
)
_WRITES_AGAIN: Final = "energy-ledger status tells when the node can write again"


def people_text(code: str, message: str) -> str:
    """Return a refusal's message as the command line shows it."""
    match code:
        case "unauthorized":
            # The node's own words speak to programs.
            return _UNAUTHORIZED
        case "os_error":
            return f"{message}; {_WRITES_AGAIN}"
        case _:
            return _NUMBER.sub(lambda found: _figure(code, int(found[1]), found[2] or ""), message)


def _figure(code: str, value: int, unit: str) -> str:
    if code in _MONEY:
        return show_amount(value)
    match unit.strip():
        case "Wh":
            return show_energy(value)
        case "W":
            return show_power(value)
        case "micro-currency":
            return show_amount(value)
        case _:
            return show_time(value) if _EARLIEST <= value < 10 * _EARLIEST else str(value)
