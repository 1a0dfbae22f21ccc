"""An async library over a node's API: typed answers, timeouts, one family of errors (ClientError).

node_client   NodeClient: every question, and submitting records
event_stream  EventStream: events as they happen, again and again from where it was
transport     HTTP and WebSockets to a node
errors        ClientError and its kinds
views         what a node answers and may be asked
home          Home: builds, signs and submits one member's records
bodies        from what a home means to the body of a record
changes       what may be left out when something is changed
signed        a signed record, also as a line of text for another member
waiting       waiting for a record to stand in a block
evidence      proof that a node voted in two ways
local         data directories on this machine, before their node runs
places        where nodes reach each other
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
