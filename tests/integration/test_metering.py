"""Metering at work: read at the boundary, kept while the node is away, sent once it is back."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir

from custom_components.energy_ledger.const import DOMAIN
from custom_components.energy_ledger.trading.house import meter_of
from custom_components.energy_ledger.trading.meter_core import Sample
from custom_components.energy_ledger.trading.metering import Metering
from ledger_core.client import RefusedError, TimedOutError
from ledger_core.client.home import Home
from ledger_core.records.readings import Quality
from tests.node.api_world import ApiWorld

from .conftest import EntryMaker, wait_until
from .trading_world import Street, battery_device, meter_device, set_battery, set_meter, street, world

__all__ = ["world"]


@pytest.fixture
async def homes(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> AsyncIterator[Street]:
    """Anna with a meter and a battery."""
    async with street(hass, node, make_entry) as found:
        set_meter(hass, "anna", import_wh=1000, export_wh=2000)
        set_battery(hass, "anna", soc=55)
        await found.add("anna", meter_device("anna"), battery_device("anna"))
        await found.register()
        yield found


def registers(sample: Sample | None) -> tuple[int, int]:
    assert sample is not None
    return sample.import_wh, sample.export_wh


def counted(homes: Street, import_wh: int) -> None:
    """The meter tells a new figure now."""
    set_meter(homes.hass, "anna", import_wh=import_wh, export_wh=2000, surplus_w=-import_wh)


async def boundary(homes: Street, import_wh: int) -> int:
    """Let the time pass to just after the next boundary; returns it."""
    end = (homes.now // 900 + 1) * 900
    homes.node.world.now = end - 10
    counted(homes, import_wh - 10)
    await homes.hass.async_block_till_done()
    homes.node.world.now = end + 10
    counted(homes, import_wh + 10)
    await homes.hass.async_block_till_done()
    return end


async def test_boundaries_go_into_the_chain_with_what_is_stored(homes: Street) -> None:
    end = await boundary(homes, 1200)
    metering = homes.trading("anna").metering
    assert metering.core is not None
    row = metering.core.pending[-1]
    assert (row.end, row.import_wh, row.quality) == (end, 1200, Quality.INTERPOLATED)
    await metering.async_send()
    assert await metering.async_send() == 0, "sent is not sent again at once"
    await homes.mine()
    assert metering.core.pending == []
    battery = next(
        asset for asset in homes.entries["anna"].runtime_data.ledger.data.assets if asset.kind == "battery"
    )
    assert (battery.energy_wh, battery.energy_at) == (5500, end)


async def test_what_the_node_does_not_take_is_kept_and_sent_later(homes: Street) -> None:
    metering = homes.trading("anna").metering
    assert metering.core is not None
    away = TimedOutError("timeout", "the node did not answer in time")
    busy = RefusedError("meter_unknown", "the meter is not registered", 409)
    with patch.object(Home, "readings", side_effect=[away, busy, *[away] * 20]):
        await boundary(homes, 1200)
        await metering.async_send()
        await metering.async_send()
        await boundary(homes, 1300)
        assert metering.refused in (None, "meter_unknown")
        assert len(metering.core.pending) >= 2
    entry = homes.entries["anna"]
    await homes.hass.config_entries.async_reload(entry.entry_id)
    await homes.hass.async_block_till_done()
    homes.follow_clock(entry)
    metering = homes.trading("anna").metering
    assert metering.core is not None
    await metering.async_send()  # after the one that the reloaded home began by another clock
    homes.node.world.now += 400
    await metering.async_send()
    await homes.mine(2)
    assert metering.core.pending == [], "both, in one record"


async def test_a_boundary_that_the_chain_knows_otherwise_is_given_up(homes: Street) -> None:
    metering = homes.trading("anna").metering
    assert metering.core is not None
    with patch.object(Home, "readings", side_effect=TimedOutError("timeout", "later")):
        end = await boundary(homes, 1200)
        await boundary(homes, 1300)
    conflict = RefusedError("reading_conflict", "the boundary is known with other registers", 409)
    conflict.details = {"end": end}
    with patch.object(Home, "readings", side_effect=conflict):
        homes.node.world.now += 400
        await metering.async_send()
    assert end not in [row.end for row in metering.core.pending]


async def test_a_register_that_is_away_for_a_moment_is_no_zero(homes: Street) -> None:
    metering = homes.trading("anna").metering
    await boundary(homes, 1200)
    core = metering.core
    assert core is not None
    before = core.last
    homes.node.world.now += 5
    homes.hass.states.async_set("sensor.anna_export", "unavailable")
    await homes.hass.async_block_till_done()
    assert (core.pause, core.last) == (None, before)
    entry = homes.entries["anna"]
    await homes.hass.config_entries.async_reload(entry.entry_id)
    await homes.hass.async_block_till_done()
    homes.follow_clock(entry)
    counted(homes, 1300)
    await homes.hass.async_block_till_done()
    core = homes.trading("anna").metering.core
    assert core is not None
    assert core.pause is None
    assert registers(core.last) == (1300, 2000)


async def test_a_meter_of_one_direction_counts_nothing_the_other_way(homes: Street) -> None:
    set_meter(homes.hass, "bert", import_wh=700, export_wh=5)
    device = meter_device("bert")
    entities = {name: entity for name, entity in device["data"]["entities"].items() if name != "energy_out"}
    await homes.add("bert", {**device, "data": {**device["data"], "entities": entities}})
    core = homes.trading("bert").metering.core
    assert core is not None
    assert registers(core.last) == (700, 0)


async def test_two_sends_at_once_hand_in_a_boundary_once(homes: Street) -> None:
    """The second one waits for what the node says to the first."""
    metering = homes.trading("anna").metering
    real, handed, let_go = Home.readings, list[int](), asyncio.Event()

    async def readings(home: Home, *given: Any) -> list[str]:
        handed.extend(row.end for row in given[2])
        await let_go.wait()
        return await real(home, *given)

    with patch.object(Home, "readings", readings):
        end = await boundary(homes, 1200)
        sends = [asyncio.create_task(metering.async_send()) for _ in range(2)]
        await wait_until(lambda: handed)
        let_go.set()
        await asyncio.gather(*sends)
        assert await metering.async_send() == 0
    assert handed[-1] == end
    assert len(handed) == len(set(handed))


def refusal(homes: Street) -> tuple[str | None, bool]:
    """What selling goes by, and whether the user is told."""
    return homes.trading("anna").metering.refused, issue(homes) is not None


def issue(homes: Street) -> ir.IssueEntry | None:
    name = f"readings_refused_{homes.entries['anna'].entry_id}"
    return ir.async_get(homes.hass).async_get_issue(DOMAIN, name)


async def send(homes: Street) -> None:
    homes.node.world.now += 60
    while await homes.trading("anna").metering.async_send():
        pass
    await homes.mine()


async def test_a_boundary_that_the_ledger_refuses_does_not_hold_back_the_later_ones(homes: Street) -> None:
    """More than its connection carries flowed within a slot; after some slots it might have."""
    metering = homes.trading("anna").metering
    assert metering.core is not None
    with patch.object(Metering, "_rating", return_value=100_000):
        await boundary(homes, 1200)
        await send(homes)
        assert (refusal(homes), metering.core.pending) == ((None, False), [])
        for import_wh in (9200, 9300):
            await boundary(homes, import_wh)
            await send(homes)
            assert (refusal(homes), metering.core.pending) == (("register_jump", True), [])
            told = issue(homes)
            assert told is not None
            assert told.translation_placeholders is not None
            assert "the connection allows" in told.translation_placeholders["reason"]
        end = await boundary(homes, 9400)
        await send(homes)
    assert (refusal(homes), metering.core.pending) == ((None, False), [])
    assert metering.core.boundary is not None
    assert metering.core.boundary.end == end


async def test_what_is_refused_for_long_is_told(homes: Street) -> None:
    metering = homes.trading("anna").metering
    refused = RefusedError("meter_key_wrong", "the reading is not signed with the meter's key", 409)
    busy = RefusedError("mempool_full", "the node is busy", 503)
    with patch.object(Home, "readings", side_effect=busy):
        await boundary(homes, 1200)
        homes.node.world.now += 400
        await metering.async_send()
    with patch.object(Home, "readings", side_effect=refused):
        homes.node.world.now += 30
        await metering.async_send()
        assert refusal(homes) == (None, False), "it may be set up just now"
        homes.node.world.now += 301
        await metering.async_send()
    assert refusal(homes) == ("meter_key_wrong", True)
    await send(homes)
    assert refusal(homes) == (None, False)


async def test_the_meter_is_read_at_the_boundary_itself(homes: Street) -> None:
    began, end = time.monotonic(), (homes.now // 900 + 1) * 900
    metering = Metering(homes.hass, homes.entries["anna"], clock=lambda: end - 0.2 + time.monotonic() - began)
    found = meter_of(homes.entries["anna"].runtime_data.devices)
    assert found is not None
    coordinator = found[1].coordinator
    read = coordinator.async_refresh

    async def refresh() -> None:
        counted(homes, 1003)
        await read()

    with patch.object(coordinator, "async_refresh", refresh):
        await metering.async_start()
        core = metering.core
        assert core is not None
        await wait_until(lambda: core.pending and core.pending[-1].end == end)
        assert (core.pending[-1].quality, core.pending[-1].import_wh) == (Quality.MEASURED, 1003)
        await metering.async_stop()


async def test_a_home_without_a_meter_meters_nothing(homes: Street) -> None:
    await homes.add("bert")
    metering = homes.trading("bert").metering
    assert metering.core is None
    assert await metering.async_send() == 0
    assert metering.pause is None
