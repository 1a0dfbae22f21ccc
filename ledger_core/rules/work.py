"""The search for a nonce: the inner loop of every miner.

All of a header but its nonce is hashed once; each try goes on from a copy of that midstate.
"""

from hashlib import sha256

from ledger_core.records.block import HEADER_BYTES, NONCE_OFFSET
from ledger_core.rules.difficulty import MAX_HASH

NONCES = 2**64
_RUN = 256
_LAST_BYTES = tuple(value.to_bytes() for value in range(_RUN))


def search(header: bytes, target: int, first_nonce: int, tries: int) -> int | None:
    """Return the lowest nonce that meets a target among so many from the first one on, or None.

    `header` is an encoded header, with any nonce (158 bytes) or without (150), `target` the highest hash that
    is enough; nonces end at 2^64 - 1. Raises ValueError for a header of another length.
    """
    if len(header) not in (NONCE_OFFSET, HEADER_BYTES):
        raise ValueError(
            f"a header has {HEADER_BYTES} bytes, or {NONCE_OFFSET} without its nonce, not {len(header)}"
        )
    midstate = sha256(header[:NONCE_OFFSET])
    enough = min(max(target, 0), MAX_HASH).to_bytes(32)
    nonce, end = first_nonce, min(first_nonce + tries, NONCES)
    while nonce < end:
        run, first = divmod(nonce, _RUN)
        stop = min(first + end - nonce, _RUN)
        ahead = midstate.copy()
        ahead.update(run.to_bytes(7))
        copy = ahead.copy
        for last in _LAST_BYTES[first:stop]:
            attempt = copy()
            attempt.update(last)
            if attempt.digest() <= enough:
                return run * _RUN + last[0]
        nonce += stop - first
    return None
