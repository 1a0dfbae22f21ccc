"""The command line against a real API: commands run in a thread, blocks come when a test wants them."""

import asyncio
import contextlib
import io
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger_core.cli import main
from ledger_core.keys import save_key
from tests.core.actions import parameters
from tests.core.world import World
from tests.node.api_world import TOKEN, ApiWorld, api_world

SLOT = 900


@dataclass(frozen=True)
class Done:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        assert self.code == 0, self.err
        return self.out.splitlines()

    @property
    def error(self) -> str:
        assert self.code != 0, self.out
        return self.err


@contextlib.contextmanager
def around_noon() -> Iterator[None]:
    """A time zone in which it is about noon, so that no day ends while a test says "tomorrow"."""
    ahead = 12 - time.gmtime().tm_hour
    before = os.environ.get("TZ")
    os.environ["TZ"] = f"TST{-ahead:+d}"
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


def run_command(*arguments: object) -> Done:
    """Run a command in this thread."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(each) for each in arguments])
    return Done(code, out.getvalue(), err.getvalue())


class CliWorld:
    """A street whose chain stands at the real time, its API, and its homes' key files."""

    def __init__(self, api: ApiWorld, directory: Path) -> None:
        self.api = api
        self.directory = directory
        self.world = api.world
        for name, home in self.world.homes.items():
            save_key(self.key(name), home.key)
            save_key(self.key(name + "-meter"), home.meter_key)
        token = directory / "token"
        token.write_text(TOKEN + "\n")
        self.node = ("--url", api.server.url, "--token-file", token)

    def key(self, name: str) -> Path:
        return self.directory / f"{name}.key"

    async def __call__(self, *arguments: object) -> Done:
        """Run a command that asks this node."""
        return await asyncio.to_thread(run_command, *arguments, *self.node)

    async def act(self, name: str, *arguments: object) -> Any:
        """Run a command with a home's key, mine what it submitted, and return its JSON."""
        done = await self(*arguments, "--key", self.key(name), "--json")
        result = done.json
        await self.mine()
        return result

    async def mine(self) -> None:
        """Mine a block of the real time, or shortly after the last one."""
        self.world.now = max(int(time.time()) - 30, self.world.now - 28)
        await self.api.mine()


def recent_street(**changes: Any) -> World:
    """A community whose chain stands at the real time: every home has a meter, the first one 10 kW."""
    now = int(time.time())
    world = World(parameters=parameters(**changes), created=now - now % SLOT - 4 * SLOT)
    world.now = now - 90
    world.mine(*(world.meter_record(name) for name in world.homes))
    world.mine(world.asset_record("anna"))
    return world


@asynccontextmanager
async def cli_world(directory: Path, **changes: Any) -> AsyncIterator[CliWorld]:
    """Open the API of a recent street."""
    (directory / "node").mkdir()
    with around_noon():
        async with api_world(directory / "node", recent_street(**changes)) as api:
            yield CliWorld(api, directory)
