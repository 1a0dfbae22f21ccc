"""The walk through the web interface: from an empty configuration to trading devices, as a user clicks it."""

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

from demo.assistant import Assistant, free_port
from demo.houses import FUEL_CELL, INVERTER, METER
from demo.rest import Api, wait_for
from simulator.config import build_config
from simulator.home import SimulatedHome
from tests.ui.browser import browser, new_page
from tests.ui.neighbour import Neighbour
from tests.ui.pages import PageError, Ui

if TYPE_CHECKING:
    from pathlib import Path

NAME, USER, PASSWORD = "Ann", "ann", "energy-ledger"
COMMUNITY = "Linden Street"
HOME = "Sun house"

ALIAS = "Take cheap offers"
_AUTOMATION = "automation.take_cheap_offers"
_TOLD = "Took 1.5 kWh at 0.2 EUR/kWh"
_TAKE_CHEAP_OFFERS: dict[str, Any] = {
    "mode": "queued",
    "triggers": [
        {"trigger": "energy_ledger.offer_received", "options": {"side": "sell", "price_below": 0.28}}
    ],
    "actions": [
        {"action": "energy_ledger.accept", "data": {"offer": "{{ trigger.data.offer }}"}},
        {
            "action": "persistent_notification.create",
            "data": {
                "title": "Energy Ledger",
                "message": "Took {{ trigger.data.quantity }} kWh at {{ trigger.data.price }} EUR/kWh",
            },
        },
    ],
}


def simulated_house() -> SimulatedHome:
    """Return a house with an inverter, its battery, a fuel cell and a grid meter, each behind real Modbus."""
    links = [
        {"name": profile, "host": "127.0.0.1", "port": 0, "devices": [{"profile": profile, **more}]}
        for profile, more in (
            (INVERTER, {"unit": 1, "meter_unit": 200}),
            (FUEL_CELL, {}),
            (METER, {}),
        )
    ]
    values = {
        "name": "ui",
        "seed": 7,
        "pv": {"peak_w": 9_000},
        "battery": {"capacity_wh": 10_240},
        "fuel_cell": {"rated_w": 5_000},
        "inverter": {"rated_w": 10_000},
        "first_soc_permille": 640,
        "links": links,
    }
    home = SimulatedHome(build_config(values, now_s=int(time.time())))
    home.set_environment(pv_w=5_200, load_w=900)
    return home


class Walk:
    """The steps, in order. Each raises when screen or states are not as they should be."""

    def __init__(self, ui: Ui, assistant: Assistant, house: SimulatedHome) -> None:
        """Walk on a page."""
        self._ui = ui
        self._assistant = assistant
        self._house = house
        self._api: Api | None = None

    async def run(self) -> None:
        """Take every step."""
        for step in (
            self.onboarding,
            self.community,
            self.devices,
            self.entities,
            self.automation,
            self.restart,
        ):
            started = time.monotonic()
            await step()
            say(f"{step.__name__}: {time.monotonic() - started:.1f} s")
        if self._api is not None:
            await self._api.close()

    async def onboarding(self) -> None:
        """Home Assistant's own first steps."""
        await self._ui.onboard(name=NAME, user=USER, password=PASSWORD)
        self._api = await Api.log_in(self._assistant.url, user=USER, password=PASSWORD)
        await self._api.wait_running()
        # What onboarding sets up by itself asks services on the internet; it is not what is tested here.
        for entry in await self._api.request("GET", "/api/config/config_entries/entry"):
            if entry["domain"] in ("google_translate", "met", "radio_browser"):
                await self._api.request("DELETE", f"/api/config/config_entries/entry/{entry['entry_id']}")

    @property
    def api(self) -> Api:
        """The same Home Assistant by REST, to compare what the screen shows."""
        assert self._api is not None  # onboarding made it
        return self._api

    async def community(self) -> None:
        """Add the integration, and create a community."""
        ui = self._ui
        await ui.add_integration("Energy Ledger")
        await ui.expect("Create a community")
        await ui.shot("ways-into-a-community")
        await ui.press("Create a community")
        await ui.fill({"community_name": COMMUNITY, "currency": "EUR", "home_name": HOME})
        await ui.shot("create-a-community")
        await ui.open_section("More choices")
        await ui.fill({"block_spacing_s": 1, "checkpoint_interval": 10})
        await ui.press("Submit")
        await ui.shot("key-of-the-home")
        await ui.press("Make a new key")
        await ui.shot("recovery-code")
        await ui.fill({"kept": True})
        await ui.press("Submit")
        await ui.expect("Name and assign")
        await ui.shot("community-created")
        await ui.finish()
        await self._loaded()

    async def _loaded(self) -> None:
        """Wait until the integration is set up; after each device it is set up anew."""

        async def loaded() -> bool:
            return [entry["state"] for entry in await self.api.entries("energy_ledger")] == ["loaded"]

        await wait_for(loaded, "the integration to be set up")

    async def devices(self) -> None:
        """Add the meter, the inverter's sun and battery, and the fuel cell by the forms."""
        wanted: tuple[tuple[str, str | None, dict[str, Any]], ...] = (
            (METER, None, {"name": "Grid meter", "rating_w": 17_000}),
            (INVERTER, "pv", {"name": "Solar roof"}),
            (INVERTER, "battery", {"name": "House battery", "capacity_wh": 10_240}),
            (FUEL_CELL, None, {"name": "Fuel cell", "rating_w": 5_000, "capacity_wh": 30_000}),
        )
        for profile, kind, figures in wanted:
            await self._add_device(profile, kind, figures)
        await self._loaded()
        await self._ui.go("/config/integrations/integration/energy_ledger")
        await self._ui.expect("House battery")
        await self._ui.shot("integration")

    async def _add_device(self, profile: str, kind: str | None, figures: dict[str, Any]) -> None:
        ui = self._ui
        link = self._house.links[profile]
        await self._loaded()
        await ui.go("/config/integrations/integration/energy_ledger")
        await ui.press("Add device")
        first = profile == METER
        if first:
            await ui.shot("ways-to-a-device")
        await ui.press("Enter its network address")
        await ui.fill(
            {
                "host": link.settings.host,
                "port": link.port,
                "unit": next(iter(self._house.units_of(profile))),
            }
        )
        if first:
            await ui.shot("address-of-a-device")
        await ui.press("Submit")
        if kind is not None:
            await ui.field("kind")
            await ui.fill({"kind": kind})
            await ui.press("Submit")
        await ui.field("rating_w")
        await ui.fill(figures)
        if kind == "battery":
            await ui.shot("figures-of-a-battery")
        await ui.press("Submit")
        await ui.finish()
        await self._reloading(figures["name"])

    async def _reloading(self, title: str) -> None:
        """Wait until the integration has taken up a new device."""

        async def taken_up() -> bool:
            devices = await self.api.command("config/device_registry/list")
            return any(each["name"] == title for each in devices)

        await wait_for(taken_up, f"{title} to be a device")

    async def entities(self) -> None:
        """The devices' entities are live, and show what the house really does."""

        async def live() -> bool:
            truth = self._house.truth()
            charge = float(await self.api.state("sensor.house_battery_charging_power"))
            return bool(abs(charge - truth["power_w"]["charge_w"]) <= 50)

        await wait_for(live, "the battery's power to be what the simulator says")
        devices = await self.api.command("config/device_registry/list")
        for name, picture in (("House battery", "device-battery"), (COMMUNITY, "device-home")):
            device = next(each["id"] for each in devices if each["name"] == name)
            await self._ui.go(f"/config/devices/device/{device}")
            await self._ui.expect(name)
            await self._ui.shot(picture)

    async def automation(self) -> None:
        """A neighbour's cheap offer runs an automation: it accepts the offer, and tells of it."""
        await self.api.request(
            "POST", "/api/config/automation/config/take_cheap_offers", {"alias": ALIAS, **_TAKE_CHEAP_OFFERS}
        )

        async def on() -> bool:
            return await self.api.state(_AUTOMATION) == "on"

        await wait_for(on, "the automation to be on")
        answer = await self.api.call("energy_ledger", "invite", {"roles": ["home"]}, answer=True)
        async with await Neighbour.beside(self._assistant.config_dir) as neighbour:
            await neighbour.join(answer["invitation"])
            dear = await neighbour.offer(2_000, price=400_000)
            offer = await neighbour.offer(1_500, price=200_000)

            async def agreed() -> bool:
                return await neighbour.trade_of(offer) is not None

            await wait_for(agreed, "the automation to accept the neighbour's offer")
            if await neighbour.trade_of(dear) is not None:
                raise PageError("the automation has accepted an offer that its trigger should not let pass")

        async def shown() -> bool:
            return await self._trades() == [(1.5, 0.2)] and await self._states_of("_held") == ["0.3"]

        await wait_for(shown, "the home to show the trade, and the money that is held for it")
        await self._ui.go("/config/automation/edit/take_cheap_offers")
        await self._ui.expect(ALIAS)
        await self._ui.expect("Offer received")
        await self._ui.shot("automation")
        await self._ui.press("Notifications")
        await self._ui.expect(_TOLD)
        await self._ui.shot("automation-told")

    async def _trades(self) -> list[tuple[float, float]]:
        """Return quantity and price of the home's trades, as its action lists them."""
        answer = await self.api.call("energy_ledger", "list_trades", answer=True)
        return [(each["quantity"], each["price"]) for each in answer["trades"]]

    async def _states_of(self, end: str) -> list[str]:
        """Return the states of the integration's entities whose unique id ends so."""
        entities = await self.api.command("config/entity_registry/list")
        return [
            await self.api.state(each["entity_id"])
            for each in entities
            if each["platform"] == "energy_ledger" and str(each["unique_id"]).endswith(end)
        ]

    async def restart(self) -> None:
        """After a restart everything is back, and no device has moved."""
        before = {name for name in await self.api.states() if "backup" not in name}
        devices, trades = await self._devices(), await self._trades()
        await self._ui.page.goto("about:blank")
        await self._assistant.stop()
        await self._assistant.start()
        await self.api.wait_running()

        async def back() -> bool:
            states = await self.api.states()
            return before <= {name for name, state in states.items() if state["state"] != "unavailable"}

        await wait_for(back, "every entity to be back")
        if await self._devices() != devices:
            raise PageError(f"other devices than before: {devices} became {await self._devices()}")
        if await self._trades() != trades:
            raise PageError(f"other trades than before: {trades} became {await self._trades()}")
        await self.entities()

    async def _devices(self) -> dict[str, str]:
        """Return the name of every device by its id."""
        return {each["id"]: each["name"] for each in await self.api.command("config/device_registry/list")}


def say(text: str) -> None:
    """Tell how far the walk is."""
    sys.stdout.write(f"test-ui: {text}\n")
    sys.stdout.flush()


async def walk(folder: Path, pictures: Path, packages: Path) -> list[str]:
    """Walk through a new Home Assistant in a folder; return the names of the pictures taken."""
    assistant = Assistant(
        HOME,
        folder / "config",
        free_port(),
        extra_environment={
            "PYTHONPATH": str(packages),
            "ENERGY_LEDGER_PEER_HOST": "127.0.0.1",
            "ENERGY_LEDGER_PEER_PORT": str(free_port()),
            "ENERGY_LEDGER_DISCOVERY": "no",
        },
    )
    assistant.prepare()
    async with simulated_house() as house:
        try:
            await assistant.start()
            async with browser() as started:
                ui = Ui(await new_page(started), assistant.url, pictures)
                try:
                    await Walk(ui, assistant, house).run()
                except BaseException:
                    await asyncio.shield(ui.shot("where-it-failed"))
                    raise
                return ui.taken
        finally:
            await assistant.stop()
