"""Changes of a device whose rating and capacity follow what it tells of itself."""

from typing import Any

import pytest
from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.common import MockConfigEntry  # type: ignore[import-untyped]

from custom_components.energy_ledger.device_runtime.settings import DeviceSettings
from custom_components.energy_ledger.devices.errors import LinkError
from custom_components.energy_ledger.devices.readings import Readings
from tests.integration.conftest import EntryMaker
from tests.integration.device_world import device, runtime_of, simulated
from tests.integration.test_device_flow import Flow, subentry_of
from tests.node.api_world import ApiWorld


def settings_of(entry: MockConfigEntry, name: str) -> DeviceSettings:
    subentry = subentry_of(entry, name)
    return DeviceSettings.from_data(subentry.subentry_id, subentry.title, subentry.data)


@pytest.mark.parametrize("away", [False, True])
async def test_a_change_of_something_else_leaves_the_figures_following(
    hass: HomeAssistant,
    node: ApiWorld,
    make_entry: EntryMaker,
    monkeypatch: pytest.MonkeyPatch,
    away: bool,
) -> None:
    async with simulated("goodwe_et") as home:
        follows: dict[str, Any] = {
            "rating_follows": True,
            "capacity_follows": True,
            "rating_w": 6_000,
            "capacity_wh": 5_000,
        }
        entry = await make_entry(node, subentries=[device(home, "goodwe_et", "battery", **follows)])
        battery = runtime_of(entry, "battery")
        for _ in range(3):
            await battery.coordinator.async_refresh()
        told = (battery.rating_w, battery.capacity_wh or 0)
        assert told != (6_000, 5_000)
        if away:
            battery.coordinator.async_set_update_error(LinkError("gone"))
            monkeypatch.setattr(battery.coordinator, "data", Readings({}))
        flow = await (await Flow.change(hass, entry, "battery")).go("figures")
        suggested = flow.asks("figures").suggested()
        assert (suggested["rating_w"], suggested["capacity_wh"]) == told
        await flow.type(rating_w=told[0], capacity_wh=told[1], poll_s=21)
        flow.aborts("reconfigure_successful")
        settings = settings_of(entry, "battery")
        assert (settings.rating_follows, settings.capacity_follows) == (True, True)
        flow = await (await Flow.change(hass, entry, "battery")).go("figures")
        await flow.asks("figures").type(rating_w=told[0] + 1, capacity_wh=told[1] + 1, poll_s=21)
        settings = settings_of(entry, "battery")
        assert (settings.rating_follows, settings.capacity_follows) == (False, False)
        assert runtime_of(entry, "battery").rating_w == told[0] + 1


async def test_a_change_while_the_entry_is_not_loaded_leaves_the_figures_following(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("goodwe_et") as home:
        pv = device(home, "goodwe_et", "pv", rating_w=6_000, rating_follows=True)
        entry = await make_entry(node, subentries=[pv], set_up=False)
        flow = await (await Flow.change(hass, entry, "pv")).go("figures")
        assert flow.asks("figures").suggested()["rating_w"] == 6_000
        await flow.type(rating_w=6_000, poll_s=21)
        flow.aborts("reconfigure_successful")
        assert settings_of(entry, "pv").rating_follows
