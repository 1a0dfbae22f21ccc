"""Two homes whose devices are simulated ones behind real Modbus links, on one ledger and one clock.

Anna has a battery behind a hybrid inverter and a meter; Bert has a meter. Nothing generates, and each home's
load stands still, so that whatever changes at the connection was commanded.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant

from custom_components.energy_ledger.devices.readings import Field
from custom_components.energy_ledger.events import Happening
from custom_components.energy_ledger.trading.gate_model import Block, SaleView, TradeState
from ledger_core.client.bodies import OfferTerms
from ledger_core.client.views import TradeView
from simulator.home import SimulatedHome
from simulator.modbus.wire_log import WriteSeen
from tests.integration.conftest import EntryMaker
from tests.integration.device_world import device, simulated
from tests.integration.trading_world import SLOT, Street, street
from tests.node.api_world import ApiWorld

INVERTER = "goodwe_et"
METER = "eastron_sdm630"
LOADS = {"anna": 500, "bert": 3000}
STEP_S = 90
"""How often the homes look within a window."""


@dataclass
class WireWorld:
    """The street, and the simulated home behind each of its homes."""

    street: Street
    homes: dict[str, SimulatedHome] = field(default_factory=dict)
    start: int = 0
    """Of the window that tests trade for."""

    @property
    def now(self) -> int:
        return self.street.now

    @property
    def end(self) -> int:
        return self.start + SLOT

    @property
    def discharge_w(self) -> int:
        """What Anna's battery physically gives."""
        watts = self.homes["anna"].truth()["power_w"]["discharge_w"]
        assert isinstance(watts, int)
        return watts

    @property
    def export_w(self) -> int:
        """What physically leaves Anna's home."""
        watts = self.homes["anna"].truth()["power_w"]["export_w"]
        assert isinstance(watts, int)
        return watts

    @property
    def export_wh(self) -> int:
        """What has physically left Anna's home."""
        return self.homes["anna"].energy_wh()["export"]

    def writes(self) -> list[WriteSeen]:
        """Every write that any device saw."""
        return [seen for home in self.homes.values() for seen in home.log.writes()]

    def told(self, name: str, *kinds: Happening) -> list[tuple[str, Any]]:
        """What a home was told of some kinds, with its reason or stage."""
        return [
            (event.kind.value, event.data.get("stage", event.data.get("reason")))
            for event in self.street.heard[name]
            if event.kind in kinds
        ]

    def asset(self, title: str = "battery") -> bytes:
        """Anna's asset of a title."""
        found: bytes | None = self._runtime("anna", title).asset_id
        assert found is not None
        return found

    def _runtime(self, name: str, title: str) -> Any:
        devices = self.street.entries[name].runtime_data.devices.values()
        return next(each for each in devices if each.name == title)

    @property
    def sale(self) -> SaleView:
        """Anna's only sale, as her gate sees it."""
        (found,) = self.street.trading("anna").gate.sales
        return found

    def state(self) -> tuple[TradeState, Block | None]:
        """How that sale stands, and why it is blocked."""
        return self.sale.state, self.sale.block

    @property
    def trade(self) -> TradeView:
        (found,) = self.street.entries["anna"].runtime_data.ledger.data.trades
        return found

    # --- time -------------------------------------------------------------------------------------------

    async def read(self) -> None:
        """Have every device read: inverters before meters, since the clock has jumped."""
        for entry in self.street.entries.values():
            if entry.state is not ConfigEntryState.LOADED:
                continue
            for runtime in entry.runtime_data.devices.values():
                await runtime.coordinator.async_refresh()

    async def look(self) -> None:
        """Read every device, and have the gates look."""
        await self.read()
        for name in self.homes:
            await self.street.trading(name).gate.async_look()
        await self.street.hass.async_block_till_done()

    async def run_until(self, time: int, *, mining: bool = True, step_s: int = STEP_S) -> None:
        """Let time pass, the physics' and the chain's alike; the homes look at every step."""
        while self.now < time:
            near = self.start <= self.now < self.end
            step = min(step_s if near else SLOT, time - self.now)
            if self.now < self.start:
                step = min(step, self.start - self.now)
            # Between these lines nothing else runs: no reading may fall between two clocks.
            for home in self.homes.values():
                home.advance(self.now + step - home.physics.time_s)
            if mining:
                self.street.node.world.now += step - 30
                await self.street.node.mine()
                await self.street.seen()
            else:
                self.street.node.world.now += step
            await self.look()

    # --- trading ----------------------------------------------------------------------------------------

    async def offer(self, title: str = "battery", **terms: Any) -> str:
        """Have Anna offer 500 Wh of the window, in a block."""
        values: dict[str, Any] = {"quantity": 500, "price": 200_000, "start": self.start, "end": self.end}
        home = self.street.entries["anna"].runtime_data.home
        offer = await home.offer(OfferTerms(**{**values, "asset": self.asset(title), **terms}))
        await self.street.mine()
        return offer

    async def accept(self, offer: str) -> str:
        """Have Bert accept all of an offer; still to be mined."""
        trade: str = await self.street.entries["bert"].runtime_data.home.accept(offer)
        return trade

    async def sell(self, title: str = "battery", **terms: Any) -> str:
        """Have a trade in the chain, and confirmed."""
        trade = await self.accept(await self.offer(title, **terms))
        await self.street.mine(2)
        return trade

    async def settle(self) -> Any:
        """Let the grace pass; returns the only slot that was settled, as Anna hears it."""
        grace = self.street.node.world.genesis.parameters.grace_s
        await self.run_until(self.end + STEP_S)
        for name in self.homes:
            await self.street.trading(name).metering.async_send()
        await self.street.mine()
        self.street.node.world.now = self.end + grace
        await self.street.mine()
        lines = [e.data for e in self.street.heard["anna"] if e.kind is Happening.SLOT_SETTLED]
        (line,) = lines
        return line["raw"]


@asynccontextmanager
async def wire_world(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> AsyncIterator[WireWorld]:
    """The two homes, registered; trading is off, and the window starts in some minutes."""
    async with AsyncExitStack() as stack:
        homes = await stack.enter_async_context(street(hass, node, make_entry))
        world = WireWorld(homes)
        begin = datetime.fromtimestamp(homes.now - 120, UTC).isoformat()
        for name, load in LOADS.items():
            profiles = (INVERTER, METER) if name == "anna" else (METER,)
            home = await stack.enter_async_context(
                simulated(*profiles, start=begin, step_s=10, fuel_cell=False, battery=name == "anna")
            )
            home.set_environment(pv_w=0, load_w=load)
            home.advance(10)
            if name == "anna":
                home.set_state_of_charge(800)
            world.homes[name] = home
            kinds = (("battery", INVERTER), ("pv", INVERTER)) if name == "anna" else ()
            parts = [device(home, profile, kind) for kind, profile in kinds]
            await homes.add(name, *parts, device(home, METER, "meter"))
        await homes.register()
        for home in world.homes.values():
            home.advance(homes.now - home.physics.time_s)
        world.start = homes.now // SLOT * SLOT + SLOT
        await world.read()
        assert world._runtime("anna", "battery").coordinator.data.number(Field.STATE_OF_CHARGE)
        assert not world.writes()
        yield world
