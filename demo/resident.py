"""One home of the demo: its real Home Assistant, its simulated devices, its user's clicks as REST calls."""

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.assistant import Assistant, free_port
from demo.rest import Api, Flow, RestError, wait_for
from ledger_core.client import NodeClient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from demo.houses import Device, House
    from simulator.home import SimulatedHome

DOMAIN = "energy_ledger"
PASSWORD = "energy-ledger"  # noqa: S105  # a demo's, printed on the screen


class Resident:
    """A home and what its user does. `start` and `stop`; everything else between them."""

    def __init__(
        self, house: House, folder: Path, packages: Path | None = None, *, python: str = sys.executable
    ) -> None:
        """Prepare a home below a folder; `packages` holds what Home Assistant needs besides."""
        self.house = house
        self.peer_port = free_port()
        environment = {
            # Nothing is opened to the outside: nodes of this machine reach each other over the loopback.
            "ENERGY_LEDGER_PEER_HOST": "127.0.0.1",
            "ENERGY_LEDGER_PEER_PORT": str(self.peer_port),
            "ENERGY_LEDGER_ADVERTISE": f"127.0.0.1:{self.peer_port}",
            "ENERGY_LEDGER_DISCOVERY": "no",
        }
        paths = [os.environ.get("PYTHONPATH", ""), "" if packages is None else str(packages)]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        self.assistant = Assistant(house.name, folder, free_port(), python, house.place, environment)
        self.simulated: SimulatedHome = house.simulated()
        self.user = house.owner.lower()
        self.entry_id = ""
        self.address = ""
        self._api: Api | None = None
        self._node: NodeClient | None = None
        self._node_address = ""
        self._listener: asyncio.Task[None] | None = None

    @property
    def api(self) -> Api:
        """The logged-in connection; there is one from `start` on."""
        if self._api is None:
            raise RestError(f"{self.house.name} is not started")
        return self._api

    async def start(self) -> None:
        """Start devices and Home Assistant, and make its first user."""
        await self.simulated.start()
        self.assistant.prepare(onboarded=True)
        await self.assistant.start()
        self._api = await Api.onboard(
            self.assistant.url, name=self.house.owner, user=self.user, password=PASSWORD
        )
        await self._api.wait_running()

    async def stop(self) -> None:
        """End everything of this home."""
        if self._listener is not None:
            self._listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listener
        if self._node is not None:
            await self._node.close()
        if self._api is not None:
            await self._api.close()
        await self.assistant.stop()
        await self.simulated.stop()

    # --- the community ------------------------------------------------------------------------------------

    async def found(self, name: str, choices: Mapping[str, Any]) -> None:
        """Create a community by its form."""
        flow = await self.api.start_flow(DOMAIN)
        await flow.choose("create")
        await flow.send(
            {
                "community_name": name,
                "currency": "EUR",
                "home_name": self.house.name,
                "advanced": dict(choices),
            }
        )
        await self._make_key(flow)

    async def join(self, invitation: str) -> None:
        """Join by an invitation, by its form."""
        flow = await self.api.start_flow(DOMAIN)
        await flow.choose("join")
        await flow.send({"invitation": invitation, "home_name": self.house.name})
        await self._make_key(flow)

    async def _make_key(self, flow: Flow) -> None:
        """Go through the key's forms to the end, and wait until the home is a member."""
        await flow.choose("new_key")
        await flow.send({"kept": True})
        self.entry_id = flow.ended()["result"]["entry_id"]

        async def loaded() -> bool:
            entries = await self.api.entries(DOMAIN)
            return any(each["entry_id"] == self.entry_id and each["state"] == "loaded" for each in entries)

        await wait_for(loaded, f"{self.house.name}'s node to be ready")

        async def member() -> bool:
            node = await self.node()
            key = (await node.status()).node
            members = await node.all_members()
            mine = [each for each in members if key and each.node and each.node.key == key.key]
            self.address = mine[0].member.address if mine else ""
            return bool(mine)

        await wait_for(member, f"{self.house.name} to be a member")

    async def invite(self) -> str:
        """Return an invitation for another home, by the integration's action."""
        answer = await self.act("invite", valid_for={"hours": 1})
        return str(answer["invitation"])

    # --- devices ------------------------------------------------------------------------------------------

    async def add_devices(self) -> None:
        """Add every device of the house by its form, the meter first."""
        meter: str | None = None
        for device in self.house.devices:
            made = await self._add_device(device, meter)
            if device.kind == "meter":
                meter = made

    async def _add_device(self, device: Device, meter: str | None) -> str:
        flow = await self.api.start_subentry_flow(self.entry_id, "device")
        await flow.choose("network")
        link = self.simulated.links[device.profile]
        more = {"kind": link.settings.transport.value, "shared": False, "profile": device.profile}
        unit = next(iter(self.simulated.units_of(device.profile)))
        await flow.send({"host": link.settings.host, "port": link.port, "unit": unit, "more": more})
        if flow.step_id == "kind":
            await flow.send({"kind": device.kind})
        figures: dict[str, Any] = {"name": device.name, "rating_w": device.rating_w, "poll_s": 2}
        if device.capacity_wh is not None:
            figures["capacity_wh"] = device.capacity_wh
        if meter is not None and "meter" in flow.fields():
            figures["meter"] = meter
        await flow.send(figures)
        flow.ended()
        return await self.subentry_id(device.name)

    async def add_rule(self, kind: str, values: Mapping[str, Any]) -> None:
        """Add a rule by its form ("sell" or "buy"), and wait until it is at work."""
        flow = await self.api.start_subentry_flow(self.entry_id, kind)
        await flow.send(values)
        flow.ended()
        rule = await self.subentry_id(values["name"])

        async def works() -> bool:
            name = await self.entity_id("sensor", f"{rule}_rule")
            return await self.api.state(name) in ("active", "dry_run")

        await wait_for(works, f"{self.house.name}'s rule {values['name']!r} to be at work")

    async def subentry_id(self, title: str) -> str:
        """Return Home Assistant's id of a device's or rule's subentry by its title."""
        subentries = await self.api.command("config_entries/subentries/list", entry_id=self.entry_id)
        return self._only([each["subentry_id"] for each in subentries if each["title"] == title], title)

    async def entity_id(self, domain: str, end: str) -> str:
        """Return the id of one of the integration's entities by the end of its unique id."""
        entities = await self.api.command("config/entity_registry/list")
        found = [
            each["entity_id"]
            for each in entities
            if each["platform"] == DOMAIN
            and each["entity_id"].startswith(f"{domain}.")
            and str(each["unique_id"]).endswith(end)
        ]
        return self._only(found, f"{domain} …{end}")

    def _only(self, found: Sequence[Any], what: str) -> str:
        if not found:
            raise RestError(f"{self.house.name} has no {what!r}")
        return str(found[0])

    async def device_id(self, name: str) -> str:
        """Return Home Assistant's id of a device by its name."""
        devices = await self.api.command("config/device_registry/list")
        return self._only([each["id"] for each in devices if each["name"] == name], name)

    async def wait_assets(self) -> None:
        """Wait until every device is an asset on the ledger, and Home Assistant has seen that."""

        async def registered() -> bool:
            entities = await self.api.command("config/entity_registry/list")
            names = [
                each["entity_id"]
                for each in entities
                if each["platform"] == DOMAIN and str(each["unique_id"]).endswith("_asset")
            ]
            states = await self.api.states()
            known = [name for name in names if name in states and states[name]["state"] == "registered"]
            return len(known) == len(self.house.devices)

        await wait_for(registered, f"{self.house.name}'s devices to be on the ledger")

    # --- acting and listening -----------------------------------------------------------------------------

    async def act(self, action: str, **data: Any) -> dict[str, Any]:
        """Perform one of the integration's actions; return what it answers."""
        answer = await self.api.call(DOMAIN, action, data, answer=True)
        return dict(answer)

    async def add_automation(self, alias: str, config: Mapping[str, Any]) -> None:
        """Save an automation, as its editor does, and wait until it is on."""
        key = alias.lower().replace(" ", "_")
        await self.api.request("POST", f"/api/config/automation/config/{key}", {"alias": alias, **config})

        async def on() -> bool:
            states = await self.api.states()
            return any(
                state["attributes"].get("id") == key and state["state"] == "on"
                for name, state in states.items()
                if name.startswith("automation.")
            )

        await wait_for(on, f"the automation {alias!r} to be on")

    def listen(self, heard: Callable[[Resident, dict[str, Any]], None]) -> None:
        """Call back with every event of the home, as Home Assistant's own bus tells it."""
        self._listener = asyncio.create_task(self._listen(heard), name=f"listen {self.house.name}")

    async def _listen(self, heard: Callable[[Resident, dict[str, Any]], None]) -> None:
        async with self.api.events("subscribe_events", event_type=f"{DOMAIN}_event") as queue:
            while True:
                heard(self, (await queue.get())["data"])

    async def node(self) -> NodeClient:
        """Return a client of the home's own node; the node has another address after every restart."""
        folder = next(each.parent for each in (self.assistant.config_dir / DOMAIN).glob("*/genesis"))
        address = await asyncio.to_thread((folder / "api-address").read_text)
        if self._node is None or address != self._node_address:
            if self._node is not None:
                await self._node.close()
            token = await asyncio.to_thread((folder / "api.token").read_text)
            self._node, self._node_address = NodeClient(address.strip(), token.strip()), address
        return self._node
