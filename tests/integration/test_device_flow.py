"""The device flow: every way in, every error, and changes of what was set up."""

import os
from collections.abc import Mapping
from typing import Any

import pytest
from homeassistant.config_entries import SOURCE_USER, ConfigSubentry
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from pytest_homeassistant_custom_component.common import MockConfigEntry  # type: ignore[import-untyped]

from custom_components.energy_ledger.const import SUBENTRY_DEVICE
from custom_components.energy_ledger.device_runtime import search
from custom_components.energy_ledger.device_runtime.settings import DeviceSettings, ModbusSource
from custom_components.energy_ledger.flows import device_asking
from custom_components.energy_ledger.flows import device_forms as forms
from simulator.home import SimulatedHome
from simulator.modbus.faults import Fault, FaultKind
from tests.devices.wire import Memory, no_answer, serving
from tests.integration.conftest import EntryMaker
from tests.integration.device_world import device, runtime_of, simulated
from tests.node.api_world import ApiWorld

MORE = {"kind": "tcp", "shared": False}


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_asking, "_TIMEOUT_S", 0.2)
    monkeypatch.setattr(search, "_TIMEOUT_S", 0.2)


class Flow:
    """One flow, step by step, as the user interface goes through it."""

    def __init__(self, hass: HomeAssistant, result: Mapping[str, Any]) -> None:
        self.hass = hass
        self.result = result

    @classmethod
    async def add(cls, hass: HomeAssistant, entry: MockConfigEntry) -> Flow:
        result = await hass.config_entries.subentries.async_init(
            (entry.entry_id, SUBENTRY_DEVICE), context={"source": SOURCE_USER}
        )
        assert result["type"] is FlowResultType.MENU
        return cls(hass, result)

    @classmethod
    async def change(cls, hass: HomeAssistant, entry: MockConfigEntry, name: str) -> Flow:
        subentry = subentry_of(entry, name)
        result = await entry.start_subentry_reconfigure_flow(hass, subentry.subentry_id)
        assert result["type"] is FlowResultType.MENU
        return cls(hass, result)

    async def go(self, step: str) -> Flow:
        return await self.type(next_step_id=step)

    async def type(self, **typed: Any) -> Flow:
        """Send a form; wait until whatever is asked for has been found."""
        configure = self.hass.config_entries.subentries.async_configure
        self.result = await configure(self.result["flow_id"], typed)
        while self.result["type"] is FlowResultType.SHOW_PROGRESS:
            await self.hass.async_block_till_done()
            self.result = await configure(self.result["flow_id"])
        await self.hass.async_block_till_done()
        return self

    def asks(self, step: str, **errors: str) -> Flow:
        assert self.result["type"] is FlowResultType.FORM, self.result
        assert self.result["step_id"] == step, self.result
        assert (self.result["errors"] or {}) == errors, self.result
        return self

    def aborts(self, reason: str) -> None:
        assert self.result["type"] is FlowResultType.ABORT, self.result
        assert self.result["reason"] == reason

    def creates(self) -> Mapping[str, Any]:
        assert self.result["type"] is FlowResultType.CREATE_ENTRY, self.result
        return self.result

    def suggested(self) -> dict[str, Any]:
        """What stands in the form before anything is typed."""
        found: dict[str, Any] = {}
        for key in self.result["data_schema"].schema:
            if key.description and "suggested_value" in key.description:
                found[str(key)] = key.description["suggested_value"]
        return found

    def detail(self, name: str = "detail") -> str:
        return str(self.result["description_placeholders"][name])


def subentry_of(entry: MockConfigEntry, name: str) -> ConfigSubentry:
    found: ConfigSubentry = next(each for each in entry.subentries.values() if each.title == name)
    return found


def address(home: SimulatedHome, link: str) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": home.links[link].port, "more": MORE}


# --- found at an address --------------------------------------------------------------------------------


async def test_an_inverter_by_its_address(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    async with simulated("goodwe_et") as home:
        flow = await (await Flow.add(hass, entry)).go("network")
        flow.asks("network")
        await flow.type(**address(home, "goodwe_et"), unit=247)
        flow.asks("kind")
        assert flow.detail("manufacturer") == "GoodWe"
        await flow.type(kind="battery")
        flow.asks("figures")
        suggested = flow.suggested()
        assert suggested["name"].startswith("GoodWe")
        rating = suggested["rating_w"]
        await flow.type(name="Battery", rating_w=0, poll_s=5)
        flow.asks("figures", rating_w="rating_missing", capacity_wh="capacity_missing")
        assert flow.suggested()["name"] == "Battery", "what was typed is kept"
        await flow.type(name="Battery", rating_w=rating - 1, capacity_wh=9_000, poll_s=5)
        flow.asks("figures", rating_w="rating_below_device")
        assert flow.detail("own_w") == str(rating)
        await flow.type(name="Battery", rating_w=rating, capacity_wh=9_000, poll_s=5)
        created = flow.creates()
        assert created["title"] == "Battery"
        subentry = subentry_of(entry, "Battery")
        settings = DeviceSettings.from_data(subentry.subentry_id, subentry.title, subentry.data)
        assert settings.rating_follows
        assert (settings.capacity_wh, settings.capacity_follows) == (9_000, False)
        assert isinstance(settings.source, ModbusSource)
        assert (settings.source.profile, settings.source.poll_s) == ("goodwe_et", 5)
        assert settings.source.serial
        assert len(settings.asset_id) == 16
        # The entry is loaded anew, and the device runs; its other parts can still be added.
        assert runtime_of(entry, "Battery").availability == "online"
        flow = await (await Flow.add(hass, entry)).go("network")
        await flow.type(**address(home, "goodwe_et"), unit=247)
        await flow.asks("kind").type(kind="meter")
        await flow.asks("figures").type(name="Meter", rating_w=20_000, poll_s=5)
        flow.creates()
        flow = await (await Flow.add(hass, entry)).go("network")
        await flow.type(**address(home, "goodwe_et"), unit=247)
        flow.asks("figures")  # the only part that is left
        meter = subentry_of(entry, "Meter")
        await flow.type(name="PV", rating_w=10_000, meter=meter.subentry_id, poll_s=5)
        flow.creates()
        assert subentry_of(entry, "PV").data["meter"] == meter.subentry_id
        flow = await (await Flow.add(hass, entry)).go("network")
        await flow.type(**address(home, "goodwe_et"), unit=247)
        flow.aborts("already_configured")
        assert len({subentry.data["device_uid"] for subentry in entry.subentries.values()}) == 1


@pytest.mark.parametrize(
    ("typed", "error", "detail"),
    [
        ({"host": "two words"}, "host_invalid", "is no address"),
        ({"host": "192.0.2.7:502"}, "host_invalid", "is no address"),
        ({"host": " "}, "host_invalid", "is no address"),
        ({"host": "127.0.0.1", "port": 1}, "connection_refused", "Connect call failed"),
    ],
)
async def test_an_address_that_does_not_work(
    hass: HomeAssistant, entry: MockConfigEntry, typed: dict[str, Any], error: str, detail: str
) -> None:
    async with simulated("eastron_sdm630") as home:
        flow = await (await Flow.add(hass, entry)).go("network")
        await flow.type(**typed, more=MORE)
        flow.asks("network", base=error)
        assert detail in flow.detail()
        assert flow.suggested()["host"] == typed["host"]
        await flow.type(**address(home, "eastron_sdm630"), unit=1)
        await flow.asks("figures").type(name="Meter", rating_w=20_000, poll_s=10)
        flow.creates()


async def test_a_silent_a_strange_and_no_device(
    hass: HomeAssistant, entry: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with simulated("eastron_sdm630") as home, serving({1: Memory({0: [7] * 10})}) as strange:
        link = home.links["eastron_sdm630"]
        flow = await (await Flow.add(hass, entry)).go("network")
        fault = link.inject(Fault(FaultKind.SLEEP))
        await flow.type(**address(home, "eastron_sdm630"), unit=1)
        flow.asks("network", base="no_device")
        assert flow.detail("units") == "1"
        await flow.type(host="127.0.0.1", port=strange.port, unit=1, more=MORE)
        flow.asks("network", base="unknown_device")
        link.clear(fault)
        with monkeypatch.context() as patch:
            no_answer(patch)
            await flow.type(host="127.0.0.1", more=MORE)
            flow.asks("network", base="host_silent")
        await flow.type(**address(home, "eastron_sdm630"), unit=1)
        await flow.asks("figures").type(name=" ", rating_w=20_000, poll_s=10)
        assert flow.creates()["title"] == "-"


def test_an_address_of_version_6() -> None:
    for typed in ("[::1]", "::1"):
        settings, any_port = forms.network_link({"host": typed, "more": MORE}, 1.0)
        assert (settings.host, any_port) == ("::1", True)


async def test_the_kind_of_device_chosen_by_hand(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    async with simulated("eastron_sdm630") as home:
        flow = await (await Flow.add(hass, entry)).go("network")
        wrong = {**MORE, "profile": "goodwe_et"}
        await flow.type(**{**address(home, "eastron_sdm630"), "more": wrong}, unit=1)
        flow.asks("network", base="unknown_device")
        right = {**MORE, "profile": "eastron_sdm630"}
        await flow.type(**{**address(home, "eastron_sdm630"), "more": right}, unit=1)
        await flow.asks("figures").type(name="Meter", rating_w=20_000, poll_s=10)
        flow.creates()


async def test_several_devices_on_one_link(
    hass: HomeAssistant, entry: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_asking, "_TIMEOUT_S", 0.05)
    links = [
        {
            "name": "bus",
            "transport": "tcp",
            "devices": [
                {"profile": "eastron_sdm630", "unit": 1},
                {"profile": "victron_gx", "unit": 100},
            ],
        }
    ]
    async with simulated(links=links) as home:
        flow = await (await Flow.add(hass, entry)).go("network")
        await flow.type(**address(home, "bus"))
        flow.asks("pick")
        options = flow.result["data_schema"].schema["device"].config["options"]
        chosen = next(option["value"] for option in options if "Eastron" in option["label"])
        await flow.type(device=chosen)
        await flow.asks("figures").type(name="Meter", rating_w=20_000, poll_s=10)
        flow.creates()
        # The link is open now: the second device is found over it.
        flow = await (await Flow.add(hass, entry)).go("network")
        await flow.type(**address(home, "bus"))
        await flow.asks("kind").type(kind="meter")
        await flow.asks("figures").type(name="Victron", rating_w=20_000, poll_s=10)
        flow.creates()


async def test_over_the_shared_connection(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    shared = {**MORE, "shared": True}
    async with simulated("goodwe_et", "fronius_gen24") as home:
        flow = await (await Flow.add(hass, entry)).go("network")
        await flow.type(**{**address(home, "goodwe_et"), "more": {**shared, "kind": "rtu_over_udp"}})
        flow.asks("network", base="shared_rtu_over_udp")
        await flow.type(**{**address(home, "fronius_gen24"), "more": shared}, unit=1)
        await flow.asks("kind").type(kind="meter")
        await flow.asks("figures").type(name="Meter", rating_w=20_000, poll_s=10)
        flow.creates()
        data = subentry_of(entry, "Meter").data
        assert (data["shared"], data["companions"]) == (True, {"meter": 200})
        assert runtime_of(entry, "Meter").availability == "online"


async def test_a_serial_line(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    line = {"bytesize": "8", "stopbits": "1", "shared": False}
    flow = await (await Flow.add(hass, entry)).go("serial")
    flow.asks("serial")
    await flow.type(device=" ", baudrate=9600, parity="even", more=line)
    flow.asks("serial", base="serial_device_missing")
    await flow.type(device="/dev/no-such-tty", baudrate=9600, parity="even", unit=1, more=line)
    flow.asks("serial", base="serial_not_opened")
    assert flow.detail("endpoint") == "/dev/no-such-tty"
    hass.config_entries.subentries.async_abort(flow.result["flow_id"])


async def test_an_answer_that_comes_at_once_needs_no_progress_page(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    """The page would be drawn when the end was told already, and wait for ever."""
    async with simulated("eastron_sdm630") as home:
        flow = await (await Flow.add(hass, entry)).go("network")
        result = await hass.config_entries.subentries.async_configure(
            flow.result["flow_id"], {**address(home, "eastron_sdm630"), "unit": 1}
        )
        assert (result["type"], result["step_id"]) == (FlowResultType.FORM, "figures")


async def test_a_flow_given_up_in_the_middle_of_a_question(
    hass: HomeAssistant, entry: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_asking, "QUICK_S", 0)
    async with simulated("eastron_sdm630") as home:
        home.links["eastron_sdm630"].inject(Fault(FaultKind.SLEEP))
        flow = await (await Flow.add(hass, entry)).go("network")
        result = await hass.config_entries.subentries.async_configure(
            flow.result["flow_id"], {**address(home, "eastron_sdm630"), "unit": 1}
        )
        assert result["type"] is FlowResultType.SHOW_PROGRESS
        hass.config_entries.subentries.async_abort(flow.result["flow_id"])
        await hass.async_block_till_done()


async def test_an_answer_that_takes_its_time(
    hass: HomeAssistant, entry: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The progress page stays while nothing is known, and goes on, or back to its form, by itself."""
    monkeypatch.setattr(device_asking, "QUICK_S", 0)
    configure = hass.config_entries.subentries.async_configure
    line = {"bytesize": "8", "stopbits": "1", "shared": False}
    async with simulated("eastron_sdm630") as home:
        flow = await (await Flow.add(hass, entry)).go("network")
        shown = await configure(flow.result["flow_id"], {**address(home, "eastron_sdm630"), "unit": 1})
        for _ in range(2):
            assert (shown["type"], shown["step_id"]) == (FlowResultType.SHOW_PROGRESS, "asking_network")
            shown = await configure(flow.result["flow_id"])
        flow.result = shown
        (await flow.type()).asks("figures")
        hass.config_entries.subentries.async_abort(flow.result["flow_id"])
    flow = await (await Flow.add(hass, entry)).go("serial")
    ours, theirs = os.openpty()
    typed = {"device": os.ttyname(theirs), "baudrate": 9600, "parity": "none", "unit": 1, "more": line}
    shown = await configure(flow.result["flow_id"], typed)
    assert (shown["type"], shown["step_id"]) == (FlowResultType.SHOW_PROGRESS, "asking_serial")
    flow.result = shown
    (await flow.type()).asks("serial", base="no_device")
    hass.config_entries.subentries.async_abort(flow.result["flow_id"])
    os.close(ours)
    os.close(theirs)


# --- found on the network -------------------------------------------------------------------------------


async def test_a_search(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    async with simulated("eastron_sdm630", "byd_battery_box") as home:
        ports = ", ".join(str(link.port) for link in home.links.values())
        flow = await (await Flow.add(hass, entry)).go("search")
        suggested = flow.asks("search").suggested()
        assert "502" in suggested["ports"]
        await flow.type(networks="127.0.0.1/8", ports=ports)
        flow.asks("search", base="network_too_large")
        assert (flow.detail("part"), flow.detail("most")) == ("127.0.0.1/8", "1024")
        for field, wrong, error in (
            ("networks", "192.0.2.0/33", "network_invalid"),
            ("networks", " ", "addresses_count"),
            ("ports", "http", "port_invalid"),
            ("ports", ",", "ports_count"),
        ):
            await flow.type(**{"networks": "127.0.0.1", "ports": ports, field: wrong})
            flow.asks("search", base=error)
        await flow.type(networks="127.0.0.1", ports="1")
        flow.asks("search", base="nothing_found")
        assert flow.suggested() == {"networks": "127.0.0.1", "ports": "1"}
        await flow.type(networks="127.0.0.1/32, 127.0.0.1", ports=ports)
        flow.asks("pick")
        options = flow.result["data_schema"].schema["device"].config["options"]
        assert len(options) == 2
        chosen = next(option["value"] for option in options if "BYD" in option["label"])
        await flow.type(device=chosen)
        flow.asks("figures")
        await flow.type(name="Box", rating_w=20_000, capacity_wh=20_000, poll_s=10)
        flow.creates()
        assert subentry_of(entry, "Box").data["profile"] == "byd_battery_box"
        # Its link is open now, and is used instead of a second connection.
        home.links["byd_battery_box"].inject(Fault(FaultKind.SECOND_CLIENT, clients=1))
        flow = await (await Flow.add(hass, entry)).go("search")
        await flow.type(networks="127.0.0.1", ports=str(home.links["byd_battery_box"].port))
        flow.aborts("already_configured")


# --- changes --------------------------------------------------------------------------------------------


async def test_a_changed_rating_keeps_the_rest(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("goodwe_et") as home:
        entry = await make_entry(
            node, subentries=[device(home, "goodwe_et", "battery"), device(home, "goodwe_et", "meter")]
        )
        before = dict(subentry_of(entry, "battery").data)
        flow = await (await Flow.change(hass, entry, "battery")).go("figures")
        flow.asks("figures")
        assert flow.suggested()["rating_w"] == 10_000
        await flow.type(rating_w=1, capacity_wh=8_000, poll_s=20)
        flow.asks("figures", rating_w="rating_below_device")
        await flow.type(rating_w=12_000, capacity_wh=8_000, poll_s=20)
        flow.aborts("reconfigure_successful")
        after = dict(subentry_of(entry, "battery").data)
        assert (after["rating_w"], after["capacity_wh"], after["poll_s"]) == (12_000, 8_000, 20)
        assert (after["asset_id"], after["link"]) == (before["asset_id"], before["link"])
        assert runtime_of(entry, "battery").rating_w == 12_000


async def test_another_address(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> None:
    async with simulated("goodwe_et", "eastron_sdm630") as home, simulated("goodwe_et", seed=12) as other:
        entry = await make_entry(node)
        flow = await (await Flow.add(hass, entry)).go("network")
        await flow.type(**address(home, "goodwe_et"), unit=247)
        await flow.asks("kind").type(kind="pv")
        await flow.asks("figures").type(name="pv", rating_w=10_000, poll_s=10)
        flow.creates()
        old = dict(subentry_of(entry, "pv").data)
        flow = await (await Flow.change(hass, entry, "pv")).go("network")
        assert flow.asks("network").suggested()["port"] == home.links["goodwe_et"].port
        await flow.type(**address(home, "eastron_sdm630"), unit=1)
        flow.aborts("other_device")
        assert "Eastron" in flow.detail("found")
        flow = await (await Flow.change(hass, entry, "pv")).go("network")
        await flow.type(**address(other, "goodwe_et"), unit=247)
        flow.aborts("other_device")
        assert dict(subentry_of(entry, "pv").data) == old
        flow = await (await Flow.change(hass, entry, "pv")).go("network")
        typed = address(home, "goodwe_et")
        await flow.type(**{**typed, "host": "localhost"}, unit=247)
        flow.aborts("reconfigure_successful")
        assert subentry_of(entry, "pv").data["link"]["host"] == "localhost"
        assert subentry_of(entry, "pv").data["asset_id"] == old["asset_id"]


async def add_sma(
    hass: HomeAssistant, entry: MockConfigEntry, home: SimulatedHome, kind: str, name: str
) -> None:
    """Add a part of a device that tells no serial number."""
    flow = await (await Flow.add(hass, entry)).go("network")
    await flow.type(**address(home, "sma_hybrid"), unit=3)
    if flow.result["step_id"] == "kind":
        await flow.type(kind=kind)
    capacity = {"capacity_wh": 90_000} if kind == "battery" else {}
    await flow.asks("figures").type(name=name, rating_w=50_000, poll_s=10, **capacity)
    flow.creates()


async def test_a_device_moves_with_all_of_its_parts(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    links = [{"name": "sma_hybrid", "transport": "tcp", "devices": [{"profile": "sma_hybrid"}]}]
    async with simulated(links=links) as home, simulated(links=links) as elsewhere:
        entry = await make_entry(node)
        await add_sma(hass, entry, home, "meter", "meter")
        await add_sma(hass, entry, home, "battery", "battery")
        flow = await (await Flow.change(hass, entry, "meter")).go("network")
        await flow.type(**address(elsewhere, "sma_hybrid"), unit=3)
        flow.aborts("reconfigure_successful")
        moved = [subentry_of(entry, name) for name in ("meter", "battery")]
        port = elsewhere.links["sma_hybrid"].port
        assert [each.data["link"]["port"] for each in moved] == [port, port]
        assert len({each.data["device_uid"] for each in moved}) == 1
        # Another one at the old address is another device, though neither tells a serial number …
        await add_sma(hass, entry, home, "meter", "new")
        assert subentry_of(entry, "new").data["device_uid"] != moved[0].data["device_uid"]
        assert (
            runtime_of(entry, "new").coordinator.source is not runtime_of(entry, "meter").coordinator.source
        )
        # … and can't be moved to where the first one is.
        flow = await (await Flow.change(hass, entry, "new")).go("network")
        await flow.type(**address(elsewhere, "sma_hybrid"), unit=3)
        flow.aborts("already_configured")


async def test_a_serial_line_is_suggested_as_it_was(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("eastron_sdm630") as home:
        link = {
            "kind": "serial",
            "device": "/dev/no-such-tty",
            "baudrate": 19_200,
            "parity": "E",
            "bytesize": 8,
            "stopbits": 2,
        }
        entry = await make_entry(node, subentries=[device(home, "eastron_sdm630", "meter", link=link)])
        flow = await (await Flow.change(hass, entry, "meter")).go("serial")
        suggested = flow.asks("serial").suggested()
        assert (suggested["baudrate"], suggested["parity"]) == (19_200, "even")
        assert runtime_of(entry, "meter").availability == "offline"
        hass.config_entries.subentries.async_abort(flow.result["flow_id"])


async def test_figures_of_an_entry_that_is_not_loaded(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker
) -> None:
    async with simulated("eastron_sdm630") as home:
        entry = await make_entry(node, subentries=[device(home, "eastron_sdm630", "meter")], set_up=False)
        flow = await (await Flow.change(hass, entry, "meter")).go("figures")
        await flow.asks("figures").type(rating_w=12_000, poll_s=10)
        flow.aborts("reconfigure_successful")
