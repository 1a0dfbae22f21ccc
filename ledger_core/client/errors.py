"""What can go wrong between a client and its node."""

from typing import Any

from ledger_core.errors import LedgerError


class ClientError(LedgerError):
    """A question to the node was not answered as it should be."""


class UnreachableError(ClientError):
    """No connection to the node, or it broke: `unreachable`. It may come back."""


class TimedOutError(ClientError):
    """The node did not answer in time: `timeout`. A submitted record may have arrived: submit it again."""


class AnswerInvalidError(ClientError):
    """What answers is no node of a version that this client knows: `answer_invalid`."""


class RefusedError(ClientError):
    """The node refuses: its own code, message and figures, and the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400, **details: Any) -> None:
        super().__init__(code, message, **details)
        self.status = status

    @property
    def may_pass(self) -> bool:
        """Whether the same may be answered later: the node is busy, or its disk is full."""
        return self.status in (408, 429) or self.status >= 500


class ContestedError(RefusedError):
    """A block refuses the record, which the node keeps: it gets through if that block is undone."""


class UnauthorizedError(RefusedError):
    """The token is not the node's: `unauthorized`."""


class CursorLostError(RefusedError):
    """Events can't go on from the cursor: read anew what is needed (`cursor_expired`, `cursor_unknown`)."""


def refusal(status: int, code: str, message: str, details: dict[str, Any]) -> RefusedError:
    """Return the error for what a node refuses."""
    kind = {401: UnauthorizedError, 410: CursorLostError}.get(status, RefusedError)
    error = kind(code, message, status)
    error.details = details
    return error
