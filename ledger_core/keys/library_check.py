"""Does this machine's libsodium judge signatures as the other members' does?

RFC 8032 allows two equations: R = S·B - h·A, or both sides multiplied by 8.  Every released libsodium up to
1.0.22 uses the first; its development branch the second, which also accepts an R with a small-order part.
A member that uses the second would follow blocks that the others refuse, so a node asks before it starts.
"""

from typing import Final

from ledger_core.errors import LedgerError
from ledger_core.keys.signing import verify

_KEY: Final = bytes.fromhex("614b6a231e2a10be6483517d2b343c3a4a9e31f634c2e28636de9642c55d6ac6")
_MESSAGE: Final = b"energy-ledger"
_HONEST: Final = bytes.fromhex(
    "f5eae3cd14d0810567ffe2d2ed26a84de10f6ce077b69a1f1fbdba1230cfbd3a"
    "35c70ed47f050d363399ac16309babbc90e42c170dcf7f5ffd995bce1735c507"
)
# The same key and message, R = 777·B + T with T of order 8: right only after multiplication by 8.
_SMALL_ORDER_PART: Final = bytes.fromhex(
    "1c354c4c7a6de4bcb4fd275f391333dd9bf17d38b41332753f60cf56d5ef4fcc"
    "0cfdf6633637ac70ed1a99099e5fb9af9aa55d127c99782076d0d179caf9200c"
)


def require_agreed_library() -> None:
    """Raise LedgerError ``signature_library`` if this libsodium would disagree with the other members'."""
    if verify(_KEY, _MESSAGE, _HONEST) and not verify(_KEY, _MESSAGE, _SMALL_ORDER_PART):
        return
    raise LedgerError(
        "signature_library",
        "the libsodium that PyNaCl uses here judges Ed25519 signatures differently from the other members':"
        " install PyNaCl from its own wheel",
    )
