"""The books of some hours in which three homes trade by their real rules, against meters and another program.

Anna sells her sun; Cara sells from a battery, at a price that is bargained about and in auctions; Bert buys
by a rule and asks for some energy besides. What flows follows from the commands that the gate gives.
"""

import io
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from homeassistant.core import HomeAssistant

from ledger_core.chain.store.blockfile import write_blocks
from ledger_core.client.bodies import OfferTerms
from ledger_core.node.engine.engine import Engine
from ledger_core.records.block import Block
from ledger_core.rules.events import SlotSettled, TradeAgreed
from tests.integration.conftest import EntryMaker
from tests.integration.trading_world import (
    SLOT,
    Street,
    battery_device,
    meter_device,
    set_battery,
    set_meter,
    set_power,
    street,
    sun_device,
)
from tests.node.api_world import ApiWorld

from .audit import assert_agrees, assert_sound, replay, without_room
from .recompute import recompute

SLOTS = 6
STEP_S = 300
GRACE_S = 1800
CAPACITY_WH = 10_000
REQUESTED = 200


@dataclass
class Physics:
    """What one home's devices do: W as they are now, Wh as they were counted."""

    hass: HomeAssistant
    name: str
    load_w: int
    sun_w: int = 0
    held_wh: float | None = None
    imported: float = 1000
    exported: float = 1000

    @property
    def battery_w(self) -> float:
        """What the battery was told to give."""
        told = self.hass.states.get(f"input_number.{self.name}_discharge")
        return 0 if self.held_wh is None or told is None else float(told.state)

    def run(self, seconds: int) -> None:
        """Let time pass, and have the sensors tell."""
        battery_w = self.battery_w
        grid_w = self.sun_w + battery_w - self.load_w
        self.exported += max(grid_w, 0) * seconds / 3600
        self.imported += max(-grid_w, 0) * seconds / 3600
        if self.held_wh is not None:
            self.held_wh -= battery_w * seconds / 3600
            set_battery(
                self.hass, self.name, soc=self.held_wh * 100 / CAPACITY_WH, discharge_w=int(battery_w)
            )
        if self.sun_w:
            set_power(self.hass, f"sensor.{self.name}_pv", self.sun_w)
        set_meter(
            self.hass,
            self.name,
            import_wh=int(self.imported),
            export_wh=int(self.exported),
            surplus_w=int(grid_w),
        )


@pytest.fixture
def physics(hass: HomeAssistant) -> dict[str, Physics]:
    """The devices of the street."""
    hass.states.async_set("input_number.cara_discharge", "0", {"unit_of_measurement": "W"})
    homes = {
        "anna": Physics(hass, "anna", load_w=500, sun_w=3000),
        "bert": Physics(hass, "bert", load_w=6000),
        "cara": Physics(hass, "cara", load_w=300, held_wh=9000),
    }
    for home in homes.values():
        home.run(0)
    return homes


@pytest.fixture
async def homes(
    hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker, physics: dict[str, Physics]
) -> AsyncIterator[Street]:
    """The street, registered, trading, with its rules."""
    async with street(hass, node, make_entry) as found:
        await found.add("anna", meter_device("anna"), sun_device("anna"))
        await found.add("bert", meter_device("bert"))
        await found.add("cara", meter_device("cara"), battery_device("cara", CAPACITY_WH))
        await found.register()
        await found.until_time(-(-found.now // SLOT) * SLOT)
        await found.turn_on("anna", "bert", "cara")
        battery = {"min_kwh": 0.1, "max_kwh": 0.3, "horizon_slots": 3, "keep_for_home": False}
        await add_sale(found, "anna", "pv", {"price": 0.15}, {"min_kwh": 0.1, "horizon_slots": 3})
        await add_sale(found, "cara", "battery", {"price": 0.28, "floor": 0.2}, battery)
        auction = {"partners_section": {"auction": True}}
        await add_sale(found, "cara", "battery", {"price": 0.2}, battery, **auction)
        bargain = {"source": "fixed", "price": 0.25, "counter": 20}
        await found.add_rule("bert", "buy", {"price_section": bargain})
        yield found


async def add_sale(
    homes: Street, home: str, device: str, price: dict[str, Any], amount: dict[str, Any], **more: Any
) -> None:
    data = {
        "device": homes.subentry(home, f"{home} {device}"),
        "price_section": {"source": "fixed", **price},
        "amount_section": amount,
        **more,
    }
    await homes.add_rule(home, "sell", data, f"{home} {device} {len(more)}")


async def live(homes: Street, physics: dict[str, Physics], until: int) -> None:
    """Let everything run, step by step; every step ends with a look, as does every slot on its boundary."""
    while homes.now < until:
        await homes.mine()
        homes.node.world.now += STEP_S - 90
        await homes.mine()  # between the close of an auction and the window
        homes.node.world.now += 30
        for home in physics.values():
            home.run(STEP_S)
        await homes.hass.async_block_till_done()
        await homes.look()


async def blocks_of(homes: Street) -> list[Block]:
    """The chain as the node's store holds it."""

    def work(engine: Engine, _now: float) -> list[Block]:
        store = engine._hub.store
        found = [store.block_at(height) for height in range(1, engine.chain.height + 1)]
        return [block for block in found if block is not None]

    return await homes.node.thread.run(work)


async def test_what_real_rules_trade_adds_up(homes: Street, physics: dict[str, Physics]) -> None:
    start = homes.now + 4 * SLOT
    await homes.entries["bert"].runtime_data.home.request(
        OfferTerms(quantity=REQUESTED, start=start, end=start + SLOT, price=260_000)
    )
    await live(homes, physics, homes.now // SLOT * SLOT + SLOTS * SLOT)
    for home in homes.entries:
        settings = homes.entries[home].runtime_data.settings
        assert settings is not None
        await settings.async_change(automatic_buying=False)
    await live(homes, physics, homes.now + 5 * SLOT + GRACE_S)

    blocks = await blocks_of(homes)
    state, events = replay(homes.node.world.genesis, blocks)
    file = io.BytesIO()
    write_blocks(file, homes.node.world.genesis, blocks)
    books = recompute(file.getvalue(), without_room(events))
    assert_agrees(books, state, events)
    assert_sound(books)
    assert not state.trades, "everything is settled"
    assert all(row.held == 0 for row in state.accounts.values())
    assert physics["cara"].battery_w == 0, "nothing runs on"

    agreed = [event for event in events if isinstance(event, TradeAgreed)]
    assert Counter(event.origin for event in agreed).keys() == {"posted", "countered", "auction"}
    assert [event.price for event in agreed if event.quantity == REQUESTED] == [260_000]
    lines = [event for event in events if isinstance(event, SlotSettled)]
    assert len(lines) > 3 * SLOTS
    promised, delivered = (
        sum(getattr(line, f"{what}_wh") for line in lines) for what in ("agreed", "delivered")
    )
    assert delivered * 100 >= promised * 90, f"{delivered} Wh of {promised} Wh"
