"""A register that jumped or fell for good: the user accepts the new count, and nothing is made up."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import issue_registry as ir

from custom_components.energy_ledger import repairs
from custom_components.energy_ledger.const import DOMAIN
from custom_components.energy_ledger.trading.meter_core import Boundaries, Problem, Sample
from ledger_core.records.readings import Quality
from tests.node.api_world import ApiWorld

from .conftest import EntryMaker
from .trading_world import Street, battery_device, meter_device, set_battery, set_meter, street, world

__all__ = ["world"]

SLOT = 900


@pytest.mark.parametrize(("told", "problem"), [(99_000, Problem.JUMP), (3, Problem.BACKWARDS)])
def test_the_count_goes_on_from_the_last_good_one(told: int, problem: Problem) -> None:
    core = Boundaries(SLOT, 10_000)
    core.take(Sample(890.0, 1000, 2000))
    core.take(Sample(910.0, 1010, 2000))
    assert not core.accept(), "nothing is wrong yet"
    assert core.take(Sample(1000.0, told, 2000)) == []
    assert core.pause is not None
    assert core.pause.problem is problem
    assert core.take(Sample(2000.0, told + 20, 2040)) == []
    assert core.accept()
    assert core.kept()["pause"] is None
    again = Boundaries(SLOT, 10_000)
    again.restore(core.kept())
    rows = again.take(Sample(2700.0, told + 120, 2140)) + again.take(Sample(3600.0, told + 220, 2240))
    assert [row.end for row in rows] == [1800, 2700, 3600]
    assert [row.quality for row in rows] == [Quality.ESTIMATED, Quality.ESTIMATED, Quality.MEASURED]
    assert [(row.import_wh, row.export_wh) for row in rows[1:]] == [(1110, 2100), (1210, 2200)]
    assert 1010 <= rows[0].import_wh <= 1110


def test_a_clock_that_was_set_back_is_not_accepted() -> None:
    core = Boundaries(SLOT, 10_000)
    core.take(Sample(5000.0, 1000, 2000))
    core.take(Sample(100.0, 1000, 2000))
    assert core.pause is not None
    assert not core.accept()


@pytest.fixture
async def homes(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> AsyncIterator[Street]:
    """Anna, whose meter jumps by itself."""
    async with street(hass, node, make_entry) as found:
        set_meter(hass, "anna", import_wh=1000, export_wh=2000)
        set_battery(hass, "anna", soc=55)
        await found.add("anna", meter_device("anna"), battery_device("anna"))
        await found.register()
        found.node.world.now += 5
        set_meter(hass, "anna", import_wh=1000, export_wh=99_000, surplus_w=1)
        await hass.async_block_till_done()
        yield found


async def fix(homes: Street) -> Any:
    """Begin to fix the issue."""
    name = f"meter_implausible_{homes.entries['anna'].entry_id}"
    issue = ir.async_get(homes.hass).async_get_issue(DOMAIN, name)
    assert issue is not None
    assert issue.is_fixable
    flow: Any = await repairs.async_create_fix_flow(homes.hass, name, issue.data)
    flow.hass = homes.hass
    flow.handler, flow.flow_id, flow.issue_id, flow.init_data = DOMAIN, "1", name, None
    step = await flow.async_step_init()
    assert (step["type"], step["step_id"]) == (FlowResultType.FORM, "confirm")
    assert step["description_placeholders"]["after"] == "99"
    return flow


async def test_the_user_accepts_the_new_count(homes: Street) -> None:
    metering = homes.trading("anna").metering
    assert metering.pause is not None
    flow = await fix(homes)
    core = metering.core
    assert core is not None
    newest, core._raw = core._raw, None
    step = await flow.async_step_confirm({})
    assert step["errors"] == {"base": "not_resolved"}, "the meter has told nothing yet"
    core._raw = newest
    done = await flow.async_step_confirm({})
    assert done["type"] is FlowResultType.CREATE_ENTRY
    assert core.kept()["pause"] is None
    entry_id = homes.entries["anna"].entry_id
    assert ir.async_get(homes.hass).async_get_issue(DOMAIN, f"meter_implausible_{entry_id}") is None
    assert not await metering.async_accept(), "once"
    await homes.hass.config_entries.async_reload(entry_id)
    await homes.hass.async_block_till_done()
    homes.follow_clock(homes.entries["anna"])
    metering = homes.trading("anna").metering
    end = (homes.now // SLOT + 1) * SLOT
    homes.node.world.now = end + 10
    set_meter(homes.hass, "anna", import_wh=1010, export_wh=99_030, surplus_w=2)
    await homes.hass.async_block_till_done()
    assert metering.pause is None
    assert metering.core is not None
    row = metering.core.pending[-1]
    assert (row.end, row.end % SLOT, row.quality) == (end, 0, Quality.ESTIMATED)
    assert 2000 <= row.export_wh <= 2030
    await metering.async_send()
    await homes.mine()
    assert metering.core.pending == [], "the ledger takes it"


async def test_a_home_that_is_not_set_up_accepts_nothing(homes: Street) -> None:
    flow = await fix(homes)
    entry = homes.entries["anna"]
    assert await homes.hass.config_entries.async_unload(entry.entry_id)
    assert entry.state is ConfigEntryState.NOT_LOADED
    done = await flow.async_step_confirm({})
    assert (done["type"], done["reason"]) == (FlowResultType.ABORT, "entry_not_loaded")
