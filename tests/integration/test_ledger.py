"""The ledger's coordinator against a real engine and API."""

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped]
    MockConfigEntry,
)

from ledger_core.client.views import EventView
from tests.integration.conftest import wait_until
from tests.node.api_world import ApiWorld


async def test_shows_the_ledger_and_follows_it(
    hass: HomeAssistant, node: ApiWorld, entry: MockConfigEntry
) -> None:
    assert entry.state is ConfigEntryState.LOADED
    data = entry.runtime_data
    assert data.ledger.data.status.community == "Test street"
    assert data.ledger.data.account is not None
    assert data.ledger.data.account.balance == 0
    assert len(data.ledger.data.members) == 3

    heard: list[EventView] = []
    data.ledger.listen(heard.append)
    record = await data.home.transfer(node.world["bert"].id, 2_000_000)
    await node.mine()
    await wait_until(lambda: any(event.event == "money_moved" for event in heard))
    assert data.ledger.data.account.balance == -2_000_000
    assert [event.event for event in heard if event.event == "record_pooled"] == ["record_pooled"]
    assert record in [event.data.get("record") for event in heard]
