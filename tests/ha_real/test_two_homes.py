"""Two real Home Assistants of one community: an action in one, an automation in the other, one trade."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from demo.assistant import Place
from demo.houses import HOUSES, METER, Device, House
from demo.resident import Resident
from demo.rest import wait_for
from demo.street import TERMS

BUYER = House(
    "buyer",
    "Buyer",
    "Cem",
    Place(),
    (Device("meter", METER, "Grid meter", 17_000),),
    {"pv": False, "battery": False},
    pv_w=0,
    load_w=3_000,
)
ACCEPT = {
    "triggers": [
        {"trigger": "energy_ledger.offer_received", "options": {"side": "sell", "price_below": 0.28}}
    ],
    "actions": [{"action": "energy_ledger.accept", "data": {"offer": "{{ trigger.data.offer }}"}}],
    "mode": "queued",
}


@pytest.fixture
async def homes(tmp_path: Path, socket_enabled: None) -> AsyncIterator[tuple[Resident, Resident]]:
    """A seller who founded a community, and a buyer who joined it by an invitation, with their devices."""
    seller, buyer = (Resident(house, tmp_path / house.key) for house in (HOUSES[0], BUYER))
    try:
        await asyncio.gather(seller.start(), buyer.start())
        await seller.found("Two Homes", TERMS)
        await buyer.join(await seller.invite())
        await asyncio.gather(seller.add_devices(), buyer.add_devices())
        await asyncio.gather(seller.wait_assets(), buyer.wait_assets())
        yield seller, buyer
    finally:
        await asyncio.gather(seller.stop(), buyer.stop())


@pytest.mark.timeout(420)
async def test_an_offer_by_an_action_is_accepted_by_the_neighbours_automation(
    homes: tuple[Resident, Resident],
) -> None:
    seller, buyer = homes
    await buyer.add_automation("Accept cheap offers", ACCEPT)
    heard: list[tuple[Resident, str]] = []
    for home in homes:
        home.listen(lambda who, data: heard.append((who, str(data["type"]))))
    start = (int(time.time()) // 60 + 2) * 60
    dear = await _sell(seller, start, price=0.40)
    cheap = await _sell(seller, start, price=0.25)

    async def traded() -> bool:
        return all([await _offers_traded(home) == [cheap] for home in homes])

    await wait_for(traded, "the trade to be at both homes, and no other")
    sides = [(await home.act("list_trades"))["trades"][0] for home in homes]
    assert [side["role"] for side in sides] == ["seller", "buyer"]
    assert sides[0]["trade"] == sides[1]["trade"]
    assert [side["price"] for side in sides] == [0.25, 0.25]

    async def told() -> bool:
        wanted = {(seller, "trade_agreed"), (buyer, "trade_agreed"), (buyer, "offer_received")}
        return wanted <= set(heard)

    await wait_for(told, "both homes to tell of the trade")
    assert [kind for who, kind in heard if who is buyer].count("offer_received") == 2
    assert [heard.count((home, "trade_agreed")) for home in homes] == [1, 1]
    for home in homes:
        assert await _shown(home, "active_trades") == "1"
    still_open = [each["offer"] for each in (await buyer.act("list_offers", own=False))["offers"]]
    assert still_open == [dear]
    for home in homes:
        log = home.assistant.log_path.read_text()
        assert "Detected blocking call" not in log
        assert re.findall(r"^.* ERROR .*energy_ledger.*$", log, re.MULTILINE) == []


async def _sell(seller: Resident, start: int, *, price: float) -> str:
    answer = await seller.act(
        "sell",
        device_id=await seller.device_id("Solar battery"),
        quantity=0.05,
        price=price,
        start=_text(start),
        end=_text(start + 120),
    )
    return str(answer["record"])


async def _offers_traded(home: Resident) -> list[str]:
    trades: list[dict[str, Any]] = (await home.act("list_trades"))["trades"]
    return [trade["offer"] for trade in trades]


async def _shown(home: Resident, key: str) -> str:
    """The state of the home's sensor whose unique id ends in a key."""
    entities = await home.api.command("config/entity_registry/list")
    name = next(each["entity_id"] for each in entities if str(each["unique_id"]).endswith(f"_{key}"))
    return await home.api.state(name)


def _text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
