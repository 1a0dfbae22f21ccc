"""A street at today's time, whose homes act through one real node; anna is the home of the entry."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from homeassistant.core import HomeAssistant, ServiceCall
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped]
    MockConfigEntry,
    async_mock_service,
)

from custom_components.energy_ledger.const import DOMAIN
from ledger_core.client.bodies import OfferTerms
from ledger_core.client.home import Home
from ledger_core.client.views import OfferView, TradeView
from ledger_core.records.types import AssetKind
from tests.core.world import World, asset_id
from tests.node.api_world import ApiWorld

SLOT = 900


@pytest.fixture
def world() -> World:
    """Anna, bert and cara with meters; anna and bert with solar power, cara with a battery."""
    world = World(created=int(time.time()) - 90)
    world.mine(*(world.meter_record(name) for name in world.homes))
    world.mine(
        world.asset_record("anna"),
        world.asset_record("bert"),
        world.asset_record("cara", "battery", AssetKind.BATTERY, 5_000, energy_wh=8_000, capacity_wh=10_000),
    )
    return world


class Street:
    """What the homes do, and waiting for what Home Assistant makes of it."""

    def __init__(self, hass: HomeAssistant, node: ApiWorld, entry: MockConfigEntry) -> None:
        self.hass, self.node, self.entry = hass, node, entry
        self.world = node.world
        self.calls: list[ServiceCall] = async_mock_service(hass, "test", "automation")
        self._boundary = self._next_boundary()
        self._registers: dict[str, tuple[int, int]] = {}
        """What each home's meter counted so far: imported and exported Wh."""

    @property
    def data(self) -> Any:
        return self.entry.runtime_data

    @property
    def view(self) -> Any:
        return self.data.ledger.data

    def home(self, name: str) -> Home:
        """A home that acts through the entry's node."""
        return Home(self.data.client, self.world[name].key)

    @staticmethod
    def world_asset(name: str) -> bytes:
        return asset_id(name)

    def start(self, slots: int = 1) -> int:
        """A slot boundary ahead, at least half a slot: the same one for all that is agreed in some minutes.

        Each block takes the street on by half a minute, so without that two trades of one test could lie in
        different slots, depending on the time of day.
        """
        if self.world.now >= self._boundary + SLOT // 2:
            self._boundary = self._next_boundary()
        return self._boundary + slots * SLOT

    def _next_boundary(self) -> int:
        return (int(self.world.now) // SLOT + 1) * SLOT

    def terms(self, name: str = "bert", **fields: Any) -> OfferTerms:
        values: dict[str, Any] = {
            "quantity": 2_000,
            "start": self.start(),
            "end": self.start() + 2 * SLOT,
            "price": 200_000,
            "asset": asset_id(f"{name} pv"),
            "min_quantity": 100,
        }
        return OfferTerms(**{**values, **fields})

    async def offer(self, name: str = "bert", **fields: Any) -> OfferView:
        """An offer of a home, in the chain and seen by Home Assistant."""
        record = await self.home(name).offer(self.terms(name, **fields))
        await self.node.mine()
        await self.until(lambda: record in self.offers)
        return self.offers[record]

    @property
    def offers(self) -> dict[str, OfferView]:
        return {offer.offer: offer for offer in self.view.offers}

    @property
    def trades(self) -> dict[str, TradeView]:
        return {trade.trade: trade for trade in self.view.trades}

    async def buy(self, quantity: int = 1_000, **fields: Any) -> TradeView:
        """A trade: anna buys of bert."""
        offer = await self.offer(**fields)
        return await self.agreed(await self.home("anna").accept(offer, quantity))

    async def agreed(self, record: str) -> TradeView:
        """A trade that the next block agrees."""
        await self.node.mine()
        await self.until(lambda: record in self.trades)
        return self.trades[record]

    async def settle(self, trade: TradeView, exported: int, imported: int) -> None:
        """Jump over a trade's window with these Wh measured in each slot, until it is settled."""
        boundaries = range(trade.start, trade.end + 1, SLOT)
        self.world.now = trade.end + 60
        seller, buyer = self._name(trade.seller.key), self._name(trade.buyer.key)
        for name, bought, sold in ((seller, 0, exported), (buyer, imported, 0)):
            before = self._registers.get(name, (0, 0))
            rows = [(end, before[0] + n * bought, before[1] + n * sold) for n, end in enumerate(boundaries)]
            self._registers[name] = rows[-1][1:]
            await self.data.client.submit(self.world.reading(name, rows).envelope)
        await self.node.mine()
        self.world.now = trade.end + 1800
        await self.node.mine()
        await self.until(lambda: trade.trade not in self.trades)

    def _name(self, key: str) -> str:
        return next(name for name, home in self.world.homes.items() if home.id.hex() == key)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for a condition, as long as a slow machine may need."""
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)
        await self.hass.async_block_till_done()

    async def call(self, action: str, **fields: Any) -> Any:
        """Call an action and return its response."""
        return await self.hass.services.async_call(
            DOMAIN, action, fields, blocking=True, return_response=True
        )

    async def told(self, number: int = 1) -> list[dict[str, Any]]:
        """What automations were told, once there were that many runs."""
        await self.until(lambda: len(self.calls) >= number)
        return [dict(call.data) for call in self.calls]


@pytest.fixture
async def street(hass: HomeAssistant, node: ApiWorld, entry: MockConfigEntry) -> Street:
    """The street, with anna's entry set up."""
    return Street(hass, node, entry)
