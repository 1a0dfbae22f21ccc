"""A full sync from another node, against verifying and applying the same chain in memory.

One real node holds a generated chain, another starts with the genesis alone and fetches every block. Time
counts from its first link to the tip. Raw limit: the `verify` benchmark's pipeline over the same blocks with
as many workers; a node verifies the signatures of headers in a thread beside them.
"""

import asyncio
import gc
import tempfile
import time
from pathlib import Path

from benchmarks.harness import Figures, progress, run
from benchmarks.verify import Sample
from ledger_core.chain.chain import Chain
from ledger_core.chain.store.opening import open_store
from ledger_core.chain.verify import Verifier
from ledger_core.client import ClientError
from ledger_core.community import Genesis
from ledger_core.keys import SoftwareSigner, save_key
from ledger_core.node import data_directory
from ledger_core.node.data_directory import NODE_KEY, DataDirectory
from ledger_core.synthetic.street import Street
from tests.node.peer_world import free_ports
from tests.node.processes import NodeProcess

HOURS = 96
ROUNDS = 5
WORKERS = 1
GOAL_RATIO = 0.7
LIMIT_S = 120.0
POLL_S = 0.05
"""Asking how far it is costs the newcomer time as well."""


def pipeline_seconds(sample: Sample) -> float:
    """Verify and apply everything in memory; returns the seconds."""
    started = time.perf_counter()
    with Verifier(WORKERS) as verifier:
        sample.pipeline(sample.start(), verifier)
    return time.perf_counter() - started


def prepare(directory: Path, genesis: Genesis, node: SoftwareSigner) -> None:
    """Make a data directory of a node of the generated street."""
    directory.mkdir(parents=True)
    save_key(DataDirectory(directory).file(NODE_KEY), node)
    data_directory.found(directory, genesis)


def fill(directory: Path, sample: Sample) -> None:
    """Store the whole chain, as a node that was there."""
    with open_store(directory, sample.genesis) as store, Verifier(2) as verifier:
        store.set_durable(durable=False)
        Chain.open(store, verifier).add_blocks(sample.blocks, sample.now)
        store.set_durable(durable=True)


async def sync_seconds(newcomer: NodeProcess, height: int) -> float:
    """Start a node and return the seconds from its first link to the tip."""
    await newcomer.start()
    linked: float | None = None
    deadline = time.perf_counter() + LIMIT_S
    while time.perf_counter() < deadline:
        try:
            status = await newcomer.status()
        except ClientError:
            continue
        if linked is None and (status.peers or status.tip.height):
            linked = time.perf_counter()
        if linked is not None and status.tip.height >= height:
            return time.perf_counter() - linked
        await asyncio.sleep(POLL_S)
    raise RuntimeError(f"the node did not come to height {height}:\n{newcomer.log[-2000:]}")


async def main_async(figures: Figures) -> None:
    """Sync several times, each beside a run of the pipeline."""
    sample = Sample(HOURS)
    homes = Street(sample.config).homes
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        ports = free_ports(ROUNDS + 1)
        source = directory / "source"
        prepare(source, sample.genesis, homes[0].node)
        progress(f"storing {len(sample.blocks)} blocks")
        fill(source, sample)
        serving = NodeProcess(source, "source", ports[0], mining="no", voting="no")
        await serving.start()
        syncs, pipelines = [], []
        # The whole chain stays in this process: searching it for garbage would take a core from the nodes.
        gc.collect()
        gc.freeze()
        try:
            for number in range(ROUNDS):
                progress(f"round {number + 1} of {ROUNDS}: pipeline, sync")
                pipelines.append(await asyncio.to_thread(pipeline_seconds, sample))
                place = directory / f"newcomer-{number}"
                prepare(place, sample.genesis, homes[1].node)
                newcomer = NodeProcess(
                    place,
                    place.name,
                    ports[number + 1],
                    mining="no",
                    voting="no",
                    verify_workers=WORKERS,
                    full_sync="yes",
                    peers=f"127.0.0.1:{ports[0]}",
                )
                try:
                    syncs.append(await sync_seconds(newcomer, len(sample.blocks)))
                finally:
                    await newcomer.close()
        finally:
            await serving.close()
    sync, pipeline = sorted(syncs)[ROUNDS // 2], sorted(pipelines)[ROUNDS // 2]
    figures.add("ratio", pipeline / sync, least=GOAL_RATIO)
    figures.add("sync_s", sync, "s")
    figures.add("pipeline_s", pipeline, "s")
    figures.add("blocks_per_s", len(sample.blocks) / sync, "blocks/s")
    figures.add("signatures_per_s", len(sample.checks) / sync, "signatures/s")


def main(figures: Figures) -> None:
    """Measure on a generated chain."""
    asyncio.run(main_async(figures))


if __name__ == "__main__":
    run("sync", main)
