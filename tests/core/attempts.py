"""Trying something that may be refused, with the refusal as a value."""

from collections.abc import Callable

from ledger_core.errors import LedgerError


def attempt[**P, R](call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R | LedgerError:
    """Return the call's result, or the ledger's own error; any other exception passes on."""
    try:
        return call(*args, **kwargs)
    except LedgerError as error:
        return error


def code_of[**P, R](call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> str:
    """Return the code of the ledger's error that a call raises; "" where it raises none."""
    result = attempt(call, *args, **kwargs)
    return result.code if isinstance(result, LedgerError) else ""
