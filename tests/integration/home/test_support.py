"""Logbook, diagnostics, system health and repairs of a home."""

import json
import re
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import AsyncMock, MagicMock, patch

import pytest
from homeassistant.components.diagnostics import REDACTED
from homeassistant.components.repairs import ConfirmRepairFlow
from homeassistant.config_entries import ConfigSubentry
from homeassistant.core import Event, HomeAssistant
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers.translation import async_get_translations
from homeassistant.setup import async_setup_component
from msgspec.structs import replace
from pytest_homeassistant_custom_component.common import (  # type: ignore[import-untyped]
    get_system_health_info,
)

import ledger_core
from custom_components.energy_ledger import logbook, repairs
from custom_components.energy_ledger.const import (
    DOMAIN,
    ISSUE_NODE_CANNOT_START,
    SUBENTRY_DEVICE,
    issue_id,
)
from custom_components.energy_ledger.device_runtime.watch import ISSUE_LOST
from custom_components.energy_ledger.diagnostics import (
    async_get_config_entry_diagnostics,
    async_get_device_diagnostics,
)
from custom_components.energy_ledger.events import (
    BUS_EVENT,
    EndReason,
    ShortfallStage,
    delivery_ended,
)
from custom_components.energy_ledger.issues import (
    CLOCK,
    DISK_FULL,
    NOT_APPROVED,
    OUT_OF_SYNC,
    PARTED,
    VOTED_ELSEWHERE,
    IssueWatch,
)
from ledger_core.client import UnreachableError
from ledger_core.keys import seed_text
from ledger_core.records.types import AssetKind, Side
from tests.node.api_world import TOKEN

from .conftest import Street


async def log_lines(street: Street) -> list[tuple[str, str]]:
    """Let a trade be agreed, delivered and settled, and return how the logbook says it."""
    hass = street.hass
    heard: list[Any] = []
    hass.bus.async_listen(BUS_EVENT, heard.append)
    trade = await street.buy()
    await street.settle(trade, 500, 500)
    await street.until(lambda: any(event.data["type"] == "trade_closed" for event in heard))
    hass.bus.async_fire(
        BUS_EVENT,
        {
            "entry_id": "gone",
            "type": "delivery_ended",
            **delivery_ended(trade, street.world["anna"].id.hex(), 0, EndReason.WINDOW_ENDED, 1000).data,
        },
    )
    await hass.async_block_till_done()
    rows = [describe(hass, event) for event in heard]
    return [(row["name"], row["message"]) for row in rows]


def describe(hass: HomeAssistant, event: Event[Any]) -> dict[str, str]:
    """Return what the logbook shows of an event."""
    found: dict[str, Any] = {}

    def take(domain: str, event_type: str, how: Any) -> None:
        assert domain == DOMAIN
        found[event_type] = how

    logbook.async_describe_events(hass, take)
    shown: dict[str, str] = found[str(event.event_type)](event)
    return shown


async def test_logbook(street: Street) -> None:
    lines = await log_lines(street)
    bert = street.home("bert").address[:12]
    assert lines[0] == ("Test street", f"was offered 2 kWh at 0.2 by {bert}… (offer)")
    assert lines[1] == ("Test street", f"agreed a trade as buyer: 1 kWh at 0.2 with {bert}…")
    assert ("Test street", f"settled a slot with {bert}…: 0.5 of 0.5 kWh, 0.1 paid") in lines
    assert ("Test street", f"settled a trade with {bert}…: 1 kWh, 0.2 paid") in lines
    assert lines[-1] == ("Energy Ledger", f"ended a delivery with {bert}… (the window ended)")
    assert not any("{" in message or "?" in message for _, message in lines)


async def test_logbook_in_german(street: Street) -> None:
    await street.hass.config.async_update(language="de")
    # Home Assistant's own start-up loads the texts of its language; the test's does not.
    await async_get_translations(street.hass, "de", "common", [DOMAIN])
    lines = [message for _, message in await log_lines(street)]
    bert = street.home("bert").address[:12]
    assert lines[0] == f"erhielt von {bert}… ein Angebot über 2 kWh zu 0.2 (Angebot)"
    assert lines[1] == f"vereinbarte ein Geschäft (als Käufer): 1 kWh zu 0.2 mit {bert}…"
    assert lines[-1] == f"beendete eine Lieferung mit {bert}… (das Zeitfenster endete)"


def test_every_code_of_the_logbook_has_a_word() -> None:
    """Those of the ledger's rules are found in their source, so that a new one is not forgotten."""
    rules = Path(ledger_core.__file__).parent / "rules"
    code = "".join((rules / f"{name}.py").read_text() for name in ("acceptances", "auctions", "offers"))
    closed = set(re.findall(r'close_offer\(\w+, [\w.]+, "(\w+)"\)', code))
    ended = set(re.findall(r'end_waiting\(\w+, [\w.]+, "(\w+)"\)', code))
    assert {"taken", "withdrawn", "expired", "auctioned"} == closed
    codes = (
        closed
        | ended
        | {"awarded", "lost"}
        | {f"offer_{each}" for each in closed}
        | {reason.value for reason in EndReason}
    )
    wanted = {f"reason_{each}" for each in codes}
    wanted |= {f"stage_{stage.value}" for stage in ShortfallStage} | {f"side_{side.value}" for side in Side}
    for language in ("en", "de"):
        path = Path(logbook.__file__).parent / "translations" / f"{language}.json"
        assert wanted <= json.loads(path.read_text())["common"].keys()


async def test_a_bid_that_could_not_be_taken(street: Street) -> None:
    data = {"entry_id": street.entry.entry_id, "type": "counter_ended", "reason": "lost: funds_insufficient"}
    assert describe(street.hass, Event(BUS_EVENT, data))["message"] == "saw a proposal end (not awarded)"


async def test_a_figure_that_is_missing_breaks_no_line(street: Street) -> None:
    data = {"entry_id": street.entry.entry_id, "type": "trade_closed"}
    row = describe(street.hass, Event(BUS_EVENT, data))
    assert row["message"] == "settled a trade with ?: ? kWh, ? paid"


async def test_diagnostics_tell_no_secret(street: Street) -> None:
    await street.buy()
    shown = await async_get_config_entry_diagnostics(street.hass, street.entry)
    text = json.dumps(shown)
    assert shown["status"]["tip"]["height"] == street.view.status.tip.height
    assert shown["trades"][0]["price"] == 200_000
    assert shown["trades"][0]["seller"] == REDACTED
    assert shown["limits"]["reserve_permille"] == 200
    assert shown["entry"]["data"]["token"] == REDACTED
    secrets = [TOKEN, seed_text(street.world["anna"].key.export_seed())]
    for home in street.world.homes.values():
        secrets += [
            home.id.hex(),
            street.home(home.name).address,
            home.node.public_key.hex(),
            home.meter_key.public_key.hex(),
        ]
    assert not [secret for secret in secrets if secret in text]
    assert "127.0.0.1" not in text


class Device:
    """A device as the entry's data holds it; `back` is what it answers when it is asked."""

    def __init__(self, back: bool = False) -> None:
        self.name, self.kind = "Battery", AssetKind.BATTERY
        self.asset_id, self.meter_id, self.commander = b"a" * 16, None, None
        self.coordinator = MagicMock(last_update_success=False, data=None)
        self.coordinator.last_exception = OSError("192.168.1.9 did not answer")
        self.coordinator.async_refresh = AsyncMock(side_effect=self._refresh)
        self.back = back
        self.close = AsyncMock()

    def _refresh(self) -> None:
        self.coordinator.last_update_success = self.back


def have_battery(street: Street, subentry_id: str) -> None:
    """Give the entry a device without setting it up."""
    subentry = ConfigSubentry(
        data=MappingProxyType({"host": "192.168.1.9", "serial": "SN123456", "unit": 1}),
        subentry_type=SUBENTRY_DEVICE,
        title="Battery",
        unique_id=None,
        subentry_id=subentry_id,
    )
    object.__setattr__(street.entry, "subentries", MappingProxyType({subentry_id: subentry}))


async def test_diagnostics_of_a_device(street: Street) -> None:
    hass, entry = street.hass, street.entry

    have_battery(street, "battery")
    street.data.devices["battery"] = Device()
    device = dr.async_get(hass).async_get_or_create(
        config_entry_id=entry.entry_id, config_subentry_id="battery", identifiers={(DOMAIN, "battery")}
    )
    shown = await async_get_device_diagnostics(hass, entry, device)
    assert shown["subentry"]["data"] == {"host": REDACTED, "serial": REDACTED, "unit": 1}
    assert shown["device"]["answers"] is False
    assert shown["device"]["error"] == "OSError"
    assert "192.168" not in json.dumps(shown)
    del street.data.devices["battery"]
    assert (await async_get_device_diagnostics(hass, entry, device))["device"] is None
    home = dr.async_get(hass).async_get(street.data.home_device_id)
    assert isinstance(home, dr.DeviceEntry)
    assert "status" in await async_get_device_diagnostics(hass, entry, home)


async def test_system_health(street: Street, node: Any, make_entry: Any) -> None:
    assert await async_setup_component(street.hass, "system_health", {})
    info = await get_system_health_info(street.hass, DOMAIN)
    assert info["homes"] == 1
    assert await info["node"] == "ok"
    assert info["height"] == street.view.status.tip.height
    assert info["synced"] is True
    other = await make_entry(node, "bert")
    info = await get_system_health_info(street.hass, DOMAIN)
    assert await info["node"] == "ok"
    assert info["version"].count(street.view.status.version) == 2
    await street.node.server.close()
    info = await get_system_health_info(street.hass, DOMAIN)
    assert await info["node"] == {"type": "failed", "error": "unreachable"}
    for entry in (street.entry, other):
        assert await street.hass.config_entries.async_unload(entry.entry_id)
    assert await get_system_health_info(street.hass, DOMAIN) == {"homes": 0}


def told(street: Street, **status: Any) -> None:
    """Let the node have told this."""
    ledger = street.data.ledger
    view = ledger.data
    ledger.data = type(view)(
        **{name: getattr(view, name) for name in view.__dataclass_fields__ if name != "status"},
        status=replace(view.status, **status),
    )


def issue(street: Street, key: str, of: str | None = None) -> ir.IssueEntry | None:
    return ir.async_get(street.hass).async_get_issue(DOMAIN, issue_id(key, of or street.entry.entry_id))


async def test_issues_come_and_go(street: Street) -> None:
    watch = IssueWatch(street.hass, street.entry, patience_s=0)
    stop = watch.start()
    for key, wrong in (
        (CLOCK, {"mining_hold": "clock_wrong"}),
        (VOTED_ELSEWHERE, {"voting_hold": "other_copy"}),
        (OUT_OF_SYNC, {"synced": False}),
        (PARTED, {"parted": 1}),
    ):
        right = {name: getattr(street.view.status, name) for name in wrong}
        told(street, **wrong)
        watch.look()
        found = issue(street, key)
        assert found is not None
        assert found.translation_key == key
        told(street, **right)
        watch.look()
        assert issue(street, key) is None
    told(street, synced=False)
    watch.look()
    stop()
    assert issue(street, OUT_OF_SYNC) is None


async def test_a_membership_that_is_missing(hass: HomeAssistant, node: Any, make_entry: Any) -> None:
    from tests.core.world import Home

    node.world.homes["dora"] = Home("dora")
    street = Street(hass, node, await make_entry(node, "dora"))
    watch = IssueWatch(hass, street.entry, patience_s=0)
    watch.look()
    assert issue(street, NOT_APPROVED) is not None
    flow = await fix(street, NOT_APPROVED)
    result = await flow.async_step_confirm({})
    assert result["errors"] == {"base": "not_resolved"}


async def test_patience(street: Street) -> None:
    watch = IssueWatch(street.hass, street.entry, patience_s=3600)
    told(street, synced=False)
    watch.look()
    assert issue(street, OUT_OF_SYNC) is None


async def test_a_disk_that_fills(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 1000
    monkeypatch.setattr("custom_components.energy_ledger.issues.free_bytes", lambda _: free)
    monkeypatch.setattr(repairs, "free_bytes", lambda _: free)
    street.data.node = AsyncMock()
    try:
        watch = IssueWatch(street.hass, street.entry)
        watch.look()
        await street.until(lambda: issue(street, DISK_FULL) is not None)
        flow = await fix(street, DISK_FULL)
        assert (await flow.async_step_confirm({}))["errors"] == {"base": "not_resolved"}
        free = 10**12
        assert (await flow.async_step_confirm({}))["type"] == "create_entry"
        watch.look()
        assert issue(street, DISK_FULL) is not None  # not looked at more often than needed
    finally:
        street.data.node = None


def test_free_room_is_a_number(tmp_path: Any) -> None:
    from custom_components.energy_ledger.issues import free_bytes

    assert free_bytes(MagicMock(config=MagicMock(config_dir=str(tmp_path)))) > 0


async def fix(street: Street, key: str, subentry: str | None = None) -> Any:
    """Begin the fix flow of an issue, as Home Assistant does."""
    found = issue(street, key, subentry)
    assert found is not None
    flow: Any = await repairs.async_create_fix_flow(street.hass, found.issue_id, found.data)
    flow.hass = street.hass
    flow.handler, flow.issue_id, flow.data = DOMAIN, found.issue_id, found.data
    flow.flow_id = "test"
    shown = await flow.async_step_init()
    assert (shown["type"], shown["step_id"]) == ("form", "confirm")
    return flow


async def test_a_device_that_is_lost(street: Street) -> None:
    have_battery(street, "b")
    device = Device()
    street.data.devices["b"] = device
    ir.async_create_issue(
        street.hass,
        DOMAIN,
        issue_id(ISSUE_LOST, "b"),
        is_fixable=True,
        severity=ir.IssueSeverity.WARNING,
        translation_key=ISSUE_LOST,
        translation_placeholders={"device": "Battery", "error": "no answer"},
        data={"issue": ISSUE_LOST, "subentry_id": "b"},
    )
    flow = await fix(street, ISSUE_LOST, "b")
    result = await flow.async_step_confirm({})
    assert result["errors"] == {"base": "not_resolved"}
    assert result["description_placeholders"] == {
        "community": "Test street",
        "device": "Battery",
        "error": "no answer",
    }
    device.back = True
    assert (await flow.async_step_confirm({}))["type"] == "create_entry"
    street.data.devices.clear()
    assert (await flow.async_step_confirm({}))["type"] == "create_entry"


async def test_voting_goes_on_once_the_other_copy_has_ended(street: Street) -> None:
    watch = IssueWatch(street.hass, street.entry)
    stop = watch.start()
    await street.node.thread.run(lambda engine, _now: engine.met_copy())
    await street.data.ledger.async_refresh()
    found = issue(street, VOTED_ELSEWHERE)
    assert found is not None
    assert found.is_fixable
    flow = await fix(street, VOTED_ELSEWHERE)
    assert (await flow.async_step_init())["type"] == "form"
    assert (await flow.async_step_confirm({"ended": False}))["errors"] == {"ended": "copy_runs"}
    assert street.view.status.voting_hold == "other_copy"
    away = AsyncMock(side_effect=UnreachableError("unreachable", "nobody"))
    with patch.object(street.data.client, "resume_voting", away):
        assert (await flow.async_step_confirm({"ended": True}))["errors"] == {"base": "not_resolved"}
    assert (await flow.async_step_confirm({"ended": True}))["type"] == "create_entry"
    assert street.view.status.voting_hold != "other_copy"
    assert issue(street, VOTED_ELSEWHERE) is None
    stop()
    assert await street.hass.config_entries.async_unload(street.entry.entry_id)
    assert (await flow.async_step_confirm({"ended": True}))["reason"] == "entry_not_loaded"


async def test_the_clock_is_set_right(street: Street) -> None:
    watch = IssueWatch(street.hass, street.entry)
    told(street, voting_hold="clock_wrong")
    watch.look()
    flow = await fix(street, CLOCK)
    assert (await flow.async_step_confirm({}))["type"] == "create_entry"
    assert await street.hass.config_entries.async_unload(street.entry.entry_id)
    assert (await flow.async_step_confirm({}))["reason"] == "entry_not_loaded"


async def test_starting_anew(street: Street) -> None:
    IssueWatch(street.hass, street.entry, patience_s=0)
    before = street.data
    data = {"entry_id": street.entry.entry_id}
    flow = await repairs.async_create_fix_flow(
        street.hass, issue_id(ISSUE_NODE_CANNOT_START, street.entry.entry_id), data
    )
    assert isinstance(flow, repairs.ReloadFlow)
    flow.hass, flow.flow_id, flow.handler = street.hass, "test", DOMAIN
    assert (await flow.async_step_init())["type"] == "form"
    assert (await flow.async_step_confirm({}))["type"] == "create_entry"
    await street.until(lambda: getattr(street.entry, "runtime_data", before) is not before)


@pytest.mark.parametrize("name", ["x", "new"])
@pytest.mark.parametrize("entry_id", [None, "gone", "here"])
async def test_an_issue_of_nobody(street: Street, name: str, entry_id: str | None) -> None:
    data = None if entry_id is None else {"entry_id": entry_id.replace("here", street.entry.entry_id)}
    flow = await repairs.async_create_fix_flow(street.hass, name, {**data} if data else None)
    assert isinstance(flow, ConfirmRepairFlow)
