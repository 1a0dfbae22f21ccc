"""Nodes that are killed, paused, restarted and cut off under load: what was final stays, and nothing is lost.

Runs for `CHAOS_S` seconds (20 unless told otherwise) from `CHAOS_SEED`. All that
is checked is seen from outside, through the nodes' APIs.
"""

import asyncio
import contextlib
import os
import time
from pathlib import Path
from random import Random

import pytest

from ledger_core.errors import LedgerError
from ledger_core.records.readings import Quality, ReadingRow
from tests.node.processes import NodeProcess, Street, found, street
from tests.node.test_node_partition import money_of

NODES = 4
SECONDS = float(os.environ.get("CHAOS_S", "20"))
SEED = int(os.environ.get("CHAOS_SEED", "7"))
LIMIT_S = 180.0
AHEAD_SLOTS = 30
"""Offered energy is to be delivered so much later, longer than any run takes."""


class Books:
    """What was handed in, and what some node once called final."""

    def __init__(self) -> None:
        self.submitted: list[tuple[int, str]] = []
        """Who handed a record in, and the record."""
        self.kinds: set[str] = set()
        """What was done so far."""
        self.offers: list[tuple[int, str]] = []
        """Offers that nobody took yet: seller's number and record."""
        self.read: dict[int, int] = {}
        """The last boundary that each home told its meter's registers of."""
        self.final: dict[str, int] = {}
        """Height at which a record was first told to be final."""


class FinalRecords:
    """What stands in a node's final blocks, read one by one: a search without a height ends after some."""

    def __init__(self, node: NodeProcess) -> None:
        self._node = node
        self._heights: dict[str, int] = {}
        self._top = 0

    async def height_of(self, record: str) -> int | None:
        """The height of a record's final block, or None."""
        if record not in self._heights:
            await self._read()
        return self._heights.get(record)

    async def _read(self) -> None:
        final = (await self._node.status()).final
        while self._top < final:
            block = await self._node.client.block(self._top + 1)
            assert block.final
            assert block.records is not None
            assert not self._heights.keys() & set(block.records), "a record stands in two blocks"
            self._top += 1
            self._heights |= dict.fromkeys(block.records, self._top)


async def load(homes: Street, random: Random, books: Books) -> None:
    """Pay, offer, accept and hand in readings for as long as the task runs, through whatever node answers."""
    while True:
        number = random.randrange(NODES)
        act = random.choices((pay, offer, accept, read), (6, 1, 1, 1))[0]
        with contextlib.suppress(LedgerError, OSError):
            if homes[number].node.process is not None:
                record = await act(homes, number, random, books)
                if record is not None:
                    books.submitted.append((number, record))
                    books.kinds.add(act.__name__)
        await asyncio.sleep(0.05)


async def pay(homes: Street, number: int, random: Random, _books: Books) -> str | None:
    target = homes[(number + random.randrange(1, NODES)) % NODES].key.public_key
    return await homes[number].home.transfer(target, random.randrange(1, 500))


async def offer(homes: Street, number: int, _random: Random, books: Books) -> str | None:
    """Offer a Wh some time ahead, so that nothing of it ends before the test does."""
    slot = homes.genesis.parameters.slot_s
    start = int(time.time()) // slot * slot + AHEAD_SLOTS * slot
    record = await homes[number].offer(1, start=start, end=start + slot)
    books.offers.append((number, record))
    return record


async def accept(homes: Street, number: int, _random: Random, books: Books) -> str | None:
    """Take an offer that nobody else takes."""
    open_offers = [each for each in books.offers if each[0] != number]
    if not open_offers:
        return None
    trade = await homes[number].home.accept(open_offers[0][1])
    books.offers.remove(open_offers[0])
    return trade


async def read(homes: Street, number: int, _random: Random, books: Books) -> str | None:
    """Tell the meter's registers at the last slot boundary, once."""
    slot = homes.genesis.parameters.slot_s
    end = int(time.time()) // slot * slot
    if books.read.get(number, 0) >= end:
        return None
    row = ReadingRow(end, end // slot, end // slot, Quality.MEASURED)
    record = await homes[number].home.reading(homes[number].meter_key, homes[number].meter.hex(), [row])
    books.read[number] = end
    return record


async def audit(homes: Street, random: Random, books: Books) -> None:
    """Ask a node now and then about a record; whatever is final once must be final there for ever."""
    while True:
        await asyncio.sleep(0.1)
        if not books.submitted:
            continue
        _, record = random.choice(books.submitted)
        household = homes[random.randrange(NODES)]
        with contextlib.suppress(LedgerError, OSError):
            if household.node.process is None:
                continue
            known = books.final.get(record)
            status = await household.node.status()
            view = await found(household.node.client.record(record, known))
            if view is not None and view.state == "final":
                assert view.height is not None
                assert books.final.setdefault(record, view.height) == view.height
            else:
                assert known is None or status.final < known, f"{record} is no longer final at {known}"


async def hurt(homes: Street, random: Random, told: list[str]) -> None:
    """Hurt a node, or sometimes two at once."""
    numbers = random.sample(range(NODES), random.choice((1, 1, 2)))
    await asyncio.gather(*(hurt_one(homes, number, random, told) for number in numbers))


async def hurt_one(homes: Street, number: int, random: Random, told: list[str]) -> None:
    """Do one of the bad things that happen to a node, and undo it."""
    node = homes[number].node
    what = random.choice(("kill", "pause", "restart", "disconnect"))
    told.append(f"{what} {node.name}")
    if what == "kill":
        await node.crash()
        await asyncio.sleep(random.uniform(0, 1.5))
        await node.start()
    elif what == "pause":
        node.pause()
        await asyncio.sleep(random.uniform(0.5, 3))
        node.resume()
    elif what == "restart":
        assert await node.stop() == 0
        await node.start()
    else:
        others = [other for other in range(NODES) if other != number]
        async with homes.parted({number}, others):
            await asyncio.sleep(random.uniform(0.5, 3))


@pytest.mark.timeout(SECONDS + 3 * LIMIT_S)
async def test_what_was_final_stays_final_through_chaos(tmp_path: Path) -> None:
    random, books, told = Random(SEED), Books(), list[str]()
    loop = asyncio.get_running_loop()
    async with street(tmp_path, NODES) as homes:
        for number, each in enumerate(homes):
            books.submitted += [(number, record) for record in await each.register()]
        work = [
            asyncio.create_task(load(homes, Random(SEED + 1), books)),
            asyncio.create_task(audit(homes, Random(SEED + 2), books)),
        ]
        try:
            end = loop.time() + SECONDS
            while loop.time() < end:
                await hurt(homes, random, told)
                await asyncio.sleep(random.uniform(0, 1))
                for task in work:
                    assert not task.done(), f"after {told}: {task.exception()!r}"
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
        await check(homes, books, told)


async def check(homes: Street, books: Books, told: list[str]) -> None:
    """Every record that a node took is final, at one height everywhere; the money is all there."""
    await homes.until(lambda: homes.all_linked(1), f"the nodes found each other again after {told}", LIMIT_S)
    assert books.kinds == {"pay", "offer", "accept", "read"}, "a part of the load was missing"
    heights: dict[str, int] = {}
    finals = [FinalRecords(each.node) for each in homes]
    for number, record in books.submitted:

        async def final(number: int = number, record: str = record) -> bool:
            height = await finals[number].height_of(record)
            if height is not None:
                heights[record] = height
            return record in heights

        await homes.until(final, f"{record} is final where it was handed in, after {told}", LIMIT_S)
    top = max(heights.values())
    assert await homes.same_state(top)
    for record, height in heights.items():
        assert books.final.get(record, height) == height, f"{record} was final at another height; {told}"
        for each in homes:
            view = await each.node.client.record(record, height)
            assert (view.state, view.height) == ("final", height)
    assert await money_of(homes) == [0] * NODES
    for each in homes:
        assert " ERROR " not in each.node.log
        assert "Traceback" not in each.node.log
