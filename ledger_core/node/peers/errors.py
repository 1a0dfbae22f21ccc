"""What may go wrong between two nodes, as members of the ledger's one exception family."""

from typing import Any, Final

from ledger_core.errors import LedgerError
from ledger_core.node.peers.text import printable

MAX_CODE_LENGTH: Final = 40
MAX_REASON_LENGTH: Final = 200


class PeerError(LedgerError):
    """Something between this node and another was refused or failed."""


class HandshakeError(PeerError):
    """The other side broke the handshake: nothing that it said of itself is proven."""


class Refusal(PeerError):
    """One node refuses another, and tells it why.

    `code` and `message` travel to the other side: at most 40 and 200 printable characters, the rest is cut.
    `retry_after_s` asks the other side not to come back sooner.
    """

    def __init__(self, code: str, reason: str, **details: Any) -> None:
        super().__init__(printable(code, MAX_CODE_LENGTH), printable(reason, MAX_REASON_LENGTH), **details)

    @property
    def retry_after_s(self) -> int:
        """Seconds for which another try is useless; 0 where that is not known."""
        return int(self.details.get("retry_after_s", 0))


class RefusedByPeer(Refusal):
    """The other side refuses this node.

    Without `proven` the refusal came before the other side had shown its key: somebody on the way may have
    made it up.
    """

    @property
    def proven(self) -> bool:
        """Whether the other side had proven its key when it refused."""
        return bool(self.details.get("proven", False))


class Misbehaviour(PeerError):
    """A peer whose key is proven broke the protocol; `code` is a key of `bans.BAN_SECONDS`."""


class DialError(PeerError):
    """A peer's address leads to no node: it does not resolve, nobody answers, or someone else does."""
