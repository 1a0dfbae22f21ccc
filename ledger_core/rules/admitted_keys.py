"""Keys that the chain takes up: canonical points of the prime-order group."""

from ledger_core.errors import RuleError
from ledger_core.keys import is_valid_public_key


def require_valid_key(key: bytes, field: str) -> None:
    """Raise RuleError `key_invalid` for a key on whose signatures programs could disagree.

    Asked once, where a member, a node or a meter brings its key along.
    """
    if not is_valid_public_key(key):
        raise RuleError("key_invalid", f"{field}: the bytes are no valid Ed25519 public key", key=key)
