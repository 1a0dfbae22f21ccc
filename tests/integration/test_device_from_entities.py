"""Devices made of entities that other integrations have: their forms, readings and commands."""

from types import MappingProxyType
from typing import Any

import pytest
from homeassistant.config_entries import ConfigSubentryData
from homeassistant.core import HomeAssistant, ServiceCall
from homeassistant.exceptions import HomeAssistantError
from homeassistant.util import dt as dt_util

from custom_components.energy_ledger.const import DOMAIN, SUBENTRY_DEVICE
from custom_components.energy_ledger.device_runtime import entity_commander
from custom_components.energy_ledger.devices.commands import CommandState, Order, Reserve
from custom_components.energy_ledger.devices.device import Availability
from custom_components.energy_ledger.devices.errors import (
    CommandRefused,
    CommandUnsupported,
    ReserveReached,
    ValueOutOfRange,
)
from custom_components.energy_ledger.devices.profile.model import CommandName
from custom_components.energy_ledger.devices.readings import Field, Quality
from tests.integration.conftest import EntryMaker, wait_until
from tests.integration.device_world import runtime_of
from tests.integration.test_device_flow import Flow, subentry_of
from tests.node.api_world import ApiWorld

W = {"unit_of_measurement": "W", "device_class": "power"}
KW = {"unit_of_measurement": "kW", "device_class": "power"}
KWH = {"unit_of_measurement": "kWh", "device_class": "energy"}
PERCENT = {"unit_of_measurement": "%"}
BATTERY = {
    "power": "sensor.battery_w",
    "energy_out": "sensor.battery_out",
    "energy_in": "sensor.battery_in",
    "state_of_charge": "sensor.battery_soc",
}


def made_of(entities: dict[str, str], kind: str = "battery", **more: Any) -> ConfigSubentryData:
    data = {
        "source": "entities",
        "kind": kind,
        "carrier": "electricity",
        "rating_w": 5_000,
        "capacity_wh": 10_000,
        "asset_id": "cd" * 16,
        "device_uid": "made-of-entities",
        "entities": entities,
        "positive": "discharge",
        **more,
    }
    return ConfigSubentryData(
        data=MappingProxyType(data), subentry_type=SUBENTRY_DEVICE, title="Battery", unique_id="made"
    )


def tell(hass: HomeAssistant, entity: str, state: str, attributes: dict[str, Any]) -> None:
    hass.states.async_set(entity, state, attributes, force_update=True)


def tell_battery(hass: HomeAssistant) -> None:
    tell(hass, "sensor.battery_w", "-1.25", KW)
    tell(hass, "sensor.battery_out", "100.5", KWH)
    tell(hass, "sensor.battery_in", "200", KWH)
    tell(hass, "sensor.battery_soc", "55.5", PERCENT)


# --- readings -------------------------------------------------------------------------------------------


async def test_units_and_directions(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> None:
    tell_battery(hass)
    entry = await make_entry(node, subentries=[made_of(BATTERY)])
    battery = runtime_of(entry, "Battery")
    data = battery.coordinator.data
    assert (data.number(Field.CHARGE_W), data.number(Field.DISCHARGE_W)) == (1250, 0)
    assert (data.number(Field.DISCHARGE_WH), data.number(Field.CHARGE_WH)) == (100_500, 200_000)
    assert data.number(Field.STATE_OF_CHARGE) == 555
    assert data.number(Field.ENERGY_AVAILABLE_WH) == 5_550
    assert (battery.availability, battery.error, dict(battery.problems)) == ("online", None, {})
    tell(hass, "sensor.battery_w", "700", W)
    await hass.async_block_till_done()
    data = battery.coordinator.data
    assert (data.number(Field.CHARGE_W), data.number(Field.DISCHARGE_W)) == (0, 700)
    shown = hass.states.get("sensor.battery_discharging_power")
    assert shown is not None
    assert shown.state == "700"


@pytest.mark.parametrize(
    ("kind", "entities", "positive", "expected"),
    [
        ("meter", {"power": "sensor.a"}, "import", {Field.IMPORT_W: 300, Field.EXPORT_W: 0}),
        ("meter", {"power": "sensor.a"}, "export", {Field.IMPORT_W: 0, Field.EXPORT_W: 300}),
        (
            "meter",
            {"power": "sensor.a", "power_opposite": "sensor.b"},
            "import",
            {Field.IMPORT_W: 300, Field.EXPORT_W: 40},
        ),
        ("pv", {"power": "sensor.a"}, None, {Field.PV_W: 300}),
        ("load", {"energy_out": "sensor.wh"}, None, {Field.IMPORT_WH: 7}),
        ("fuel_cell", {"fuel_level": "sensor.level"}, None, {Field.FUEL_LEVEL: 400}),
        ("fuel_cell", {"fuel_level": "sensor.level"}, None, {Field.ENERGY_AVAILABLE_WH: 4_000}),
    ],
)
async def test_every_way_to_tell_power(
    hass: HomeAssistant,
    node: ApiWorld,
    make_entry: EntryMaker,
    kind: str,
    entities: dict[str, str],
    positive: str | None,
    expected: dict[Field, int],
) -> None:
    tell(hass, "sensor.a", "300", W)
    tell(hass, "sensor.b", "40", W)
    tell(hass, "sensor.wh", "7.9", {"unit_of_measurement": "Wh"})
    tell(hass, "sensor.level", "40", PERCENT)
    entry = await make_entry(node, subentries=[made_of(entities, kind, positive=positive)])
    data = runtime_of(entry, "Battery").coordinator.data
    assert {field: data.number(field) for field in expected} == expected


@pytest.mark.parametrize(
    ("entity", "state", "attributes", "fields", "reason"),
    [
        ("sensor.battery_w", "unavailable", {}, (Field.CHARGE_W, Field.DISCHARGE_W), "is unavailable"),
        ("sensor.battery_w", "unknown", W, (Field.CHARGE_W,), "is unknown"),
        ("sensor.battery_w", "much", W, (Field.CHARGE_W,), "is 'much', not a number"),
        ("sensor.battery_w", "inf", W, (Field.CHARGE_W,), "not a finite number"),
        ("sensor.battery_w", "5", {}, (Field.CHARGE_W,), "is in no unit; right would be a unit of power"),
        ("sensor.battery_w", "5", KWH, (Field.CHARGE_W,), "is in kWh; right would be a unit of power"),
        ("sensor.battery_in", "5", W, (Field.CHARGE_WH,), "is in W; right would be a unit of energy"),
        ("sensor.battery_in", "-5", KWH, (Field.CHARGE_WH,), "a lifetime counter is never negative"),
        ("sensor.battery_soc", "5", {}, (Field.STATE_OF_CHARGE,), "is in no unit; right would be %"),
        ("sensor.battery_soc", "101", PERCENT, (Field.STATE_OF_CHARGE,), "right would be 0 to 100"),
    ],
)
async def test_bad_states_are_no_values_and_say_why(
    hass: HomeAssistant,
    node: ApiWorld,
    make_entry: EntryMaker,
    entity: str,
    state: str,
    attributes: dict[str, Any],
    fields: tuple[Field, ...],
    reason: str,
) -> None:
    tell_battery(hass)
    entry = await make_entry(node, subentries=[made_of(BATTERY)])
    battery = runtime_of(entry, "Battery")
    tell(hass, entity, state, attributes)
    await hass.async_block_till_done()
    data = battery.coordinator.data
    assert str(battery.availability) == "partial"
    for field in fields:
        assert data[field].value is None
        assert data[field].quality is Quality.UNAVAILABLE
        assert reason in battery.problems[field]
    assert reason in str(battery.error)
    reachable = hass.states.get("binary_sensor.battery_reachable")
    assert reachable is not None
    assert reason in str(reachable.attributes["problems"])
    tell_battery(hass)
    await hass.async_block_till_done()
    assert str(battery.availability) == "online"


async def test_missing_entities_and_their_return(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    entry = await make_entry(node, subentries=[made_of(BATTERY)])
    battery = runtime_of(entry, "Battery")
    assert battery.availability is Availability.OFFLINE
    assert "sensor.battery_w does not exist" in str(battery.error)
    assert battery.coordinator.last_exception is not None
    tell_battery(hass)
    await hass.async_block_till_done()
    assert battery.coordinator.last_update_success
    assert hass.states.get("sensor.battery_state_of_charge") is not None
    await hass.config_entries.async_unload(entry.entry_id)
    tell(hass, "sensor.battery_soc", "1", PERCENT)


async def test_a_counter_that_starts_again_goes_on(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    tell_battery(hass)
    entry = await make_entry(node, subentries=[made_of(BATTERY)])
    tell(hass, "sensor.battery_in", "0.2", KWH)
    await hass.async_block_till_done()
    assert runtime_of(entry, "Battery").coordinator.data.number(Field.CHARGE_WH) == 200_200
    assert await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done()
    assert runtime_of(entry, "Battery").coordinator.data.number(Field.CHARGE_WH) == 200_200


# --- commands -------------------------------------------------------------------------------------------


class Calls:
    """Services that other integrations would have, and what they were called with."""

    def __init__(self, hass: HomeAssistant) -> None:
        self.hass = hass
        self.made: list[tuple[str, dict[str, Any]]] = []
        self.fails = False
        for domain, service in (
            ("number", "set_value"),
            ("switch", "turn_on"),
            ("switch", "turn_off"),
            ("script", "turn_on"),
        ):
            hass.services.async_register(domain, service, self._take)

    async def _take(self, call: ServiceCall) -> None:
        if self.fails:
            raise HomeAssistantError("the inverter says no")
        self.made.append((f"{call.domain}.{call.service}", dict(call.data)))
        if call.service == "set_value":
            entity = call.data["entity_id"]
            old = self.hass.states.get(entity)
            assert old is not None
            self.hass.states.async_set(entity, str(call.data["value"]), old.attributes)


NUMBER = {"unit_of_measurement": "kW", "min": -3, "max": 3}
TO_NUMBER = {"entity": "number.power", "commands": ["charge", "discharge"], "negative": "charge"}


def order(name: CommandName, watts: int, seconds: float = 600, reserve: Reserve | None = None) -> Order:
    return Order(name=name, power_w=watts, until=dt_util.utcnow().timestamp() + seconds, reserve=reserve)


async def commanded(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, command: Any) -> Any:
    tell_battery(hass)
    entry = await make_entry(node, subentries=[made_of(BATTERY, command=command)])
    runtime = runtime_of(entry, "Battery")
    assert runtime.commander is not None
    # Only now: with our own platforms Home Assistant has set up these domains.
    return entry, runtime.commander, Calls(hass)


async def test_a_number_is_set_and_gets_back_what_it_held(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    tell(hass, "number.power", "0.5", NUMBER)
    _, commander, calls = await commanded(hass, node, make_entry, TO_NUMBER)
    assert commander.supported == (CommandName.CHARGE, CommandName.DISCHARGE)
    await commander.start(order(CommandName.DISCHARGE, 2000))
    await hass.async_block_till_done()
    shown = hass.states.get("sensor.battery_command")
    assert shown is not None
    assert shown.state == CommandState.IN_FORCE
    await commander.start(order(CommandName.CHARGE, 1500))
    assert await commander.release("enough")
    assert await commander.release()
    assert [data["value"] for _, data in calls.made] == [2, -1.5, 0.5]
    assert (commander.status.state, commander.status.reason) == (CommandState.IDLE, "enough")


async def test_orders_that_cannot_be_right_switch_nothing(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    _, commander, calls = await commanded(hass, node, make_entry, TO_NUMBER)
    with pytest.raises(CommandRefused, match=r"number\.power is not available"):
        await commander.start(order(CommandName.CHARGE, 100))
    tell(hass, "number.power", "unknown", {"unit_of_measurement": "bar"})
    with pytest.raises(CommandRefused, match="is in bar; right would be a unit of power"):
        await commander.start(order(CommandName.CHARGE, 100))
    tell(hass, "number.power", "unknown", NUMBER)
    with pytest.raises(CommandUnsupported, match="does not take the command generate"):
        await commander.start(order(CommandName.GENERATE, 100))
    with pytest.raises(ValueOutOfRange, match="power to charge is 5001 W, allowed are 0 to 5000 W"):
        await commander.start(order(CommandName.CHARGE, 5001))
    with pytest.raises(ValueOutOfRange, match=r"is -3\.5 kW, allowed are -3 to 3 kW"):
        await commander.start(order(CommandName.CHARGE, 3500))
    with pytest.raises(ValueOutOfRange, match="remaining time is -1"):
        await commander.start(order(CommandName.CHARGE, 100, seconds=-1))
    with pytest.raises(ReserveReached, match="is 555, the reserve is 600"):
        await commander.start(order(CommandName.DISCHARGE, 100, reserve=Reserve(Field.STATE_OF_CHARGE, 600)))
    with pytest.raises(ReserveReached, match="fuel_level_permille is not known now"):
        await commander.start(order(CommandName.DISCHARGE, 100, reserve=Reserve(Field.FUEL_LEVEL, 600)))
    assert not calls.made
    await commander.start(order(CommandName.CHARGE, 100))
    await commander.release()
    assert [data["value"] for _, data in calls.made] == [-0.1, 0]


async def test_a_switch_is_turned_on_and_off_again(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    tell(hass, "switch.discharge", "off", {})
    command = {"entity": "switch.discharge", "commands": ["discharge"]}
    _, commander, calls = await commanded(hass, node, make_entry, command)
    await commander.start(order(CommandName.DISCHARGE, 100))
    await commander.release()
    tell(hass, "switch.discharge", "on", {})
    await commander.start(order(CommandName.DISCHARGE, 100))
    await commander.release()
    assert [name for name, _ in calls.made] == ["switch.turn_on", "switch.turn_off", "switch.turn_on"]


async def test_a_script_is_called_with_what_is_ordered(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    tell(hass, "script.begin", "off", {})
    tell(hass, "script.end", "off", {})
    command = {"entity": "script.begin", "release": "script.end", "commands": ["charge"], "renew_s": 0.01}
    entry, commander, calls = await commanded(hass, node, make_entry, command)
    await commander.start(order(CommandName.CHARGE, 100))
    await wait_until(lambda: len(calls.made) >= 3)  # it is renewed
    assert await hass.config_entries.async_unload(entry.entry_id)
    name, data = calls.made[0]
    assert (name, data["entity_id"]) == ("script.turn_on", "script.begin")
    assert (data["variables"]["command"], data["variables"]["power_w"]) == ("charge", 100)
    assert calls.made[-1][1]["entity_id"] == "script.end"
    assert calls.made[-1][1]["variables"]["command"] == "release"
    assert commander.status.reason == "shutting down"


async def test_it_ends_at_its_time_and_at_the_reserve(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(hass, "number.power", "0", NUMBER)
    _, commander, calls = await commanded(hass, node, make_entry, TO_NUMBER)
    await commander.start(order(CommandName.DISCHARGE, 100, seconds=0.05))
    await wait_until(lambda: commander.status.state is CommandState.IDLE)
    assert commander.status.reason == "its time is over"
    reserve = Reserve(Field.STATE_OF_CHARGE, 500)
    await commander.start(order(CommandName.DISCHARGE, 100, reserve=reserve))
    tell(hass, "sensor.battery_soc", "50", PERCENT)
    await wait_until(lambda: commander.status.state is CommandState.IDLE)
    assert "the reserve is 500" in str(commander.status.reason)
    tell_battery(hass)
    await hass.async_block_till_done()
    await commander.start(order(CommandName.DISCHARGE, 100, reserve=reserve))
    tell(hass, "sensor.battery_soc", "unavailable", {})
    await hass.async_block_till_done()
    assert commander.status.state is CommandState.IN_FORCE, "for a while it may be unknown"
    tell_battery(hass)
    await hass.async_block_till_done()
    monkeypatch.setattr(entity_commander, "_BLIND_S", 0.0)
    tell(hass, "sensor.battery_soc", "unavailable", {})
    await wait_until(lambda: commander.status.state is CommandState.IDLE)
    assert "is not known now" in str(commander.status.reason)
    assert [data["value"] for _, data in calls.made] == [0.1, 0] * 3


async def test_what_fails_is_released_until_it_is_done(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entity_commander, "_FIRST_RETRY", 0.01)
    monkeypatch.setattr(entity_commander, "_LAST_RETRY", 0.01)
    tell(hass, "number.power", "0", NUMBER)
    _, commander, calls = await commanded(hass, node, make_entry, {**TO_NUMBER, "renew_s": 0.02})
    calls.fails = True
    with pytest.raises(CommandRefused, match="the inverter says no"):
        await commander.start(order(CommandName.DISCHARGE, 100))
    await wait_until(lambda: str(commander.status.reason).count("says no") > 1)
    assert commander.status.state is CommandState.RELEASING
    calls.fails = False
    await wait_until(lambda: commander.status.state is CommandState.IDLE)
    await commander.start(order(CommandName.DISCHARGE, 100))
    calls.fails = True  # the renewal fails
    await wait_until(lambda: commander.status.state is CommandState.RELEASING)
    tell(hass, "number.power", "unavailable", {})
    calls.fails = False
    assert not await commander.release("again")
    tell(hass, "number.power", "0.1", NUMBER)
    await wait_until(lambda: commander.status.state is CommandState.IDLE)


async def test_one_left_in_force_is_taken_back(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, hass_storage: dict[str, Any]
) -> None:
    tell(hass, "number.power", "0.3", NUMBER)
    entry, commander, calls = await commanded(hass, node, make_entry, TO_NUMBER)
    await commander.start(order(CommandName.DISCHARGE, 100))
    key = f"{DOMAIN}.{entry.entry_id}.devices"
    note = hass_storage[key]["data"]["devices"]["made-of-entities"]["note"]
    await hass.config_entries.async_unload(entry.entry_id)
    for kept in (note, {"version": 99}):
        hass_storage[key]["data"]["devices"]["made-of-entities"]["note"] = kept
        calls.made.clear()
        assert await hass.config_entries.async_setup(entry.entry_id)
        await hass.async_block_till_done()
        assert [data["value"] for _, data in calls.made] == ([0.3] if kept is note else [])
        await hass.config_entries.async_unload(entry.entry_id)


async def test_a_start_that_is_given_up_is_released(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    monkeypatch.setattr(entity_commander, "_FIRST_RETRY", 0.01)
    reached = asyncio.Event()

    async def hang(_: ServiceCall) -> None:
        if not reached.is_set():
            reached.set()
            await asyncio.Event().wait()

    tell(hass, "number.power", "0", NUMBER)
    _, commander, _ = await commanded(hass, node, make_entry, TO_NUMBER)
    hass.services.async_register("number", "set_value", hang)
    start = asyncio.create_task(commander.start(order(CommandName.DISCHARGE, 100)))
    await reached.wait()
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await wait_until(lambda: commander.status.state is CommandState.IDLE)
    assert commander.status.reason == "given up while it was being started"


# --- the flow -------------------------------------------------------------------------------------------

NO_COMMAND: dict[str, Any] = {}


async def test_a_battery_by_the_form(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> None:
    tell_battery(hass)
    tell(hass, "number.power", "0", NUMBER)
    entry = await make_entry(node)
    flow = await (await Flow.add(hass, entry)).go("entities")
    await flow.asks("entities").type(kind="battery", carrier="electricity")
    flow.asks("entities_chosen")
    await flow.type(**BATTERY, positive="charge", command=TO_NUMBER)
    flow.asks("figures")
    assert flow.suggested()["name"]
    await flow.type(name="Battery", rating_w=1000, capacity_wh=10_000)
    flow.asks("figures", rating_w="rating_below_power")
    assert flow.detail("power_w") == "1250"
    await flow.type(name="Battery", rating_w=3000, capacity_wh=10_000)
    flow.creates()
    data = subentry_of(entry, "Battery").data
    assert data["entities"] == BATTERY
    assert data["command"]["negative"] == "charge"
    battery = runtime_of(entry, "Battery")
    assert battery.coordinator.data.number(Field.DISCHARGE_W) == 1250
    assert battery.commander is not None
    # The same again is refused, and changes keep what was typed.
    flow = await (await Flow.add(hass, entry)).go("entities")
    await flow.type(kind="battery", carrier="electricity")
    await flow.type(**BATTERY, positive="charge", command=NO_COMMAND)
    flow.aborts("already_configured")
    flow = await (await Flow.change(hass, entry, "Battery")).go("entities_chosen")
    suggested = flow.asks("entities_chosen").suggested()
    assert (suggested["power"], suggested["positive"]) == (BATTERY["power"], "charge")
    await flow.type(power="sensor.battery_w", positive="discharge", command=NO_COMMAND)
    flow.aborts("reconfigure_successful")
    data = subentry_of(entry, "Battery").data
    assert (data["entities"], data.get("command")) == ({"power": "sensor.battery_w"}, None)
    assert runtime_of(entry, "Battery").commander is None
    flow = await (await Flow.change(hass, entry, "Battery")).go("figures")
    await flow.asks("figures").type(rating_w=2000, capacity_wh=10_000)
    flow.aborts("reconfigure_successful")


@pytest.mark.parametrize(
    ("typed", "errors"),
    [
        ({}, {"base": "entities_missing"}),
        (
            {"power_opposite": "sensor.battery_w", "energy_in": "sensor.battery_in"},
            {"power": "power_missing"},
        ),
        (
            {"power": "sensor.battery_w", "power_opposite": "sensor.battery_w"},
            {"power_opposite": "entity_twice"},
        ),
        ({"power": "sensor.nowhere"}, {"power": "entity_missing"}),
        ({"power": "sensor.text"}, {"power": "entity_not_a_number"}),
        ({"power": "sensor.battery_soc"}, {"power": "entity_wrong_unit"}),
        (
            {"power": "sensor.battery_w", "state_of_charge": "sensor.full"},
            {"state_of_charge": "entity_out_of_range"},
        ),
    ],
)
async def test_entities_that_do_not_fit(
    hass: HomeAssistant,
    node: ApiWorld,
    make_entry: EntryMaker,
    typed: dict[str, str],
    errors: dict[str, str],
) -> None:
    tell_battery(hass)
    tell(hass, "sensor.text", "much", W)
    tell(hass, "sensor.full", "200", PERCENT)
    tell(hass, "sensor.away", "unavailable", {})
    entry = await make_entry(node)
    flow = await (await Flow.add(hass, entry)).go("entities")
    await flow.type(kind="battery", carrier="electricity")
    await flow.type(**typed, positive="discharge", command=NO_COMMAND)
    flow.asks("entities_chosen", **errors)
    assert {name: flow.suggested().get(name) for name in typed} == typed
    await flow.type(power="sensor.away", positive="discharge", command=NO_COMMAND)
    await flow.asks("figures").type(name="Battery", rating_w=1000, capacity_wh=5_000)
    flow.creates()


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ({"commands": ["charge"]}, "command_entity_missing"),
        ({"entity": "number.nowhere", "commands": ["charge"]}, "entity_missing"),
        ({"entity": "number.power"}, "commands_missing"),
        ({"entity": "number.bar", "commands": ["charge"]}, "entity_wrong_unit"),
        ({"entity": "number.power", "commands": ["charge", "discharge"]}, "direction_missing"),
        ({"entity": "switch.both", "commands": ["charge", "discharge"]}, "switch_one_command"),
        ({"entity": "script.begin", "commands": ["charge"]}, "release_missing"),
    ],
)
async def test_commands_that_do_not_fit(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, command: dict[str, Any], error: str
) -> None:
    tell_battery(hass)
    tell(hass, "number.power", "0", NUMBER)
    tell(hass, "number.bar", "0", {"unit_of_measurement": "bar"})
    tell(hass, "switch.both", "off", {})
    tell(hass, "script.begin", "off", {})
    entry = await make_entry(node)
    flow = await (await Flow.add(hass, entry)).go("entities")
    await flow.type(kind="battery", carrier="electricity")
    await flow.type(**BATTERY, positive="discharge", command=command)
    flow.asks("entities_chosen", base=error)
    await flow.type(
        **BATTERY,
        positive="discharge",
        command={"entity": "number.power", "commands": ["charge"], "renew_s": 30},
    )
    await flow.asks("figures").type(name="Battery", rating_w=5000, capacity_wh=10_000)
    flow.creates()
    assert subentry_of(entry, "Battery").data["command"]["renew_s"] == 30


async def test_a_capacity_below_what_is_stored(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    tell_battery(hass)
    tell(hass, "sensor.stored", "6", KWH)
    entry = await make_entry(node)
    flow = await (await Flow.add(hass, entry)).go("entities")
    await flow.type(kind="battery", carrier="electricity")
    entities = {"power": "sensor.battery_w", "energy_available": "sensor.stored"}
    await flow.type(**entities, positive="discharge", command=NO_COMMAND)
    await flow.asks("figures").type(name="Battery", rating_w=5000, capacity_wh=5_000)
    flow.asks("figures", capacity_wh="capacity_below_energy")
    assert flow.detail("energy_wh") == "6000"
    await flow.type(name="Battery", rating_w=5000, capacity_wh=8_000)
    flow.creates()
    meter = await (await Flow.add(hass, entry)).go("entities")
    await meter.type(kind="load", carrier="heat")
    await meter.type(energy_out="sensor.battery_in")
    await meter.asks("figures").type(name="Heating", rating_w=5000)
    meter.creates()
    assert subentry_of(entry, "Heating").data["carrier"] == "heat"
