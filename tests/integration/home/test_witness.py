"""A home hands in the proof of a double vote that its node saw."""

from unittest.mock import AsyncMock, patch

import pytest
from msgspec.structs import replace

from ledger_core.client.evidence import EVENT
from ledger_core.client.views import EventView
from ledger_core.node.api.plain import fields
from ledger_core.records.types import Role
from tests.node.double_vote import seen

from .conftest import Street


def equivocation(street: Street, name: str) -> EventView:
    """The event that the node would tell."""
    cursor = street.view.status.cursor
    return EventView(
        cursor=cursor, event=EVENT, height=None, block=None, time=0, data=fields(seen(street.world, name))
    )


async def roles(street: Street, name: str) -> Role:
    member = street.world[name].id
    found = await street.node.thread.look(lambda engine, _: engine.chain.state.members[member].roles)
    return Role(found)


async def test_a_double_vote_that_the_node_saw_costs_the_liar_its_role(
    street: Street, caplog: pytest.LogCaptureFixture
) -> None:
    assert Role.NODE in await roles(street, "cara")
    street.data.ledger._tell(equivocation(street, "cara"))
    await street.until(lambda: "a node voted in two ways" in caplog.text)
    await street.node.mine()
    assert Role.NODE not in await roles(street, "cara")

    # Somebody was quicker: one piece is enough.
    caplog.clear()
    street.data.ledger._tell(equivocation(street, "cara"))
    await street.until(lambda: "evidence of a double vote was not taken" in caplog.text)


async def test_what_a_copy_of_the_own_node_did_is_left_to_its_issue(street: Street) -> None:
    node = street.view.status.node
    assert node is not None
    event = equivocation(street, "cara")
    sent = AsyncMock()
    with patch.object(street.data.home, "submit", sent):
        street.data.ledger._tell(replace(event, data={**event.data, "node": node.key}))
        await street.hass.async_block_till_done()
        sent.assert_not_awaited()
        street.data.ledger._tell(event)
        await street.hass.async_block_till_done()
        await street.until(lambda: sent.await_count == 1)
