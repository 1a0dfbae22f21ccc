"""Every device an asset on the ledger: against a real engine and its API."""

import dataclasses
import time
from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import issue_registry as ir
from pytest_homeassistant_custom_component.common import MockConfigEntry  # type: ignore[import-untyped]

from custom_components.energy_ledger.const import DOMAIN, issue_id
from custom_components.energy_ledger.device_runtime import registration
from custom_components.energy_ledger.device_runtime.registration import AssetState
from custom_components.energy_ledger.devices.readings import Field
from ledger_core.client import RefusedError, UnreachableError
from ledger_core.client.home import Home
from ledger_core.client.views import AssetView
from ledger_core.community import AssetApproval, Parameters
from ledger_core.errors import LedgerError
from simulator.home import SimulatedHome
from tests.core.world import TEST_PARAMETERS, World
from tests.integration.conftest import EntryMaker, wait_until
from tests.integration.device_world import device, manager_of, runtime_of, simulated
from tests.node.api_world import ApiWorld


def state_of(entry: MockConfigEntry, name: str) -> AssetState:
    return manager_of(entry).registrar.status(runtime_of(entry, name).settings.subentry_id).state


def asset_of(entry: MockConfigEntry, name: str) -> AssetView:
    wanted = runtime_of(entry, name).settings.asset_id.hex()
    views: dict[str, AssetView] = {view.asset: view for view in entry.runtime_data.ledger.data.assets}
    return views[wanted]


async def refresh(entry: MockConfigEntry) -> None:
    """Read the whole ledger anew and compare."""
    ledger = entry.runtime_data.ledger
    ledger._changed = set()
    await ledger.async_refresh()
    await manager_of(entry).registrar.async_reconcile()


async def settle(node: ApiWorld, entry: MockConfigEntry, blocks: int = 1) -> None:
    for _ in range(blocks):
        await manager_of(entry).registrar.async_reconcile()
        await node.mine()
        await refresh(entry)


def parts(home: SimulatedHome, *kinds: str, **more: Any) -> list[Any]:
    return [device(home, "goodwe_et", kind, **more) for kind in kinds]


async def test_devices_become_assets_meter_first(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(node, subentries=parts(home, "pv", "battery", "meter"))
        await wait_until(lambda: state_of(entry, "meter") is AssetState.WAITING)
        assert state_of(entry, "pv") is AssetState.NO_METER
        assert runtime_of(entry, "meter").asset_id is None
        await settle(node, entry)
        assert state_of(entry, "meter") is AssetState.REGISTERED
        assert state_of(entry, "pv") is AssetState.WAITING
        await settle(node, entry)
        assert {state_of(entry, name) for name in ("pv", "battery", "meter")} == {AssetState.REGISTERED}
        meter, battery = runtime_of(entry, "meter"), runtime_of(entry, "battery")
        signer = await entry.runtime_data.key.async_meter_signer(meter.settings.subentry_id)
        view = asset_of(entry, "meter")
        assert view.meter_key == signer.public_key.hex()
        assert (view.rating_w, view.meter) == (30_000, None)
        view = asset_of(entry, "battery")
        assert (view.kind, view.rating_w, view.capacity_wh) == ("battery", 10_000, 10_000)
        assert view.meter == meter.settings.asset_id.hex()
        assert view.energy_wh == battery.coordinator.data.number(Field.ENERGY_AVAILABLE_WH)
        assert battery.meter_id == meter.asset_id == meter.settings.asset_id
        assert meter.meter_id is None
        # Nothing is sent twice: neither now nor after a restart.
        assert await hass.config_entries.async_reload(entry.entry_id)
        await refresh(entry)
        assert {state_of(entry, name) for name in ("pv", "battery", "meter")} == {AssetState.REGISTERED}
        assert entry.runtime_data.ledger.data.status.waiting_records == 0
        shown = hass.states.get("sensor.battery_on_the_ledger")
        assert shown is not None
        assert shown.state == AssetState.REGISTERED


async def test_what_is_stated_of_a_fuel_cells_tank_is_there_to_sell(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("goodwe_et", "cummins_hydrogen") as home:
        cell = device(home, "cummins_hydrogen", "fuel_cell", capacity_wh=30_000)
        entry = await make_entry(node, subentries=[*parts(home, "meter"), cell])
        await settle(node, entry, 2)
        told = runtime_of(entry, "fuel_cell").coordinator.data
        assert told.number(Field.ENERGY_AVAILABLE_WH) is None
        view = asset_of(entry, "fuel_cell")
        assert (view.kind, view.capacity_wh, view.energy_wh) == ("fuel_cell", 30_000, 30_000)


async def test_a_restart_while_a_registration_waits(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(node, subentries=parts(home, "meter"))
        await wait_until(lambda: state_of(entry, "meter") is AssetState.WAITING)
        assert await hass.config_entries.async_reload(entry.entry_id)
        await manager_of(entry).registrar.async_reconcile()
        assert state_of(entry, "meter") is AssetState.WAITING
        await settle(node, entry)
        assert state_of(entry, "meter") is AssetState.REGISTERED


async def test_a_changed_rating_is_followed_by_a_record(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(node, subentries=parts(home, "meter"))
        await settle(node, entry)
        await settle(node, entry)
        subentry = next(iter(entry.subentries.values()))
        hass.config_entries.async_update_subentry(entry, subentry, data={**subentry.data, "rating_w": 25_000})
        await hass.async_block_till_done()
        await wait_until(lambda: entry.state.recoverable and manager_of(entry).runtimes)
        await refresh(entry)
        assert state_of(entry, "meter") is AssetState.WAITING
        await settle(node, entry)
        assert asset_of(entry, "meter").rating_w == 25_000
        assert state_of(entry, "meter") is AssetState.REGISTERED


async def test_a_rating_that_the_device_changes_is_followed_by_a_record(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(
            node,
            subentries=[
                *parts(home, "meter"),
                device(home, "goodwe_et", "pv", rating_w=6_000, rating_follows=True),
            ],
        )
        await settle(node, entry, 2)
        pv = runtime_of(entry, "pv")
        told = pv.coordinator.data.number(Field.RATED_W)
        await settle(node, entry)
        for _ in range(3):
            await pv.coordinator.async_refresh()
        await wait_until(lambda: state_of(entry, "pv") is AssetState.WAITING)
        await settle(node, entry)
        assert asset_of(entry, "pv").rating_w == told == pv.rating_w


async def test_a_removed_device_is_retired(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(node, subentries=parts(home, "pv", "meter"))
        await settle(node, entry, 3)
        pv = runtime_of(entry, "pv").settings
        devices = dr.async_get(hass)
        assert devices.async_get_device_by_identifier((DOMAIN, pv.subentry_id), entry.entry_id)
        hass.config_entries.async_remove_subentry(entry, pv.subentry_id)
        await hass.async_block_till_done()
        await wait_until(lambda: entry.state.recoverable and len(manager_of(entry).runtimes) == 1)
        assert devices.async_get_device_by_identifier((DOMAIN, pv.subentry_id), entry.entry_id) is None
        await refresh(entry)
        await settle(node, entry)
        wanted = pv.asset_id.hex()
        views = {view.asset: view for view in entry.runtime_data.ledger.data.assets}
        assert views[wanted].rating_w == 0
        registrar = manager_of(entry).registrar
        registrar._sent.clear()
        await registrar.async_reconcile()
        assert wanted not in manager_of(entry)._store.assets


async def test_a_device_removed_before_its_registration_is_in_a_block_is_retired(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(node, subentries=parts(home, "meter"))
        await wait_until(lambda: state_of(entry, "meter") is AssetState.WAITING)
        meter = runtime_of(entry, "meter").settings
        hass.config_entries.async_remove_subentry(entry, meter.subentry_id)
        await hass.async_block_till_done()
        await wait_until(lambda: entry.state.recoverable and not manager_of(entry).runtimes)
        await refresh(entry)
        await settle(node, entry, 2)
        views = {view.asset: view for view in entry.runtime_data.ledger.data.assets}
        assert views[meter.asset_id.hex()].rating_w == 0


async def test_an_asset_that_never_came_is_forgotten_once_it_can_come_no_more(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(node, subentries=parts(home, "meter"))
        await settle(node, entry, 1)
        manager = manager_of(entry)
        now = entry.runtime_data.ledger.data.status.tip_time
        kept = manager._store.assets
        kept["aa" * 16] = {"name": "sent lately", "sent": now - registration._LONGEST_RECORD_S}
        kept["bb" * 16] = {"name": "sent long ago", "sent": now - registration._LONGEST_RECORD_S - 1}
        kept["cc" * 16] = {"name": "of an earlier version"}
        await manager.registrar.async_reconcile()
        assert "aa" * 16 in kept
        assert "bb" * 16 not in kept
        assert kept["cc" * 16]["sent"] > 0


async def test_two_meters_ask_for_a_choice(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("goodwe_et", "eastron_sdm630") as home:
        subentries = [*parts(home, "pv", "meter"), device(home, "eastron_sdm630", "meter", "second")]
        entry = await make_entry(node, subentries=subentries)
        await settle(node, entry)
        assert state_of(entry, "pv") is AssetState.NO_METER
        second = runtime_of(entry, "second").settings.subentry_id
        pv = entry.subentries[runtime_of(entry, "pv").settings.subentry_id]
        hass.config_entries.async_update_subentry(entry, pv, data={**pv.data, "meter": second})
        await hass.async_block_till_done()
        await wait_until(lambda: entry.state.recoverable and len(manager_of(entry).runtimes) == 3)
        await settle(node, entry)
        await settle(node, entry)
        assert asset_of(entry, "pv").meter == runtime_of(entry, "second").settings.asset_id.hex()


async def test_what_the_ledger_refuses_is_an_issue(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    hass.config.language = "de"
    async with simulated("goodwe_et") as home:
        fuller = device(home, "goodwe_et", "battery", capacity_wh=None)
        entry = await make_entry(node, subentries=[*parts(home, "meter"), fuller])
        await settle(node, entry)
        assert state_of(entry, "battery") is AssetState.REFUSED
        registrar, battery = manager_of(entry).registrar, runtime_of(entry, "battery")
        status = registrar.status(battery.settings.subentry_id)
        assert status.code == "asset_capacity_missing"
        name = issue_id(registration.ISSUE_REFUSED, battery.settings.subentry_id)
        issue = ir.async_get(hass).async_get_issue(DOMAIN, name)
        assert issue is not None
        assert (issue.translation_placeholders or {})["reason"] == "Die Kapazität in Wh fehlt."
        # It is not sent again at once …
        await registrar.async_reconcile()
        assert registrar.status(battery.settings.subentry_id) is status
        # … but after a while.
        registrar._sent[battery.settings.asset_id.hex()].at -= registration._REFUSED_AGAIN_S
        await registrar.async_reconcile()
        assert registrar.status(battery.settings.subentry_id) is not status
        assert await hass.config_entries.async_unload(entry.entry_id)
        assert ir.async_get(hass).async_get_issue(DOMAIN, name) is None


async def test_a_record_that_got_lost_is_sent_again(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(node, subentries=parts(home, "meter"))
        await wait_until(lambda: state_of(entry, "meter") is AssetState.WAITING)
        registrar = manager_of(entry).registrar
        asset = runtime_of(entry, "meter").settings.asset_id.hex()
        sent = registrar._sent[asset]
        sent.at -= registration._LOOK_AFTER_S
        await registrar.async_reconcile()
        assert registrar._sent[asset] is sent, "the node still has it"

        async def register(_: Any) -> str:
            return sent_before

        sent_before = str(sent.record)
        for lost in (None, "00" * 32):
            sent = registrar._sent[asset]
            sent.at -= registration._LOOK_AFTER_S
            sent.record = lost
            with monkeypatch.context() as patch:
                patch.setattr(entry.runtime_data.home, "register_asset", register)
                await registrar.async_reconcile()
            assert registrar._sent[asset] is not sent
            assert state_of(entry, "meter") is AssetState.WAITING

        contested = msgspec.structs.replace(
            await entry.runtime_data.client.record(sent_before), state="contested"
        )
        sent = registrar._sent[asset]
        sent.at -= registration._LOOK_AFTER_S
        with monkeypatch.context() as patch:
            patch.setattr(entry.runtime_data.client, "record", AsyncMock(return_value=contested))
            patch.setattr(entry.runtime_data.home, "register_asset", register)
            await registrar.async_reconcile()
        assert registrar._sent[asset] is not sent, "what a block refuses is not waited for"

        async def away(_: str) -> None:
            raise UnreachableError("unreachable", "nobody")

        sent = registrar._sent[asset]
        sent.at -= registration._LOOK_AFTER_S
        with monkeypatch.context() as patch:
            patch.setattr(entry.runtime_data.client, "record", away)
            await registrar.async_reconcile()
        assert registrar._sent[asset] is sent
        await settle(node, entry)
        assert state_of(entry, "meter") is AssetState.REGISTERED


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (UnreachableError("unreachable", "nobody is there"), AssetState.NODE_AWAY),
        (RefusedError("mempool_full", "busy", 429), AssetState.NODE_AWAY),
        (RefusedError("authority_missing", "an authority's signature is needed"), AssetState.NOT_APPROVED),
        (LedgerError("record_malformed", "out of bounds"), AssetState.REFUSED),
    ],
)
async def test_being_offline_passes_and_a_refusal_is_told(
    hass: HomeAssistant,
    node: ApiWorld,
    make_entry: EntryMaker,
    monkeypatch: pytest.MonkeyPatch,
    error: LedgerError,
    state: AssetState,
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(node, subentries=parts(home, "meter"))
        await wait_until(lambda: state_of(entry, "meter") is AssetState.WAITING)
        registrar = manager_of(entry).registrar

        async def fail(_: Any) -> str:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(entry.runtime_data.home, "register_asset", fail)
            registrar._sent.clear()
            await registrar.async_reconcile()
            assert state_of(entry, "meter") is state
        registrar._sent.clear()
        await registrar.async_reconcile()
        await settle(node, entry)
        assert state_of(entry, "meter") is AssetState.REGISTERED


async def test_a_node_away_and_a_home_not_admitted(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(node, subentries=parts(home, "meter"))
        await wait_until(lambda: state_of(entry, "meter") is AssetState.WAITING)
        registrar, ledger = manager_of(entry).registrar, entry.runtime_data.ledger
        ledger.last_update_success = False
        await registrar.async_reconcile()
        assert state_of(entry, "meter") is AssetState.NODE_AWAY
        ledger.last_update_success = True
        account = ledger.data.account
        ledger.data = dataclasses.replace(ledger.data, account=None)
        await registrar.async_reconcile()
        assert state_of(entry, "meter") is AssetState.NOT_MEMBER
        ledger.data = dataclasses.replace(ledger.data, account=account)
        assert registrar.asset_of("nothing") is None
        assert registrar.meter_of("nothing") is None


async def test_a_retirement_that_is_refused_is_tried_again(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(node, subentries=parts(home, "meter"))
        await settle(node, entry, 2)
        manager = manager_of(entry)
        asset = runtime_of(entry, "meter").settings.asset_id.hex()
        manager.runtimes.clear()

        async def fail(_: Any) -> str:
            raise RefusedError("asset_booked", "there are trades")

        with monkeypatch.context() as patch:
            patch.setattr(entry.runtime_data.home, "retire_asset", fail)
            await manager.registrar.async_reconcile()
        await manager.registrar.async_reconcile()
        assert asset in manager._store.assets
        manager.registrar._sent[asset].at -= registration._LOOK_AFTER_S
        await manager.registrar.async_reconcile()
        await settle(node, entry)
        manager.registrar._sent.clear()
        await manager.registrar.async_reconcile()
        assert asset not in manager._store.assets


async def test_a_community_whose_authority_approves(
    hass: HomeAssistant, tmp_path: Any, make_entry: EntryMaker
) -> None:
    from msgspec.structs import replace

    from tests.node.api_world import api_world

    parameters: Parameters = replace(TEST_PARAMETERS, asset_approval=AssetApproval.AUTHORITY)
    world = World(parameters=parameters, created=int(time.time()))
    async with api_world(tmp_path / "node", world) as node, simulated("goodwe_et") as home:
        entry = await make_entry(node, "bert", subentries=parts(home, "meter"))
        await wait_until(lambda: state_of(entry, "meter") is AssetState.NOT_APPROVED)
        name = issue_id(registration.ISSUE_NOT_APPROVED, runtime_of(entry, "meter").settings.subentry_id)
        issue = ir.async_get(hass).async_get_issue(DOMAIN, name)
        assert issue is not None
        proposal = (issue.translation_placeholders or {})["proposal"]
        # The text stays the same while it is good, and is made anew before it grows too old.
        registrar = manager_of(entry).registrar
        sent = registrar._sent[runtime_of(entry, "meter").settings.asset_id.hex()]
        sent.at -= registration._REFUSED_AGAIN_S
        await registrar.async_reconcile()
        status = registrar.status(runtime_of(entry, "meter").settings.subentry_id)
        assert status.proposal == proposal
        for kept in registrar._sent.values():
            kept.at -= registration._REFUSED_AGAIN_S
            kept.proposed_at -= registration._PROPOSAL_S
        await registrar.async_reconcile()
        status = registrar.status(runtime_of(entry, "meter").settings.subentry_id)
        assert status.proposal not in (None, proposal)
        # Anna, an authority, approves it; a change of it needs her again.
        authority = Home(entry.runtime_data.client, world["anna"].key, chain_id=world.chain_id)
        await authority.agree(proposal)
        await node.mine()
        await refresh(entry)
        assert state_of(entry, "meter") is AssetState.REGISTERED
        assert ir.async_get(hass).async_get_issue(DOMAIN, name) is None
        subentry = next(iter(entry.subentries.values()))
        hass.config_entries.async_update_subentry(entry, subentry, data={**subentry.data, "rating_w": 1})
        await hass.async_block_till_done()
        await wait_until(lambda: state_of(entry, "meter") is AssetState.NOT_APPROVED)
        changed = manager_of(entry).registrar.status(subentry.subentry_id).proposal
        assert changed is not None
        await authority.agree(changed)
        await settle(node, entry)
        assert asset_of(entry, "meter").rating_w == 1
        await hass.config_entries.async_unload(entry.entry_id)
