"""Homes at a real API: what one submits is mined when the test wants it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ledger_core.client import NodeClient
from ledger_core.client.home import Home
from tests.core.actions import street
from tests.core.world import World
from tests.node.api_world import TOKEN, ApiWorld, api_world


class HomeWorld:
    """A node's API, a client, and the homes of its street."""

    def __init__(self, api: ApiWorld, client: NodeClient) -> None:
        self.api = api
        self.client = client
        self.world = api.world
        self.homes = {
            name: Home(client, home.key, clock=lambda: api.world.now)
            for name, home in api.world.homes.items()
        }

    def __getitem__(self, name: str) -> Home:
        return self.homes[name]

    async def mine(self) -> None:
        await self.api.mine()

    async def until(self, time: int) -> None:
        """Mine one block at a time."""
        self.world.now = time - 30
        await self.api.mine()


@asynccontextmanager
async def home_world(directory: Path, world: World | None = None) -> AsyncIterator[HomeWorld]:
    """Open a street's API (the tests' street with three homes unless told otherwise)."""
    async with (
        api_world(directory, world or street()) as api,
        NodeClient(api.server.url, TOKEN) as client,
    ):
        yield HomeWorld(api, client)
