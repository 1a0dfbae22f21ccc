"""An async library over a node's API: typed answers, timeouts, one family of errors (ClientError).

node_client   NodeClient: every question, and submitting records
event_stream  EventStream: events as they happen, again and again from where it was
errors        ClientError and its kinds
"""

from ledger_core.client.errors import (
    AnswerInvalidError,
    ClientError,
    ContestedError,
    CursorLostError,
    RefusedError,
    TimedOutError,
    UnauthorizedError,
    UnreachableError,
)
from ledger_core.client.event_stream import Backoff, EventStream
from ledger_core.client.node_client import NodeClient

__all__ = [
    "AnswerInvalidError",
    "Backoff",
    "ClientError",
    "ContestedError",
    "CursorLostError",
    "EventStream",
    "NodeClient",
    "RefusedError",
    "TimedOutError",
    "UnauthorizedError",
    "UnreachableError",
]
