"""A record's way from its submission to the event at a third node; raw limit: the hops over bare sockets.

Three real nodes in a row: the second one alone knows both others, so that every record is passed on twice.
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.harness import Figures, progress, run
from ledger_core.client import NodeClient
from ledger_core.client.bodies import id_of
from ledger_core.client.home import Home
from tests.node.processes import FAST, Street, make_street

RECORDS = 200
EVERY_S = 0.05
WARM_UP = 20
GOAL_MS = 100.0
RAW_EXCHANGES = 300


async def main_async(figures: Figures) -> None:
    """Run three nodes, submit at the first, listen at the last."""
    with tempfile.TemporaryDirectory() as directory:
        homes = await make_street(Path(directory), 3, FAST)
        homes[2].gates[0].shut()
        try:
            progress("starting three nodes in a row")
            await homes.start()
            await homes.until(lambda: homes.all_linked(1), "every node is linked")
            delays = await _delays(homes)
        finally:
            await homes.close()
    raw = await _raw_ms()
    figures.add("p95_ms", _percentile(delays, 95), "ms", most=GOAL_MS)
    figures.add("p50_ms", _percentile(delays, 50), "ms")
    figures.add("worst_ms", max(delays), "ms")
    figures.add("raw_ms", raw, "ms")
    figures.add("ratio", _percentile(delays, 50) / raw)
    figures.add("records", len(delays))


async def _delays(homes: Street) -> list[float]:
    """Return the milliseconds of each record after the first few."""
    seen: dict[str, float] = {}
    sent: dict[str, float] = {}
    listening = asyncio.Event()
    listener = asyncio.create_task(_listen(homes[2].node.client, seen, listening))
    try:
        await listening.wait()
        home = homes[0].home
        await home.chain_id()
        progress(f"submitting {RECORDS} records, one every {EVERY_S * 1000:.0f} ms")
        for number in range(WARM_UP + RECORDS):
            await _submit(homes, home, number, sent)
            await asyncio.sleep(EVERY_S)
        await homes.until(lambda: sent.keys() <= seen.keys(), "every record came to the third node")
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)
    return [(seen[record] - at) * 1000 for record, at in list(sent.items())[WARM_UP:]]


async def _submit(homes: Street, home: Home, number: int, sent: dict[str, float]) -> None:
    """Submit a payment, noting the time before anything of it leaves."""
    started = time.perf_counter()
    sent[await home.transfer(homes[1 + number % 2].key.public_key, 1)] = started


async def _listen(client: NodeClient, seen: dict[str, float], listening: asyncio.Event) -> None:
    """Note when each record is told of by the node."""
    stream = client.stream(on_connection=lambda up: listening.set() if up else None)
    async for event in stream:
        if event.event in ("record_pooled", "money_moved"):
            # Now and then the block that holds it is there before the record alone.
            seen.setdefault(id_of(event.data["record"]).hex(), time.perf_counter())


async def _raw_ms() -> float:
    """Return the median milliseconds for a record's bytes over four plain connections, one after another.

    Client to node, node to node twice, node to client: what the machine takes without any work in between.
    """

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.readexactly(256):
            writer.write(data)

    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await forward(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(quietly, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        times = []
        for _ in range(RAW_EXCHANGES):
            started = time.perf_counter()
            for _ in range(2):
                writer.write(bytes(256))
                await reader.readexactly(256)
            times.append((time.perf_counter() - started) * 1000)
        writer.close()
        await writer.wait_closed()
    return statistics.median(times)


def _percentile(values: list[float], part: int) -> float:
    return statistics.quantiles(values, n=100)[part - 1]


def main(figures: Figures) -> None:
    """Measure on a fresh community."""
    asyncio.run(main_async(figures))


if __name__ == "__main__":
    run("latency", main)
