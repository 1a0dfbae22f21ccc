"""Processes die during a delivery; the simulated house's own counters tell what physically flowed."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from demo.bargains import next_start, turn_on
from demo.houses import HOUSES
from demo.resident import Resident
from demo.rest import wait_for
from demo.street import SLOT_S, TERMS

SOLD_WH = 25
"""In one slot of a minute: 1500 W."""
SLACK_S = 2
"""The physics go by whole seconds, the devices' timers as well."""


@pytest.fixture
async def homes(tmp_path: Path, socket_enabled: None) -> AsyncIterator[tuple[Resident, Resident]]:
    """A seller with a battery that delivers only what it is told to, and a buyer."""
    seller, buyer = (Resident(house, tmp_path / house.key) for house in (HOUSES[0], HOUSES[2]))
    try:
        await asyncio.gather(seller.start(), buyer.start())
        await seller.found("Two Homes", TERMS)
        await buyer.join(await seller.invite())
        await asyncio.gather(seller.add_devices(), buyer.add_devices())
        await asyncio.gather(seller.wait_assets(), buyer.wait_assets())
        await turn_on(seller, "automatic_selling")
        yield seller, buyer
    finally:
        await asyncio.gather(seller.stop(), buyer.stop())


@pytest.mark.timeout(420)
async def test_node_link_and_home_assistant_die_during_a_delivery(homes: tuple[Resident, Resident]) -> None:
    """The delivery outlives its node and the neighbour's; it ends with its window though nobody ends it."""
    seller, buyer = homes
    before = _exported_j(seller)
    start = await _agree(seller, buyer)
    end = start + SLOT_S
    await _until(start - 1)
    assert _exported_j(seller) - before < 3600, "nothing flows before the window"

    async def delivers() -> bool:
        return _export_w(seller) > 1_000

    await wait_for(delivers, "the delivery to begin", 20)
    killed, stopped = _node_of(seller), _node_of(buyer)
    os.kill(stopped, signal.SIGSTOP)  # to the seller's node: a link on which nobody answers
    os.kill(killed, signal.SIGKILL)

    async def runs_again() -> bool:
        return _nodes_of(seller) not in ([], [killed])

    await wait_for(runs_again, "the node to be started again", 30)
    assert await delivers(), "the gate knows what was agreed"
    os.kill(stopped, signal.SIGCONT)
    await _until(end - 15)
    assert await delivers()
    await seller.assistant.kill()
    await _until(end + SLACK_S)
    after = _exported_j(seller)
    assert 0.5 * SOLD_WH < (after - before) / 3600 < 1.1 * SOLD_WH + 1
    await _until(end + 15)
    assert _exported_j(seller) == after, "nothing runs after its window"
    writes = seller.simulated.log.last_sequence
    await seller.assistant.start()

    async def taken_back() -> bool:
        return seller.simulated.log.last_sequence > writes

    await wait_for(taken_back, "what was left in force to be taken back")
    await asyncio.sleep(10)
    assert _exported_j(seller) == after


async def _agree(seller: Resident, buyer: Resident) -> int:
    """Have a trade at both homes; returns when its window, one slot, starts."""
    start = next_start(SLOT_S)
    window = {"start": _text(start), "end": _text(start + SLOT_S)}
    offer = (await seller.act("sell", quantity=SOLD_WH, unit="Wh", price=0.25, **window))["record"]

    async def offered() -> bool:
        listed = await buyer.act("list_offers", own=False)
        return any(each["offer"] == offer for each in listed["offers"])

    await wait_for(offered, "the offer to be at the buyer")
    await buyer.act("accept", offer=offer)

    async def traded() -> bool:
        return all([(await home.act("list_trades"))["trades"] for home in (seller, buyer)])

    await wait_for(traded, "the trade to be at both homes")
    return start


def _exported_j(home: Resident) -> int:
    """What physically left a house so far."""
    home.simulated.catch_up()
    return home.simulated.energy_j()["export"]


def _export_w(home: Resident) -> int:
    watts = home.simulated.truth()["power_w"]["export_w"]
    assert isinstance(watts, int)
    return watts


def _nodes_of(home: Resident) -> list[int]:
    """The node processes that a home's Home Assistant runs."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended meanwhile
        if parent == home.assistant.pid and b"ledger_core.cli" in words and b"node" in words:
            found.append(int(entry.name))
    return found


def _node_of(home: Resident) -> int:
    (pid,) = _nodes_of(home)
    return pid


async def _until(seconds: float) -> None:
    await asyncio.sleep(max(seconds - time.time(), 0))


def _text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
