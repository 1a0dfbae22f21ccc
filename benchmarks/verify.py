"""Verify and apply a generated chain; raw limit: a bare PyNaCl loop over the same signatures."""

import gc
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from nacl.bindings import crypto_sign_open

from benchmarks._synthetic import main_branch, street
from benchmarks.harness import Figures, interleaved, progress, run
from ledger_core.chain.pending import NodeKeys
from ledger_core.chain.verify import Verifier
from ledger_core.community import Genesis
from ledger_core.records.block import Block
from ledger_core.rules.apply import apply_block
from ledger_core.rules.finality import SignatureCheck
from ledger_core.rules.genesis import genesis_state
from ledger_core.rules.prepare import prepare_block

HOMES, HOURS = 50, 12
ROUNDS = 11
GOAL_RATIO = 0.85
GOAL_SPEEDUP = 1.6


class Sample:
    """A generated chain and its signatures."""

    def __init__(self) -> None:
        chain = street(HOMES, HOURS)
        self.blocks: list[Block] = list(main_branch(chain))
        self.genesis: Genesis = chain.genesis
        self.chain_id = chain.genesis.chain_id
        self.now = chain.config.end
        self.tip = chain.state.tip.hash
        self.checks: list[SignatureCheck] = []
        state = genesis_state(self.genesis)
        for block in self.blocks:
            prepared = prepare_block(block, self.genesis, self.chain_id, NodeKeys(state.nodes))
            prepared.verified = True
            apply_block(state, prepared, self.now)
            self.checks += prepared.checks

    def pipeline(self, workers: int) -> None:
        """Verify and apply every block, as a node that syncs does."""
        state = genesis_state(self.genesis)
        with Verifier(workers) as verifier:
            for prepared in verifier.pipeline(
                self.blocks, self.genesis, self.chain_id, NodeKeys(state.nodes)
            ):
                apply_block(state, prepared, self.now)
        if state.tip.hash != self.tip:
            raise RuntimeError("the chain was not applied to its end")

    def bare_threads(self, workers: int) -> None:
        """Verify the signatures in threads, and nothing else."""
        size = -(-len(self.checks) // workers)
        parts = [self.checks[start : start + size] for start in range(0, len(self.checks), size)]
        with ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(bare, parts):
                pass

    def seconds_by_step(self) -> dict[str, float]:
        """Return the processor time of each step, one after the other in one thread."""
        state = genesis_state(self.genesis)
        spent = {"prepare": 0.0, "verify": 0.0, "apply": 0.0}
        for block in self.blocks:
            times = [time.thread_time()]
            prepared = prepare_block(block, self.genesis, self.chain_id, NodeKeys(state.nodes))
            times.append(time.thread_time())
            bare(prepared.checks)
            prepared.verified = True
            times.append(time.thread_time())
            apply_block(state, prepared, self.now)
            times.append(time.thread_time())
            for step, begin, end in zip(spent, times, times[1:], strict=False):
                spent[step] += end - begin
        return spent


def bare(checks: Sequence[SignatureCheck]) -> None:
    """Verify signatures by PyNaCl alone; raises BadSignatureError."""
    for key, message, signature in checks:
        crypto_sign_open(signature + message, key)


def rate(count: int, function: Callable[[], object]) -> Callable[[], float]:
    """Return a measurement of the signatures per second on the clock."""

    def measure() -> float:
        gc.collect()
        start = time.perf_counter()
        function()
        return count / (time.perf_counter() - start)

    return measure


def main(figures: Figures) -> None:
    """Measure the bare loop and the pipeline with one and two workers."""
    sample = Sample()
    count = len(sample.checks)
    progress(f"{len(sample.blocks)} blocks with {count} signatures")
    medians = interleaved(
        {
            "bare": rate(count, lambda: bare(sample.checks)),
            "one worker": rate(count, lambda: sample.pipeline(1)),
            "two workers": rate(count, lambda: sample.pipeline(2)),
            "two bare threads": rate(count, lambda: sample.bare_threads(2)),
        },
        ROUNDS,
    )
    figures.add("one_worker_ratio", medians["one worker"] / medians["bare"], least=GOAL_RATIO)
    figures.add("two_worker_speedup", medians["two workers"] / medians["one worker"], least=GOAL_SPEEDUP)
    figures.add("bare_two_thread_speedup", medians["two bare threads"] / medians["bare"])
    figures.add("bare_per_s", medians["bare"], "signatures/s")
    figures.add("one_worker_per_s", medians["one worker"], "signatures/s")
    figures.add("two_workers_per_s", medians["two workers"], "signatures/s")
    spent = sample.seconds_by_step()
    figures.add_table(
        "processor time of a block's steps, in one thread",
        ["step", "µs a signature", "µs a block", "part of the bare verification"],
        [
            [
                step,
                spent[step] / count * 1e6,
                spent[step] / len(sample.blocks) * 1e6,
                spent[step] / spent["verify"],
            ]
            for step in spent
        ],
    )


if __name__ == "__main__":
    run("verify", main)
