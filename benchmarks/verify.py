"""Verify and apply a generated chain; raw limit: a bare PyNaCl loop over the same signatures."""

import gc
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median

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
from ledger_core.rules.state import State

HOMES, HOURS = 50, 24
ROUNDS = 9
GOAL_RATIO = 0.85
GOAL_SPEEDUP = 1.6


class Sample:
    """A generated chain and its signatures."""

    def __init__(self, hours: int = HOURS) -> None:
        chain = street(HOMES, hours)
        self.config = chain.config
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

    def start(self) -> State:
        """Return the state before the first block."""
        return genesis_state(self.genesis)

    def pipeline(self, state: State, verifier: Verifier) -> None:
        """Verify and apply every block to the genesis' state, as a node that syncs does."""
        for prepared in verifier.pipeline(self.blocks, self.genesis, self.chain_id, NodeKeys(state.nodes)):
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


@dataclass
class Times:
    """The seconds of each run of a function."""

    wall: list[float] = field(default_factory=list)
    thread: list[float] = field(default_factory=list)
    """Processor time of the calling thread: what other programs take of the machine is not in it."""

    def measure[P](self, prepare: Callable[[], P], function: Callable[[P], object]) -> Callable[[], float]:
        """Return a measurement of a function; what is prepared does not count."""

        def measure() -> float:
            prepared = prepare()
            gc.collect()
            wall, thread = time.perf_counter(), time.thread_time()
            function(prepared)
            self.thread.append(time.thread_time() - thread)
            self.wall.append(time.perf_counter() - wall)
            return self.wall[-1]

        return measure


def nothing() -> None:
    """Prepare nothing."""


def main(figures: Figures) -> None:
    """Measure the bare loop and the pipeline with one and two workers."""
    sample = Sample()
    count = len(sample.checks)
    progress(f"{len(sample.blocks)} blocks with {count} signatures")
    alone, one, two, threads = Times(), Times(), Times(), Times()
    # Like a node's, a verifier lives on: what it takes to start a helper is in the first round alone.
    with Verifier(1) as single, Verifier(2) as pair:
        interleaved(
            {
                "bare": alone.measure(nothing, lambda _: bare(sample.checks)),
                "one worker": one.measure(sample.start, lambda state: sample.pipeline(state, single)),
                "two workers": two.measure(sample.start, lambda state: sample.pipeline(state, pair)),
                "two bare threads": threads.measure(nothing, lambda _: sample.bare_threads(2)),
            },
            ROUNDS,
        )
    # Neither of these two starts a thread: their processor time tells them apart on a busy machine, too.
    figures.add("one_worker_ratio", median(alone.thread) / median(one.thread), least=GOAL_RATIO)
    figures.add("two_worker_speedup", median(one.wall) / median(two.wall), least=GOAL_SPEEDUP)
    figures.add("bare_two_thread_speedup", median(alone.wall) / median(threads.wall))
    figures.add("bare_per_s", count / median(alone.wall), "signatures/s")
    figures.add("one_worker_per_s", count / median(one.wall), "signatures/s")
    figures.add("two_workers_per_s", count / median(two.wall), "signatures/s")
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
