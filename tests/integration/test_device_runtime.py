"""Devices in Home Assistant: real simulated Modbus devices, their entities, commands and failures."""

import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import EVENT_HOMEASSISTANT_STOP, STATE_OFF, STATE_ON, STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant, State
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers import issue_registry as ir
from homeassistant.util import dt as dt_util
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped]
    MockConfigEntry,
    async_fire_time_changed,
)

from custom_components.energy_ledger import repairs
from custom_components.energy_ledger.const import DOMAIN, issue_id
from custom_components.energy_ledger.device_runtime import manager as manager_module
from custom_components.energy_ledger.device_runtime.modbus_device import link_pool
from custom_components.energy_ledger.device_runtime.runtime import DeviceRuntime
from custom_components.energy_ledger.device_runtime.watch import ISSUE_EXCHANGED, ISSUE_LOST, LOST_AFTER_S
from custom_components.energy_ledger.devices.commands import CommandState, Order
from custom_components.energy_ledger.devices.device import Availability
from custom_components.energy_ledger.devices.errors import CommandRefused, CommandUnsupported
from custom_components.energy_ledger.devices.profile.model import CommandName
from custom_components.energy_ledger.devices.readings import Field, Readings
from custom_components.energy_ledger.devices.sunspec.definition import model_definition
from simulator.modbus.faults import Fault, FaultKind
from tests.integration.conftest import EntryMaker
from tests.integration.device_world import device, manager_of, runtime_of, simulated
from tests.node.api_world import ApiWorld


def entity_of(hass: HomeAssistant, runtime: DeviceRuntime, key: str, domain: str = "sensor") -> str:
    unique_id = f"{runtime.settings.subentry_id}_{key}"
    entity = er.async_get(hass).async_get_entity_id(domain, DOMAIN, unique_id)
    assert entity is not None, f"there is no {unique_id}"
    return entity


def state_of(hass: HomeAssistant, runtime: DeviceRuntime, key: str, domain: str = "sensor") -> State:
    state = hass.states.get(entity_of(hass, runtime, key, domain))
    assert state is not None
    return state


def page_of(hass: HomeAssistant, entry: MockConfigEntry, runtime: DeviceRuntime) -> dr.DeviceEntry:
    page = dr.async_get(hass).async_get_device_by_identifier(
        (DOMAIN, runtime.settings.subentry_id), entry.entry_id
    )
    assert page is not None
    return page


def order(name: CommandName, watts: int, seconds: float = 600) -> Order:
    return Order(name=name, power_w=watts, until=time.time() + seconds)


async def test_values_are_the_simulators(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(
            node, subentries=[device(home, "goodwe_et", kind) for kind in ("pv", "battery", "meter")]
        )
        truth = home.truth()
        pv, battery, meter = (runtime_of(entry, name) for name in ("pv", "battery", "meter"))
        assert abs(float(state_of(hass, pv, "pv_power").state) - truth["power_w"]["pv_w"]) <= 3
        charge = float(state_of(hass, battery, "state_of_charge").state)
        assert abs(charge - truth["battery"]["soc_permille"] / 10) <= 1
        exported = state_of(hass, meter, "export_energy")
        assert exported.attributes["unit_of_measurement"] == "kWh"
        assert exported.attributes["state_class"] == "total_increasing"
        assert abs(float(exported.state) * 1000 - truth["energy_wh"]["export"]) <= 1100
        assert state_of(hass, meter, "reachable", "binary_sensor").state == STATE_ON
        page = page_of(hass, entry, battery)
        assert (page.manufacturer, page.name) == ("GoodWe", "battery")
        assert page.via_device_id == entry.runtime_data.home_device_id
        # Noisy ones are there, and switched off.
        voltage = er.async_get(hass).async_get(entity_of(hass, battery, "battery_voltage"))
        assert voltage is not None
        assert voltage.disabled_by is er.RegistryEntryDisabler.INTEGRATION
        # A part has its own entities only.
        assert Field.PV_W not in battery.fields
        assert Field.IMPORT_WH not in pv.fields


async def test_parts_of_one_device_share_one_poll(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(
            node, subentries=[device(home, "goodwe_et", kind) for kind in ("pv", "battery")]
        )
        pv, battery = runtime_of(entry, "pv"), runtime_of(entry, "battery")
        before = state_of(hass, battery, "state_of_charge").state
        home.advance(3600)
        await pv.coordinator.async_refresh()
        await hass.async_block_till_done()
        truth = home.truth()["battery"]["soc_permille"]
        now = float(state_of(hass, battery, "state_of_charge").state)
        assert abs(now - truth / 10) <= 1
        assert now != float(before)
        # Nothing has changed: no state is written again.
        reported = state_of(hass, battery, "state_of_charge").last_reported
        await pv.coordinator.async_refresh()
        assert state_of(hass, battery, "state_of_charge").last_reported == reported
        home.links["goodwe_et"].inject(Fault(FaultKind.OFFLINE))
        await pv.coordinator.async_refresh()
        assert state_of(hass, battery, "state_of_charge").state == STATE_UNAVAILABLE
        assert not battery.coordinator.last_update_success


async def test_a_dead_device_takes_only_its_own_entities_away(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("byd_battery_box", "eastron_sdm630") as home:
        entry = await make_entry(
            node,
            subentries=[
                device(home, "byd_battery_box", "battery"),
                device(home, "eastron_sdm630", "meter"),
            ],
        )
        battery, meter = runtime_of(entry, "battery"), runtime_of(entry, "meter")
        home.links["byd_battery_box"].inject(Fault(FaultKind.OFFLINE))
        await battery.coordinator.async_refresh()
        await meter.coordinator.async_refresh()
        assert state_of(hass, battery, "state_of_charge").state == STATE_UNAVAILABLE
        assert state_of(hass, meter, "import_power").state != STATE_UNAVAILABLE
        reachable = state_of(hass, battery, "reachable", "binary_sensor")
        assert reachable.state == STATE_OFF
        assert reachable.attributes["availability"] == Availability.OFFLINE
        assert "refused" in reachable.attributes["reason"]
        assert entry.state is ConfigEntryState.LOADED
        home.links["byd_battery_box"].clear()
        await wait_for_answer(battery)
        assert state_of(hass, battery, "state_of_charge").state != STATE_UNAVAILABLE
        assert state_of(hass, battery, "reachable", "binary_sensor").state == STATE_ON


async def wait_for_answer(runtime: DeviceRuntime) -> None:
    """Poll until the device is back; its link pauses between attempts to connect."""
    deadline = time.monotonic() + 30
    while runtime.availability is not Availability.ONLINE:
        assert time.monotonic() < deadline, runtime.error
        await runtime.coordinator.async_refresh()


async def test_a_device_dead_at_the_start_gets_its_entities_later(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("byd_battery_box") as home:
        home.links["byd_battery_box"].inject(Fault(FaultKind.OFFLINE))
        entry = await make_entry(node, subentries=[device(home, "byd_battery_box", "battery")])
        battery = runtime_of(entry, "battery")
        assert not battery.fields
        assert state_of(hass, battery, "reachable", "binary_sensor").state == STATE_OFF
        home.links["byd_battery_box"].clear()
        await wait_for_answer(battery)
        await hass.async_block_till_done()
        assert state_of(hass, battery, "state_of_charge").state != STATE_UNAVAILABLE
        # From now on its entities are known: after a restart they are there, dead or not.
        home.links["byd_battery_box"].inject(Fault(FaultKind.OFFLINE))
        assert await hass.config_entries.async_reload(entry.entry_id)
        await hass.async_block_till_done()
        assert state_of(hass, runtime_of(entry, "battery"), "state_of_charge").state == STATE_UNAVAILABLE


async def test_a_silent_device_does_not_hold_up_the_set_up(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager_module, "_FIRST_ANSWER_S", 0.01)
    async with simulated("byd_battery_box") as home:
        home.links["byd_battery_box"].inject(Fault(FaultKind.SLEEP))
        entry = await make_entry(node, subentries=[device(home, "byd_battery_box", "battery")])
        assert entry.state is ConfigEntryState.LOADED
        assert runtime_of(entry, "battery").availability is not Availability.ONLINE


async def test_another_device_is_told_from_the_one_set_up(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(node, subentries=[device(home, "goodwe_et", "pv", serial="ANOTHER")])
        pv = runtime_of(entry, "pv")
        assert pv.availability is Availability.WRONG_DEVICE
        name = issue_id(ISSUE_EXCHANGED, pv.settings.subentry_id)
        issue = ir.async_get(hass).async_get_issue(DOMAIN, name)
        assert issue is not None
        assert "ANOTHER was set up" in (issue.translation_placeholders or {})["error"]
        assert pv.nameplate[Field.SERIAL]


async def test_a_device_that_is_away_for_long_is_reported_until_it_is_back(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("byd_battery_box") as home:
        entry = await make_entry(node, subentries=[device(home, "byd_battery_box", "battery")])
        battery = runtime_of(entry, "battery")
        name = issue_id(ISSUE_LOST, battery.settings.subentry_id)

        def issue() -> ir.IssueEntry | None:
            return ir.async_get(hass).async_get_issue(DOMAIN, name)

        async def away_for(seconds: float) -> None:
            await battery.coordinator.async_refresh()
            assert battery.availability is Availability.OFFLINE
            async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=seconds))
            await hass.async_block_till_done()

        home.links["byd_battery_box"].inject(Fault(FaultKind.OFFLINE))
        await away_for(LOST_AFTER_S - 10)
        assert issue() is None, "a restart is not worth a word"
        await away_for(LOST_AFTER_S + 10)
        found = issue()
        assert found is not None
        assert found.is_fixable
        assert (found.translation_placeholders or {})["device"] == battery.name
        flow = await repairs.async_create_fix_flow(hass, name, found.data)
        flow.hass = hass
        still: Any = await flow.async_step_confirm({})  # type: ignore[attr-defined]
        assert still["errors"] == {"base": "not_resolved"}
        home.links["byd_battery_box"].clear()
        done: Any = await flow.async_step_confirm({})  # type: ignore[attr-defined]
        assert done["type"] == "create_entry"
        assert issue() is None

        home.links["byd_battery_box"].inject(Fault(FaultKind.OFFLINE))
        await away_for(LOST_AFTER_S + 10)
        assert issue() is not None
        assert await hass.config_entries.async_unload(entry.entry_id)
        assert issue() is None


async def test_devices_that_cannot_be_used_say_why(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("byd_battery_box") as home:
        entry = await make_entry(
            node,
            subentries=[
                device(home, "byd_battery_box", "battery", "gone", profile="nothing", device_uid="a"),
                device(home, "byd_battery_box", "battery", "odd", variant="no-such", device_uid="b"),
                device(home, "byd_battery_box", "toaster", "bad"),
                device(home, "byd_battery_box", "battery", "worse", link={"kind": "pigeon"}),
                device(home, "byd_battery_box", "battery", "good"),
            ],
        )
        assert {runtime.name for runtime in manager_of(entry).runtimes.values()} == {"gone", "odd", "good"}
        assert "there is no device profile 'nothing'" in str(runtime_of(entry, "gone").error)
        assert 'has no variant "no-such"' in str(runtime_of(entry, "odd").error)
        assert runtime_of(entry, "gone").commander is None
        assert runtime_of(entry, "good").availability is Availability.ONLINE


async def test_own_profiles_replace_ours(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, tmp_path: Any
) -> None:
    from custom_components.energy_ledger.device_runtime import profiles
    from custom_components.energy_ledger.devices.profile.load import BUILT_IN

    hass.config.config_dir = str(tmp_path)
    folder = profiles.own_folder(hass)
    folder.mkdir(parents=True)
    text = (BUILT_IN / "byd_battery_box.yaml").read_text("utf-8")
    title = next(line for line in text.splitlines() if line.startswith("title:"))
    (folder / "byd_battery_box.yaml").write_text(text.replace(title, "title: My own"), "utf-8")
    assert (await profiles.async_profile(hass, "byd_battery_box", None)).title == "My own"
    assert (await profiles.async_all_profiles(hass))["byd_battery_box"].title == "My own"
    (folder / "byd_battery_box.yaml").write_text("id: 7", "utf-8")
    assert (await profiles.async_all_profiles(hass))["byd_battery_box"].title != "My own"


async def test_no_file_of_sunspec_is_read_on_the_event_loop(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, int]] = []
    read_text = Path.read_text

    def reading(path: Path, *args: Any, **more: Any) -> str:
        if path.name.startswith("model_"):
            read.append((path.name, threading.get_ident()))
        return read_text(path, *args, **more)

    async with simulated("fronius_gen24") as home:
        model_definition.cache_clear()
        monkeypatch.setattr(Path, "read_text", reading)
        entry = await make_entry(node, subentries=[device(home, "fronius_gen24", "battery")])
        assert runtime_of(entry, "battery").availability is Availability.ONLINE
    assert "model_1.json" in {name for name, _ in read}
    assert threading.get_ident() not in {thread for _, thread in read}


async def test_over_home_assistants_shared_connection(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("fronius_gen24") as home:
        entry = await make_entry(
            node, subentries=[device(home, "fronius_gen24", "meter", shared=True, companions={"meter": 200})]
        )
        meter = runtime_of(entry, "meter")
        assert meter.availability is Availability.ONLINE
        truth = home.truth()["power_w"]["export_w"]
        assert abs(float(state_of(hass, meter, "export_power").state) - truth) <= 12
        assert link_pool(hass).open_link(meter.settings.source.link.endpoint) is None  # type: ignore[union-attr]


# --- commands -------------------------------------------------------------------------------------------


async def test_a_command_reaches_the_device_and_unloading_takes_it_back(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(
            node, subentries=[device(home, "goodwe_et", kind) for kind in ("pv", "battery", "meter")]
        )
        battery, pv = runtime_of(entry, "battery"), runtime_of(entry, "pv")
        commander = battery.commander
        assert commander is not None
        idle = home.truth()["orders"]
        assert set(commander.supported) == {CommandName.CHARGE, CommandName.DISCHARGE}
        assert runtime_of(entry, "meter").commander is None
        assert state_of(hass, battery, "command").state == CommandState.IDLE
        await commander.start(order(CommandName.DISCHARGE, 2000))
        await hass.async_block_till_done()
        state = state_of(hass, battery, "command")
        assert state.state == CommandState.IN_FORCE
        assert (state.attributes["command"], state.attributes["power_w"]) == ("discharge", 2000)
        home.advance(60)
        assert abs(home.truth()["power_w"]["discharge_w"] - 2000) <= 50
        # The other part of the same device waits: it takes one command at a time.
        assert pv.commander is not None
        assert pv.commander.status.state is CommandState.IDLE
        with pytest.raises(CommandRefused, match="takes one command at a time"):
            await pv.commander.start(order(CommandName.LIMIT_EXPORT, 0))
        with pytest.raises(CommandUnsupported, match="does not take the command charge"):
            await pv.commander.start(order(CommandName.CHARGE, 100))
        assert await pv.commander.release()
        assert commander.status.state is CommandState.IN_FORCE
        assert await hass.config_entries.async_unload(entry.entry_id)
        home.advance(60)
        assert home.truth()["orders"] == idle
        assert link_pool(hass).open_link(f"127.0.0.1:{home.links['goodwe_et'].port}") is None


async def test_stopping_home_assistant_takes_commands_back(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(node, subentries=[device(home, "goodwe_et", "battery")])
        battery = runtime_of(entry, "battery")
        assert battery.commander is not None
        await battery.commander.start(order(CommandName.CHARGE, 1500))
        hass.bus.async_fire(EVENT_HOMEASSISTANT_STOP)
        await hass.async_block_till_done()
        assert battery.commander.status.state is CommandState.IDLE
        assert battery.commander.status.reason == "shutting down"


async def test_a_command_left_in_force_is_taken_back_at_the_next_start(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, hass_storage: dict[str, Any]
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(node, subentries=[device(home, "goodwe_et", "battery")])
        battery = runtime_of(entry, "battery")
        assert battery.commander is not None
        await battery.commander.start(order(CommandName.DISCHARGE, 2000))
        left = hass_storage[f"{DOMAIN}.{entry.entry_id}.devices"]["data"]["devices"]["goodwe_et"]["note"]
        await hass.config_entries.async_unload(entry.entry_id)
        kept = hass_storage[f"{DOMAIN}.{entry.entry_id}.devices"]["data"]["devices"]["goodwe_et"]
        assert "note" not in kept
        kept["note"] = left
        assert await hass.config_entries.async_setup(entry.entry_id)
        await hass.async_block_till_done()
        battery = runtime_of(entry, "battery")
        assert battery.commander is not None
        assert battery.commander.status.reason == "left in force by an earlier run"
        await hass.config_entries.async_unload(entry.entry_id)
        kept = hass_storage[f"{DOMAIN}.{entry.entry_id}.devices"]["data"]["devices"]["goodwe_et"]
        kept["note"] = {"version": 99}
        kept["counters"] = {"charge_wh": ["x"], **kept["counters"]}
        assert await hass.config_entries.async_setup(entry.entry_id)
        await hass.async_block_till_done()
        assert runtime_of(entry, "battery").availability is Availability.ONLINE


async def test_counters_go_on_after_a_restart(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(node, subentries=[device(home, "goodwe_et", "meter")])
        before = runtime_of(entry, "meter").coordinator.data.number(Field.EXPORT_WH)
        assert before is not None
        await hass.config_entries.async_unload(entry.entry_id)
        home.links["goodwe_et"].inject(Fault(FaultKind.COUNTER_RESET))
        assert await hass.config_entries.async_setup(entry.entry_id)
        await hass.async_block_till_done()
        after = runtime_of(entry, "meter").coordinator.data.number(Field.EXPORT_WH)
        assert after is not None
        assert after >= before


# --- figures --------------------------------------------------------------------------------------------


async def test_a_rating_follows_the_device_once_it_has_told_it_thrice(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(
            node,
            subentries=[
                device(home, "goodwe_et", "pv", rating_w=7_777, rating_follows=True),
                device(home, "goodwe_et", "battery", rating_w=7_777),
            ],
        )
        pv, battery = runtime_of(entry, "pv"), runtime_of(entry, "battery")
        told = pv.coordinator.data.number(Field.RATED_W)
        assert told not in (None, 7_777)
        assert pv.rating_w == 7_777
        for _ in range(3):
            await pv.coordinator.async_refresh()
        assert pv.rating_w == told
        assert battery.rating_w == 7_777
        assert await hass.config_entries.async_reload(entry.entry_id)
        assert runtime_of(entry, "pv").rating_w == told


async def test_the_energy_available_follows_from_the_capacity_told_by_the_user(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("kostal_plenticore") as home:
        entry = await make_entry(
            node, subentries=[device(home, "kostal_plenticore", "battery", capacity_wh=20_000)]
        )
        battery = runtime_of(entry, "battery")
        data = battery.coordinator.data
        charge, energy = data.number(Field.STATE_OF_CHARGE), data.number(Field.ENERGY_AVAILABLE_WH)
        assert charge is not None
        assert energy is not None
        coordinator = battery.coordinator
        bare = Readings({Field.STATE_OF_CHARGE: data[Field.STATE_OF_CHARGE]})
        assert coordinator._completed(bare).number(Field.ENERGY_AVAILABLE_WH) == 20_000 * charge // 1000
        assert Field.ENERGY_AVAILABLE_WH not in set(coordinator._completed(Readings({})))
