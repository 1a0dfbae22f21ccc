"""Records that three nodes take, pass on, mine and apply per second, for as long as one likes.

Each of three homes hands its own payments to its own node, as fast as the node takes them while no more than
a bounded number waits for a block. What counts is what stands in blocks that all three nodes have applied, so
a queue that grows would show as a lower figure. Raw limit: the same records verified by PyNaCl three times
each, as three nodes must, on the same cores.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec.structs import replace

from benchmarks.harness import Figures, progress, run
from benchmarks.verify import bare
from ledger_core.client import NodeClient
from ledger_core.client.errors import ClientError
from ledger_core.client.views import BlocksQuery
from ledger_core.keys import SoftwareSigner
from ledger_core.records.codec import Envelope, encode_body, record_message, sign_record
from ledger_core.records.money import Transfer, TransferKind
from tests.node.processes import FAST, Household, Street, street

NODES = 3
SETTLING_S, MEASURED_S = 8.0, 24.0
BATCH = 128
MOST_WAITING = 6000
"""Records that may wait for a block: about the contents of the next one."""
SIGNED_EACH = 22_000
GOAL_PER_S = 1000.0
PARAMETERS = replace(FAST, min_difficulty_bits=16)
PAUSE_S = 0.05
BUSY = "outbox_full"
"""The node keeps as many records of its home as it may until some are final: they are handed in again."""


def payments(source: Household, target: bytes, chain_id: bytes, number: int) -> Iterator[Envelope]:
    """Yield signed payments of one millionth each."""
    signer = source.key
    for place in range(number):
        body = Transfer(
            author=signer.public_key,
            created=int(time.time()),
            nonce=place.to_bytes(8),
            kind=TransferKind.PAY,
            to=target,
            amount=1,
            reference=None,
        )
        yield sign_record(body, chain_id, signer)


async def room(client: NodeClient) -> None:
    """Wait until not too many records wait; the node is asked, as nothing tells of it."""
    while True:
        if (await client.status()).waiting_records <= MOST_WAITING:
            return
        await asyncio.sleep(PAUSE_S)


async def feed(client: NodeClient, envelopes: list[Envelope]) -> None:
    """Hand in records while not too many wait; raises ClientError for one that is refused."""
    for start in range(0, len(envelopes), BATCH):
        batch = envelopes[start : start + BATCH]
        while batch:
            await room(client)
            results = zip(batch, await client.submit_all(batch), strict=True)
            refused = [(each, result) for each, result in results if isinstance(result, ClientError)]
            for _, error in refused:
                if error.code != BUSY:
                    raise error
            batch = [each for each, _ in refused]
            if batch:
                await asyncio.sleep(PAUSE_S)


async def included(homes: Street, after: int) -> tuple[int, int]:
    """Return the height that every node has reached, and the records in blocks up to it above `after`."""
    height = min(status.tip.height for status in await homes.statuses())
    records, before = 0, height + 1
    while before > after + 1:
        page = await homes[0].node.client.blocks(
            BlocksQuery(before=before, limit=min(before - after - 1, 50))
        )
        records += sum(len(block.records or ()) for block in page.items)
        before = page.items[-1].height
    return height, records


async def measure(homes: Street) -> dict[str, float]:
    """Feed three nodes and count what they have in common."""
    chain_id = homes.genesis.chain_id
    progress(f"signing {NODES * SIGNED_EACH} payments")
    prepared = [
        list(payments(home, homes[(number + 1) % NODES].key.public_key, chain_id, SIGNED_EACH))
        for number, home in enumerate(homes)
    ]
    feeding = [
        asyncio.create_task(feed(home.node.client, envelopes))
        for home, envelopes in zip(homes, prepared, strict=True)
    ]
    progress(f"feeding three nodes for {SETTLING_S + MEASURED_S:.0f} s")
    try:
        await asyncio.sleep(SETTLING_S)
        low, _ = await included(homes, (await homes[0].node.status()).tip.height)
        started = time.perf_counter()
        waiting_before = max(status.waiting_records for status in await homes.statuses())
        await asyncio.sleep(MEASURED_S)
        high, records = await included(homes, low)
        seconds = time.perf_counter() - started
        waiting_after = max(status.waiting_records for status in await homes.statuses())
        for task in feeding:
            if task.done():
                task.result()
    finally:
        for task in feeding:
            task.cancel()
        await asyncio.gather(*feeding, return_exceptions=True)
    return {
        "records_per_s": records / seconds,
        "blocks": float(high - low),
        "waiting_before": float(waiting_before),
        "waiting_after": float(waiting_after),
    }


def raw_per_s(count: int = 4000) -> float:
    """Return the records per second whose signatures two threads verify three times each."""
    signer = SoftwareSigner(bytes(32))
    chain_id = bytes(32)
    body = Transfer(
        author=signer.public_key,
        created=1,
        nonce=bytes(8),
        kind=TransferKind.PAY,
        to=signer.public_key,
        amount=1,
        reference=None,
    )
    message = record_message(chain_id, encode_body(body))
    checks = [(signer.public_key, message, signer.sign(message))] * count
    workers = os.process_cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        started = time.perf_counter()
        for done in [pool.submit(bare, checks) for _ in range(NODES)]:
            done.result()
        return count / (time.perf_counter() - started)


async def main_async(figures: Figures) -> None:
    """Run the nodes and add the figures."""
    with tempfile.TemporaryDirectory() as directory:
        progress("starting three nodes")
        async with street(Path(directory), NODES, PARAMETERS) as homes:
            measured = await measure(homes)
    raw = raw_per_s()
    figures.add("records_per_s", measured["records_per_s"], "records/s", least=GOAL_PER_S)
    figures.add("raw_per_s", raw, "records/s")
    figures.add("ratio", measured["records_per_s"] / raw)
    figures.add("blocks", measured["blocks"])
    figures.add("waiting_before", measured["waiting_before"], "records")
    figures.add("waiting_after", measured["waiting_after"], "records")


def main(figures: Figures) -> None:
    """Measure on a fresh community."""
    asyncio.run(main_async(figures))


if __name__ == "__main__":
    run("throughput", main)
