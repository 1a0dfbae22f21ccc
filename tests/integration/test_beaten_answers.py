"""An acceptance that a block from elsewhere beats: the next offer is tried, within the budget."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from homeassistant.core import HomeAssistant

from custom_components.energy_ledger.trading.notebook import Answer
from ledger_core.client.bodies import OfferTerms
from ledger_core.market.reasons import Reason
from ledger_core.records.acceptances import Acceptance
from ledger_core.records.codec import Envelope, decode_envelope
from tests.node.api_world import ApiWorld
from tests.node.elsewhere import mine_elsewhere

from .conftest import EntryMaker
from .trading_world import Street, battery_device, meter_device, set_battery, set_meter, street, world

__all__ = ["world"]

CHEAP, DEAR = 100_000, 150_000


@pytest.fixture
async def homes(hass: HomeAssistant, node: ApiWorld, make_entry: EntryMaker) -> AsyncIterator[Street]:
    """Anna sells by hand, Bert buys by himself, Cara is elsewhere."""
    async with street(hass, node, make_entry) as found:
        set_meter(hass, "anna", import_wh=1000, export_wh=2000)
        set_battery(hass, "anna", soc=80)
        set_meter(hass, "bert", import_wh=5000, export_wh=0, surplus_w=-2000)
        await found.add("anna", meter_device("anna"), battery_device("anna"))
        await found.add("bert", meter_device("bert"))
        set_meter(hass, "cara", import_wh=7000, export_wh=0)
        await found.add("cara", meter_device("cara"))
        await found.register()
        await found.turn_on("bert")
        yield found


async def beaten(homes: Street, **amounts: Any) -> Envelope:
    """Bert takes the cheaper of two offers, but a block from elsewhere gives it to Cara; his acceptance."""
    data = {"price_section": {"source": "fixed", "price": 0.25}, "amount_section": amounts}
    await homes.add_rule("bert", "buy", data)
    anna = homes.entries["anna"].runtime_data
    battery = anna.devices[homes.subentry("anna", "anna battery")].asset_id
    start = homes.now // 900 * 900 + 2700
    offers = {}
    for price in (CHEAP, DEAR):
        terms = OfferTerms(quantity=500, start=start, end=start + 900, price=price, asset=battery)
        offers[price] = await anna.home.offer(terms)
    await homes.mine()
    await homes.look()
    (answer,) = answers(homes).values()
    record = await anna.client.record(answer.record)
    assert record.body["offer"] == offers[CHEAP]
    other = homes.node.world.make(
        Acceptance,
        homes.node.world["cara"].key,
        offer=bytes.fromhex(offers[CHEAP]),
        asset=None,
        quantity=500,
        start=start,
        end=start + 900,
        price=CHEAP,
        valid_until=start,
    )
    await mine_elsewhere(homes.node, [other.envelope])
    await homes.seen()
    await homes.look()
    return decode_envelope(bytes.fromhex(record.envelope))


def answers(homes: Street) -> dict[str, Answer]:
    """What Bert's rules remember of their answers."""
    return homes.trading("bert")._desk.notebook.pages.answers


def prices(homes: Street) -> list[int]:
    """The prices of Bert's trades."""
    return sorted(trade.price for trade in homes.entries["bert"].runtime_data.ledger.data.trades)


async def test_the_next_offer_is_tried_before_the_end_is_final(homes: Street) -> None:
    await beaten(homes)
    assert [answer.state for answer in answers(homes).values()] == ["contested", "pending"]
    await homes.mine()
    await homes.look()
    assert prices(homes) == [DEAR]
    assert [answer.state for answer in answers(homes).values()] == ["contested", "agreed"]


async def test_what_comes_back_counts_again(homes: Street) -> None:
    acceptance = await beaten(homes)
    await mine_elsewhere(homes.node, [acceptance], blocks=2, undone=1)
    await homes.mine()
    await homes.look()
    # Both bind now: the need and the budget know both.
    assert prices(homes) == [CHEAP, DEAR]
    found = list(answers(homes).values())
    assert [answer.state for answer in found] == ["agreed", "agreed"]
    notebook = homes.trading("bert")._desk.notebook
    assert notebook.spent(found[0].rule, found[0].day) == (CHEAP + DEAR) // 2


async def test_what_may_come_back_counts_for_the_budget(homes: Street) -> None:
    await beaten(homes, daily_budget=0.05)
    assert [answer.state for answer in answers(homes).values()] == ["contested"]
    (rule,) = homes.trading("bert").rules.values()
    decided = rule.last()
    assert decided is not None
    assert decided.decision.reason is Reason.BUDGET_SPENT
