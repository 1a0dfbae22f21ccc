"""Search for a nonce; raw limit: a bare hashlib loop that copies, feeds and finishes a midstate."""

import time
from hashlib import sha256

from benchmarks.harness import Figures, interleaved, run
from ledger_core.records.block import NONCE_OFFSET
from ledger_core.rules.work import search

ROUNDS = 21
HASHES = 200_000
GOAL_RATIO = 0.9
PREFIX = bytes(range(NONCE_OFFSET))


def ours() -> float:
    """Return the miner's hashes per second of processor time, with a target that nothing meets."""
    start = time.process_time()
    if search(PREFIX, 0, 0, HASHES) is not None:
        raise RuntimeError("a hash of zero was found")
    return HASHES / (time.process_time() - start)


def bare() -> float:
    """Return the same of a loop that neither counts nonces nor looks at what it hashed."""
    copy = sha256(PREFIX).copy
    nonce = bytes(8)
    start = time.process_time()
    for _ in range(HASHES):
        attempt = copy()
        attempt.update(nonce)
        attempt.digest()
    return HASHES / (time.process_time() - start)


def main(figures: Figures) -> None:
    """Measure both loops."""
    medians = interleaved({"ours": ours, "bare": bare}, ROUNDS)
    figures.add("ratio", medians["ours"] / medians["bare"], least=GOAL_RATIO)
    figures.add("hashes_per_s", medians["ours"], "hashes/s")
    figures.add("bare_hashes_per_s", medians["bare"], "hashes/s")


if __name__ == "__main__":
    run("mine", main)
