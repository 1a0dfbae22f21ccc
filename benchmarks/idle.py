"""What a node costs that has little to do: memory, processor time, and how promptly its event loop answers.

Memory and processor time are those of a real node process among three linked ones with blocks every half
minute, without its miner. The loop's delay is measured inside a node in this process, whose miner, a process
of its own, may take a whole core; raw limit: the same loop without a node.
"""

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

from msgspec.structs import replace

from benchmarks.harness import Figures, progress, run
from ledger_core.client import NodeClient
from ledger_core.client.local import local_api
from ledger_core.community import Parameters
from ledger_core.node.config import Settings
from ledger_core.node.data_directory import DataDirectory
from ledger_core.node.node import Node
from tests.node.processes import Street, make_street, street

QUIET = Parameters(min_difficulty_bits=22)
"""Blocks every half minute from the first on, on any machine of today."""
BUSY = replace(QUIET, block_spacing_s=2, min_difficulty_bits=19)
SETTLING_S, MEASURED_S = 6.0, 20.0
TICK_S = 0.001
SAMPLES = 6000
GOAL_RSS_MIB, GOAL_CPU_PERCENT, GOAL_LOOP_MS = 80.0, 1.0, 5.0


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used (not its children), seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Return a process's resident memory, MiB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the system does not tell a process's memory")


async def quiet_costs(homes: Street) -> tuple[float, float]:
    """Return MiB and percent of a core of the dearest of the nodes."""
    await asyncio.sleep(SETTLING_S)
    pids = [home.node.process.pid for home in homes if home.node.process is not None]
    before = [processor_seconds(pid) for pid in pids]
    started = time.perf_counter()
    progress(f"watching {len(pids)} quiet nodes for {MEASURED_S:.0f} s")
    await asyncio.sleep(MEASURED_S)
    seconds = time.perf_counter() - started
    used = [processor_seconds(pid) - spent for pid, spent in zip(pids, before, strict=True)]
    return max(resident_mib(pid) for pid in pids), 100 * max(used) / seconds


async def loop_delays() -> list[float]:
    """Return how many milliseconds later than asked the loop woke up, many times."""
    delays = []
    for _ in range(SAMPLES):
        started = time.perf_counter()
        await asyncio.sleep(TICK_S)
        delays.append((time.perf_counter() - started - TICK_S) * 1000)
    return delays


async def mining_delays(directory: Path) -> tuple[list[float], float]:
    """Return the loop's delays beside a miner at full share, and the miner's hashes per second."""
    homes = await make_street(directory, 1, BUSY)
    try:
        settings = Settings(
            peer_host="127.0.0.1", peer_port=0, discovery=False, mining=True, mining_share=1.0
        )
        path = homes[0].node.directory
        node = Node(DataDirectory(path), settings)
        await node.start()
        try:
            await asyncio.sleep(SETTLING_S)
            delays = await loop_delays()
            api = local_api(path)
            async with NodeClient(api.url, api.token) as client:
                return delays, (await client.mining()).rate
        finally:
            await node.stop()
    finally:
        await homes.close()


async def main_async(figures: Figures) -> None:
    """Measure memory and processor time, then the loop."""
    with tempfile.TemporaryDirectory() as directory:
        progress("starting three nodes")
        async with street(Path(directory) / "quiet", 3, QUIET) as homes:
            rss, percent = await quiet_costs(homes)
        progress("measuring the event loop, alone and beside a miner at full share")
        raw = await loop_delays()
        delays, hash_rate = await mining_delays(Path(directory) / "busy")
    raw_p99 = statistics.quantiles(raw, n=100)[98]
    figures.add("rss_mib", rss, "MiB", most=GOAL_RSS_MIB)
    figures.add("cpu_percent", percent, "% of a core", most=GOAL_CPU_PERCENT)
    figures.add("loop_p99_ms", statistics.quantiles(delays, n=100)[98], "ms", most=GOAL_LOOP_MS)
    figures.add("loop_p50_ms", statistics.median(delays), "ms")
    figures.add("raw_loop_p99_ms", raw_p99, "ms")
    figures.add("hash_rate", hash_rate, "hashes/s")


def main(figures: Figures) -> None:
    """Measure on fresh communities."""
    asyncio.run(main_async(figures))


if __name__ == "__main__":
    run("idle", main)
