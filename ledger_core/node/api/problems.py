"""Refusals as answers: a status and JSON of the schema Problem."""

from typing import Any, Final

import msgspec
from aiohttp import web

from ledger_core.errors import ChainError, LedgerError, RuleError
from ledger_core.node.api.event_log import CursorError
from ledger_core.node.api.guard import RefusedError
from ledger_core.node.api.model import Problem
from ledger_core.node.api.routes import OPENAPI_PATH
from ledger_core.node.api.views import NotFoundError

JSON: Final = "application/json"
NO_STORE: Final = {"Cache-Control": "no-store"}
_STATUSES: Final[tuple[tuple[type[LedgerError], int], ...]] = (
    (NotFoundError, 404),
    (CursorError, 410),
    (RuleError, 409),
    (ChainError, 503),
    (LedgerError, 400),
)
_ASKED_FOR: Final = {
    "unauthorized": {"WWW-Authenticate": "Bearer"},
    "content_encoding": {"Accept-Encoding": "identity"},
}
"""Headers by code: what HTTP wants a refusal to ask for."""
_SHOWN: Final = 200
"""Characters of a fault that are shown: it may hold the caller's own bytes."""


def problem(status: int, error: LedgerError, headers: dict[str, str] | None = None) -> web.Response:
    """Return an error as an answer."""
    details: dict[str, Any] = msgspec.to_builtins(error.details, enc_hook=str)
    told = Problem(code=error.code, message=error.message, details=details)
    return web.Response(
        body=msgspec.json.encode(told),
        status=status,
        content_type=JSON,
        headers={**NO_STORE, **(headers or {})},
    )


def refusal(error: LedgerError) -> web.Response:
    """Return the answer to a request that the ledger or the API refused."""
    headers = dict(_ASKED_FOR.get(error.code, {}))
    if not isinstance(error, RefusedError):
        return problem(next(status for kind, status in _STATUSES if isinstance(error, kind)), error, headers)
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return problem(error.status, error, headers)


def http_problem(error: web.HTTPException, request: web.BaseRequest) -> web.Response:
    """Return the answer to a request that aiohttp refused."""
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return problem(error.status, _http_error(error, request), headers)


def _http_error(error: web.HTTPException, request: web.BaseRequest) -> LedgerError:
    match error.status:
        case 404:
            return LedgerError("path_unknown", f"there is no {request.path[:80]!r}; see {OPENAPI_PATH}")
        case 405:
            return LedgerError("method_not_allowed", f"{request.method} is not for {request.path[:80]!r}")
        case 413:
            return LedgerError("request_too_large", error.text or error.reason)
        case _:
            return LedgerError("http_error", error.reason)


def malformed(status: int, reason: str) -> web.Response:
    """Return the answer to bytes that are no request."""
    text = f"this is no HTTP request that the node understands: {on_one_line(reason)}"
    return problem(status, LedgerError("request_malformed", text))


def internal_problem() -> web.Response:
    """Return the answer where the program itself failed."""
    return problem(500, LedgerError("internal_error", "a mistake in the program; the node's log tells more"))


def on_one_line(fault: object) -> str:
    """Return a fault's text on one line of bounded length."""
    # The parser points at a column with a line that holds nothing else.
    words = " ".join(str(fault).split()).removesuffix(" ^")
    return words if len(words) <= _SHOWN else words[: _SHOWN - 1] + "…"
