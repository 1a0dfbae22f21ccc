"""What a node saw of a double vote becomes evidence in its home's name, and costs the liar its role."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledger_core.client import NodeClient
from ledger_core.client.bodies import IntentError
from ledger_core.client.evidence import evidence_of, publish_evidence
from ledger_core.client.home import Home
from ledger_core.node.api.plain import fields
from ledger_core.records.types import Role
from tests.core.world import World
from tests.node.api_world import TOKEN, ApiWorld, api_world
from tests.node.double_vote import seen


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiWorld]:
    world = World()
    world.mine()
    async with api_world(tmp_path, world) as made:
        yield made


async def test_a_home_hands_in_what_its_node_saw(api: ApiWorld) -> None:
    world = api.world
    data = fields(seen(world, "cara"))
    async with NodeClient(api.server.url, TOKEN) as client:
        home = Home(client, world["bert"].key, clock=lambda: world.now)
        record = await publish_evidence(home, data)
        await api.mine()
        assert (await client.record(record)).kind == "evidence"
    roles = await api.thread.look(lambda engine, _: engine.chain.state.members[world["cara"].id].roles)
    assert not roles & Role.NODE


async def test_what_is_no_such_event_is_refused(api: ApiWorld) -> None:
    world = api.world
    async with NodeClient(api.server.url, TOKEN) as client:
        home = Home(client, world["bert"].key, clock=lambda: world.now)
        data = fields(seen(world, "cara"))
        for broken in ({}, {**data, "first": 1}, {**data, "second_signature": "zz"}):
            with pytest.raises(IntentError, match="equivocation"):
                evidence_of(home.stamp(), broken)
        with pytest.raises(IntentError, match="first of the evidence"):
            await publish_evidence(home, {**data, "first_signature": "00"})
